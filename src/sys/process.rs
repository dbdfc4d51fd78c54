//! Other processes: a descriptor of one, and signals to it.

use super::exit::at_exit;
use super::lock::{Lock, Locked};
use std::io;
#[cfg(feature = "process")]
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::fd::{FromRawFd, OwnedFd};
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

/// Sends a signal to a child that was not waited for: so its number is not in use again.
pub(crate) fn send_signal(pid: u32, signal: libc::c_int) -> io::Result<()> {
    // SAFETY: no preconditions.
    match unsafe { libc::kill(pid as libc::pid_t, signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sends a signal to the process that a descriptor stands for, whatever has become of its number.
#[cfg(feature = "process")]
pub(crate) fn send_signal_to(process: BorrowedFd<'_>, signal: libc::c_int) -> io::Result<()> {
    let nothing = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: an open descriptor; no information goes along.
    let sent = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), signal, nothing, 0)
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
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

    fn has_ended(&mut self, status: ExitStatus) -> ExitStatus {
        WAITED_FOR.lock().retain(|pid| *pid != self.pid);
        *self.status.insert(status)
    }

    pub(crate) fn id(&self) -> u32 {
        self.pid
    }

    /// How it has ended, if it has.
    pub(crate) fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.status.is_some() {
            return Ok(self.status);
        }
        Ok(wait_for(self.pid, libc::WNOHANG)?.map(|status| self.has_ended(status)))
    }

    /// How it has ended. The thread waits until it has.
    pub(crate) fn wait(&mut self) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.status {
                return Ok(status);
            }
            match wait_for(self.pid, 0) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                status => drop(status?.map(|status| self.has_ended(status))),
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
