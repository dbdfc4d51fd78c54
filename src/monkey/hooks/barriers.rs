//! Barriers of C.
//!
//! Each coroutine that arrives is represented by a dedicated thread that waits for it: a barrier counts
//! arrivals without identifying them, and only libc knows how many are missing.

use crate::monkey::dedicated::aside;
use crate::monkey::originals;
use libc::{c_int, pthread_barrier_t};
use std::ptr;

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn pthread_barrier_wait(barrier: *mut pthread_barrier_t) -> c_int {
    let address = barrier.expose_provenance();
    let result = aside("pthread_barrier_wait", move || {
        let barrier = ptr::with_exposed_provenance_mut(address);
        // SAFETY: contract of a hook: the barrier is valid on any thread until the suspended caller returns.
        unsafe { originals::pthread_barrier_wait::call(barrier) }
    });
    // SAFETY: contract of a hook: libc's `pthread_barrier_wait` gets the caller's pointers.
    result.unwrap_or_else(|| unsafe { originals::pthread_barrier_wait::call_blocking(barrier) })
}
