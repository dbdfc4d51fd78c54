//! Spin locks of C. A coroutine never spins against a sibling, which could not unlock it meanwhile:
//! `owners.rs` knows which of them holds one. Against another thread it spins as libc does, for a while (see
//! `acquire.rs`).

use super::acquire::{ANY, Attempt, Limit, SLICE, Wanted};
use crate::hub::{Deadline, Place, place};
use crate::monkey::owners::{self, Owner};
use crate::monkey::{addresses, originals};
use libc::{c_int, pthread_spinlock_t};
use std::hint::spin_loop;

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn pthread_spin_lock(lock: *mut pthread_spinlock_t) -> c_int {
    let (address, here) = (lock.addr(), place());
    // SAFETY: the caller's.
    let now = || unsafe { originals::pthread_spin_trylock::call(lock) };
    if here == Place::Thread || addresses::is_inside() {
        // SAFETY: the caller's.
        return unsafe { originals::pthread_spin_lock::call(lock) };
    }
    let me = Owner::current();
    let attempt = || match now() {
        0 => Attempt::Over(0),
        _ if owners::owner_of(address).is_some() => Attempt::Sibling,
        _ => Attempt::Foreign,
    };
    let slice = |_: Option<Deadline>| {
        let end = Deadline::after(SLICE)?;
        while !end.has_passed() {
            for _ in 0..100 {
                if now() == 0 {
                    return Some(0);
                }
                spin_loop();
            }
        }
        None
    };
    let count = || originals::pthread_spin_lock::ROW.count_blocked();
    let result = match attempt() {
        Attempt::Over(result) => result,
        Attempt::Sibling if here == Place::Hub => {
            count();
            return libc::EDEADLK;
        }
        _ if here == Place::Hub => {
            // SAFETY: the caller's.
            unsafe { originals::pthread_spin_lock::call_blocking(lock) }
        }
        _ => {
            let (purpose, limit) = ("pthread_spin_lock", Limit::Never);
            let wanted = Wanted { address, bits: ANY, purpose, limit };
            wanted.acquire_patiently(attempt, Some(&slice), count)
        }
    };
    note(address, me, result)
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn pthread_spin_trylock(lock: *mut pthread_spinlock_t) -> c_int {
    // SAFETY: the caller's.
    let result = unsafe { originals::pthread_spin_trylock::call(lock) };
    match place() {
        Place::Thread => result,
        Place::Hub | Place::Task => note(lock.addr(), Owner::current(), result),
    }
}

fn note(address: usize, me: Owner, result: c_int) -> c_int {
    if result == 0 {
        // What was known of it before is left over.
        owners::forget(address);
        owners::record(address, me);
    }
    result
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn pthread_spin_unlock(lock: *mut pthread_spinlock_t) -> c_int {
    let address = lock.addr();
    // Before it is another's.
    owners::forget(address);
    // SAFETY: the caller's.
    let result = unsafe { originals::pthread_spin_unlock::call(lock) };
    addresses::wake(address, ANY, 1);
    result
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn pthread_spin_destroy(lock: *mut pthread_spinlock_t) -> c_int {
    owners::forget(lock.addr());
    // SAFETY: the caller's.
    unsafe { originals::pthread_spin_destroy::call(lock) }
}
