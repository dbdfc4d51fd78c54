//! Semaphores of System V.
//!
//! Operations that are possible at once are made at once; a dedicated thread waits otherwise. The undo list
//! (`SEM_UNDO`) belongs to the process, since its threads share it.

use super::polling::Timeout;
use crate::hub::yield_if_due_nounwind;
use crate::monkey::blocking_pool::Lent;
use crate::monkey::dedicated::aside_or_ended;
use crate::monkey::{errno, originals};
use crate::sys::user_memory;
use libc::{c_int, sembuf, size_t, timespec};
use std::ptr;

/// The most operations that the kernel takes in one call by default.
const MAX_OPERATIONS: usize = 500;

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn semop(set: c_int, all: *mut sembuf, count: size_t) -> c_int {
    // SAFETY: contract of a hook: `at_once` has the same contract.
    if let Some(done) = unsafe { at_once(set, all, count) } {
        return done;
    }
    // SAFETY: contract of a hook: the pointers are valid on any thread until the suspended caller returns.
    let lent = unsafe { Lent::new(all) };
    // SAFETY: contract of a hook: the suspended caller lends the pointers to libc's `semop`.
    let call = move || unsafe { originals::semop::call(set, lent.get(), count) };
    // SAFETY: contract of a hook: libc's `semop` gets the caller's pointers.
    aside_or_ended("semop", call)
        .unwrap_or_else(|| unsafe { originals::semop::call_blocking(set, all, count) })
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn semtimedop(
    set: c_int,
    all: *mut sembuf,
    count: size_t,
    time: *const timespec,
) -> c_int {
    // SAFETY: contract of a hook: the time is null or valid. The kernel refuses an invalid one.
    let timeout = unsafe { Timeout::of_time(time) };
    if timeout.is_some() {
        // SAFETY: contract of a hook: `at_once` has the same contract.
        if let Some(done) = unsafe { at_once(set, all, count) } {
            return done;
        }
    }
    // SAFETY: contract of a hook: the pointers are valid on any thread until the suspended caller returns.
    let lent = unsafe { Lent::new((all, time)) };
    let call = move || {
        let (all, time) = lent.get();
        // SAFETY: contract of a hook: the suspended caller lends the pointers to libc's `semtimedop`.
        unsafe { originals::semtimedop::call(set, all, count, time) }
    };
    // SAFETY: contract of a hook: libc's `semtimedop` gets the caller's pointers.
    aside_or_ended("semtimedop", call)
        .unwrap_or_else(|| unsafe { originals::semtimedop::call_blocking(set, all, count, time) })
}

/// Makes the operations without waiting.
///
/// `None` if the call has to wait, or if the kernel has to decide.
///
/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`), as for libc's `semop`.
unsafe fn at_once(set: c_int, all: *const sembuf, count: size_t) -> Option<c_int> {
    yield_if_due_nounwind();
    if count > MAX_OPERATIONS || !user_memory::is_readable(all, count * size_of::<sembuf>()) {
        return None;
    }
    // SAFETY: contract of a hook: `count` operations, which can be read.
    let mut all = unsafe { std::slice::from_raw_parts(all, count) }.to_vec();
    all.iter_mut().for_each(|one| one.sem_flg |= libc::IPC_NOWAIT as i16);
    let before = errno::get();
    // SAFETY: `all` holds `count` operations; a null timeout is allowed.
    let done = unsafe { originals::semtimedop::call(set, all.as_mut_ptr(), count, ptr::null()) };
    if done < 0 && errno::get() == libc::EAGAIN {
        errno::set(before);
        return None;
    }
    Some(done)
}
