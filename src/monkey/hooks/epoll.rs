//! An epoll instance of the program.
//!
//! It is a descriptor that can be waited for like any other; once ready, it is queried without waiting.

use super::polling::{Timeout, Watched, changes_signals, interruptible, is_bad_mask, wait_for_any};
use crate::hub::yield_if_due_nounwind;
use crate::monkey::blocking_pool::Lent;
use crate::monkey::dedicated::aside_or_ended;
use crate::monkey::originals;
use libc::{c_int, epoll_event, sigset_t, timespec};

/// Waits until the instance has events.
///
/// `None` if the only way is to let the call block.
///
/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`), as for libc's `epoll_wait`.
unsafe fn wait_by(
    purpose: &'static str,
    fd: c_int,
    events: *mut epoll_event,
    room: c_int,
    timeout: Timeout,
) -> Option<c_int> {
    yield_if_due_nounwind();
    // SAFETY: contract of a hook: libc's `epoll_wait` gets the caller's pointers.
    let attempt = || unsafe { originals::epoll_wait::call(fd, events, room, 0) };
    let now = attempt();
    if now != 0 || timeout.is_zero() {
        return Some(now);
    }
    let mut watched = Watched::default();
    watched.add(fd, false)?;
    wait_for_any(purpose, &watched, timeout.deadline(), attempt)
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn epoll_wait(
    fd: c_int,
    events: *mut epoll_event,
    room: c_int,
    millis: c_int,
) -> c_int {
    // SAFETY: contract of a hook: `wait_by` has the same contract.
    let done = unsafe { wait_by("epoll_wait", fd, events, room, Timeout::of_millis(millis)) };
    // SAFETY: contract of a hook: libc's `epoll_wait` gets the caller's pointers.
    done.unwrap_or_else(|| unsafe {
        originals::epoll_wait::call_blocking(fd, events, room, millis)
    })
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn epoll_pwait(
    fd: c_int,
    events: *mut epoll_event,
    room: c_int,
    millis: c_int,
    mask: *const sigset_t,
) -> c_int {
    if is_bad_mask(mask) {
        // SAFETY: contract of a hook: libc's `epoll_pwait` gets the caller's pointers. It fails at once.
        return unsafe { originals::epoll_pwait::call(fd, events, room, millis, mask) };
    }
    // SAFETY: contract of a hook: the mask is null or a signal set.
    if !unsafe { changes_signals(mask) } {
        // SAFETY: contract of a hook: `epoll_wait` has the same contract.
        return unsafe { epoll_wait(fd, events, room, millis) };
    }
    yield_if_due_nounwind();
    // SAFETY: contract of a hook: the pointers are valid on any thread until the suspended caller returns.
    let lent = unsafe { Lent::new(events) };
    // SAFETY: contract of a hook: the mask is not null, so it is a signal set.
    let mask = unsafe { interruptible(mask) };
    // SAFETY: contract of a hook: the suspended caller lends the pointers to libc's `epoll_pwait`.
    let call = move || unsafe { originals::epoll_pwait::call(fd, lent.get(), room, millis, &mask) };
    // SAFETY: contract of a hook: libc's `epoll_pwait` gets the caller's pointers.
    aside_or_ended("epoll_pwait", call).unwrap_or_else(|| unsafe {
        originals::epoll_pwait::call_blocking(fd, events, room, millis, &mask)
    })
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn epoll_pwait2(
    fd: c_int,
    events: *mut epoll_event,
    room: c_int,
    time: *const timespec,
    mask: *const sigset_t,
) -> c_int {
    if is_bad_mask(mask) {
        // SAFETY: contract of a hook: libc's `epoll_pwait2` gets the caller's pointers. It fails at once.
        return unsafe { originals::epoll_pwait2::call(fd, events, room, time, mask) };
    }
    // SAFETY: contract of a hook: the mask is null or a signal set.
    if unsafe { changes_signals(mask) } {
        yield_if_due_nounwind();
        // SAFETY: contract of a hook: the pointers are valid on any thread until the suspended caller
        // returns.
        let lent = unsafe { Lent::new((events, time)) };
        // SAFETY: contract of a hook: the mask is not null, so it is a signal set.
        let mask = unsafe { interruptible(mask) };
        let done = aside_or_ended("epoll_pwait2", move || {
            let (events, time) = lent.get();
            // SAFETY: contract of a hook: the suspended caller lends the pointers to libc's `epoll_pwait2`.
            unsafe { originals::epoll_pwait2::call(fd, events, room, time, &mask) }
        });
        // SAFETY: contract of a hook: libc's `epoll_pwait2` gets the caller's pointers.
        return done.unwrap_or_else(|| unsafe {
            originals::epoll_pwait2::call_blocking(fd, events, room, time, &mask)
        });
    }
    // SAFETY: contract of a hook: the time is null or valid.
    let done = unsafe { Timeout::of_time(time) }
        // SAFETY: contract of a hook: `wait_by` has the same contract.
        .and_then(|timeout| unsafe { wait_by("epoll_pwait2", fd, events, room, timeout) });
    // SAFETY: contract of a hook: libc's `epoll_pwait2` gets the caller's pointers.
    done.unwrap_or_else(|| unsafe {
        originals::epoll_pwait2::call_blocking(fd, events, room, time, mask)
    })
}
