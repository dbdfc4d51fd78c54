//! Child processes: their descriptors, signals to them, and waiting for their ends.

use super::exit::at_exit;
use super::lock::{Lock, Locked};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

/// Returns a descriptor that is readable once the child `pid` has ended. `ENOSYS` before Linux 5.3.
pub(crate) fn descriptor_of(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: `pidfd_open` has no preconditions. The kernel sets close-on-exec.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `fd` is a new descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) })
}

/// Whether the calling thread is the process's first thread.
pub(crate) fn is_main_thread() -> bool {
    // SAFETY: neither call has preconditions.
    unsafe { libc::gettid() == libc::getpid() }
}

/// Ends the process at once: nothing is flushed, and no registered exit function is called.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Ends the process as the end of its last thread does, by libc's `exit`.
pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: the process has a single thread, so no other thread calls `exit`.
    unsafe { libc::exit(code) }
}

/// Sends a signal to a child by its process ID.
///
/// Only for a child that was not waited for, on a kernel without descriptors of processes: the ID of a
/// process that has been reaped may be in use again.
pub(crate) fn send_signal(pid: u32, signal: libc::c_int) -> io::Result<()> {
    // SAFETY: `kill` has no preconditions.
    match unsafe { libc::kill(pid as libc::pid_t, signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sends a signal to the process that a descriptor refers to. A process that has ended is not an error.
pub(crate) fn send_signal_to(process: BorrowedFd<'_>, signal: libc::c_int) -> io::Result<()> {
    let nothing = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: the descriptor is open, and a null pointer means no `siginfo_t`.
    let sent = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), signal, nothing, 0)
    };
    match if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) } {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        other => other,
    }
}

/// Whether `waitpid` failed because the child does not exist any more.
///
/// Either other code has waited for it, or the kernel has reaped it, as it does if the parent ignores
/// `SIGCHLD` or has set `SA_NOCLDWAIT`.
pub(crate) fn is_reaped(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ECHILD)
}

/// A child that was made by fork. Its owner is the only waiter for it.
#[derive(Debug)]
pub(crate) struct Forked {
    pid: u32,
    status: Option<ExitStatus>,
}

/// The children that this process waits for before it ends.
static WAITED_FOR: Lock<Vec<u32>> = Lock::new(Vec::new());

/// Waits for the remaining children, at the end of the process.
fn wait_for_children() {
    loop {
        let pid = WAITED_FOR.lock().pop();
        let Some(pid) = pid else { return };
        // An error means that other code has waited for it.
        let _ = Forked { pid, status: None }.wait();
    }
}

/// Locks the process IDs of those children: none is added or removed until the result is dropped.
pub(super) fn waited_for() -> Locked<'static, Vec<u32>> {
    WAITED_FOR.lock()
}

impl Forked {
    /// Takes charge of a child. If `is_waited_for`, this process waits for it before it ends.
    pub(crate) fn new(pid: u32, is_waited_for: bool) -> Self {
        if is_waited_for {
            at_exit(wait_for_children);
            WAITED_FOR.lock().push(pid);
        }
        Forked { pid, status: None }
    }

    /// Queries the kernel by `wait4`, and keeps the status.
    ///
    /// A child that turns out to have ended is not waited for at this process's end.
    fn query(&mut self, options: libc::c_int) -> io::Result<Option<ExitStatus>> {
        let answer = wait4(self.pid, options);
        if matches!(&answer, Ok(Some(_))) || answer.as_ref().is_err_and(is_reaped) {
            WAITED_FOR.lock().retain(|pid| *pid != self.pid);
        }
        self.status = answer?;
        Ok(self.status)
    }

    pub(crate) fn id(&self) -> u32 {
        self.pid
    }

    /// Returns the exit status, if the child has ended.
    pub(crate) fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.status.is_some() { Ok(self.status) } else { self.query(libc::WNOHANG) }
    }

    /// Blocks the thread until the child has ended, and returns its exit status.
    pub(crate) fn wait(&mut self) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.status {
                return Ok(status);
            }
            match self.query(0) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => drop(other?),
            }
        }
    }
}

/// Calls `wait4` for a child. `None` if it has not ended.
fn wait4(pid: u32, options: libc::c_int) -> io::Result<Option<ExitStatus>> {
    let mut status: libc::c_int = 0;
    // SAFETY: `status` has room for the result; a null pointer asks for no resource usage. By number:
    // `libc::waitpid` may be a hook.
    let found = unsafe {
        let usage = std::ptr::null_mut::<libc::rusage>();
        libc::syscall(libc::SYS_wait4, pid as libc::pid_t, &raw mut status, options, usage)
    };
    match found {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        _ => Ok(Some(ExitStatus::from_raw(status))),
    }
}
