//! Mutexes of C.
//!
//! Plain mutexes know no owner; a coroutine waits for one that a sibling holds. Mutexes with an owner
//! (recursive, error-checking, robust, priority-inheriting) belong to the *thread* for libc. `owners.rs`
//! records which coroutine has locked one, and libc is called only where its result is the one that it would
//! have if each coroutine were a thread:
//!
//! | held by | lock | trylock | unlock |
//! |---|---|---|---|
//! | the caller | libc's: once more, EDEADLK | libc's | libc's |
//! | a sibling | waits; EOWNERDEAD if it has ended and the mutex is robust | EBUSY | EPERM |
//! | another thread | waits | libc's | libc's |
//!
//! The hub's own greenlet cannot wait: if it locks a mutex that one of its coroutines holds, it gets EDEADLK.

use super::acquire::{ANY, Attempt, Limit, SLICE, Wanted};
use super::mutex_layout::Layout;
use crate::hub::{Deadline, Place, place};
use crate::monkey::owners::{self, Owner};
use crate::monkey::{addresses, originals};
use libc::{c_int, clockid_t, pthread_mutex_t, timespec};
use std::time::Duration;

/// Whether libc handles the call: there are no siblings, or a bucket's lock is held, as in an allocator.
fn is_for_libc() -> bool {
    place() == Place::Thread || addresses::is_inside()
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn pthread_mutex_lock(mutex: *mut pthread_mutex_t) -> c_int {
    if is_for_libc() {
        // SAFETY: contract of a hook: libc's `pthread_mutex_lock` gets the caller's pointers.
        return unsafe { originals::pthread_mutex_lock::call(mutex) };
    }
    // SAFETY: contract of a hook: `lock` has the same contract.
    unsafe { lock(mutex, || Limit::Never, || originals::pthread_mutex_lock::call(mutex)) }
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn pthread_mutex_timedlock(
    mutex: *mut pthread_mutex_t,
    until: *const timespec,
) -> c_int {
    if is_for_libc() {
        // SAFETY: contract of a hook: libc's `pthread_mutex_timedlock` gets the caller's pointers.
        return unsafe { originals::pthread_mutex_timedlock::call(mutex, until) };
    }
    // SAFETY: contract of a hook: libc's `pthread_mutex_timedlock` gets the caller's pointers.
    unsafe {
        let original = || originals::pthread_mutex_timedlock::call(mutex, until);
        lock(mutex, || Limit::until(libc::CLOCK_REALTIME, until), original)
    }
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn pthread_mutex_clocklock(
    mutex: *mut pthread_mutex_t,
    clock: clockid_t,
    until: *const timespec,
) -> c_int {
    // libc refuses an unknown clock at once.
    if is_for_libc() || !matches!(clock, libc::CLOCK_REALTIME | libc::CLOCK_MONOTONIC) {
        // SAFETY: contract of a hook: libc's `pthread_mutex_clocklock` gets the caller's pointers.
        return unsafe { originals::pthread_mutex_clocklock::call(mutex, clock, until) };
    }
    // SAFETY: contract of a hook: libc's `pthread_mutex_clocklock` gets the caller's pointers.
    unsafe {
        let original = || originals::pthread_mutex_clocklock::call(mutex, clock, until);
        lock(mutex, || Limit::until(clock, until), original)
    }
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn pthread_mutex_trylock(mutex: *mut pthread_mutex_t) -> c_int {
    // SAFETY: contract of a hook: the mutex is initialised.
    let owned = if is_for_libc() { None } else { unsafe { Owned::of(mutex) } };
    let Some(owned) = owned else {
        // SAFETY: contract of a hook: libc's `pthread_mutex_trylock` gets the caller's pointers.
        return unsafe { originals::pthread_mutex_trylock::call(mutex) };
    };
    // SAFETY: contract of a hook: `attempt` has the same contract.
    let result = match unsafe { owned.attempt(false) } {
        Attempt::Over(result) => result,
        Attempt::Sibling | Attempt::Mortal | Attempt::Foreign => libc::EBUSY,
    };
    owned.note(result)
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn pthread_mutex_unlock(mutex: *mut pthread_mutex_t) -> c_int {
    let address = mutex.addr();
    // SAFETY: contract of a hook: the mutex is initialised.
    let owned = if is_for_libc() { None } else { unsafe { Owned::of(mutex) } };
    if let Some(owned) = &owned
        && !owned.is_callers()
    {
        return libc::EPERM;
    }
    // SAFETY: contract of a hook: libc's `pthread_mutex_unlock` gets the caller's pointers.
    let result = unsafe { originals::pthread_mutex_unlock::call(mutex) };
    // The mutex may be freed by now: only its address is used.
    if owned.is_some() && result == 0 {
        owners::release(address);
    }
    addresses::wake(address, ANY, 1);
    result
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn pthread_mutex_destroy(mutex: *mut pthread_mutex_t) -> c_int {
    // SAFETY: contract of a hook: libc's `pthread_mutex_destroy` gets the caller's pointers.
    let result = unsafe { originals::pthread_mutex_destroy::call(mutex) };
    if result == 0 {
        owners::forget(mutex.addr());
    }
    result
}

/// Locks a mutex in a coroutine or in the hub's greenlet.
///
/// The latter calls `original` if it has to wait.
///
/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`), as for libc's `pthread_mutex_lock`.
unsafe fn lock(
    mutex: *mut pthread_mutex_t,
    limit: impl FnOnce() -> Limit,
    original: impl FnOnce() -> c_int,
) -> c_int {
    // SAFETY: contract of a hook: the mutex is initialised.
    let Some(owned) = (unsafe { Owned::of(mutex) }) else {
        // SAFETY: contract of a hook: `lock_plain` has the same contract.
        return unsafe { lock_plain(mutex, limit, original) };
    };
    // SAFETY: contract of a hook: `attempt` has the same contract.
    let attempt = || unsafe { owned.attempt(true) };
    let result = match attempt() {
        Attempt::Over(result) => result,
        first if place() == Place::Hub => refuse_in_hub(first, original),
        _ => {
            let limit = match limit() {
                // The kernel checks this time.
                Limit::Past if owned.state.inherits() => Limit::Invalid,
                limit => limit,
            };
            wanted(mutex, limit).acquire(attempt)
        }
    };
    owned.note(result)
}

/// Handles a held mutex in the hub's own greenlet.
///
/// It can wait for another thread, but not for one of its own coroutines.
#[cold]
fn refuse_in_hub(first: Attempt, original: impl FnOnce() -> c_int) -> c_int {
    originals::pthread_mutex_lock::ROW.count_blocked();
    if first == Attempt::Foreign { original() } else { libc::EDEADLK }
}

fn wanted(mutex: *mut pthread_mutex_t, limit: Limit) -> Wanted {
    Wanted { address: mutex.addr(), bits: ANY, purpose: "pthread_mutex_lock", limit }
}

/// Locks a mutex without an owner, or of an unknown layout.
///
/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`), as for libc's `pthread_mutex_lock`.
unsafe fn lock_plain(
    mutex: *mut pthread_mutex_t,
    limit: impl FnOnce() -> Limit,
    original: impl FnOnce() -> c_int,
) -> c_int {
    let attempt = || {
        // SAFETY: contract of a hook: libc's `pthread_mutex_trylock` gets the caller's pointers.
        let result = unsafe { originals::pthread_mutex_trylock::call(mutex) };
        if result != libc::EBUSY {
            return Attempt::Over(result);
        }
        // SAFETY: contract of a hook: the mutex is initialised.
        let state = unsafe { Layout::of(mutex) };
        if state.is_some_and(Layout::is_held_here) { Attempt::Sibling } else { Attempt::Foreign }
    };
    match attempt() {
        Attempt::Over(result) => return result,
        first if place() == Place::Hub => return refuse_in_hub(first, original),
        _ => {}
    }
    let slice = |deadline: Option<Deadline>| {
        let until = Deadline::after(SLICE).into_iter().chain(deadline).min();
        let until = time_of(until.map_or(SLICE, Deadline::left));
        // SAFETY: contract of a hook: libc's `pthread_mutex_timedlock` gets the caller's pointers.
        let result = unsafe { originals::pthread_mutex_timedlock::call(mutex, &until) };
        (result != libc::ETIMEDOUT).then_some(result)
    };
    let count = || originals::pthread_mutex_lock::ROW.count_blocked();
    wanted(mutex, limit()).acquire_patiently(attempt, Some(&slice), count)
}

/// The time on `CLOCK_REALTIME` that is `left` from now.
fn time_of(left: Duration) -> timespec {
    let mut now = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is valid for a write, and the clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &mut now) };
    let then = Duration::new(now.tv_sec as u64, now.tv_nsec as u32) + left;
    timespec { tv_sec: then.as_secs() as _, tv_nsec: then.subsec_nanos().into() }
}

/// A mutex that has an owner.
struct Owned<'a> {
    mutex: *mut pthread_mutex_t,
    state: &'a Layout,
    me: Owner,
}

impl Owned<'_> {
    /// `None` if the mutex has no owner, or its layout is unknown.
    ///
    /// # Safety
    ///
    /// Contract of a hook (`hooks/mod.rs`), as for libc's `pthread_mutex_lock`; the mutex stays valid as
    /// long as the result is used.
    unsafe fn of<'a>(mutex: *mut pthread_mutex_t) -> Option<Owned<'a>> {
        // SAFETY: contract of a hook: the mutex is initialised.
        let state = unsafe { Layout::of(mutex) }?;
        state.has_owner().then(|| Owned { mutex, state, me: Owner::current() })
    }

    fn address(&self) -> usize {
        self.mutex.addr()
    }

    /// Whether this thread holds it for the caller, or does not hold it: libc then reports the error.
    fn is_callers(&self) -> bool {
        match owners::owner_of(self.address()) {
            Some(owner) if owner == self.me => true,
            Some(_) if self.state.is_held_here() => false,
            Some(_) => {
                owners::forget(self.address());
                true
            }
            None => self.me == Owner::MAIN || !self.state.is_held_here(),
        }
    }

    /// Attempts to lock it without waiting, for a call that waits or for one that does not.
    ///
    /// # Safety
    ///
    /// Contract of a hook (`hooks/mod.rs`), as for libc's `pthread_mutex_lock`.
    unsafe fn attempt(&self, waits: bool) -> Attempt {
        let address = self.address();
        match owners::owner_of(address) {
            Some(owner) if owner == self.me && self.state.is_held_here() => {
                // SAFETY: contract of a hook: `lock_again` has the same contract.
                return unsafe { self.lock_again(waits) };
            }
            Some(_) if self.state.is_held_here() => {
                if !self.state.is_robust() {
                    return Attempt::Sibling;
                }
                if !owners::has_ended(address) {
                    return Attempt::Mortal;
                }
                owners::forget(address);
                self.state.pass_on_inconsistent();
                return Attempt::Over(libc::EOWNERDEAD);
            }
            Some(_) => owners::forget(address),
            None => {}
        }
        // SAFETY: contract of a hook: `lock_now` has the same contract.
        let result = unsafe { if waits { self.lock_now() } else { self.trylock() } };
        // A lock that this thread holds without an entry belongs to main.
        match result {
            0 if self.me != Owner::MAIN && self.state.is_nested() => {
                // SAFETY: the mutex has just been locked once more than before.
                unsafe { originals::pthread_mutex_unlock::call(self.mutex) };
                Attempt::Sibling
            }
            libc::EBUSY | libc::EDEADLK if self.state.is_held_here() => match self.me {
                // SAFETY: contract of a hook: `lock_again` has the same contract.
                Owner::MAIN => unsafe { self.lock_again(waits) },
                _ => Attempt::Sibling,
            },
            libc::EBUSY => Attempt::Foreign,
            _ => Attempt::Over(result),
        }
    }

    /// Attempts to lock it by libc's `pthread_mutex_trylock`.
    ///
    /// # Safety
    ///
    /// Contract of a hook (`hooks/mod.rs`), as for libc's `pthread_mutex_trylock`.
    unsafe fn trylock(&self) -> c_int {
        // SAFETY: contract of a hook: libc's `pthread_mutex_trylock` gets the caller's pointers.
        unsafe { originals::pthread_mutex_trylock::call(self.mutex) }
    }

    /// Locks it if that is possible at once. Otherwise `EBUSY`.
    ///
    /// glibc's `pthread_mutex_trylock` leaves a robust mutex locked when it returns `ENOTRECOVERABLE`.
    /// glibc's `pthread_mutex_timedlock` does not, and with a time in the past does not wait either.
    ///
    /// # Safety
    ///
    /// Contract of a hook (`hooks/mod.rs`), as for libc's `pthread_mutex_lock`.
    unsafe fn lock_now(&self) -> c_int {
        if !self.state.is_robust() || self.state.inherits() {
            // SAFETY: contract of a hook: `trylock` has the same contract.
            return unsafe { self.trylock() };
        }
        let past = timespec { tv_sec: -1, tv_nsec: 0 };
        // SAFETY: contract of a hook: libc's `pthread_mutex_timedlock` gets the caller's pointers.
        match unsafe { originals::pthread_mutex_timedlock::call(self.mutex, &past) } {
            libc::ETIMEDOUT => libc::EBUSY,
            result => result,
        }
    }

    /// The result for an owner that locks it again.
    ///
    /// # Safety
    ///
    /// Contract of a hook (`hooks/mod.rs`), as for libc's `pthread_mutex_lock`.
    unsafe fn lock_again(&self, waits: bool) -> Attempt {
        match waits {
            // SAFETY: contract of a hook: `trylock` has the same contract.
            false => Attempt::Over(unsafe { self.trylock() }),
            true if self.state.answers_its_owner() => {
                // SAFETY: contract of a hook: libc's `pthread_mutex_lock` gets the caller's pointers.
                Attempt::Over(unsafe { originals::pthread_mutex_lock::call(self.mutex) })
            }
            // The kernel would wait indefinitely, and so does the coroutine.
            true => Attempt::Sibling,
        }
    }

    /// Records that the caller has locked it, if `result` says so.
    fn note(&self, result: c_int) -> c_int {
        match result {
            0 | libc::EOWNERDEAD if self.state.is_robust() => {
                owners::record_mortal(self.address(), self.me);
            }
            0 => owners::record(self.address(), self.me),
            _ => {}
        }
        result
    }
}
