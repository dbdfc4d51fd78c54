//! Operations on an open file that never wait.

use std::ffi::CStr;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::OnceLock;

/// Reads bytes that are available without waiting, for instance for a disk.
///
/// Reads at `offset`, or at the file's position if that is `None`. Fails with `EAGAIN` if it would wait,
/// and with `EOPNOTSUPP` if the kernel or the file does not support this check.
pub(crate) fn read_now(
    fd: BorrowedFd<'_>,
    buffer: &mut [u8],
    offset: Option<u64>,
) -> io::Result<usize> {
    let offset = to_c(offset)?;
    if !READS_NOW.get_or_init(zero_means_end) {
        return Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
    }
    let part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: `part` describes `buffer`, which is borrowed mutably for the call.
    count(unsafe { libc::preadv2(fd.as_raw_fd(), &part, 1, offset, libc::RWF_NOWAIT) })
}

/// Writes bytes if that does not wait, at `offset` or at the file's position.
///
/// Fails with `EAGAIN` if it would wait, and with `EOPNOTSUPP` if the file system does not support this
/// check, as some for disks do not.
pub(crate) fn write_now(
    fd: BorrowedFd<'_>,
    bytes: &[u8],
    offset: Option<u64>,
) -> io::Result<usize> {
    let offset = to_c(offset)?;
    let part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: `part` describes `bytes`, which the call only reads.
    count(unsafe { libc::pwritev2(fd.as_raw_fd(), &part, 1, offset, libc::RWF_NOWAIT) })
}

/// The state that a file's lock is changed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lock {
    Exclusive,
    Shared,
    None,
}

/// Changes the lock of a file, as `flock` does. Returns `false` if that would wait.
pub(crate) fn lock_now(fd: BorrowedFd<'_>, lock: Lock) -> io::Result<bool> {
    let how = match lock {
        Lock::Exclusive => libc::LOCK_EX | libc::LOCK_NB,
        Lock::Shared => libc::LOCK_SH | libc::LOCK_NB,
        Lock::None => libc::LOCK_UN,
    };
    // SAFETY: `flock` accesses no memory, and the descriptor is open.
    if unsafe { libc::flock(fd.as_raw_fd(), how) } == 0 {
        return Ok(true);
    }
    match io::Error::last_os_error() {
        error if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        error => Err(error),
    }
}

/// Converts an offset to C's type, in which -1 means the file's position.
///
/// An offset out of its range gives `EINVAL`; the caller then makes the ordinary call, which reports the
/// right error.
fn to_c(offset: Option<u64>) -> io::Result<libc::off_t> {
    offset.map_or(Ok(-1), |offset| {
        libc::off_t::try_from(offset).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
    })
}

fn count(result: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

static READS_NOW: OnceLock<bool> = OnceLock::new();

/// Whether a read of 0 bytes means the end of the file.
///
/// Linux 5.9 and 5.10 may return 0 before it: see BUGS in `preadv2(2)`.
fn zero_means_end() -> bool {
    // SAFETY: an all-zero `utsname` is valid: its strings are empty.
    let mut system: libc::utsname = unsafe { mem::zeroed() };
    // SAFETY: `system` has room for the result, whose strings end with a zero.
    let release = unsafe {
        libc::uname(&mut system);
        CStr::from_ptr(system.release.as_ptr())
    };
    !is_affected(&release.to_string_lossy())
}

fn is_affected(release: &str) -> bool {
    let mut numbers = release.split(|char: char| !char.is_ascii_digit());
    numbers.next() == Some("5") && matches!(numbers.next(), Some("9" | "10"))
}

#[cfg(test)]
mod tests {
    use super::is_affected;

    #[test]
    fn affected_kernels_are_recognised() {
        for release in ["5.9.0", "5.10.0-28-amd64", "5.10"] {
            assert!(is_affected(release), "{release}");
        }
        for release in ["5.8.18", "5.15.0-91-generic", "6.9.1", "6.10", "15.9", "", "5"] {
            assert!(!is_affected(release), "{release}");
        }
    }
}
