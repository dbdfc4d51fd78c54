//! Locks of readers and writers of C.
//!
//! libc counts the readers and does not know them, and knows its writer by the number of the thread. So a
//! coroutine never waits in the kernel for one, where a sibling could not unlock it: it attempts, and waits
//! among `addresses` until a reader or the writer unlocks. Which coroutine is the writer is known by
//! `owners.rs`: it alone gets libc's EDEADLK when it locks again.
//!
//! An unlock wakes all readers that wait, and a writer. A coroutine that waits to write is not known to
//! libc, so `PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP` does not hold back readers for it.

use super::acquire::{Attempt, Limit, Wanted};
use crate::hub::{Place, place};
use crate::monkey::gate::Row;
use crate::monkey::owners::{self, Owner};
use crate::monkey::{addresses, originals};
use libc::{c_int, clockid_t, pthread_rwlock_t, timespec};
use std::sync::OnceLock;
use std::sync::atomic::AtomicI32;
use std::sync::atomic::Ordering::Relaxed;

/// What wakes those who wait to read, and those who wait to write.
const READERS: u32 = 1;
const WRITERS: u32 = 2;

/// A function of libc's that takes the lock and nothing else.
type Plain = unsafe fn(*mut pthread_rwlock_t) -> c_int;

/// How to lock it.
struct Mode {
    bits: u32,
    attempt: Plain,
    /// Waits. Called by the writer, which it answers at once.
    lock: Plain,
    purpose: &'static str,
}

const READ: Mode = Mode {
    bits: READERS,
    attempt: originals::pthread_rwlock_tryrdlock::call,
    lock: originals::pthread_rwlock_rdlock::call,
    purpose: "pthread_rwlock_rdlock",
};

const WRITE: Mode = Mode {
    bits: WRITERS,
    attempt: originals::pthread_rwlock_trywrlock::call,
    lock: originals::pthread_rwlock_wrlock::call,
    purpose: "pthread_rwlock_wrlock",
};

/// Locks it in a coroutine. Elsewhere libc does, by `original`.
///
/// # Safety
///
/// As libc's functions of the mode.
unsafe fn lock(
    mode: Mode,
    lock: *mut pthread_rwlock_t,
    limit: impl FnOnce() -> Limit,
    row: &Row,
    original: impl FnOnce() -> c_int,
) -> c_int {
    let here = place();
    if here == Place::Thread || addresses::is_inside() {
        return original();
    }
    let limit = limit();
    if limit == Limit::Invalid {
        // libc complains at once, of a lock that is free, too.
        return original();
    }
    let (address, me) = (lock.addr(), Owner::current());
    let attempt = || {
        // SAFETY: the caller's.
        let result = unsafe { (mode.attempt)(lock) };
        if result != libc::EBUSY {
            return Attempt::Over(result);
        }
        // SAFETY: the caller's.
        let writer = match unsafe { is_written_here(lock) } {
            // An entry may be left of a lock that was here before.
            Some(false) => None,
            Some(true) => Some(owners::owner_of(address).unwrap_or(Owner::MAIN)),
            None => owners::owner_of(address),
        };
        match writer {
            // SAFETY: the caller's. The thread is the writer, so that this does not wait.
            Some(writer) if writer == me => Attempt::Over(unsafe { (mode.lock)(lock) }),
            Some(_) => Attempt::Sibling,
            None => Attempt::Foreign,
        }
    };
    let result = match attempt() {
        Attempt::Over(result) => result,
        first if here == Place::Hub => {
            row.count_blocked();
            // The writer cannot go on before the hub does.
            if first == Attempt::Sibling { libc::EDEADLK } else { original() }
        }
        _ => {
            let wanted = Wanted { address, bits: mode.bits, purpose: mode.purpose, limit };
            wanted.acquire(attempt)
        }
    };
    if result == 0 {
        note(address, mode.bits, me);
    }
    result
}

