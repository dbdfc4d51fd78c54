//! Read-write locks of C.
//!
//! libc counts the readers without identifying them, and identifies its writer by the thread id. So a
//! coroutine never waits in the kernel for such a lock, where no sibling could unlock it: it tries, and waits
//! in `addresses` until a reader or the writer unlocks. `owners.rs` records which coroutine is the writer:
//! only the writer gets libc's EDEADLK when it locks again.
//!
//! An unlock wakes all waiting readers and one writer. libc does not know of a coroutine that waits to write,
//! so `PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP` does not hold back readers for it.

use super::acquire::{Attempt, Limit, Wanted};
use crate::hub::{Place, place};
use crate::monkey::gate::Row;
use crate::monkey::owners::{self, Owner};
use crate::monkey::{addresses, originals};
use libc::{c_int, clockid_t, pthread_rwlock_t, timespec};
use std::sync::OnceLock;
use std::sync::atomic::AtomicI32;
use std::sync::atomic::Ordering::Relaxed;

/// Wake-up bits of waiting readers and waiting writers.
const READERS: u32 = 1;
const WRITERS: u32 = 2;

/// A function of libc that takes only the lock.
type Plain = unsafe fn(*mut pthread_rwlock_t) -> c_int;

/// A mode of locking.
struct Mode {
    bits: u32,
    attempt: Plain,
    /// Waits in general; called only by the writer, for which it returns at once.
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

/// Locks it in a coroutine. Elsewhere `original` does, which is libc's call.
///
/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`), as for libc's functions of the mode.
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
        // libc fails at once, even if the lock is free.
        return original();
    }
    let (address, me) = (lock.addr(), Owner::current());
    let attempt = || {
        // SAFETY: contract of a hook: the attempt gets the caller's lock.
        let result = unsafe { (mode.attempt)(lock) };
        if result != libc::EBUSY {
            return Attempt::Over(result);
        }
        // SAFETY: contract of a hook: `is_written_here` has the same contract.
        let writer = match unsafe { is_written_here(lock) } {
            // Any entry is left over from an earlier lock at this address.
            Some(false) => None,
            Some(true) => Some(owners::owner_of(address).unwrap_or(Owner::MAIN)),
            None => owners::owner_of(address),
        };
        match writer {
            // SAFETY: contract of a hook: the caller's lock. It does not wait, since this thread is the
            // writer.
            Some(writer) if writer == me => Attempt::Over(unsafe { (mode.lock)(lock) }),
            Some(_) => Attempt::Sibling,
            None => Attempt::Foreign,
        }
    };
    let result = match attempt() {
        Attempt::Over(result) => result,
        first if here == Place::Hub => {
            row.count_blocked();
            // The writer cannot continue before the hub does.
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

/// Whether the calling thread is its writer.
///
/// `None` if this is not glibc's layout, which is checked once.
///
/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`), as for libc's functions of the lock.
unsafe fn is_written_here(lock: *mut pthread_rwlock_t) -> Option<bool> {
    const WRITER: usize = 6;
    const _: () = assert!(size_of::<pthread_rwlock_t>() > (WRITER + 1) * size_of::<AtomicI32>());
    static IS_KNOWN: OnceLock<bool> = OnceLock::new();
    let is_writer = |lock: *mut pthread_rwlock_t| {
        // SAFETY: contract of a hook: the offset lies inside of the lock. Other threads may change the field,
        // so it is read atomically.
        let writer = unsafe { &*lock.cast::<AtomicI32>().add(WRITER) };
        // SAFETY: `gettid` has no preconditions.
        writer.load(Relaxed) == unsafe { libc::gettid() }
    };
    let is_known = || {
        let mut own = libc::PTHREAD_RWLOCK_INITIALIZER;
        let own = &raw mut own;
        // SAFETY: `own` is an initialised lock that is not moved.
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

/// Records that `me` has locked it.
///
/// An entry from before is left over from an earlier lock at this address.
fn note(address: usize, bits: u32, me: Owner) {
    owners::forget(address);
    if bits == WRITERS {
        owners::record(address, me);
    }
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn pthread_rwlock_rdlock(at: *mut pthread_rwlock_t) -> c_int {
    use originals::pthread_rwlock_rdlock::{ROW, call};
    // SAFETY: contract of a hook: `lock` has the same contract.
    unsafe { lock(READ, at, || Limit::Never, &ROW, || call(at)) }
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn pthread_rwlock_timedrdlock(
    at: *mut pthread_rwlock_t,
    until: *const timespec,
) -> c_int {
    use originals::pthread_rwlock_timedrdlock::{ROW, call};
    // SAFETY: contract of a hook: the time is null or valid.
    unsafe {
        let limit = || Limit::until(libc::CLOCK_REALTIME, until);
        lock(READ, at, limit, &ROW, || call(at, until))
    }
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn pthread_rwlock_clockrdlock(
    at: *mut pthread_rwlock_t,
    clock: clockid_t,
    until: *const timespec,
) -> c_int {
    use originals::pthread_rwlock_clockrdlock::{ROW, call};
    // SAFETY: contract of a hook: `lock` has the same contract.
    unsafe { lock(READ, at, || Limit::until(clock, until), &ROW, || call(at, clock, until)) }
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn pthread_rwlock_wrlock(at: *mut pthread_rwlock_t) -> c_int {
    use originals::pthread_rwlock_wrlock::{ROW, call};
    // SAFETY: contract of a hook: `lock` has the same contract.
    unsafe { lock(WRITE, at, || Limit::Never, &ROW, || call(at)) }
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn pthread_rwlock_timedwrlock(
    at: *mut pthread_rwlock_t,
    until: *const timespec,
) -> c_int {
    use originals::pthread_rwlock_timedwrlock::{ROW, call};
    // SAFETY: contract of a hook: the time is null or valid.
    unsafe {
        let limit = || Limit::until(libc::CLOCK_REALTIME, until);
        lock(WRITE, at, limit, &ROW, || call(at, until))
    }
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn pthread_rwlock_clockwrlock(
    at: *mut pthread_rwlock_t,
    clock: clockid_t,
    until: *const timespec,
) -> c_int {
    use originals::pthread_rwlock_clockwrlock::{ROW, call};
    // SAFETY: contract of a hook: `lock` has the same contract.
    unsafe { lock(WRITE, at, || Limit::until(clock, until), &ROW, || call(at, clock, until)) }
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn pthread_rwlock_trywrlock(at: *mut pthread_rwlock_t) -> c_int {
    // SAFETY: contract of a hook: libc's `pthread_rwlock_trywrlock` gets the caller's pointers.
    let result = unsafe { originals::pthread_rwlock_trywrlock::call(at) };
    if result == 0 && place() != Place::Thread {
        note(at.addr(), WRITERS, Owner::current());
    }
    result
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn pthread_rwlock_tryrdlock(at: *mut pthread_rwlock_t) -> c_int {
    // SAFETY: contract of a hook: libc's `pthread_rwlock_tryrdlock` gets the caller's pointers.
    let result = unsafe { originals::pthread_rwlock_tryrdlock::call(at) };
    if result == 0 && place() != Place::Thread {
        note(at.addr(), READERS, Owner::current());
    }
    result
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn pthread_rwlock_unlock(at: *mut pthread_rwlock_t) -> c_int {
    let address = at.addr();
    // Before another owner can lock it. Without a writer there is no entry.
    owners::forget(address);
    // SAFETY: contract of a hook: libc's `pthread_rwlock_unlock` gets the caller's pointers.
    let result = unsafe { originals::pthread_rwlock_unlock::call(at) };
    addresses::wake(address, READERS, usize::MAX);
    addresses::wake(address, WRITERS, 1);
    result
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn pthread_rwlock_destroy(at: *mut pthread_rwlock_t) -> c_int {
    owners::forget(at.addr());
    // SAFETY: contract of a hook: libc's `pthread_rwlock_destroy` gets the caller's pointers.
    unsafe { originals::pthread_rwlock_destroy::call(at) }
}
