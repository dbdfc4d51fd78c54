//! Other processes: a descriptor of one, and signals to it.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// A descriptor that is readable when the child `pid` has ended. `ENOSYS` before Linux 5.3.
pub(crate) fn descriptor_of(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: no preconditions. The descriptor is closed on exec by itself.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor of ours.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) })
}

/// Sends a signal to a child that was not waited for: so its number is not in use again.
pub(crate) fn send_signal(pid: u32, signal: libc::c_int) -> io::Result<()> {
    // SAFETY: no preconditions.
    match unsafe { libc::kill(pid as libc::pid_t, signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