/// Whether the calling thread is its writer, if this is glibc's layout, which is checked once.
///
/// # Safety
///
/// As libc's functions.
unsafe fn is_written_here(lock: *mut pthread_rwlock_t) -> Option<bool> {
    const WRITER: usize = 6;
    const _: () = assert!(size_of::<pthread_rwlock_t>() > (WRITER + 1) * size_of::<AtomicI32>());
    static IS_KNOWN: OnceLock<bool> = OnceLock::new();
    let is_writer = |lock: *mut pthread_rwlock_t| {
        // SAFETY: the caller's, and within it. Others may change it meanwhile.
        let writer = unsafe { &*lock.cast::<AtomicI32>().add(WRITER) };
        // SAFETY: no preconditions.
        writer.load(Relaxed) == unsafe { libc::gettid() }
    };
    let is_known = || {
        let mut own = libc::PTHREAD_RWLOCK_INITIALIZER;
        let own = &raw mut own;
        // SAFETY: a lock, which stays where it is.
        unsafe {
            !is_writer(own)
                && originals::pthread_rwlock_wrlock::call(own) == 0
                && is_writer(own)
                && originals::pthread_rwlock_unlock::call(own) == 0
                && !is_writer(own)
        }
    };
    IS_KNOWN.get_or_init(is_known).then(|| is_writer(lock))
}

/// It was locked by `me`. What was known of it before is left over.
fn note(address: usize, bits: u32, me: Owner) {
    owners::forget(address);
    if bits == WRITERS {
        owners::record(address, me);
    }
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn pthread_rwlock_rdlock(at: *mut pthread_rwlock_t) -> c_int {
    use originals::pthread_rwlock_rdlock::{ROW, call};
    // SAFETY: the caller's.
    unsafe { lock(READ, at, || Limit::Never, &ROW, || call(at)) }
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn pthread_rwlock_timedrdlock(
    at: *mut pthread_rwlock_t,
    until: *const timespec,
) -> c_int {
    use originals::pthread_rwlock_timedrdlock::{ROW, call};
    // SAFETY: the caller's.
    unsafe {
        let limit = || Limit::until(libc::CLOCK_REALTIME, until);
        lock(READ, at, limit, &ROW, || call(at, until))
    }
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn pthread_rwlock_clockrdlock(
    at: *mut pthread_rwlock_t,
    clock: clockid_t,
    until: *const timespec,
) -> c_int {
    use originals::pthread_rwlock_clockrdlock::{ROW, call};
    // SAFETY: the caller's.
    unsafe { lock(READ, at, || Limit::until(clock, until), &ROW, || call(at, clock, until)) }
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn pthread_rwlock_wrlock(at: *mut pthread_rwlock_t) -> c_int {
    use originals::pthread_rwlock_wrlock::{ROW, call};
    // SAFETY: the caller's.
    unsafe { lock(WRITE, at, || Limit::Never, &ROW, || call(at)) }
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn pthread_rwlock_timedwrlock(
    at: *mut pthread_rwlock_t,
    until: *const timespec,
) -> c_int {
    use originals::pthread_rwlock_timedwrlock::{ROW, call};
    // SAFETY: the caller's.
    unsafe {
        let limit = || Limit::until(libc::CLOCK_REALTIME, until);
        lock(WRITE, at, limit, &ROW, || call(at, until))
    }
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn pthread_rwlock_clockwrlock(
    at: *mut pthread_rwlock_t,
    clock: clockid_t,
    until: *const timespec,
) -> c_int {
    use originals::pthread_rwlock_clockwrlock::{ROW, call};
    // SAFETY: the caller's.
    unsafe { lock(WRITE, at, || Limit::until(clock, until), &ROW, || call(at, clock, until)) }
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn pthread_rwlock_trywrlock(at: *mut pthread_rwlock_t) -> c_int {
    // SAFETY: the caller's.
    let result = unsafe { originals::pthread_rwlock_trywrlock::call(at) };
    if result == 0 && place() != Place::Thread {
        note(at.addr(), WRITERS, Owner::current());
    }
    result
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn pthread_rwlock_tryrdlock(at: *mut pthread_rwlock_t) -> c_int {
    // SAFETY: the caller's.
    let result = unsafe { originals::pthread_rwlock_tryrdlock::call(at) };
    if result == 0 && place() != Place::Thread {
        note(at.addr(), READERS, Owner::current());
    }
    result
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn pthread_rwlock_unlock(at: *mut pthread_rwlock_t) -> c_int {
    let address = at.addr();
    // Before it is another's. If it is not write-locked, there is no entry.
    owners::forget(address);
    // SAFETY: the caller's.
    let result = unsafe { originals::pthread_rwlock_unlock::call(at) };
    addresses::wake(address, READERS, usize::MAX);
    addresses::wake(address, WRITERS, 1);
    result
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn pthread_rwlock_destroy(at: *mut pthread_rwlock_t) -> c_int {
    owners::forget(at.addr());
    // SAFETY: the caller's.
    unsafe { originals::pthread_rwlock_destroy::call(at) }
}
