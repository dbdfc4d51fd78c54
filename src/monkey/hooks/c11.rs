//! The locks and threads of C11. In glibc a `mtx_t` is a `pthread_mutex_t`, and a `cnd_t` a
//! `pthread_cond_t`, as its headers say, and its functions call the others inside of libc, where they are
//! not seen. Only what they return is C11's.

use super::{conditions, joining, mutexes, sleeping};
use crate::monkey::errno;
use libc::{c_int, c_void, pthread_cond_t, pthread_mutex_t, pthread_t, timespec};
use std::ptr;

const SUCCESS: c_int = 0;
const BUSY: c_int = 1;
const ERROR: c_int = 2;
const NOMEM: c_int = 3;
const TIMEDOUT: c_int = 4;

/// What C11 calls the result of a function of POSIX.
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
/// As libc's.
pub(in crate::monkey) unsafe fn mtx_lock(mutex: *mut pthread_mutex_t) -> c_int {
    // SAFETY: the caller's.
    result(unsafe { mutexes::pthread_mutex_lock(mutex) })
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn mtx_timedlock(
    mutex: *mut pthread_mutex_t,
    until: *const timespec,
) -> c_int {
    // SAFETY: the caller's.
    result(unsafe { mutexes::pthread_mutex_timedlock(mutex, until) })
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn mtx_trylock(mutex: *mut pthread_mutex_t) -> c_int {
    // SAFETY: the caller's.
    result(unsafe { mutexes::pthread_mutex_trylock(mutex) })
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn mtx_unlock(mutex: *mut pthread_mutex_t) -> c_int {
    // SAFETY: the caller's.
    result(unsafe { mutexes::pthread_mutex_unlock(mutex) })
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn mtx_destroy(mutex: *mut pthread_mutex_t) {
    // SAFETY: the caller's.
    unsafe { mutexes::pthread_mutex_destroy(mutex) };
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn cnd_wait(
    condition: *mut pthread_cond_t,
    mutex: *mut pthread_mutex_t,
) -> c_int {
    // SAFETY: the caller's.
    result(unsafe { conditions::pthread_cond_wait(condition, mutex) })
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn cnd_timedwait(
    condition: *mut pthread_cond_t,
    mutex: *mut pthread_mutex_t,
    until: *const timespec,
) -> c_int {
    // SAFETY: the caller's.
    result(unsafe { conditions::pthread_cond_timedwait(condition, mutex, until) })
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn cnd_signal(condition: *mut pthread_cond_t) -> c_int {
    // SAFETY: the caller's.
    result(unsafe { conditions::pthread_cond_signal(condition) })
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn cnd_broadcast(condition: *mut pthread_cond_t) -> c_int {
    // SAFETY: the caller's.
    result(unsafe { conditions::pthread_cond_broadcast(condition) })
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn thrd_join(of: pthread_t, status: *mut c_int) -> c_int {
    let mut returned: *mut c_void = ptr::null_mut();
    // SAFETY: the caller's, and a place for what it returns.
    let error = unsafe { joining::pthread_join(of, &mut returned) };
    if error == 0 && !status.is_null() {
        // SAFETY: the caller's: a place for it. libc hands it over in a pointer.
        unsafe { *status = returned.addr() as c_int };
    }
    result(error)
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn thrd_sleep(time: *const timespec, left: *mut timespec) -> c_int {
    let before = errno::get();
    // SAFETY: the caller's.
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
/// As libc's.
pub(in crate::monkey) unsafe fn thrd_yield() {
    // SAFETY: the caller's.
    unsafe { sleeping::sched_yield() };
}
