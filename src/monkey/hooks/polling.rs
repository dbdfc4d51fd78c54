//! Waiting for several descriptors at once.
//!
//! Each descriptor is watched, and after every event of one of them the kernel is queried again.
//!
//! A call may change the signal mask for the time of its wait. If that mask differs from the thread's, a
//! dedicated thread makes the call: its caller wants one of those signals to end it, and the kernel delivers
//! a signal to a thread that does not block it. The mask of this thread cannot be changed, as all coroutines
//! share it.

use super::sleeping::duration;
use crate::hub::{
    Deadline, Direction, Interrupts, Wake, mark_interrupts_reported, yield_if_due_nounwind,
};
use crate::monkey::blocking_pool::Lent;
use crate::monkey::dedicated::aside_or_ended;
use crate::monkey::descriptors::look_up;
use crate::monkey::known::{Known, park_among};
use crate::monkey::{errno, originals};
use crate::sys::{interrupt, user_memory};
use libc::{c_int, nfds_t, pollfd, sigset_t, timespec};
use std::mem::MaybeUninit;
use std::ptr;
use std::rc::Rc;
use std::time::Duration;

/// The events that concern writing: each comes with an event of the write side.
const WRITE_SIDE: libc::c_short = libc::POLLOUT | libc::POLLWRNORM | libc::POLLWRBAND;

/// The descriptors that a call waits for.
#[derive(Default)]
pub(super) struct Watched(Vec<(Rc<Known>, Direction)>);

impl Watched {
    /// Adds a descriptor. `None` if it cannot be looked up now.
    pub(super) fn add(&mut self, fd: c_int, to_be_written: bool) -> Option<()> {
        let known = look_up(fd)?;
        if to_be_written {
            self.0.push((Rc::clone(&known), Direction::Write));
        }
        // A hang-up is an event of the read side.
        self.0.push((known, Direction::Read));
        Some(())
    }
}

/// Repeats `attempt` until its result is not 0 or `deadline` has passed, and waits in between for an event of
/// `all`.
///
/// `None` if one of the descriptors cannot be waited for.
pub(super) fn wait_for_any(
    purpose: &'static str,
    all: &Watched,
    deadline: Option<Deadline>,
    mut attempt: impl FnMut() -> c_int,
) -> Option<c_int> {
    let watches = all.0.iter().filter_map(|(known, direction)| {
        let watch = known.watch(*direction);
        // Skip a descriptor that is always ready but was not asked for any readiness that it has.
        (watch.is_some() || !known.is_always_ready()).then_some(watch)
    });
    let _watches: Vec<_> = watches.collect::<Option<_>>()?;
    let mut is_over = false;
    let interrupts = Interrupts::ReportAnySignal.since_call_began();
    loop {
        // The number refers to another file now, and the call is not about that one.
        if all.0.iter().any(|(known, _)| known.is_replaced()) {
            return Some(errno::fail(libc::EBADF));
        }
        // Also before the first wait: a later event wakes.
        let result = attempt();
        if result != 0 || is_over {
            return Some(result);
        }
        let known = all.0.iter().map(|(known, _)| &**known);
        match park_among(known, purpose, deadline, interrupts) {
            Wake::Unparked => {}
            Wake::TimedOut => is_over = true,
            // An event counts more than a signal, as in the kernel.
            Wake::Signalled => {
                return Some(match attempt() {
                    0 => errno::fail(libc::EINTR),
                    result => result,
                });
            }
            Wake::Interrupted => {
                mark_interrupts_reported();
                return Some(errno::fail(libc::ECANCELED));
            }
        }
    }
}

/// How long a call may wait.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Timeout {
    Never,
    After(Duration),
}

impl Timeout {
    /// A timeout in milliseconds. A negative one never expires.
    pub(super) fn of_millis(millis: c_int) -> Self {
        match u64::try_from(millis) {
            Ok(millis) => Timeout::After(Duration::from_millis(millis)),
            Err(_) => Timeout::Never,
        }
    }

    /// A timeout in seconds and nanoseconds; null never expires.
    ///
    /// `None` for a time that the kernel refuses.
    ///
    /// # Safety
    ///
    /// If `time` can be read, it is a time.
    pub(super) unsafe fn of_time(time: *const timespec) -> Option<Self> {
        // SAFETY: valid if it can be read: the contract of this function.
        match unsafe { user_memory::read(time) } {
            None if time.is_null() => Some(Timeout::Never),
            time => time.and_then(|time| duration(&time)).map(Timeout::After),
        }
    }

    pub(super) fn is_zero(self) -> bool {
        self == Timeout::After(Duration::ZERO)
    }

    pub(super) fn deadline(self) -> Option<Deadline> {
        match self {
            Timeout::Never => None,
            Timeout::After(timeout) => Deadline::after(timeout),
        }
    }
}

