//! Waiting for a thread to end: `JoinHandle::join`. It waits to the end, since whoever does holds what the
//! thread has borrowed.

use crate::hub::breathe_quietly;
use crate::monkey::aside::aside;
use crate::monkey::table;
use libc::{c_int, c_void, pthread_t};
use std::ptr;

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn pthread_join(of: pthread_t, result: *mut *mut c_void) -> c_int {
    breathe_quietly();
    // SAFETY: the caller's.
    let now = unsafe { libc::pthread_tryjoin_np(of, result) };
    if now != libc::EBUSY {
        return now;
    }
    let joined = aside("pthread_join", move || {
        let mut result = ptr::null_mut();
        // SAFETY: the caller's, who leaves it to this thread.
        let error = unsafe { table::pthread_join::original(of, &mut result) };
        (error, result.expose_provenance())
    });
    match joined {
        // SAFETY: the caller's.
        None => unsafe { table::pthread_join::blocking(of, result) },
        Some((0, got)) if !result.is_null() => {
            // SAFETY: the caller's: a place for it.
            unsafe { *result = ptr::with_exposed_provenance_mut(got) };
            0
        }
        Some((error, _)) => error,
    }
}
