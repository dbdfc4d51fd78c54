//! Waiting for the end of a thread: `JoinHandle::join`.
//!
//! The wait is not cut short, since the caller owns what the thread borrows. A dedicated thread makes it: the
//! kernel reports the end of a thread only to threads.

use crate::hub::yield_if_due_nounwind;
use crate::monkey::dedicated::aside;
use crate::monkey::originals;
use libc::{c_int, c_void, clockid_t, pthread_t, timespec};
use std::ptr;

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn pthread_join(of: pthread_t, result: *mut *mut c_void) -> c_int {
    let join = move |result: *mut *mut c_void| {
        // SAFETY: contract of a hook: the caller leaves the join to the thread that calls this, with `result`
        // as given here.
        unsafe { originals::pthread_join::call(of, result) }
    };
    // SAFETY: contract of a hook: `wait` has the same contract.
    let joined = unsafe { wait("pthread_join", of, result, join) };
    // SAFETY: contract of a hook: libc's `pthread_join` gets the caller's pointers.
    joined.unwrap_or_else(|| unsafe { originals::pthread_join::call_blocking(of, result) })
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn pthread_timedjoin_np(
    of: pthread_t,
    result: *mut *mut c_void,
    until: *const timespec,
) -> c_int {
    // SAFETY: contract of a hook: the time is null or valid.
    let time = unsafe { until.as_ref() }.copied();
    let join = move |result: *mut *mut c_void| {
        let until = time.as_ref().map_or(ptr::null(), ptr::from_ref);
        // SAFETY: contract of a hook: the caller leaves the join to the thread that calls this, with `result`
        // as given here.
        unsafe { originals::pthread_timedjoin_np::call(of, result, until) }
    };
    // SAFETY: contract of a hook: `wait` has the same contract.
    let joined = unsafe { wait("pthread_timedjoin_np", of, result, join) };
    joined.unwrap_or_else(|| {
        // SAFETY: contract of a hook: libc's `pthread_timedjoin_np` gets the caller's pointers.
        unsafe { originals::pthread_timedjoin_np::call_blocking(of, result, until) }
    })
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn pthread_clockjoin_np(
    of: pthread_t,
    result: *mut *mut c_void,
    clock: clockid_t,
    until: *const timespec,
) -> c_int {
    // SAFETY: contract of a hook: the time is null or valid.
    let time = unsafe { until.as_ref() }.copied();
    let join = move |result: *mut *mut c_void| {
        let until = time.as_ref().map_or(ptr::null(), ptr::from_ref);
        // SAFETY: contract of a hook: the caller leaves the join to the thread that calls this, with `result`
        // as given here.
        unsafe { originals::pthread_clockjoin_np::call(of, result, clock, until) }
    };
    // SAFETY: contract of a hook: `wait` has the same contract.
    let joined = unsafe { wait("pthread_clockjoin_np", of, result, join) };
    joined.unwrap_or_else(|| {
        // SAFETY: contract of a hook: libc's `pthread_clockjoin_np` gets the caller's pointers.
        unsafe { originals::pthread_clockjoin_np::call_blocking(of, result, clock, until) }
    })
}

/// Calls `join` on a dedicated thread, unless the thread has ended, or is the calling one.
///
/// `None`: no thread can be created.
///
/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`), as for libc's `pthread_join`.
unsafe fn wait(
    purpose: &'static str,
    of: pthread_t,
    result: *mut *mut c_void,
    join: impl FnOnce(*mut *mut c_void) -> c_int + Send + 'static,
) -> Option<c_int> {
    yield_if_due_nounwind();
    // SAFETY: `pthread_self` has no preconditions.
    if of == unsafe { libc::pthread_self() } {
        // libc refuses that, but only on the thread itself.
        return Some(join(result));
    }
    // SAFETY: contract of a hook: `pthread_tryjoin_np` has the same contract.
    let now = unsafe { libc::pthread_tryjoin_np(of, result) };
    if now != libc::EBUSY {
        return Some(now);
    }
    let (error, got) = aside(purpose, move || {
        let mut result = ptr::null_mut();
        let error = join(&mut result);
        (error, result.expose_provenance())
    })?;
    if error == 0 && !result.is_null() {
        // SAFETY: contract of a hook: `result` is not null, so it is valid for a write.
        unsafe { *result = ptr::with_exposed_provenance_mut(got) };
    }
    Some(error)
}
