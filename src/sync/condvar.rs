#![forbid(unsafe_code)]
//! Condition variables.

use super::mutex::{Mutex, MutexGuard};
use super::rlock::RLockGuard;
use super::sharing::{Local, Shared, Sharing, State, Waker};
use super::wait::{ListEntry, Object};
use super::wait_list::WaitList;
use crate::hub::Deadline;
use std::fmt;
use std::sync::{LockResult, PoisonError};
use std::time::Duration;

/// A condition variable for a [`Mutex`] or an [`RLock`](super::RLock).
///
/// Like [`std::sync::Condvar`], but without spurious wake-ups.
///
/// # Examples
///
/// ```
/// use std::rc::Rc;
/// use switchgrass::{spawn, sync::{Condvar, Mutex}};
///
/// let pair = Rc::new((Mutex::new(false), Condvar::new()));
/// let other = Rc::clone(&pair);
/// spawn(move || {
///     *other.0.lock().unwrap() = true;
///     other.1.notify_one();
/// });
/// let mut started = pair.0.lock().unwrap();
/// while !*started {
///     started = pair.1.wait(started).unwrap();
/// }
/// ```
pub struct Condvar<S: Sharing = Local> {
    waiting: S::State<WaitList<S::Waker, Notified>>,
}

/// The kind of notification that a waiter has received.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Notified {
    One,
    All,
}

/// A received notification whose waiter has not resumed.
///
/// When dropped, it goes to the next waiter.
struct Pending<'a, S: Sharing>(&'a Condvar<S>, Notified);

impl<S: Sharing> Drop for Pending<'_, S> {
    fn drop(&mut self) {
        // After `notify_all`, each other waiter has a notification of its own.
        if self.1 == Notified::One {
            self.0.notify_one();
        }
    }
}

/// Whether a wait ended by its timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    /// Whether the wait timed out.
    pub fn timed_out(&self) -> bool {
        self.0
    }
}

impl Condvar<Local> {
    /// Creates a condition variable of this thread.
    pub fn new() -> Self {
        Condvar { waiting: State::new(WaitList::new()) }
    }
}

impl Default for Condvar<Local> {
    fn default() -> Self {
        Self::new()
    }
}

impl Condvar<Shared> {
    /// Creates a condition variable that threads can share, for a shared mutex.
    pub fn shared() -> Self {
        Condvar { waiting: State::new(WaitList::new()) }
    }
}

