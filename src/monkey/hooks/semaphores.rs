//! Semaphores of C.
//!
//! A dedicated thread waits for a semaphore that is zero. `sem_post` cannot wake coroutines, since signal
//! handlers and other processes call it, too.

use crate::hub::yield_if_due_nounwind;
use crate::monkey::dedicated::aside_or_signalled;
use crate::monkey::{errno, originals};
use libc::{c_int, clockid_t, sem_t, timespec};
use std::ptr;

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn sem_wait(semaphore: *mut sem_t) -> c_int {
    // SAFETY: contract of a hook: the semaphore is valid on any thread until the suspended caller returns.
    let wait = |semaphore| unsafe { originals::sem_wait::call(semaphore) };
    // SAFETY: contract of a hook: `take` has the same contract.
    let result = unsafe { take("sem_wait", semaphore, true, wait) };
    // SAFETY: contract of a hook: libc's `sem_wait` gets the caller's pointers.
    result.unwrap_or_else(|| unsafe { originals::sem_wait::call_blocking(semaphore) })
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn sem_timedwait(
    semaphore: *mut sem_t,
    until: *const timespec,
) -> c_int {
    // SAFETY: contract of a hook: the time is valid.
    let time = unsafe { *until };
    if !is_valid(&time) {
        // SAFETY: contract of a hook: libc's `sem_timedwait` gets the caller's pointers. It fails at once.
        return unsafe { originals::sem_timedwait::call(semaphore, until) };
    }
    // SAFETY: contract of a hook: the semaphore is valid on any thread until the suspended caller returns.
    let wait = move |semaphore| unsafe { originals::sem_timedwait::call(semaphore, &time) };
    // SAFETY: contract of a hook: `take` has the same contract.
    let result = unsafe { take("sem_timedwait", semaphore, false, wait) };
    // SAFETY: contract of a hook: libc's `sem_timedwait` gets the caller's pointers.
    result.unwrap_or_else(|| unsafe { originals::sem_timedwait::call_blocking(semaphore, until) })
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn sem_clockwait(
    semaphore: *mut sem_t,
    clock: clockid_t,
    until: *const timespec,
) -> c_int {
    // SAFETY: contract of a hook: the time is valid.
    let time = unsafe { *until };
    if !is_valid(&time) || !matches!(clock, libc::CLOCK_REALTIME | libc::CLOCK_MONOTONIC) {
        // SAFETY: contract of a hook: libc's `sem_clockwait` gets the caller's pointers. It fails at once.
        return unsafe { originals::sem_clockwait::call(semaphore, clock, until) };
    }
    // SAFETY: contract of a hook: the semaphore is valid on any thread until the suspended caller returns.
    let wait = move |semaphore| unsafe { originals::sem_clockwait::call(semaphore, clock, &time) };
    // SAFETY: contract of a hook: `take` has the same contract.
    let result = unsafe { take("sem_clockwait", semaphore, false, wait) };
    // SAFETY: contract of a hook: libc's `sem_clockwait` gets the caller's pointers.
    result.unwrap_or_else(|| unsafe {
        originals::sem_clockwait::call_blocking(semaphore, clock, until)
    })
}

fn is_valid(time: &timespec) -> bool {
    (0..1_000_000_000).contains(&time.tv_nsec)
}

/// Decrements the semaphore, or waits for that on a dedicated thread.
///
/// After a handler with `SA_RESTART` the kernel restarts only a wait without a timeout. `None`: no thread
/// can be created.
///
/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`), as for libc's `sem_wait`; `wait` may be called on any thread.
unsafe fn take(
    purpose: &'static str,
    semaphore: *mut sem_t,
    is_restarted: bool,
    wait: impl Fn(*mut sem_t) -> c_int + Send + 'static,
) -> Option<c_int> {
    yield_if_due_nounwind();
    let before = errno::get();
    // SAFETY: contract of a hook: the semaphore is initialised.
    let result = unsafe { libc::sem_trywait(semaphore) };
    if result == 0 || errno::get() != libc::EAGAIN {
        return Some(result);
    }
    errno::set(before);
    let address = semaphore.expose_provenance();
    // That thread blocks the program's signals: it fails with `EINTR` if a handler that ran here ends the
    // call.
    aside_or_signalled(purpose, is_restarted, move || {
        wait(ptr::with_exposed_provenance_mut(address))
    })
}
