//! Barriers of C. Each coroutine that arrives is represented by a thread that waits in its stead: a barrier
//! counts those who arrive and does not know them, and how many are missing only libc knows.

use crate::monkey::dedicated::aside;
use crate::monkey::originals;
use libc::{c_int, pthread_barrier_t};
use std::ptr;

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn pthread_barrier_wait(barrier: *mut pthread_barrier_t) -> c_int {
    let address = barrier.expose_provenance();
    let result = aside("pthread_barrier_wait", move || {
        let barrier = ptr::with_exposed_provenance_mut(address);
        // SAFETY: the caller's: the barrier lives on while the caller waits.
        unsafe { originals::pthread_barrier_wait::call(barrier) }
    });
    // SAFETY: the caller's.
    result.unwrap_or_else(|| unsafe { originals::pthread_barrier_wait::call_blocking(barrier) })
}
