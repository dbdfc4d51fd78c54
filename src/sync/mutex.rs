#![forbid(unsafe_code)]
//! Mutual exclusion.

use super::semaphore::Semaphore;
use super::sharing::{Local, Shared, Sharing};
use crate::hub::Deadline;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{self, LockResult, PoisonError, TryLockError, TryLockResult};
use std::time::Duration;

/// A value that one coroutine at a time may use, also over switches. As [`std::sync::Mutex`]: a holder that
/// panics, or is killed, poisons it.
///
/// Who waits gets it in the order of waiting.
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
    /// Locked by whoever has passed the gate, so never waited for. It knows of poison.
    value: sync::Mutex<T>,
}

/// The use of the value of a [`Mutex`]. Dropped, the next one has it.
#[must_use = "dropped, it unlocks at once"]
pub struct MutexGuard<'a, T: ?Sized, S: Sharing = Local> {
    /// Declared first, so that it is dropped before the gate opens.
    value: sync::MutexGuard<'a, T>,
    gate: Pass<'a, T, S>,
}

/// Opens the gate when it is dropped.
struct Pass<'a, T: ?Sized, S: Sharing>(&'a Mutex<T, S>);

impl<T: ?Sized, S: Sharing> Drop for Pass<'_, T, S> {
    #[inline]
    fn drop(&mut self) {
        self.0.gate.release();
    }
}

impl<T> Mutex<T, Local> {
    /// A mutex of this thread.
    pub fn new(value: T) -> Self {
        Mutex { gate: Semaphore::with(1), value: sync::Mutex::new(value) }
    }
}

impl<T> Mutex<T, Shared> {
    /// A mutex that threads can share.
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
    /// The value.
    ///
    /// # Errors
    ///
    /// If it is poisoned; the error has the value.
    pub fn into_inner(self) -> LockResult<T> {
        self.value.into_inner()
    }
}

impl<T: ?Sized, S: Sharing> Mutex<T, S> {
    /// Waits until nobody else uses the value.
    ///
    /// # Errors
    ///
    /// If a holder has panicked; the error has the guard.
    ///
    /// # Panics
    ///
    /// With what is raised in the current coroutine meanwhile. In main, when nobody is left who could wake
    /// it: also if main has it locked already.
    ///
    /// # Switching
    ///
    /// Switches if somebody else uses the value. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// It is not locked.
    #[inline]
    #[track_caller]
    pub fn lock(&self) -> LockResult<MutexGuard<'_, T, S>> {
        self.gate.acquire();
        self.enter()
    }

    /// As [`Mutex::lock`], if nobody uses the value.
    ///
    /// # Errors
    ///
    /// As [`std::sync::Mutex::try_lock`].
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn try_lock(&self) -> TryLockResult<MutexGuard<'_, T, S>> {
        if self.gate.try_acquire() { Ok(self.enter()?) } else { Err(TryLockError::WouldBlock) }
    }

    /// As [`Mutex::lock`], for at most `limit`.
    ///
    /// # Errors
    ///
    /// As [`std::sync::Mutex::try_lock`]; `WouldBlock` says that the limit has passed.
    ///
    /// # Panics
    ///
    /// As [`Mutex::lock`].
    ///
    /// # Switching
    ///
    /// Switches if somebody else uses the value, also for a limit of zero.
    ///
    /// # Cancellation
    ///
    /// It is not locked.
    #[track_caller]
    pub fn lock_timeout(&self, limit: Duration) -> TryLockResult<MutexGuard<'_, T, S>> {
        if self.gate.acquire_until(Deadline::after(limit)) {
            Ok(self.enter()?)
        } else {
            Err(TryLockError::WouldBlock)
        }
    }

    #[inline]
    fn enter(&self) -> LockResult<MutexGuard<'_, T, S>> {
        let gate = Pass(self);
        match self.value.try_lock() {
            Ok(value) => Ok(MutexGuard { value, gate }),
            Err(TryLockError::Poisoned(error)) => {
                Err(PoisonError::new(MutexGuard { value: error.into_inner(), gate }))
            }
            Err(TryLockError::WouldBlock) => unreachable!("one at a time passes the gate"),
        }
    }

    /// Whether a holder has panicked.
    pub fn is_poisoned(&self) -> bool {
        self.value.is_poisoned()
    }

    /// Says that the value is as it should be again.
    pub fn clear_poison(&self) {
        self.value.clear_poison();
    }

    /// The value, of a mutex that nobody else can reach.
    ///
    /// # Errors
    ///
    /// If it is poisoned; the error has the value.
    pub fn get_mut(&mut self) -> LockResult<&mut T> {
        self.value.get_mut()
    }
}

impl<'a, T: ?Sized, S: Sharing> MutexGuard<'a, T, S> {
    /// The mutex.
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

/// As of [`std::sync::Mutex`]: the value, if nobody uses it. It is locked meanwhile, so that others wait.
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
        // Who has only looked at the value does not poison it.
        drop(value);
        written.unwrap_or_else(|payload| resume_unwind(payload))
    }
}
