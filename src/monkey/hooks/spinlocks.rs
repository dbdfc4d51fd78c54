//! Spin locks of C.
//!
//! A coroutine never spins for a lock that a sibling holds, since the sibling could not unlock it meanwhile:
//! `owners.rs` records which coroutine holds one. For another thread it spins like libc, for a while (see
//! `acquire.rs`).

use super::acquire::{ANY, Attempt, Limit, SLICE, Wanted};
use crate::hub::{Deadline, Place, place};
use crate::monkey::owners::{self, Owner};
use crate::monkey::{addresses, originals};
use libc::{c_int, pthread_spinlock_t};
use std::hint::spin_loop;

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn pthread_spin_lock(lock: *mut pthread_spinlock_t) -> c_int {
    let (address, here) = (lock.addr(), place());
    // SAFETY: contract of a hook: libc's `pthread_spin_trylock` gets the caller's pointers.
    let now = || unsafe { originals::pthread_spin_trylock::call(lock) };
    if here == Place::Thread || addresses::is_inside() {
        // SAFETY: contract of a hook: libc's `pthread_spin_lock` gets the caller's pointers.
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
            // SAFETY: contract of a hook: libc's `pthread_spin_lock` gets the caller's pointers.
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
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn pthread_spin_trylock(lock: *mut pthread_spinlock_t) -> c_int {
    // SAFETY: contract of a hook: libc's `pthread_spin_trylock` gets the caller's pointers.
    let result = unsafe { originals::pthread_spin_trylock::call(lock) };
    match place() {
        Place::Thread => result,
        Place::Hub | Place::Task => note(lock.addr(), Owner::current(), result),
    }
}

/// Records that `me` has locked it, if `result` says so.
fn note(address: usize, me: Owner, result: c_int) -> c_int {
    if result == 0 {
        // An entry from before is left over from an earlier lock at this address.
        owners::forget(address);
        owners::record(address, me);
    }
    result
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn pthread_spin_unlock(lock: *mut pthread_spinlock_t) -> c_int {
    let address = lock.addr();
    // Before another owner can lock it.
    owners::forget(address);
    // SAFETY: contract of a hook: libc's `pthread_spin_unlock` gets the caller's pointers.
    let result = unsafe { originals::pthread_spin_unlock::call(lock) };
    addresses::wake(address, ANY, 1);
    result
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn pthread_spin_destroy(lock: *mut pthread_spinlock_t) -> c_int {
    owners::forget(lock.addr());
    // SAFETY: contract of a hook: libc's `pthread_spin_destroy` gets the caller's pointers.
    unsafe { originals::pthread_spin_destroy::call(lock) }
}
