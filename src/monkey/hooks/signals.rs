//! Waiting for signals. The deadlock detector never regards such a wait as endless.
//!
//! - `pause` waits until a handler has run on this thread.
//! - The `sigwait` family waits for a `signalfd` of the set, and then takes the signal by a call that does
//!   not wait: so one of several waiting coroutines gets it.
//! - `sigsuspend` waits for a `signalfd` of the signals that the mask does not block. A pending signal that
//!   the thread blocks is delivered by a `ppoll` that does not wait: its handler runs under the mask of the
//!   call. So siblings never run with that mask.

use super::polling::{Timeout, is_bad_mask};
use crate::hub::{
    Deadline, Direction, Interrupts, Registration, Wake, mark_interrupts_reported, park_nounwind,
    yield_if_due_nounwind,
};
use crate::monkey::descriptors::{forget, look_up};
use crate::monkey::known::Known;
use crate::monkey::{errno, originals};
use libc::{c_int, siginfo_t, sigset_t, timespec};
use std::mem::MaybeUninit;
use std::ptr;
use std::rc::Rc;

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn pause() -> c_int {
    // A handler may run at any time.
    let registration = Registration::new();
    let interrupts = Interrupts::ReportAnySignal.begun();
    let error = loop {
        match park_nounwind("pause", None, interrupts) {
            Wake::Signalled => break libc::EINTR,
            Wake::Interrupted => {
                mark_interrupts_reported();
                break libc::ECANCELED;
            }
            Wake::Unparked | Wake::TimedOut => {}
        }
    };
    drop(registration);
    errno::fail(error)
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn sigwait(set: *const sigset_t, signal: *mut c_int) -> c_int {
    let before = errno::get();
    loop {
        // SAFETY: contract of a hook: `take` has the same contract.
        match unsafe { take("sigwait", set, ptr::null_mut(), None) } {
            Some(got @ 1..) => {
                // SAFETY: contract of a hook: `signal` is valid for a write.
                unsafe { *signal = got };
                errno::set(before);
                return 0;
            }
            Some(_) if errno::get() == libc::EINTR => {}
            Some(_) => return errno::get(),
            // SAFETY: contract of a hook: libc's `sigwait` gets the caller's pointers.
            None => return unsafe { originals::sigwait::call_blocking(set, signal) },
        }
    }
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn sigwaitinfo(set: *const sigset_t, info: *mut siginfo_t) -> c_int {
    // SAFETY: contract of a hook: `take` has the same contract.
    let got = unsafe { take("sigwaitinfo", set, info, None) };
    // SAFETY: contract of a hook: libc's `sigwaitinfo` gets the caller's pointers.
    got.unwrap_or_else(|| unsafe { originals::sigwaitinfo::call_blocking(set, info) })
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn sigtimedwait(
    set: *const sigset_t,
    info: *mut siginfo_t,
    time: *const timespec,
) -> c_int {
    // SAFETY: contract of a hook: the time is null or valid.
    let Some(timeout) = (unsafe { Timeout::of_time(time) }) else {
        // SAFETY: contract of a hook: libc's `sigtimedwait` gets the caller's pointers. It refuses the time
        // at once.
        return unsafe { originals::sigtimedwait::call(set, info, time) };
    };
    if timeout.is_zero() {
        // SAFETY: contract of a hook: libc's `sigtimedwait` gets the caller's pointers. It does not wait.
        return unsafe { originals::sigtimedwait::call(set, info, time) };
    }
    // SAFETY: contract of a hook: `take` has the same contract.
    let got = unsafe { take("sigtimedwait", set, info, timeout.deadline()) };
    // SAFETY: contract of a hook: libc's `sigtimedwait` gets the caller's pointers.
    got.unwrap_or_else(|| unsafe { originals::sigtimedwait::call_blocking(set, info, time) })
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn sigsuspend(mask: *const sigset_t) -> c_int {
    if mask.is_null() || is_bad_mask(mask) {
        // SAFETY: contract of a hook: libc's `sigsuspend` gets the caller's pointers. It fails at once.
        return unsafe { originals::sigsuspend::call(mask) };
    }
    // SAFETY: `through` is valid for a set, and filled first; the mask can be read.
    let through = unsafe {
        let mut through = MaybeUninit::<sigset_t>::uninit();
        libc::sigfillset(through.as_mut_ptr());
        for signal in (1..=libc::SIGRTMAX()).filter(|signal| libc::sigismember(mask, *signal) == 1)
        {
            libc::sigdelset(through.as_mut_ptr(), signal);
        }
        through.assume_init()
    };
    let let_in = || {
        const NOW: timespec = timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: no descriptors, a valid time, and the caller's mask.
        let result = unsafe { originals::ppoll::call(ptr::null_mut(), 0, &NOW, mask) };
        (result < 0).then_some(-1)
    };
    match wait_for("sigsuspend", &through, None, let_in) {
        Some(result) => result,
        // SAFETY: contract of a hook: libc's `sigsuspend` gets the caller's pointers.
        None => unsafe { originals::sigsuspend::call_blocking(mask) },
    }
}

/// In glibc, `which` is a set of the first 32 signals; elsewhere one signal, as for `__xpg_sigpause`.
///
/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn sigpause(which: c_int) -> c_int {
    if !cfg!(target_env = "gnu") {
        // SAFETY: contract of a hook: `__xpg_sigpause` has the same contract.
        return unsafe { __xpg_sigpause(which) };
    }
    let mut mask = MaybeUninit::<sigset_t>::uninit();
    // SAFETY: `mask` is valid for a set, and emptied first.
    unsafe {
        libc::sigemptyset(mask.as_mut_ptr());
        for signal in (1..=32).filter(|signal| which >> (signal - 1) & 1 == 1) {
            libc::sigaddset(mask.as_mut_ptr(), signal);
        }
        sigsuspend(mask.as_ptr())
    }
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn __xpg_sigpause(signal: c_int) -> c_int {
    let mut mask = MaybeUninit::<sigset_t>::uninit();
    // SAFETY: `mask` is valid for a write; nothing is changed.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), mask.as_mut_ptr()) };
    // SAFETY: `mask` is a signal set. The call fails for an invalid signal.
    match unsafe { libc::sigdelset(mask.as_mut_ptr(), signal) } {
        // SAFETY: `mask` is a signal set.
        0 => unsafe { sigsuspend(mask.as_ptr()) },
        failed => failed,
    }
}

/// Takes a pending signal of a set, and waits for one if there is none.
///
/// Returns its number, or -1. `None` if the only way is to let the call block.
///
/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`), as for libc's `sigwaitinfo`.
unsafe fn take(
    purpose: &'static str,
    set: *const sigset_t,
    info: *mut siginfo_t,
    deadline: Option<Deadline>,
) -> Option<c_int> {
    const NOW: timespec = timespec { tv_sec: 0, tv_nsec: 0 };
    wait_for(purpose, set, deadline, || {
        // SAFETY: contract of a hook: libc's `sigtimedwait` gets the caller's pointers.
        let got = unsafe { originals::sigtimedwait::call(set, info, &NOW) };
        (got >= 0 || errno::get() != libc::EAGAIN).then_some(got)
    })
}

/// Repeats `attempt` until it has a result, and waits in between until a signal of the set is pending.
///
/// Returns the result, or -1 for a wait that was cut short. `None` if the set cannot be waited for.
fn wait_for(
    purpose: &'static str,
    set: *const sigset_t,
    deadline: Option<Deadline>,
    mut attempt: impl FnMut() -> Option<c_int>,
) -> Option<c_int> {
    yield_if_due_nounwind();
    if let Some(answer) = attempt() {
        return Some(answer);
    }
    let interrupts = Interrupts::ReportAnySignal.since_call_began();
    let pending = Pending::of(set)?;
    loop {
        // Before the query: a signal that comes later is an event that wakes.
        pending.known.would_block(Direction::Read).ok()?;
        if let Some(answer) = attempt() {
            return Some(answer);
        }
        let waited = pending.known.wait(Direction::Read, purpose, deadline, interrupts);
        match waited {
            Ok(()) => {}
            // The deadline has passed.
            Err(Some(libc::EAGAIN)) => {
                return Some(attempt().unwrap_or_else(|| errno::fail(libc::EAGAIN)));
            }
            Err(refusal) => return Some(errno::fail(refusal?)),
        }
    }
}

/// A descriptor that is ready when a signal of a set is pending.
///
/// Dropping it leaves errno as it is.
struct Pending {
    fd: c_int,
    known: Rc<Known>,
}

impl Pending {
    /// Opens a descriptor. `None` if that fails.
    fn of(set: *const sigset_t) -> Option<Self> {
        // SAFETY: the callers pass a signal set.
        let fd = unsafe { libc::signalfd(-1, set, libc::SFD_CLOEXEC) };
        // The number may have been closed by a call that no hook has seen.
        forget(fd);
        let known = look_up(fd);
        if known.is_none() && fd >= 0 {
            // SAFETY: only this value uses the descriptor.
            unsafe { originals::close::call(fd) };
        }
        Some(Pending { fd, known: known? })
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let before = errno::get();
        forget(self.fd);
        // SAFETY: only this value uses the descriptor.
        unsafe { originals::close::call(self.fd) };
        errno::set(before);
    }
}
