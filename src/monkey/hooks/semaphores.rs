//! Semaphores of C. One that is used up is waited for by another thread: `sem_post` may be called by a signal
//! handler, and by another process, so that there is nothing that could be done in it.

use crate::hub::breathe_quietly;
use crate::monkey::aside::aside;
use crate::monkey::{errno, table};
use libc::{c_int, sem_t, timespec};

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn sem_wait(semaphore: *mut sem_t) -> c_int {
    breathe_quietly();
    // SAFETY: the caller's.
    if let Some(result) = unsafe { try_now(semaphore) } {
        return result;
    }
    let address = semaphore.expose_provenance();
    let result = aside("sem_wait", move || {
        let semaphore = std::ptr::with_exposed_provenance_mut(address);
        // SAFETY: the caller's, who waits meanwhile.
        without_signals(|| unsafe { table::sem_wait::original(semaphore) })
    });
    // SAFETY: the caller's.
    result.unwrap_or_else(|| unsafe { table::sem_wait::blocking(semaphore) })
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn sem_timedwait(
    semaphore: *mut sem_t,
    until: *const timespec,
) -> c_int {
    breathe_quietly();
    // SAFETY: the caller's.
    if let Some(result) = unsafe { try_now(semaphore) } {
        return result;
    }
    let address = semaphore.expose_provenance();
    // SAFETY: the caller's.
    let time = unsafe { *until };
    let result = aside("sem_timedwait", move || {
        let semaphore = std::ptr::with_exposed_provenance_mut(address);
        // SAFETY: the caller's, who waits meanwhile.
        without_signals(|| unsafe { table::sem_timedwait::original(semaphore, &time) })
    });
    // SAFETY: the caller's.
    result.unwrap_or_else(|| unsafe { table::sem_timedwait::blocking(semaphore, until) })
}

/// # Safety
///
/// As libc's `sem_trywait`.
unsafe fn try_now(semaphore: *mut sem_t) -> Option<c_int> {
    // SAFETY: the caller's.
    let result = unsafe { libc::sem_trywait(semaphore) };
    (result == 0 || errno::get() != libc::EAGAIN).then_some(result)
}

/// Nobody is told of signals that were not for him.
fn without_signals(wait: impl Fn() -> c_int) -> c_int {
    loop {
        let result = wait();
        if result == 0 || errno::get() != libc::EINTR {
            return result;
        }
    }
}
