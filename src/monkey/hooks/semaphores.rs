//! Semaphores of C. One that is used up is waited for by another thread: `sem_post` may be called by a signal
//! handler, and by another process, so that there is nothing that could be done in it.

use crate::hub::yield_if_due_nounwind;
use crate::monkey::dedicated::aside_or_signalled;
use crate::monkey::{errno, originals};
use libc::{c_int, clockid_t, sem_t, timespec};
use std::ptr;

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn sem_wait(semaphore: *mut sem_t) -> c_int {
    // SAFETY: the caller's: the semaphore lives on while the caller waits.
    let wait = |semaphore| unsafe { originals::sem_wait::call(semaphore) };
    // SAFETY: the caller's.
    let result = unsafe { take("sem_wait", semaphore, true, wait) };
    // SAFETY: the caller's.
    result.unwrap_or_else(|| unsafe { originals::sem_wait::call_blocking(semaphore) })
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn sem_timedwait(
    semaphore: *mut sem_t,
    until: *const timespec,
) -> c_int {
    // SAFETY: the caller's.
    let time = unsafe { *until };
    if !is_valid(&time) {
        // SAFETY: the caller's. libc complains at once.
        return unsafe { originals::sem_timedwait::call(semaphore, until) };
    }
    // SAFETY: the caller's: the semaphore lives on while the caller waits.
    let wait = move |semaphore| unsafe { originals::sem_timedwait::call(semaphore, &time) };
    // SAFETY: the caller's.
    let result = unsafe { take("sem_timedwait", semaphore, false, wait) };
    // SAFETY: the caller's.
    result.unwrap_or_else(|| unsafe { originals::sem_timedwait::call_blocking(semaphore, until) })
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn sem_clockwait(
    semaphore: *mut sem_t,
    clock: clockid_t,
    until: *const timespec,
) -> c_int {
    // SAFETY: the caller's.
    let time = unsafe { *until };
    if !is_valid(&time) || !matches!(clock, libc::CLOCK_REALTIME | libc::CLOCK_MONOTONIC) {
        // SAFETY: the caller's. libc complains at once.
        return unsafe { originals::sem_clockwait::call(semaphore, clock, until) };
    }
    // SAFETY: the caller's: the semaphore lives on while the caller waits.
    let wait = move |semaphore| unsafe { originals::sem_clockwait::call(semaphore, clock, &time) };
    // SAFETY: the caller's.
    let result = unsafe { take("sem_clockwait", semaphore, false, wait) };
    // SAFETY: the caller's.
    result.unwrap_or_else(|| unsafe {
        originals::sem_clockwait::call_blocking(semaphore, clock, until)
    })
}

fn is_valid(time: &timespec) -> bool {
    (0..1_000_000_000).contains(&time.tv_nsec)
}

/// Takes what there is, or has another thread wait for it. The kernel restarts a wait without a limit only,
/// after a handler with `SA_RESTART`. `None`: there can be no more threads.
///
/// # Safety
///
/// As libc's `sem_wait`, by which `wait` may be called on any thread.
unsafe fn take(
    purpose: &'static str,
    semaphore: *mut sem_t,
    is_restarted: bool,
    wait: impl Fn(*mut sem_t) -> c_int + Send + 'static,
) -> Option<c_int> {
    yield_if_due_nounwind();
    let before = errno::get();
    // SAFETY: the caller's.
    let result = unsafe { libc::sem_trywait(semaphore) };
    if result == 0 || errno::get() != libc::EAGAIN {
        return Some(result);
    }
    errno::set(before);
    let address = semaphore.expose_provenance();
    // That thread takes no signals of the program's: it fails with EINTR when a handler that ran here ends
    // the call.
    aside_or_signalled(purpose, is_restarted, move || {
        wait(ptr::with_exposed_provenance_mut(address))
    })
}
