//! What is asked of any descriptor.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Sets whether calls that use it block. That is so for all that share what it is a descriptor of: copies,
/// and children.
pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>, nonblocking: bool) -> io::Result<()> {
    // SAFETY: an open descriptor; no memory is involved.
    let flags = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })?;
    let wanted = if nonblocking { flags | libc::O_NONBLOCK } else { flags & !libc::O_NONBLOCK };
    if wanted != flags {
        // SAFETY: an open descriptor; no memory is involved.
        check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, wanted) })?;
    }
    Ok(())
}

/// Whether it can be read from, or else written to, at this moment. An error or an end counts as such.
pub(crate) fn is_ready(fd: BorrowedFd<'_>, to_be_read: bool) -> bool {
    let events = if to_be_read { libc::POLLIN | libc::POLLPRI } else { libc::POLLOUT };
    let mut question = libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 };
    // SAFETY: one question, which lives on; it does not wait.
    unsafe { libc::poll(&mut question, 1, 0) > 0 }
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
