//! Other processes: a descriptor of one, and signals to it.

use super::exit::at_exit;
use super::lock::{Lock, Locked};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

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

/// Whether the calling thread is the one that the process began with.
pub(crate) fn is_main_thread() -> bool {
    // SAFETY: no preconditions.
    unsafe { libc::gettid() == libc::getpid() }
}

/// Ends the process at once: nothing is flushed, and no function is called that was registered for its end.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: no preconditions.
    unsafe { libc::_exit(code) }
}

/// Ends the process as the end of its last thread does, by libc's `exit`.
pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: the process has one thread, so nobody else calls it.
    unsafe { libc::exit(code) }
}

/// Sends a signal to a child by its number. Only for a child that was not waited for, where the kernel has no
/// descriptors of processes: the number of a process that has been reaped may be in use again.
pub(crate) fn send_signal(pid: u32, signal: libc::c_int) -> io::Result<()> {
    // SAFETY: no preconditions.
    match unsafe { libc::kill(pid as libc::pid_t, signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sends a signal to the process that a descriptor stands for, whatever has become of its number. A process
/// that has ended is not an error.
pub(crate) fn send_signal_to(process: BorrowedFd<'_>, signal: libc::c_int) -> io::Result<()> {
    let nothing = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: an open descriptor; no information goes along.
    let sent = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), signal, nothing, 0)
    };
    match if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) } {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        other => other,
    }
}

/// Whether `waitpid` failed because there is no such child any more: something else has waited for it, or the
/// kernel has reaped it, as it does for a parent that ignores `SIGCHLD` (or has set `SA_NOCLDWAIT`).
pub(crate) fn is_reaped(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ECHILD)
}

/// A child that was made by fork. Whoever has this is the only one who waits for it.
#[derive(Debug)]
pub(crate) struct Forked {
    pid: u32,
    status: Option<ExitStatus>,
}

/// Those whose end this process waits for before its own.
static WAITED_FOR: Lock<Vec<u32>> = Lock::new(Vec::new());

/// At the end of the process.
fn wait_for_children() {
    loop {
        let pid = WAITED_FOR.lock().pop();
        let Some(pid) = pid else { return };
        // Somebody else may have waited for it.
        let _ = Forked { pid, status: None }.wait();
    }
}

/// Their numbers. None is added or taken out meanwhile.
pub(super) fn waited_for() -> Locked<'static, Vec<u32>> {
    WAITED_FOR.lock()
}

impl Forked {
    /// Has this process wait for it at its end, unless it is not to.
    pub(crate) fn new(pid: u32, is_waited_for: bool) -> Self {
        if is_waited_for {
            at_exit(wait_for_children);
            WAITED_FOR.lock().push(pid);
        }
        Forked { pid, status: None }
    }

    /// Asks the kernel. Whatever the answer, a child that has ended is not waited for at this process's end.
    fn ask(&mut self, options: libc::c_int) -> io::Result<Option<ExitStatus>> {
        let answer = wait_for(self.pid, options);
        if matches!(&answer, Ok(Some(_))) || answer.as_ref().is_err_and(is_reaped) {
            WAITED_FOR.lock().retain(|pid| *pid != self.pid);
        }
        self.status = answer?;
        Ok(self.status)
    }

    pub(crate) fn id(&self) -> u32 {
        self.pid
    }

    /// How it has ended, if it has.
    pub(crate) fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.status.is_some() { Ok(self.status) } else { self.ask(libc::WNOHANG) }
    }

    /// How it has ended. The thread waits until it has.
    pub(crate) fn wait(&mut self) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.status {
                return Ok(status);
            }
            match self.ask(0) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => drop(other?),
            }
        }
    }
}

fn wait_for(pid: u32, options: libc::c_int) -> io::Result<Option<ExitStatus>> {
    let mut status: libc::c_int = 0;
    // SAFETY: room for the status; no resources are asked for. By number, as `libc::waitpid` may be a hook.
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
