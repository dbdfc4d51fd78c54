//! Mutexes of C.
//!
//! Plain ones know no owner, and a coroutine waits for those that a sibling holds. Those with an owner
//! (recursive, checking for errors, robust, inheriting a priority) belong to the *thread*, as libc sees it:
//! `owners.rs` knows which of its coroutines has locked one, and libc is asked only where it gives the
//! answer that it would give if each coroutine were a thread:
//!
//! | held by | lock | trylock | unlock |
//! |---|---|---|---|
//! | the caller | libc's: once more, EDEADLK | libc's | libc's |
//! | a sibling | waits; has ended and it is robust: EOWNERDEAD | EBUSY | EPERM |
//! | another thread | waits | libc's | libc's |
//!
//! In the hub's own greenlet, which cannot wait, to lock what one of its coroutines holds is EDEADLK.

use super::acquire::{ANY, Attempt, Limit, SLICE, Wanted};
use super::mutex_layout::Layout;
use crate::hub::{Deadline, Place, place};
use crate::monkey::owners::{self, Owner};
use crate::monkey::{addresses, originals};
use libc::{c_int, clockid_t, pthread_mutex_t, timespec};
use std::time::Duration;

/// Whether it is for libc alone: there are no siblings, or a bucket's lock is held, as by an allocator.
fn is_for_libc() -> bool {
    place() == Place::Thread || addresses::is_inside()
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn pthread_mutex_lock(mutex: *mut pthread_mutex_t) -> c_int {
    if is_for_libc() {
        // SAFETY: the caller's.
        return unsafe { originals::pthread_mutex_lock::call(mutex) };
    }
    // SAFETY: the caller's.
    unsafe { lock(mutex, || Limit::Never, || originals::pthread_mutex_lock::call(mutex)) }
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn pthread_mutex_timedlock(
    mutex: *mut pthread_mutex_t,
    until: *const timespec,
) -> c_int {
    if is_for_libc() {
        // SAFETY: the caller's.
        return unsafe { originals::pthread_mutex_timedlock::call(mutex, until) };
    }
    // SAFETY: the caller's.
    unsafe {
        let original = || originals::pthread_mutex_timedlock::call(mutex, until);
        lock(mutex, || Limit::until(libc::CLOCK_REALTIME, until), original)
    }
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn pthread_mutex_clocklock(
    mutex: *mut pthread_mutex_t,
    clock: clockid_t,
    until: *const timespec,
) -> c_int {
    // Of a clock that it does not know it complains at once.
    if is_for_libc() || !matches!(clock, libc::CLOCK_REALTIME | libc::CLOCK_MONOTONIC) {
        // SAFETY: the caller's.
        return unsafe { originals::pthread_mutex_clocklock::call(mutex, clock, until) };
    }
    // SAFETY: the caller's.
    unsafe {
        let original = || originals::pthread_mutex_clocklock::call(mutex, clock, until);
        lock(mutex, || Limit::until(clock, until), original)
    }
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn pthread_mutex_trylock(mutex: *mut pthread_mutex_t) -> c_int {
    // SAFETY: the caller's.
    let owned = if is_for_libc() { None } else { unsafe { Owned::of(mutex) } };
    let Some(owned) = owned else {
        // SAFETY: the caller's.
        return unsafe { originals::pthread_mutex_trylock::call(mutex) };
    };
    // SAFETY: the caller's.
    let result = match unsafe { owned.attempt(false) } {
        Attempt::Over(result) => result,
        Attempt::Sibling | Attempt::Mortal | Attempt::Foreign => libc::EBUSY,
    };
    owned.note(result)
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn pthread_mutex_unlock(mutex: *mut pthread_mutex_t) -> c_int {
    let address = mutex.addr();
    // SAFETY: the caller's.
    let owned = if is_for_libc() { None } else { unsafe { Owned::of(mutex) } };
    if let Some(owned) = &owned
        && !owned.is_callers()
    {
        return libc::EPERM;
    }
    // SAFETY: the caller's.
    let result = unsafe { originals::pthread_mutex_unlock::call(mutex) };
    // It may be gone by now: of interest is only where it was.
    if owned.is_some() && result == 0 {
        owners::release(address);
    }
    addresses::wake(address, ANY, 1);
    result
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn pthread_mutex_destroy(mutex: *mut pthread_mutex_t) -> c_int {
    // SAFETY: the caller's.
    let result = unsafe { originals::pthread_mutex_destroy::call(mutex) };
    if result == 0 {
        owners::forget(mutex.addr());
    }
    result
}

/// Locks it, in a coroutine, or in the hub's greenlet, which makes `original`'s call if it has to wait.
///
/// # Safety
///
/// As libc's `pthread_mutex_lock`.
unsafe fn lock(
    mutex: *mut pthread_mutex_t,
    limit: impl FnOnce() -> Limit,
    original: impl FnOnce() -> c_int,
) -> c_int {
    // SAFETY: the caller's.
    let Some(owned) = (unsafe { Owned::of(mutex) }) else {
        // SAFETY: the caller's.
        return unsafe { lock_plain(mutex, limit, original) };
    };
    // SAFETY: the caller's.
    let attempt = || unsafe { owned.attempt(true) };
    let result = match attempt() {
        Attempt::Over(result) => result,
        first if place() == Place::Hub => refuse_in_hub(first, original),
        _ => {
            let limit = match limit() {
                // It is the kernel that looks at such a time.
                Limit::Past if owned.state.inherits() => Limit::Invalid,
                limit => limit,
            };
            wanted(mutex, limit).acquire(attempt)
        }
    };
    owned.note(result)
}

/// In the hub's own greenlet, which cannot wait for one of its coroutines, but for another thread.
#[cold]
fn refuse_in_hub(first: Attempt, original: impl FnOnce() -> c_int) -> c_int {
    originals::pthread_mutex_lock::ROW.count_blocked();
    if first == Attempt::Foreign { original() } else { libc::EDEADLK }
}

fn wanted(mutex: *mut pthread_mutex_t, limit: Limit) -> Wanted {
    Wanted { address: mutex.addr(), bits: ANY, purpose: "pthread_mutex_lock", limit }
}

/// # Safety
///
/// As libc's `pthread_mutex_lock`.
unsafe fn lock_plain(
    mutex: *mut pthread_mutex_t,
    limit: impl FnOnce() -> Limit,
    original: impl FnOnce() -> c_int,
) -> c_int {
    let attempt = || {
        // SAFETY: the caller's.
        let result = unsafe { originals::pthread_mutex_trylock::call(mutex) };
        if result != libc::EBUSY {
            return Attempt::Over(result);
        }
        // SAFETY: the caller's.
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
        // SAFETY: the caller's.
        let result = unsafe { originals::pthread_mutex_timedlock::call(mutex, &until) };
        (result != libc::ETIMEDOUT).then_some(result)
    };
    let count = || originals::pthread_mutex_lock::ROW.count_blocked();
    wanted(mutex, limit()).acquire_patiently(attempt, Some(&slice), count)
}

/// In `left` from now.
fn time_of(left: Duration) -> timespec {
    let mut now = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a place for the answer; a clock that is always there.
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
    /// `None` if it has none, or it is not known.
    ///
    /// # Safety
    ///
    /// As libc's `pthread_mutex_lock`; the mutex is there as long as this is used.
    unsafe fn of<'a>(mutex: *mut pthread_mutex_t) -> Option<Owned<'a>> {
        // SAFETY: the caller's.
        let state = unsafe { Layout::of(mutex) }?;
        state.has_owner().then(|| Owned { mutex, state, me: Owner::current() })
    }

    fn address(&self) -> usize {
        self.mutex.addr()
    }

    /// Whether this thread holds it for the caller, or does not hold it: then libc says what is wrong.
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

    /// Attempts to lock it, as a call that waits, or by one that does not.
    ///
    /// # Safety
    ///
    /// As libc's `pthread_mutex_lock`.
    unsafe fn attempt(&self, waits: bool) -> Attempt {
        let address = self.address();
        match owners::owner_of(address) {
            Some(owner) if owner == self.me && self.state.is_held_here() => {
                // SAFETY: the caller's.
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
        // SAFETY: the caller's.
        let result = unsafe { if waits { self.lock_now() } else { self.trylock() } };
        // Without an entry, what this thread holds is main's.
        match result {
            0 if self.me != Owner::MAIN && self.state.is_nested() => {
                // SAFETY: it has just been locked, once more than before.
                unsafe { originals::pthread_mutex_unlock::call(self.mutex) };
                Attempt::Sibling
            }
            libc::EBUSY | libc::EDEADLK if self.state.is_held_here() => match self.me {
                // SAFETY: the caller's.
                Owner::MAIN => unsafe { self.lock_again(waits) },
                _ => Attempt::Sibling,
            },
            libc::EBUSY => Attempt::Foreign,
            _ => Attempt::Over(result),
        }
    }

    /// # Safety
    ///
    /// As libc's `pthread_mutex_trylock`.
    unsafe fn trylock(&self) -> c_int {
        // SAFETY: the caller's.
        unsafe { originals::pthread_mutex_trylock::call(self.mutex) }
    }

    /// Locks it if that can be done at once. Otherwise EBUSY.
    ///
    /// glibc's `pthread_mutex_trylock` leaves a robust mutex locked when it says ENOTRECOVERABLE. Its
    /// `pthread_mutex_timedlock` does not, and does not wait either until a time that has passed.
    ///
    /// # Safety
    ///
    /// As libc's `pthread_mutex_lock`.
    unsafe fn lock_now(&self) -> c_int {
        if !self.state.is_robust() || self.state.inherits() {
            // SAFETY: the caller's.
            return unsafe { self.trylock() };
        }
        let past = timespec { tv_sec: -1, tv_nsec: 0 };
        // SAFETY: the caller's.
        match unsafe { originals::pthread_mutex_timedlock::call(self.mutex, &past) } {
            libc::ETIMEDOUT => libc::EBUSY,
            result => result,
        }
    }

    /// What the owner gets that locks it again.
    ///
    /// # Safety
    ///
    /// As libc's `pthread_mutex_lock`.
    unsafe fn lock_again(&self, waits: bool) -> Attempt {
        match waits {
            // SAFETY: the caller's.
            false => Attempt::Over(unsafe { self.trylock() }),
            true if self.state.answers_its_owner() => {
                // SAFETY: the caller's.
                Attempt::Over(unsafe { originals::pthread_mutex_lock::call(self.mutex) })
            }
            // The kernel would wait indefinitely. So does the coroutine.
            true => Attempt::Sibling,
        }
    }

    /// Notes that the caller has locked it, if that is the result.
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