/// Whether a call with this mask fails at once, because the mask cannot be read.
pub(super) fn is_bad_mask(mask: *const sigset_t) -> bool {
    // The number of bytes that the kernel reads.
    !mask.is_null() && !user_memory::is_readable(mask, size_of::<u64>())
}

/// Whether the mask for a call differs from that of the current thread.
///
/// # Safety
///
/// `mask` is null or a signal set.
pub(super) unsafe fn changes_signals(mask: *const sigset_t) -> bool {
    if mask.is_null() {
        return false;
    }
    let mut current = MaybeUninit::<sigset_t>::uninit();
    // SAFETY: `current` is valid for a write; nothing is changed.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), current.as_mut_ptr()) };
    // SAFETY: both are signal sets.
    let differs = |signal| unsafe {
        libc::sigismember(mask, signal) != libc::sigismember(current.as_ptr(), signal)
    };
    (1..=libc::SIGRTMAX()).any(differs)
}

/// A copy of a mask for a call on another thread, without the signal that interrupts such calls.
///
/// # Safety
///
/// `mask` is a signal set.
pub(super) unsafe fn interruptible(mask: *const sigset_t) -> sigset_t {
    // SAFETY: `mask` is a signal set: the contract of this function.
    let mut mask = unsafe { mask.read() };
    if let Some(signal) = interrupt::signal() {
        // SAFETY: `mask` is a signal set, and `signal` a signal.
        unsafe { libc::sigdelset(&mut mask, signal) };
    }
    mask
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn poll(all: *mut pollfd, count: nfds_t, millis: c_int) -> c_int {
    let timeout = Timeout::of_millis(millis);
    // SAFETY: contract of a hook: `poll_by` has the same contract.
    let done = unsafe { poll_by("poll", all, count, timeout) };
    // SAFETY: contract of a hook: libc's `poll` gets the caller's pointers.
    done.unwrap_or_else(|| unsafe { originals::poll::call_blocking(all, count, millis) })
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn ppoll(
    all: *mut pollfd,
    count: nfds_t,
    time: *const timespec,
    mask: *const sigset_t,
) -> c_int {
    if is_bad_mask(mask) {
        // SAFETY: contract of a hook: libc's `ppoll` gets the caller's pointers. It fails at once.
        return unsafe { originals::ppoll::call(all, count, time, mask) };
    }
    // SAFETY: contract of a hook: the mask is null or a signal set.
    if unsafe { changes_signals(mask) } {
        yield_if_due_nounwind();
        // SAFETY: contract of a hook: the pointers are valid on any thread until the suspended caller
        // returns.
        let lent = unsafe { Lent::new((all, time)) };
        // SAFETY: contract of a hook: the mask is not null, so it is a signal set.
        let mask = unsafe { interruptible(mask) };
        let done = aside_or_ended("ppoll", move || {
            let (all, time) = lent.get();
            // SAFETY: contract of a hook: the suspended caller lends the pointers to libc's `ppoll`.
            unsafe { originals::ppoll::call(all, count, time, &mask) }
        });
        // SAFETY: contract of a hook: libc's `ppoll` gets the caller's pointers.
        return done.unwrap_or_else(|| unsafe {
            originals::ppoll::call_blocking(all, count, time, &mask)
        });
    }
    // SAFETY: contract of a hook: the time is null or valid.
    let done = unsafe { Timeout::of_time(time) }
        // SAFETY: contract of a hook: `poll_by` has the same contract.
        .and_then(|timeout| unsafe { poll_by("ppoll", all, count, timeout) });
    // SAFETY: contract of a hook: libc's `ppoll` gets the caller's pointers.
    done.unwrap_or_else(|| unsafe { originals::ppoll::call_blocking(all, count, time, mask) })
}

/// Polls and waits. `None` if the only way is to let the call block.
///
/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`), as for libc's `poll`.
unsafe fn poll_by(
    purpose: &'static str,
    all: *mut pollfd,
    count: nfds_t,
    timeout: Timeout,
) -> Option<c_int> {
    yield_if_due_nounwind();
    // SAFETY: contract of a hook: libc's `poll` gets the caller's pointers.
    let attempt = || unsafe { originals::poll::call(all, count, 0) };
    let now = attempt();
    if now != 0 || timeout.is_zero() {
        return Some(now);
    }
    let entries = (0..count as usize).map(|index| {
        // SAFETY: contract of a hook: there are `count` entries, which the kernel has just read.
        unsafe { all.add(index) }
    });
    let mut watched = Watched::default();
    for entry in entries {
        // SAFETY: contract of a hook: the kernel has just read this entry.
        let pollfd { fd, events, .. } = unsafe { *entry };
        if fd >= 0 {
            watched.add(fd, events & WRITE_SIDE != 0)?;
        }
    }
    wait_for_any(purpose, &watched, timeout.deadline(), attempt)
}
