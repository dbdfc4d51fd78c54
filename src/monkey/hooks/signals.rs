//! Waiting for signals. The deadlock detector never takes such a wait for one that cannot end.
//!
//! - `pause` waits until a handler has run on this thread.
//! - The `sigwait` family waits for a `signalfd` of the set, and takes the signal by the call itself, which
//!   does not wait then: so of several coroutines one gets it.
//! - `sigsuspend` waits for a `signalfd` of what the mask lets through. A signal that has come, and is
//!   blocked by the thread, is let in by a `ppoll` that does not wait: its handler runs under the mask of
//!   the call. So the mask is never that of siblings.

use super::polling::{Limit, is_bad_mask};
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
/// As libc's.
pub(in crate::monkey) unsafe fn pause() -> c_int {
    // A handler may come at any time.
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
/// As libc's.
pub(in crate::monkey) unsafe fn sigwait(set: *const sigset_t, signal: *mut c_int) -> c_int {
    let before = errno::get();
    loop {
        // SAFETY: the caller's.
        match unsafe { take("sigwait", set, ptr::null_mut(), None) } {
            Some(got @ 1..) => {
                // SAFETY: the caller's.
                unsafe { *signal = got };
                errno::set(before);
                return 0;
            }
            Some(_) if errno::get() == libc::EINTR => {}
            Some(_) => return errno::get(),
            // SAFETY: the caller's.
            None => return unsafe { originals::sigwait::call_blocking(set, signal) },
        }
    }
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn sigwaitinfo(set: *const sigset_t, info: *mut siginfo_t) -> c_int {
    // SAFETY: the caller's.
    let got = unsafe { take("sigwaitinfo", set, info, None) };
    // SAFETY: the caller's.
    got.unwrap_or_else(|| unsafe { originals::sigwaitinfo::call_blocking(set, info) })
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn sigtimedwait(
    set: *const sigset_t,
    info: *mut siginfo_t,
    time: *const timespec,
) -> c_int {
    // SAFETY: the caller's.
    let Some(limit) = (unsafe { Limit::of_time(time) }) else {
        // SAFETY: the caller's. It fails at once, for the time.
        return unsafe { originals::sigtimedwait::call(set, info, time) };
    };
    if limit.is_zero() {
        // SAFETY: the caller's. It does not wait.
        return unsafe { originals::sigtimedwait::call(set, info, time) };
    }
    // SAFETY: the caller's.
    let got = unsafe { take("sigtimedwait", set, info, limit.deadline()) };
    // SAFETY: the caller's.
    got.unwrap_or_else(|| unsafe { originals::sigtimedwait::call_blocking(set, info, time) })
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn sigsuspend(mask: *const sigset_t) -> c_int {
    if mask.is_null() || is_bad_mask(mask) {
        // SAFETY: the caller's. It fails at once.
        return unsafe { originals::sigsuspend::call(mask) };
    }
    // SAFETY: room for a set, which is filled first.
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
        // SAFETY: no descriptors, a valid time; the mask is the caller's.
        let result = unsafe { originals::ppoll::call(ptr::null_mut(), 0, &NOW, mask) };
        (result < 0).then_some(-1)
    };
    match wait_for("sigsuspend", &through, None, let_in) {
        Some(result) => result,
        // SAFETY: the caller's.
        None => unsafe { originals::sigsuspend::call_blocking(mask) },
    }
}

/// In glibc a set of the first signals, a bit each; elsewhere one signal, as for `__xpg_sigpause`.
///
/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn sigpause(which: c_int) -> c_int {
    if !cfg!(target_env = "gnu") {
        // SAFETY: the caller's.
        return unsafe { __xpg_sigpause(which) };
    }
    let mut mask = MaybeUninit::<sigset_t>::uninit();
    // SAFETY: room for a set, which is emptied first.
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
/// As libc's.
pub(in crate::monkey) unsafe fn __xpg_sigpause(signal: c_int) -> c_int {
    let mut mask = MaybeUninit::<sigset_t>::uninit();
    // SAFETY: room for the answer; nothing is changed.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), mask.as_mut_ptr()) };
    // SAFETY: a set. It fails for what is no signal.
    match unsafe { libc::sigdelset(mask.as_mut_ptr(), signal) } {
        // SAFETY: a set.
        0 => unsafe { sigsuspend(mask.as_ptr()) },
        failed => failed,
    }
}

/// Takes a signal of a set that has come, and waits for one if there is none. The number, or -1. `None` if
/// there is nothing but to let it block.
///
/// # Safety
///
/// As libc's `sigwaitinfo`.
unsafe fn take(
    purpose: &'static str,
    set: *const sigset_t,
    info: *mut siginfo_t,
    deadline: Option<Deadline>,
) -> Option<c_int> {
    const NOW: timespec = timespec { tv_sec: 0, tv_nsec: 0 };
    wait_for(purpose, set, deadline, || {
        // SAFETY: the caller's.
        let got = unsafe { originals::sigtimedwait::call(set, info, &NOW) };
        (got >= 0 || errno::get() != libc::EAGAIN).then_some(got)
    })
}

/// Asks until there is an answer, and waits in between until a signal of the set is pending. The answer, or
/// -1 for a wait that was cut short. `None` if it cannot be waited for.
fn wait_for(
    purpose: &'static str,
    set: *const sigset_t,
    deadline: Option<Deadline>,
    mut ask: impl FnMut() -> Option<c_int>,
) -> Option<c_int> {
    yield_if_due_nounwind();
    if let Some(answer) = ask() {
        return Some(answer);
    }
    let interrupts = Interrupts::ReportAnySignal.since_call_began();
    let pending = Pending::of(set)?;
    loop {
        // Before the question: what comes after it is an event that wakes.
        pending.known.would_block(Direction::Read).ok()?;
        if let Some(answer) = ask() {
            return Some(answer);
        }
        let waited = pending.known.wait(Direction::Read, purpose, deadline, interrupts);
        match waited {
            Ok(()) => {}
            // As when nothing has come in time.
            Err(Some(libc::EAGAIN)) => {
                return Some(ask().unwrap_or_else(|| errno::fail(libc::EAGAIN)));
            }
            Err(refusal) => return Some(errno::fail(refusal?)),
        }
    }
}

/// A descriptor that is ready when a signal of a set is pending. Dropped, it leaves errno as it is.
struct Pending {
    fd: c_int,
    known: Rc<Known>,
}

impl Pending {
    /// `None` if there can be none.
    fn of(set: *const sigset_t) -> Option<Self> {
        // SAFETY: a set, as those who call this say.
        let fd = unsafe { libc::signalfd(-1, set, libc::SFD_CLOEXEC) };
        // The number may have been closed in a way that was not seen.
        forget(fd);
        let known = look_up(fd);
        if known.is_none() && fd >= 0 {
            // SAFETY: nobody else knows of it.
            unsafe { originals::close::call(fd) };
        }
        Some(Pending { fd, known: known? })
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let before = errno::get();
        forget(self.fd);
        // SAFETY: nobody else knows of it.
        unsafe { originals::close::call(self.fd) };
        errno::set(before);
    }
}
