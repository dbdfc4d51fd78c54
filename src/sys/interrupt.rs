//! Ends a system call in which another thread waits: a signal has it fail with `EINTR`.
//!
//! ```text
//!   the thread       enter ── the call waits ............ EINTR ── leave
//!                                               ▲
//!   another                   interrupt ──signal┘   again and again, until it has left: a signal that comes
//!                                                   just before the call begins ends nothing
//! ```
//!
//! The signal is a real-time one for which the program has no handler when it is first needed. Its handler
//! does nothing, and is there so that the call is not made again. Only threads that have entered take it.

use crate::sys::lock::Lock;
use std::mem::{self, MaybeUninit};
use std::ptr;
use std::sync::OnceLock;

/// A thread whose calls can be ended.
#[derive(Debug, Default)]
pub(crate) struct Target(Lock<Option<libc::pid_t>>);

impl Target {
    /// From now on calls of this thread can be ended.
    pub(crate) fn enter(&self) {
        if let Some(signal) = signal() {
            take(signal, libc::SIG_UNBLOCK);
            // SAFETY: no preconditions.
            *self.0.lock() = Some(unsafe { libc::syscall(libc::SYS_gettid) } as libc::pid_t);
        }
    }

    /// From now on they cannot.
    pub(crate) fn leave(&self) {
        let was_there = self.0.lock().take();
        if let (Some(_), Some(signal)) = (was_there, signal()) {
            take(signal, libc::SIG_BLOCK);
        }
    }

    /// Ends the call that the thread waits in, if it has entered. Not if the program handles the signal
    /// by now: then the call goes on.
    pub(crate) fn interrupt(&self) {
        let thread = self.0.lock();
        if let (Some(thread), Some(signal)) = (*thread, signal())
            && handler(signal) == Some(do_nothing as extern "C" fn(libc::c_int) as usize)
        {
            // SAFETY: no memory is involved. The thread has not left, so it is one of this process.
            unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, signal) };
        }
    }
}

/// The signal that ends calls. `None` if the program handles all there are.
pub(crate) fn signal() -> Option<libc::c_int> {
    static SIGNAL: OnceLock<Option<libc::c_int>> = OnceLock::new();
    *SIGNAL.get_or_init(|| (libc::SIGRTMIN()..=libc::SIGRTMAX()).rev().find(|one| claim(*one)))
}

/// What handles a signal. `None`: there is no such signal.
fn handler(signal: libc::c_int) -> Option<libc::sighandler_t> {
    let mut current = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: room for the answer; nothing is changed.
    let result = unsafe { libc::sigaction(signal, ptr::null(), current.as_mut_ptr()) };
    // SAFETY: it was answered.
    (result == 0).then(|| unsafe { current.assume_init() }.sa_sigaction)
}

/// Makes a signal one that ends calls, if the program does not handle it.
fn claim(signal: libc::c_int) -> bool {
    if handler(signal) != Some(libc::SIG_DFL) {
        return false;
    }
    // SAFETY: all-zero is an action without flags, and with an empty mask.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    action.sa_sigaction = do_nothing as extern "C" fn(libc::c_int) as usize;
    // SAFETY: a handler that does nothing.
    unsafe { libc::sigaction(signal, &action, ptr::null_mut()) == 0 }
}

extern "C" fn do_nothing(_: libc::c_int) {}

/// Has this thread block a signal, or no longer.
fn take(signal: libc::c_int, how: libc::c_int) {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: room for a set, which is emptied first; a null pointer asks for nothing.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), signal);
        libc::pthread_sigmask(how, set.as_ptr(), ptr::null_mut());
    }
}
