//! An epoll of the program's: it is a descriptor that can be waited for like any other, and is then asked
//! what it has at this moment.

use super::polling::{Limit, Watched, changes_signals, interruptible, is_bad_mask, wait_for_any};
use crate::hub::yield_if_due_nounwind;
use crate::monkey::blocking_pool::Lent;
use crate::monkey::dedicated::aside_or_ended;
use crate::monkey::originals;
use libc::{c_int, epoll_event, sigset_t, timespec};

/// `None` if there is nothing but to let it block.
///
/// # Safety
///
/// As libc's `epoll_wait`.
unsafe fn wait_by(
    purpose: &'static str,
    fd: c_int,
    events: *mut epoll_event,
    room: c_int,
    limit: Limit,
) -> Option<c_int> {
    yield_if_due_nounwind();
    // SAFETY: the caller's.
    let ask = || unsafe { originals::epoll_wait::call(fd, events, room, 0) };
    let now = ask();
    if now != 0 || limit.is_zero() {
        return Some(now);
    }
    let mut watched = Watched::default();
    watched.add(fd, false)?;
    wait_for_any(purpose, &watched, limit.deadline(), ask)
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn epoll_wait(
    fd: c_int,
    events: *mut epoll_event,
    room: c_int,
    millis: c_int,
) -> c_int {
    // SAFETY: the caller's.
    let done = unsafe { wait_by("epoll_wait", fd, events, room, Limit::of_millis(millis)) };
    // SAFETY: the caller's.
    done.unwrap_or_else(|| unsafe {
        originals::epoll_wait::call_blocking(fd, events, room, millis)
    })
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn epoll_pwait(
    fd: c_int,
    events: *mut epoll_event,
    room: c_int,
    millis: c_int,
    mask: *const sigset_t,
) -> c_int {
    if is_bad_mask(mask) {
        // SAFETY: the caller's. It fails at once.
        return unsafe { originals::epoll_pwait::call(fd, events, room, millis, mask) };
    }
    // SAFETY: the caller's.
    if !unsafe { changes_signals(mask) } {
        // SAFETY: the caller's.
        return unsafe { epoll_wait(fd, events, room, millis) };
    }
    yield_if_due_nounwind();
    // SAFETY: the caller's, who is suspended until the call is over.
    let lent = unsafe { Lent::new(events) };
    // SAFETY: the caller's; it is a set.
    let mask = unsafe { interruptible(mask) };
    // SAFETY: the caller's.
    let call = move || unsafe { originals::epoll_pwait::call(fd, lent.get(), room, millis, &mask) };
    // SAFETY: the caller's.
    aside_or_ended("epoll_pwait", call).unwrap_or_else(|| unsafe {
        originals::epoll_pwait::call_blocking(fd, events, room, millis, &mask)
    })
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn epoll_pwait2(
    fd: c_int,
    events: *mut epoll_event,
    room: c_int,
    time: *const timespec,
    mask: *const sigset_t,
) -> c_int {
    if is_bad_mask(mask) {
        // SAFETY: the caller's. It fails at once.
        return unsafe { originals::epoll_pwait2::call(fd, events, room, time, mask) };
    }
    // SAFETY: the caller's.
    if unsafe { changes_signals(mask) } {
        yield_if_due_nounwind();
        // SAFETY: the caller's, who is suspended until the call is over.
        let lent = unsafe { Lent::new((events, time)) };
        // SAFETY: the caller's; it is a set.
        let mask = unsafe { interruptible(mask) };
        let done = aside_or_ended("epoll_pwait2", move || {
            let (events, time) = lent.get();
            // SAFETY: the caller's.
            unsafe { originals::epoll_pwait2::call(fd, events, room, time, &mask) }
        });
        // SAFETY: the caller's.
        return done.unwrap_or_else(|| unsafe {
            originals::epoll_pwait2::call_blocking(fd, events, room, time, &mask)
        });
    }
    // SAFETY: the caller's.
    let done = unsafe { Limit::of_time(time) }
        // SAFETY: the caller's.
        .and_then(|limit| unsafe { wait_by("epoll_pwait2", fd, events, room, limit) });
    // SAFETY: the caller's.
    done.unwrap_or_else(|| unsafe {
        originals::epoll_pwait2::call_blocking(fd, events, room, time, mask)
    })
}
