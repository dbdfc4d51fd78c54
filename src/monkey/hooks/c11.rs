//! The locks and threads of C11.
//!
//! In glibc a `mtx_t` is a `pthread_mutex_t` and a `cnd_t` is a `pthread_cond_t`, as its headers say. glibc's
//! C11 functions call the POSIX ones internally, where those calls cannot be intercepted; here they call the
//! hooks. Only the returned values are C11's.

use super::{conditions, joining, mutexes, sleeping};
use crate::monkey::errno;
use libc::{c_int, c_void, pthread_cond_t, pthread_mutex_t, pthread_t, timespec};
use std::ptr;

const SUCCESS: c_int = 0;
const BUSY: c_int = 1;
const ERROR: c_int = 2;
const NOMEM: c_int = 3;
const TIMEDOUT: c_int = 4;

/// Converts a POSIX error number to the result of a C11 function.
fn result(number: c_int) -> c_int {
    match number {
        0 => SUCCESS,
        libc::EBUSY => BUSY,
        libc::ENOMEM => NOMEM,
        libc::ETIMEDOUT => TIMEDOUT,
        _ => ERROR,
    }
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn mtx_lock(mutex: *mut pthread_mutex_t) -> c_int {
    // SAFETY: contract of a hook: `pthread_mutex_lock` has the same contract.
    result(unsafe { mutexes::pthread_mutex_lock(mutex) })
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn mtx_timedlock(
    mutex: *mut pthread_mutex_t,
    until: *const timespec,
) -> c_int {
    // SAFETY: contract of a hook: `pthread_mutex_timedlock` has the same contract.
    result(unsafe { mutexes::pthread_mutex_timedlock(mutex, until) })
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn mtx_trylock(mutex: *mut pthread_mutex_t) -> c_int {
    // SAFETY: contract of a hook: `pthread_mutex_trylock` has the same contract.
    result(unsafe { mutexes::pthread_mutex_trylock(mutex) })
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn mtx_unlock(mutex: *mut pthread_mutex_t) -> c_int {
    // SAFETY: contract of a hook: `pthread_mutex_unlock` has the same contract.
    result(unsafe { mutexes::pthread_mutex_unlock(mutex) })
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn mtx_destroy(mutex: *mut pthread_mutex_t) {
    // SAFETY: contract of a hook: `pthread_mutex_destroy` has the same contract.
    unsafe { mutexes::pthread_mutex_destroy(mutex) };
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn cnd_wait(
    condition: *mut pthread_cond_t,
    mutex: *mut pthread_mutex_t,
) -> c_int {
    // SAFETY: contract of a hook: `pthread_cond_wait` has the same contract.
    result(unsafe { conditions::pthread_cond_wait(condition, mutex) })
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn cnd_timedwait(
    condition: *mut pthread_cond_t,
    mutex: *mut pthread_mutex_t,
    until: *const timespec,
) -> c_int {
    // SAFETY: contract of a hook: `pthread_cond_timedwait` has the same contract.
    result(unsafe { conditions::pthread_cond_timedwait(condition, mutex, until) })
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn cnd_signal(condition: *mut pthread_cond_t) -> c_int {
    // SAFETY: contract of a hook: `pthread_cond_signal` has the same contract.
    result(unsafe { conditions::pthread_cond_signal(condition) })
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn cnd_broadcast(condition: *mut pthread_cond_t) -> c_int {
    // SAFETY: contract of a hook: `pthread_cond_broadcast` has the same contract.
    result(unsafe { conditions::pthread_cond_broadcast(condition) })
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn thrd_join(of: pthread_t, status: *mut c_int) -> c_int {
    let mut returned: *mut c_void = ptr::null_mut();
    // SAFETY: contract of a hook, and `returned` is valid for a write.
    let error = unsafe { joining::pthread_join(of, &mut returned) };
    if error == 0 && !status.is_null() {
        // SAFETY: contract of a hook: not null, so valid for a write. libc passes the result in a pointer.
        unsafe { *status = returned.addr() as c_int };
    }
    result(error)
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn thrd_sleep(time: *const timespec, left: *mut timespec) -> c_int {
    let before = errno::get();
    // SAFETY: contract of a hook: `clock_nanosleep` has the same contract.
    let error = unsafe { sleeping::clock_nanosleep(libc::CLOCK_REALTIME, 0, time, left) };
    errno::set(before);
    match error {
        0 => 0,
        libc::EINTR => -1,
        _ => -2,
    }
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn thrd_yield() {
    // SAFETY: no pointer is passed.
    unsafe { sleeping::sched_yield() };
}
