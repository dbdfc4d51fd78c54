//! Waiting for a thread to end: `JoinHandle::join`. It waits to the end, since whoever does holds what the
//! thread has borrowed. A thread of its own waits, as the kernel tells only threads.

use crate::hub::yield_if_due_nounwind;
use crate::monkey::dedicated::aside;
use crate::monkey::originals;
use libc::{c_int, c_void, clockid_t, pthread_t, timespec};
use std::ptr;

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn pthread_join(of: pthread_t, result: *mut *mut c_void) -> c_int {
    let join = move |result: *mut *mut c_void| {
        // SAFETY: the caller's, who leaves it to the thread that calls this.
        unsafe { originals::pthread_join::call(of, result) }
    };
    // SAFETY: the caller's.
    let joined = unsafe { wait("pthread_join", of, result, join) };
    // SAFETY: the caller's.
    joined.unwrap_or_else(|| unsafe { originals::pthread_join::call_blocking(of, result) })
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn pthread_timedjoin_np(
    of: pthread_t,
    result: *mut *mut c_void,
    until: *const timespec,
) -> c_int {
    // SAFETY: the caller's: null, or a time.
    let time = unsafe { until.as_ref() }.copied();
    let join = move |result: *mut *mut c_void| {
        let until = time.as_ref().map_or(ptr::null(), ptr::from_ref);
        // SAFETY: the caller's, who leaves it to the thread that calls this.
        unsafe { originals::pthread_timedjoin_np::call(of, result, until) }
    };
    // SAFETY: the caller's.
    let joined = unsafe { wait("pthread_timedjoin_np", of, result, join) };
    joined.unwrap_or_else(|| {
        // SAFETY: the caller's.
        unsafe { originals::pthread_timedjoin_np::call_blocking(of, result, until) }
    })
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn pthread_clockjoin_np(
    of: pthread_t,
    result: *mut *mut c_void,
    clock: clockid_t,
    until: *const timespec,
) -> c_int {
    // SAFETY: the caller's: null, or a time.
    let time = unsafe { until.as_ref() }.copied();
    let join = move |result: *mut *mut c_void| {
        let until = time.as_ref().map_or(ptr::null(), ptr::from_ref);
        // SAFETY: the caller's, who leaves it to the thread that calls this.
        unsafe { originals::pthread_clockjoin_np::call(of, result, clock, until) }
    };
    // SAFETY: the caller's.
    let joined = unsafe { wait("pthread_clockjoin_np", of, result, join) };
    joined.unwrap_or_else(|| {
        // SAFETY: the caller's.
        unsafe { originals::pthread_clockjoin_np::call_blocking(of, result, clock, until) }
    })
}

/// Has `join` called by another thread, unless the thread has ended, or is the caller's own. `None`: there
/// can be no more threads.
///
/// # Safety
///
/// As libc's `pthread_join`.
unsafe fn wait(
    purpose: &'static str,
    of: pthread_t,
    result: *mut *mut c_void,
    join: impl FnOnce(*mut *mut c_void) -> c_int + Send + 'static,
) -> Option<c_int> {
    yield_if_due_nounwind();
    // SAFETY: no preconditions.
    if of == unsafe { libc::pthread_self() } {
        // Which libc refuses, of the thread itself only.
        return Some(join(result));
    }
    // SAFETY: the caller's.
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
        // SAFETY: the caller's: a place for it.
        unsafe { *result = ptr::with_exposed_provenance_mut(got) };
    }
    Some(error)
}
