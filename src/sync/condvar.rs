#![forbid(unsafe_code)]
//! Waiting, with a lock, until something has changed.

use super::mutex::{Mutex, MutexGuard};
use super::rlock::RLockGuard;
use super::sharing::{Local, Shared, Sharing, State, Waker};
use super::wait::{Object, Place};
use super::wait_list::WaitList;
use crate::hub::Deadline;
use std::fmt;
use std::sync::{LockResult, PoisonError};
use std::time::Duration;

/// Where those wait who need a change of what a [`Mutex`], or an [`RLock`](super::RLock), protects. As
/// [`std::sync::Condvar`], but nobody is woken without a reason.
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

/// Who was notified together.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Notified {
    One,
    All,
}

/// A notification that one has, but has not gone on with yet. Dropped, it goes to the next that waits.
struct Pending<'a, S: Sharing>(&'a Condvar<S>, Notified);

impl<S: Sharing> Drop for Pending<'_, S> {
    fn drop(&mut self) {
        // Of all, everybody else has one as well.
        if self.1 == Notified::One {
            self.0.notify_one();
        }
    }
}

/// Whether a wait ended by its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    /// Whether it did.
    pub fn timed_out(&self) -> bool {
        self.0
    }
}

impl Condvar<Local> {
    /// One of this thread.
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
    /// One that threads can share, with a mutex that they share.
    pub fn shared() -> Self {
        Condvar { waiting: State::new(WaitList::new()) }
    }
}

impl<S: Sharing> Condvar<S> {
    /// Unlocks the mutex, waits until it is notified, and locks it again.
    ///
    /// # Errors
    ///
    /// If the mutex is poisoned; the error has the guard.
    ///
    /// # Panics
    ///
    /// With what is raised in the current coroutine meanwhile. In main, when nobody is left who could wake
    /// it.
    ///
    /// # Switching
    ///
    /// Always switches. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The mutex is not locked. A notification that had come goes to the next that waits.
    #[track_caller]
    pub fn wait<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T, S>,
    ) -> LockResult<MutexGuard<'a, T, S>> {
        self.wait_until(guard, None).0
    }

    /// As [`Condvar::wait`], while `condition` says so.
    ///
    /// # Errors
    ///
    /// As [`Condvar::wait`].
    ///
    /// # Panics
    ///
    /// As [`Condvar::wait`].
    ///
    /// # Switching
    ///
    /// Switches while the condition holds.
    ///
    /// # Cancellation
    ///
    /// As [`Condvar::wait`].
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

    /// As [`Condvar::wait`], for at most `limit`; then it waits for the mutex, as long as that takes.
    ///
    /// # Errors
    ///
    /// As [`Condvar::wait`].
    ///
    /// # Panics
    ///
    /// As [`Condvar::wait`].
    ///
    /// # Switching
    ///
    /// Always switches. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// As [`Condvar::wait`].
    #[track_caller]
    pub fn wait_timeout<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T, S>,
        limit: Duration,
    ) -> LockResult<(MutexGuard<'a, T, S>, WaitTimeoutResult)> {
        let (guard, timed_out) = self.wait_until(guard, Deadline::after(limit));
        match guard {
            Ok(guard) => Ok((guard, WaitTimeoutResult(timed_out))),
            Err(error) => Err(PoisonError::new((error.into_inner(), WaitTimeoutResult(timed_out)))),
        }
    }

    /// As [`Condvar::wait`], with a lock that the current coroutine may hold several times: all levels are
    /// released, and taken again.
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
    /// As [`Condvar::wait`]. If the guard came from another coroutine, or the lock was released without it:
    /// then the current coroutine does not hold it by this guard.
    ///
    /// # Switching
    ///
    /// As [`Condvar::wait`].
    ///
    /// # Cancellation
    ///
    /// The lock is not held at any level: other guards of it that the coroutine has have no effect any
    /// more. A notification that had come goes to the next that waits.
    #[track_caller]
    pub fn wait_reentrant<'a>(&self, guard: RLockGuard<'a, S>) -> RLockGuard<'a, S> {
        self.wait_reentrant_until(guard, None).0
    }

    /// As [`Condvar::wait_reentrant`], for at most `limit`; then it waits for the lock, as long as that
    /// takes.
    ///
    /// # Panics
    ///
    /// As [`Condvar::wait_reentrant`].
    ///
    /// # Switching
    ///
    /// As [`Condvar::wait`].
    ///
    /// # Cancellation
    ///
    /// As [`Condvar::wait_reentrant`].
    #[track_caller]
    pub fn wait_reentrant_timeout<'a>(
        &self,
        guard: RLockGuard<'a, S>,
        limit: Duration,
    ) -> (RLockGuard<'a, S>, WaitTimeoutResult) {
        let (guard, timed_out) = self.wait_reentrant_until(guard, Deadline::after(limit));
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
            let depth = lock.leave_for_now(owner);
            let depth =
                depth.expect("the guard is not of the current coroutine: lock the lock here");
            // Its level is among those that were given up.
            std::mem::forget(guard);
            depth
        };
        self.wait_without(release, |depth| lock.come_back(depth), deadline)
    }

    fn wait_until<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T, S>,
        deadline: Option<Deadline>,
    ) -> (LockResult<MutexGuard<'a, T, S>>, bool) {
        let mutex: &Mutex<T, S> = MutexGuard::mutex(&guard);
        self.wait_without(|| drop(guard), |()| mutex.lock(), deadline)
    }

    /// Waits without a lock, which is released when this has entered the list, and then locked again. Also
    /// returns whether the limit has passed.
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
        let place = Place::enter(object, |waker| waker, |notified| drop(pending(notified)));
        let released = release();
        let pending = place.wait(deadline).ok().map(pending);
        let timed_out = pending.is_none();
        let guard = lock(released);
        std::mem::forget(pending);
        (guard, timed_out)
    }

    /// Wakes the one that has waited longest.
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

    /// Wakes all that wait now, in the order of waiting.
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
