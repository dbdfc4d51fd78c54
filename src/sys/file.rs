//! What is asked of an open file so that nobody waits.

use std::ffi::CStr;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::OnceLock;

/// Reads what is there without waiting, a disk for one, at `offset` or the file's own position. To wait for
/// would be `EAGAIN`; and `EOPNOTSUPP` if that cannot be said of this file.
pub(crate) fn read_now(
    fd: BorrowedFd<'_>,
    buffer: &mut [u8],
    offset: Option<u64>,
) -> io::Result<usize> {
    let offset = to_c(offset)?;
    if !READS_NOW.get_or_init(says_end_at_the_end_only) {
        return Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
    }
    let part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: one part, which is a buffer of that length, ours for the time of the call.
    count(unsafe { libc::preadv2(fd.as_raw_fd(), &part, 1, offset, libc::RWF_NOWAIT) })
}

/// As [`read_now`], to write. Of the file systems for disks not all can say it.
pub(crate) fn write_now(
    fd: BorrowedFd<'_>,
    bytes: &[u8],
    offset: Option<u64>,
) -> io::Result<usize> {
    let offset = to_c(offset)?;
    let part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: one part of that length, of which the call reads only.
    count(unsafe { libc::pwritev2(fd.as_raw_fd(), &part, 1, offset, libc::RWF_NOWAIT) })
}

/// How a file is to be locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lock {
    Exclusive,
    Shared,
    None,
}

/// Locks a file, or unlocks it, as `flock`. Whether that could be done at once.
pub(crate) fn lock_now(fd: BorrowedFd<'_>, lock: Lock) -> io::Result<bool> {
    let how = match lock {
        Lock::Exclusive => libc::LOCK_EX | libc::LOCK_NB,
        Lock::Shared => libc::LOCK_SH | libc::LOCK_NB,
        Lock::None => libc::LOCK_UN,
    };
    // SAFETY: an open descriptor; no memory is involved.
    if unsafe { libc::flock(fd.as_raw_fd(), how) } == 0 {
        return Ok(true);
    }
    match io::Error::last_os_error() {
        error if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        error => Err(error),
    }
}

/// Of all offsets -1 is the file's position. One that C has not is no error of ours: whoever makes the call
/// in the ordinary way gets the right one.
fn to_c(offset: Option<u64>) -> io::Result<libc::off_t> {
    offset.map_or(Ok(-1), |offset| {
        libc::off_t::try_from(offset).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
    })
}

fn count(result: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

static READS_NOW: OnceLock<bool> = OnceLock::new();

/// Linux 5.9 and 5.10 may return 0 where data follows: see BUGS in `preadv2(2)`.
fn says_end_at_the_end_only() -> bool {
    // SAFETY: all-zero are empty names.
    let mut system: libc::utsname = unsafe { mem::zeroed() };
    // SAFETY: the place for the answer, which consists of strings that end.
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
    fn releases_are_told_apart() {
        for release in ["5.9.0", "5.10.0-28-amd64", "5.10"] {
            assert!(is_affected(release), "{release}");
        }
        for release in ["5.8.18", "5.15.0-91-generic", "6.9.1", "6.10", "15.9", "", "5"] {
            assert!(!is_affected(release), "{release}");
        }
    }
}