impl<S: Sharing> Condvar<S> {
    /// Unlocks the mutex, waits for a notification, and locks the mutex again.
    ///
    /// # Errors
    ///
    /// Returns an error that holds the guard if the mutex is poisoned.
    ///
    /// # Panics
    ///
    /// Unwinds with any kill or timeout delivered to the current coroutine during the wait. In main, panics
    /// on deadlock: when nothing is left that can wake it.
    ///
    /// # Switching
    ///
    /// Always switches: any other coroutine may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The mutex is not locked. A notification that was received goes to the next waiter.
    #[track_caller]
    pub fn wait<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T, S>,
    ) -> LockResult<MutexGuard<'a, T, S>> {
        self.wait_until(guard, None).0
    }

    /// Waits while `condition` returns `true`.
    ///
    /// The condition is evaluated with the mutex locked.
    ///
    /// # Errors
    ///
    /// Returns an error that holds the guard if the mutex is poisoned.
    ///
    /// # Panics
    ///
    /// Panics like [`Condvar::wait`]. Propagates panics of `condition`.
    ///
    /// # Switching
    ///
    /// May switch: if the condition holds. Any other coroutine may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The mutex is not locked. A notification that was received goes to the next waiter.
    #[track_caller]
    pub fn wait_while<'a, T: ?Sized>(
        &self,
        mut guard: MutexGuard<'a, T, S>,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> LockResult<MutexGuard<'a, T, S>> {
        while condition(&mut guard) {
            guard = self.wait(guard)?;
        }
        Ok(guard)
    }

    /// Like [`Condvar::wait`], but waits for a notification for at most `timeout`.
    ///
    /// The timeout does not cover locking the mutex again afterwards.
    ///
    /// # Errors
    ///
    /// Returns an error that holds the guard and the result if the mutex is poisoned.
    ///
    /// # Panics
    ///
    /// Panics like [`Condvar::wait`].
    ///
    /// # Switching
    ///
    /// Always switches: any other coroutine may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The mutex is not locked. A notification that was received goes to the next waiter.
    #[track_caller]
    pub fn wait_timeout<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T, S>,
        timeout: Duration,
    ) -> LockResult<(MutexGuard<'a, T, S>, WaitTimeoutResult)> {
        let (guard, timed_out) = self.wait_until(guard, Deadline::after(timeout));
        match guard {
            Ok(guard) => Ok((guard, WaitTimeoutResult(timed_out))),
            Err(error) => Err(PoisonError::new((error.into_inner(), WaitTimeoutResult(timed_out)))),
        }
    }

    /// Like [`Condvar::wait`], but for a reentrant lock.
    ///
    /// All levels at which the current coroutine holds the lock are released during the wait.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::cell::Cell;
    /// use std::rc::Rc;
    /// use switchgrass::{spawn, sync::{Condvar, RLock}};
    ///
    /// let shared = Rc::new((RLock::new(), Condvar::new(), Cell::new(false)));
    /// let other = Rc::clone(&shared);
    /// spawn(move || {
    ///     let _guard = other.0.lock();
    ///     other.2.set(true);
    ///     other.1.notify_one();
    /// });
    /// let (lock, condvar, started) = &*shared;
    /// let _outer = lock.lock();
    /// let mut inner = lock.lock();
    /// while !started.get() {
    ///     inner = condvar.wait_reentrant(inner);
    /// }
    /// assert_eq!(lock.depth(), 2);
    /// ```
    ///
    /// # Panics
    ///
    /// Panics like [`Condvar::wait`]. Also panics if the current coroutine does not hold the lock by this
    /// guard: the guard came from another coroutine, or the lock was released without it.
    ///
    /// # Switching
    ///
    /// Always switches: any other coroutine may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The lock is not held at any level; other guards of it in this coroutine have no effect any more. A
    /// notification that was received goes to the next waiter.
    #[track_caller]
    pub fn wait_reentrant<'a>(&self, guard: RLockGuard<'a, S>) -> RLockGuard<'a, S> {
        self.wait_reentrant_until(guard, None).0
    }

    /// Like [`Condvar::wait_reentrant`], but waits for at most `timeout`.
    ///
    /// The timeout does not cover locking the lock again afterwards.
    ///
    /// # Panics
    ///
    /// Panics like [`Condvar::wait_reentrant`].
    ///
    /// # Switching
    ///
    /// Always switches: any other coroutine may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The lock is not held at any level; other guards of it in this coroutine have no effect any more. A
    /// notification that was received goes to the next waiter.
    #[track_caller]
    pub fn wait_reentrant_timeout<'a>(
        &self,
        guard: RLockGuard<'a, S>,
        timeout: Duration,
    ) -> (RLockGuard<'a, S>, WaitTimeoutResult) {
        let (guard, timed_out) = self.wait_reentrant_until(guard, Deadline::after(timeout));
        (guard, WaitTimeoutResult(timed_out))
    }

    #[track_caller]
    fn wait_reentrant_until<'a>(
        &self,
        guard: RLockGuard<'a, S>,
        deadline: Option<Deadline>,
    ) -> (RLockGuard<'a, S>, bool) {
        let (lock, owner) = RLockGuard::parts(&guard);
        let release = || {
            let depth = lock.release_all_levels(owner);
            let depth = depth.expect(
                "the current coroutine does not hold the lock by this guard: lock it in this one",
            );
            // The guard's level is among those that were released.
            std::mem::forget(guard);
            depth
        };
        self.wait_without(release, |depth| lock.reacquire(depth), deadline)
    }

    fn wait_until<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T, S>,
        deadline: Option<Deadline>,
    ) -> (LockResult<MutexGuard<'a, T, S>>, bool) {
        let mutex: &Mutex<T, S> = MutexGuard::mutex(&guard);
        self.wait_without(|| drop(guard), |()| mutex.lock(), deadline)
    }

    /// Releases a lock, waits for a notification, and locks again.
    ///
    /// Also returns whether the wait timed out.
    ///
    /// The lock is released after the list is entered, so no notification in between is missed.
    fn wait_without<R, G>(
        &self,
        release: impl FnOnce() -> R,
        lock: impl FnOnce(R) -> G,
        deadline: Option<Deadline>,
    ) -> (G, bool) {
        let object = Object::<S, _, _, _> {
            state: &self.waiting,
            list: |waiting| waiting,
            purpose: "Condvar::wait",
        };
        let pending = |notified| Pending(self, notified);
        let entry = ListEntry::enter(object, |waker| waker, |notified| drop(pending(notified)));
        let released = release();
        let pending = entry.wait(deadline).ok().map(pending);
        let timed_out = pending.is_none();
        let guard = lock(released);
        std::mem::forget(pending);
        (guard, timed_out)
    }

    /// Wakes the waiter that has waited longest.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn notify_one(&self) {
        let waker = self.waiting.with(|waiting| waiting.grant(Notified::One));
        if let Ok(waker) = waker {
            waker.wake();
        }
    }

    /// Wakes all current waiters, in order.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn notify_all(&self) {
        let wakers = self.waiting.with(|waiting| waiting.grant_all(|| Notified::All));
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl<S: Sharing> fmt::Debug for Condvar<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condvar").finish_non_exhaustive()
    }
}
