#![forbid(unsafe_code)]
//! Mutual exclusion between coroutines.

use super::semaphore::Semaphore;
use super::sharing::{Local, Shared, Sharing};
use crate::hub::Deadline;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{self, LockResult, PoisonError, TryLockError, TryLockResult};
use std::time::Duration;

/// A mutex whose guard may be held across switches.
///
/// Like [`std::sync::Mutex`], it is poisoned by a holder that panics or is killed.
///
/// The mutex is fair: waiters lock it in order.
///
/// # Examples
///
/// ```
/// use std::rc::Rc;
/// use switchgrass::{coroutine::join_all, spawn, sync::Mutex, yield_now};
///
/// let total = Rc::new(Mutex::new(0));
/// let add = |n| {
///     let total = Rc::clone(&total);
///     spawn(move || {
///         let mut total = total.lock().unwrap();
///         let before = *total;
///         yield_now();
///         *total = before + n;
///     })
/// };
/// join_all([add(1), add(2), add(3)]);
/// assert_eq!(*total.lock().unwrap(), 6);
/// ```
pub struct Mutex<T: ?Sized, S: Sharing = Local> {
    gate: Semaphore<S>,
    /// Holds the value and the poison flag. Only the coroutine that has passed the gate locks it, so this
    /// never blocks.
    value: sync::Mutex<T>,
}

/// The right to use the value of a [`Mutex`].
///
/// When dropped, it unlocks the mutex and wakes the next waiter.
#[must_use = "if unused, the mutex is unlocked immediately"]
pub struct MutexGuard<'a, T: ?Sized, S: Sharing = Local> {
    /// Declared first, so dropped before the gate opens.
    value: sync::MutexGuard<'a, T>,
    gate: GateGuard<'a, T, S>,
}

/// Opens the gate when dropped.
struct GateGuard<'a, T: ?Sized, S: Sharing>(&'a Mutex<T, S>);

impl<T: ?Sized, S: Sharing> Drop for GateGuard<'_, T, S> {
    #[inline]
    fn drop(&mut self) {
        self.0.gate.release();
    }
}

impl<T> Mutex<T, Local> {
    /// Creates a mutex of this thread.
    pub fn new(value: T) -> Self {
        Mutex { gate: Semaphore::with(1), value: sync::Mutex::new(value) }
    }
}

impl<T> Mutex<T, Shared> {
    /// Creates a mutex that threads can share.
    pub fn shared(value: T) -> Self {
        Mutex { gate: Semaphore::with(1), value: sync::Mutex::new(value) }
    }
}

impl<T: Default> Default for Mutex<T, Local> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T, S: Sharing> Mutex<T, S> {
    /// Consumes the mutex and returns the value.
    ///
    /// # Errors
    ///
    /// Returns an error that holds the value if the mutex is poisoned.
    pub fn into_inner(self) -> LockResult<T> {
        self.value.into_inner()
    }
}

impl<T: ?Sized, S: Sharing> Mutex<T, S> {
    /// Locks the mutex, and waits until it is free if necessary.
    ///
    /// # Errors
    ///
    /// Returns an error that holds the guard if the mutex is poisoned: a holder has panicked.
    ///
    /// # Panics
    ///
    /// Unwinds with any kill or timeout delivered to the current coroutine during the wait. In main, panics
    /// on deadlock: when nothing is left that can wake it, for instance if main already holds the mutex.
    ///
    /// # Switching
    ///
    /// May switch: if the mutex is locked. Any other coroutine may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The mutex is not locked.
    #[inline]
    #[track_caller]
    pub fn lock(&self) -> LockResult<MutexGuard<'_, T, S>> {
        self.gate.acquire();
        self.enter()
    }

    /// Locks the mutex if it is free.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`std::sync::Mutex::try_lock`]: `WouldBlock` if the mutex is locked,
    /// `Poisoned` if a holder has panicked.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn try_lock(&self) -> TryLockResult<MutexGuard<'_, T, S>> {
        if self.gate.try_acquire() { Ok(self.enter()?) } else { Err(TryLockError::WouldBlock) }
    }

    /// Locks the mutex, and waits until it is free for at most `timeout`.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`std::sync::Mutex::try_lock`]: `WouldBlock` if the timeout has passed,
    /// `Poisoned` if a holder has panicked.
    ///
    /// # Panics
    ///
    /// Panics like [`Mutex::lock`].
    ///
    /// # Switching
    ///
    /// May switch: if the mutex is locked, even for a timeout of zero. Any other coroutine may run
    /// meanwhile.
    ///
    /// # Cancellation
    ///
    /// The mutex is not locked.
    #[track_caller]
    pub fn lock_timeout(&self, timeout: Duration) -> TryLockResult<MutexGuard<'_, T, S>> {
        if self.gate.acquire_until(Deadline::after(timeout)) {
            Ok(self.enter()?)
        } else {
            Err(TryLockError::WouldBlock)
        }
    }

    #[inline]
    fn enter(&self) -> LockResult<MutexGuard<'_, T, S>> {
        let gate = GateGuard(self);
        match self.value.try_lock() {
            Ok(value) => Ok(MutexGuard { value, gate }),
            Err(TryLockError::Poisoned(error)) => {
                Err(PoisonError::new(MutexGuard { value: error.into_inner(), gate }))
            }
            Err(TryLockError::WouldBlock) => unreachable!("one at a time passes the gate"),
        }
    }

    /// Whether the mutex is poisoned: a holder has panicked.
    pub fn is_poisoned(&self) -> bool {
        self.value.is_poisoned()
    }

    /// Clears the poison, to declare the value consistent again.
    pub fn clear_poison(&self) {
        self.value.clear_poison();
    }

    /// Returns a mutable reference to the value.
    ///
    /// No locking is necessary, since the mutex is borrowed mutably.
    ///
    /// # Errors
    ///
    /// Returns an error that holds the reference if the mutex is poisoned.
    pub fn get_mut(&mut self) -> LockResult<&mut T> {
        self.value.get_mut()
    }
}

impl<'a, T: ?Sized, S: Sharing> MutexGuard<'a, T, S> {
    /// Returns the mutex of a guard.
    pub(super) fn mutex(guard: &Self) -> &'a Mutex<T, S> {
        guard.gate.0
    }
}

impl<T: ?Sized, S: Sharing> Deref for MutexGuard<'_, T, S> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: ?Sized, S: Sharing> DerefMut for MutexGuard<'_, T, S> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T: ?Sized + fmt::Debug, S: Sharing> fmt::Debug for MutexGuard<'_, T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

/// Shows the value if the mutex is not locked, like [`std::sync::Mutex`].
///
/// The mutex is locked meanwhile, so others may have to wait.
impl<T: ?Sized + fmt::Debug, S: Sharing> fmt::Debug for Mutex<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = match self.try_lock() {
            Ok(value) => Some(value),
            Err(TryLockError::Poisoned(error)) => Some(error.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        };
        let written = catch_unwind(AssertUnwindSafe(|| {
            let mut f = f.debug_struct("Mutex");
            match &value {
                Some(value) => f.field("data", &&**value),
                None => f.field("data", &format_args!("<locked>")),
            };
            f.field("poisoned", &self.is_poisoned()).finish_non_exhaustive()
        }));
        // Formatting only reads the value, so a panic in it does not poison the mutex.
        drop(value);
        written.unwrap_or_else(|payload| resume_unwind(payload))
    }
}
