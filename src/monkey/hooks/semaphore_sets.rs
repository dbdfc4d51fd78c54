//! Semaphores of System V. What can be done at once is; a thread of its own waits for the rest. What is to be
//! undone belongs to the process, since its threads share that list.

use super::polling::Limit;
use crate::hub::yield_if_due_nounwind;
use crate::monkey::blocking_pool::Lent;
use crate::monkey::dedicated::aside_or_ended;
use crate::monkey::{errno, originals};
use crate::sys::user_memory;
use libc::{c_int, sembuf, size_t, timespec};
use std::ptr;

/// As many operations as the kernel takes in one call by default.
const MOST: usize = 500;

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn semop(set: c_int, all: *mut sembuf, count: size_t) -> c_int {
    // SAFETY: the caller's.
    if let Some(done) = unsafe { at_once(set, all, count) } {
        return done;
    }
    // SAFETY: the caller's, who is suspended until the call is over.
    let lent = unsafe { Lent::new(all) };
    // SAFETY: the caller's.
    let call = move || unsafe { originals::semop::call(set, lent.get(), count) };
    // SAFETY: the caller's.
    aside_or_ended("semop", call)
        .unwrap_or_else(|| unsafe { originals::semop::call_blocking(set, all, count) })
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn semtimedop(
    set: c_int,
    all: *mut sembuf,
    count: size_t,
    time: *const timespec,
) -> c_int {
    // SAFETY: the caller's. It is for the kernel to refuse what is no time.
    let limit = unsafe { Limit::of_time(time) };
    if limit.is_some() {
        // SAFETY: the caller's.
        if let Some(done) = unsafe { at_once(set, all, count) } {
            return done;
        }
    }
    // SAFETY: the caller's, who is suspended until the call is over.
    let lent = unsafe { Lent::new((all, time)) };
    let call = move || {
        let (all, time) = lent.get();
        // SAFETY: the caller's.
        unsafe { originals::semtimedop::call(set, all, count, time) }
    };
    // SAFETY: the caller's.
    aside_or_ended("semtimedop", call)
        .unwrap_or_else(|| unsafe { originals::semtimedop::call_blocking(set, all, count, time) })
}

/// `None` if it has to wait, or if that is for the kernel to say.
///
/// # Safety
///
/// As libc's `semop`.
unsafe fn at_once(set: c_int, all: *const sembuf, count: size_t) -> Option<c_int> {
    yield_if_due_nounwind();
    if count > MOST || !user_memory::is_readable(all, count * size_of::<sembuf>()) {
        return None;
    }
    // SAFETY: the caller's.
    let mut all = unsafe { std::slice::from_raw_parts(all, count) }.to_vec();
    all.iter_mut().for_each(|one| one.sem_flg |= libc::IPC_NOWAIT as i16);
    let before = errno::get();
    // SAFETY: `count` operations.
    let done = unsafe { originals::semtimedop::call(set, all.as_mut_ptr(), count, ptr::null()) };
    if done < 0 && errno::get() == libc::EAGAIN {
        errno::set(before);
        return None;
    }
    Some(done)
}
