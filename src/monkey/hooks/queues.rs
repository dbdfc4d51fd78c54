//! Message queues.
//!
//! A POSIX queue is a descriptor and is waited for as one: an attempt is a call whose deadline has passed. A
//! System V queue is not a descriptor; a dedicated thread waits for it.

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

/// A deadline in the past.
const PAST: timespec = timespec { tv_sec: 0, tv_nsec: 0 };

/// Repeats `attempt`, which fails with `ETIMEDOUT` if it would wait, until the clock shows `until`.
///
/// On a queue that the program has set to non-blocking mode, it fails with `EAGAIN` instead. `None` if the
/// only way is to let the call block.
///
/// # Safety
///
/// If `until` can be read, it is a time.
unsafe fn retry(
    purpose: &'static str,
    queue: mqd_t,
    direction: Direction,
    until: *const timespec,
    attempt: impl Fn() -> isize,
) -> Option<isize> {
    yield_if_due_nounwind();
    let deadline = match until.is_null() {
        true => None,
        false => {
            // The kernel refuses an invalid time.
            // SAFETY: valid if it can be read: the contract of this function.
            let until = duration(&unsafe { user_memory::read(until) }?)?;
            let mut now = PAST;
            // SAFETY: `now` is valid for a write.
            unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &mut now) };
            Deadline::after(until.saturating_sub(duration(&now).unwrap_or_default()))
        }
    };
    let known = look_up(queue)?;
    // What was set later is for later calls.
    let is_nonblocking = known.is_nonblocking();
    let mut would_wait = false;
    // A handler with `SA_RESTART` restarts the call, even if it has a deadline.
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
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn mq_timedreceive(
    queue: mqd_t,
    buffer: *mut c_char,
    room: size_t,
    priority: *mut c_uint,
    until: *const timespec,
) -> ssize_t {
    // SAFETY: contract of a hook: libc's `mq_timedreceive` gets the caller's pointers.
    let attempt =
        || unsafe { originals::mq_timedreceive::call(queue, buffer, room, priority, &PAST) };
    // SAFETY: contract of a hook: `retry` has the same contract.
    unsafe { retry("mq_receive", queue, Direction::Read, until, attempt) }.unwrap_or_else(|| {
        // SAFETY: contract of a hook: libc's `mq_timedreceive` gets the caller's pointers.
        unsafe { originals::mq_timedreceive::call_blocking(queue, buffer, room, priority, until) }
    })
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn mq_receive(
    queue: mqd_t,
    buffer: *mut c_char,
    room: size_t,
    priority: *mut c_uint,
) -> ssize_t {
    // SAFETY: contract of a hook: `mq_timedreceive` has the same contract.
    unsafe { mq_timedreceive(queue, buffer, room, priority, ptr::null()) }
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn mq_timedsend(
    queue: mqd_t,
    message: *const c_char,
    length: size_t,
    priority: c_uint,
    until: *const timespec,
) -> c_int {
    // SAFETY: contract of a hook: libc's `mq_timedsend` gets the caller's pointers.
    let attempt = || unsafe {
        originals::mq_timedsend::call(queue, message, length, priority, &PAST) as isize
    };
    // SAFETY: contract of a hook: `retry` has the same contract.
    let sent = unsafe { retry("mq_send", queue, Direction::Write, until, attempt) };
    sent.map(|sent| sent as c_int).unwrap_or_else(|| {
        // SAFETY: contract of a hook: libc's `mq_timedsend` gets the caller's pointers.
        unsafe { originals::mq_timedsend::call_blocking(queue, message, length, priority, until) }
    })
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn mq_send(
    queue: mqd_t,
    message: *const c_char,
    length: size_t,
    priority: c_uint,
) -> c_int {
    // SAFETY: contract of a hook: `mq_timedsend` has the same contract.
    unsafe { mq_timedsend(queue, message, length, priority, ptr::null()) }
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn mq_close(queue: mqd_t) -> c_int {
    forget(queue);
    // SAFETY: no pointer is passed.
    unsafe { originals::mq_close::call(queue) }
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn msgrcv(
    queue: c_int,
    place: *mut c_void,
    room: size_t,
    kind: c_long,
    flags: c_int,
) -> ssize_t {
    yield_if_due_nounwind();
    // SAFETY: contract of a hook: libc's `msgrcv` gets the caller's pointers.
    let now =
        unsafe { originals::msgrcv::call(queue, place, room, kind, flags | libc::IPC_NOWAIT) };
    if now >= 0 || flags & libc::IPC_NOWAIT != 0 || errno::get() != libc::ENOMSG {
        return now;
    }
    // SAFETY: contract of a hook: the pointers are valid on any thread until the suspended caller returns.
    let lent = unsafe { Lent::new(place) };
    // SAFETY: contract of a hook: the suspended caller lends the pointers to libc's `msgrcv`.
    let call = move || unsafe { originals::msgrcv::call(queue, lent.get(), room, kind, flags) };
    // SAFETY: contract of a hook: libc's `msgrcv` gets the caller's pointers.
    aside_or_ended("msgrcv", call).unwrap_or_else(|| unsafe {
        originals::msgrcv::call_blocking(queue, place, room, kind, flags)
    })
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn msgsnd(
    queue: c_int,
    message: *const c_void,
    length: size_t,
    flags: c_int,
) -> c_int {
    yield_if_due_nounwind();
    // SAFETY: contract of a hook: libc's `msgsnd` gets the caller's pointers.
    let now = unsafe { originals::msgsnd::call(queue, message, length, flags | libc::IPC_NOWAIT) };
    if now >= 0 || flags & libc::IPC_NOWAIT != 0 || errno::get() != libc::EAGAIN {
        return now;
    }
    // SAFETY: contract of a hook: the pointers are valid on any thread until the suspended caller returns.
    let lent = unsafe { Lent::new(message) };
    // SAFETY: contract of a hook: the suspended caller lends the pointers to libc's `msgsnd`.
    let call = move || unsafe { originals::msgsnd::call(queue, lent.get(), length, flags) };
    // SAFETY: contract of a hook: libc's `msgsnd` gets the caller's pointers.
    aside_or_ended("msgsnd", call).unwrap_or_else(|| unsafe {
        originals::msgsnd::call_blocking(queue, message, length, flags)
    })
}
