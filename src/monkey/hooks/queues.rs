//! Queues of messages. One of POSIX is a descriptor, and is waited for as such: an attempt is a call
//! whose time is over. One of System V is none, and a thread of its own waits for it.

use super::sleeping::duration;
use super::waiting::until_ready;
use crate::hub::{Deadline, Direction, Interrupts, yield_if_due_nounwind};
use crate::monkey::blocking_pool::Lent;
use crate::monkey::dedicated::aside_or_ended;
use crate::monkey::descriptors::{forget, look_up};
use crate::monkey::{errno, originals};
use crate::sys::user_memory;
use libc::{c_char, c_int, c_long, c_uint, c_void, mqd_t, size_t, ssize_t, timespec};
use std::ptr;

/// A moment that is long over.
const PAST: timespec = timespec { tv_sec: 0, tv_nsec: 0 };

/// Makes `attempt`, which fails with `ETIMEDOUT` if it would wait, until the clock says `until`. A queue
/// that the program has set not to block says so by `EAGAIN`. `None` if there is nothing but to let it
/// block.
///
/// # Safety
///
/// A time, or null.
unsafe fn by_turns(
    purpose: &'static str,
    queue: mqd_t,
    direction: Direction,
    until: *const timespec,
    attempt: impl Fn() -> isize,
) -> Option<isize> {
    yield_if_due_nounwind();
    // SAFETY: the caller's.
    let deadline = match until.is_null() {
        true => None,
        false => {
            // It is for the kernel to refuse one that is no time.
            // SAFETY: the caller's.
            let until = duration(&unsafe { user_memory::read(until) }?)?;
            let mut now = PAST;
            // SAFETY: a place for the answer.
            unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &mut now) };
            Deadline::after(until.saturating_sub(duration(&now).unwrap_or_default()))
        }
    };
    let known = look_up(queue)?;
    // What was set later is for later calls.
    let is_nonblocking = known.is_nonblocking();
    let mut would_wait = false;
    // Restarted after a handler with SA_RESTART, also with a deadline.
    let limits = (deadline, Interrupts::Tell);
    let done = until_ready(purpose, &[(&known, direction)], limits, || {
        let result = attempt();
        would_wait = result < 0
            && (errno::get() == libc::ETIMEDOUT || !is_nonblocking && errno::get() == libc::EAGAIN);
        (!would_wait).then_some(result)
    })?;
    if done < 0 && would_wait && errno::get() == libc::EAGAIN {
        errno::set(libc::ETIMEDOUT);
    }
    Some(done)
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn mq_timedreceive(
    queue: mqd_t,
    buffer: *mut c_char,
    room: size_t,
    priority: *mut c_uint,
    until: *const timespec,
) -> ssize_t {
    // SAFETY: the caller's.
    let attempt =
        || unsafe { originals::mq_timedreceive::call(queue, buffer, room, priority, &PAST) };
    // SAFETY: the caller's.
    unsafe { by_turns("mq_receive", queue, Direction::Read, until, attempt) }.unwrap_or_else(|| {
        // SAFETY: the caller's.
        unsafe { originals::mq_timedreceive::call_blocking(queue, buffer, room, priority, until) }
    })
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn mq_receive(
    queue: mqd_t,
    buffer: *mut c_char,
    room: size_t,
    priority: *mut c_uint,
) -> ssize_t {
    // SAFETY: the caller's.
    unsafe { mq_timedreceive(queue, buffer, room, priority, ptr::null()) }
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn mq_timedsend(
    queue: mqd_t,
    message: *const c_char,
    length: size_t,
    priority: c_uint,
    until: *const timespec,
) -> c_int {
    // SAFETY: the caller's.
    let attempt = || unsafe {
        originals::mq_timedsend::call(queue, message, length, priority, &PAST) as isize
    };
    // SAFETY: the caller's.
    let sent = unsafe { by_turns("mq_send", queue, Direction::Write, until, attempt) };
    sent.map(|sent| sent as c_int).unwrap_or_else(|| {
        // SAFETY: the caller's.
        unsafe { originals::mq_timedsend::call_blocking(queue, message, length, priority, until) }
    })
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn mq_send(
    queue: mqd_t,
    message: *const c_char,
    length: size_t,
    priority: c_uint,
) -> c_int {
    // SAFETY: the caller's.
    unsafe { mq_timedsend(queue, message, length, priority, ptr::null()) }
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn mq_close(queue: mqd_t) -> c_int {
    forget(queue);
    // SAFETY: the caller's.
    unsafe { originals::mq_close::call(queue) }
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn msgrcv(
    queue: c_int,
    place: *mut c_void,
    room: size_t,
    kind: c_long,
    flags: c_int,
) -> ssize_t {
    yield_if_due_nounwind();
    // SAFETY: the caller's.
    let now =
        unsafe { originals::msgrcv::call(queue, place, room, kind, flags | libc::IPC_NOWAIT) };
    if now >= 0 || flags & libc::IPC_NOWAIT != 0 || errno::get() != libc::ENOMSG {
        return now;
    }
    // SAFETY: the caller's, who is suspended until the call is over.
    let lent = unsafe { Lent::new(place) };
    // SAFETY: the caller's.
    let call = move || unsafe { originals::msgrcv::call(queue, lent.get(), room, kind, flags) };
    // SAFETY: the caller's.
    aside_or_ended("msgrcv", call).unwrap_or_else(|| unsafe {
        originals::msgrcv::call_blocking(queue, place, room, kind, flags)
    })
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn msgsnd(
    queue: c_int,
    message: *const c_void,
    length: size_t,
    flags: c_int,
) -> c_int {
    yield_if_due_nounwind();
    // SAFETY: the caller's.
    let now = unsafe { originals::msgsnd::call(queue, message, length, flags | libc::IPC_NOWAIT) };
    if now >= 0 || flags & libc::IPC_NOWAIT != 0 || errno::get() != libc::EAGAIN {
        return now;
    }
    // SAFETY: the caller's, who is suspended until the call is over.
    let lent = unsafe { Lent::new(message) };
    // SAFETY: the caller's.
    let call = move || unsafe { originals::msgsnd::call(queue, lent.get(), length, flags) };
    // SAFETY: the caller's.
    aside_or_ended("msgsnd", call).unwrap_or_else(|| unsafe {
        originals::msgsnd::call_blocking(queue, message, length, flags)
    })
}
