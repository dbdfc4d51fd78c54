//! Interrupts a blocking system call of another thread, by a signal that makes it fail with `EINTR`.
//!
//! ```text
//!   the thread       enter ── the call blocks ........... EINTR ── leave
//!                                               ▲
//!   another                   interrupt ──signal┘   repeated until the thread has left, since a signal
//!                                                   just before the call begins interrupts nothing
//! ```
//!
//! The signal is a real-time signal that the program does not handle when it is first needed. Its handler
//! does nothing; it is installed without `SA_RESTART`, so that the call is not restarted. It is sent only
//! to threads that have entered.

use crate::sys::lock::Lock;
use std::mem::{self, MaybeUninit};
use std::ptr;
use std::sync::OnceLock;

/// A thread whose calls can be interrupted.
#[derive(Debug, Default)]
pub(crate) struct Target(Lock<Option<libc::pid_t>>);

impl Target {
    /// Allows calls of this thread to be interrupted.
    pub(crate) fn enter(&self) {
        if let Some(signal) = signal() {
            set_mask(signal, libc::SIG_UNBLOCK);
            // SAFETY: `gettid` has no preconditions.
            *self.0.lock() = Some(unsafe { libc::syscall(libc::SYS_gettid) } as libc::pid_t);
        }
    }

    /// Ends the permission that [`Target::enter`] has given.
    pub(crate) fn leave(&self) {
        let was_there = self.0.lock().take();
        if let (Some(_), Some(signal)) = (was_there, signal()) {
            set_mask(signal, libc::SIG_BLOCK);
        }
    }

    /// Interrupts the call that the thread blocks in, if it has entered.
    ///
    /// Does nothing if the program has replaced the signal's handler since: then the call continues.
    pub(crate) fn interrupt(&self) {
        let thread = self.0.lock();
        if let (Some(thread), Some(signal)) = (*thread, signal())
            && handler(signal) == Some(do_nothing as extern "C" fn(libc::c_int) as usize)
        {
            // SAFETY: `tgkill` accesses no memory of this process. The thread has not left, so it still
            // exists.
            unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, signal) };
        }
    }
}

/// Returns the signal that interrupts calls. `None` if the program handles all real-time signals.
pub(crate) fn signal() -> Option<libc::c_int> {
    static SIGNAL: OnceLock<Option<libc::c_int>> = OnceLock::new();
    *SIGNAL.get_or_init(|| (libc::SIGRTMIN()..=libc::SIGRTMAX()).rev().find(|one| claim(*one)))
}

/// Returns the handler of a signal. `None` if there is no such signal.
fn handler(signal: libc::c_int) -> Option<libc::sighandler_t> {
    let mut current = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: `current` has room for the result; a null action changes nothing.
    let result = unsafe { libc::sigaction(signal, ptr::null(), current.as_mut_ptr()) };
    // SAFETY: `sigaction` succeeded, so it has filled in `current`.
    (result == 0).then(|| unsafe { current.assume_init() }.sa_sigaction)
}

/// Installs the handler for a signal, unless the program handles it.
fn claim(signal: libc::c_int) -> bool {
    if handler(signal) != Some(libc::SIG_DFL) {
        return false;
    }
    // SAFETY: an all-zero `sigaction` is valid: no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    action.sa_sigaction = do_nothing as extern "C" fn(libc::c_int) as usize;
    // SAFETY: `action` is initialised, and its handler does nothing, so it may run at any instruction.
    unsafe { libc::sigaction(signal, &action, ptr::null_mut()) == 0 }
}

extern "C" fn do_nothing(_: libc::c_int) {}

/// Blocks or unblocks a signal on this thread.
fn set_mask(signal: libc::c_int, how: libc::c_int) {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `set` has room for a set and is initialised by `sigemptyset`; the previous mask is not
    // requested.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), signal);
        libc::pthread_sigmask(how, set.as_ptr(), ptr::null_mut());
    }
}
