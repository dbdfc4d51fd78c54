#![forbid(unsafe_code)]
//! A reentrant lock.

use super::semaphore::Semaphore;
use super::sharing::{Local, Shared, Sharing, State};
use crate::hub::{self, Deadline};
use std::fmt;
use std::thread::{self, ThreadId};
use std::time::Duration;

/// A reentrant lock: the coroutine that holds it may take it again.
///
/// The lock is free when all its guards are dropped.
///
/// The owner is a coroutine, not a thread. Greenlets that it runs directly, and bodies of its generators,
/// count as the same owner.
///
/// # Examples
///
/// ```
/// use switchgrass::sync::RLock;
///
/// let lock = RLock::new();
/// let outer = lock.lock();
/// let inner = lock.lock();
/// assert_eq!(lock.depth(), 2);
/// drop((outer, inner));
/// assert_eq!(lock.depth(), 0);
/// ```
pub struct RLock<S: Sharing = Local> {
    gate: Semaphore<S>,
    owner: S::State<Option<(Owner, usize)>>,
}

/// A coroutine of any thread.
pub(super) type Owner = (ThreadId, u64);

fn me() -> Owner {
    (thread::current().id(), hub::current_task_id())
}

/// One level of a held [`RLock`]. When dropped, releases that level.
#[must_use = "if unused, the lock is released immediately"]
pub struct RLockGuard<'a, S: Sharing = Local> {
    lock: &'a RLock<S>,
    owner: Owner,
    /// A guard is released on its own thread.
    not_send: std::marker::PhantomData<*const ()>,
}

/// [`RLock::release`] was called by a coroutine that does not hold the lock.
///
/// The call had no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotOwned(());

impl fmt::Display for NotOwned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the lock is not held by the current coroutine, which therefore cannot release it",
        )
    }
}

impl std::error::Error for NotOwned {}

impl RLock<Local> {
    /// Creates a lock of this thread.
    pub fn new() -> Self {
        RLock { gate: Semaphore::with(1), owner: State::new(None) }
    }
}

impl Default for RLock<Local> {
    fn default() -> Self {
        Self::new()
    }
}

impl RLock<Shared> {
    /// Creates a lock that threads can share.
    pub fn shared() -> Self {
        RLock { gate: Semaphore::with(1), owner: State::new(None) }
    }
}

impl<S: Sharing> RLock<S> {
    /// Takes the lock, and waits until it is free if another coroutine holds it.
    ///
    /// If the current coroutine already holds it, the depth grows by one.
    ///
    /// # Panics
    ///
    /// Unwinds with any kill or timeout delivered to the current coroutine during the wait. In main, panics
    /// on deadlock: when nothing is left that can wake it.
    ///
    /// # Switching
    ///
    /// May switch: if another coroutine holds the lock. Any other coroutine may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The lock is not taken.
    #[track_caller]
    pub fn lock(&self) -> RLockGuard<'_, S> {
        self.guard(self.enter(|| self.gate.acquire()))
    }

    /// Takes the lock if no other coroutine holds it.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn try_lock(&self) -> Option<RLockGuard<'_, S>> {
        self.try_enter(|| self.gate.try_acquire()).map(|owner| self.guard(owner))
    }

    /// Takes the lock, and waits until it is free for at most `timeout`.
    ///
    /// Returns `None` if the timeout has passed.
    ///
    /// # Panics
    ///
    /// Panics like [`RLock::lock`].
    ///
    /// # Switching
    ///
    /// May switch: if another coroutine holds the lock, even for a timeout of zero. Any other coroutine may
    /// run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The lock is not taken.
    #[track_caller]
    pub fn lock_timeout(&self, timeout: Duration) -> Option<RLockGuard<'_, S>> {
        let deadline = Deadline::after(timeout);
        self.try_enter(|| self.gate.acquire_until(deadline)).map(|owner| self.guard(owner))
    }

    /// Takes the lock like [`RLock::lock`], but without a guard.
    ///
    /// Must be followed by one [`RLock::release`].
    ///
    /// # Panics
    ///
    /// Panics like [`RLock::lock`].
    ///
    /// # Switching
    ///
    /// May switch: if another coroutine holds the lock. Any other coroutine may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The lock is not taken.
    #[track_caller]
    pub fn acquire(&self) {
        self.enter(|| self.gate.acquire());
    }

    /// Releases one level that was taken by [`RLock::acquire`].
    ///
    /// # Errors
    ///
    /// Returns [`NotOwned`] if the current coroutine does not hold the lock.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn release(&self) -> Result<(), NotOwned> {
        let me = me();
        let depth = self.owner.with(|owner| match owner {
            Some((other, depth)) if *other == me => {
                *depth -= 1;
                Some(*depth)
            }
            _ => None,
        });
        match depth {
            None => Err(NotOwned(())),
            Some(0) => {
                self.leave();
                Ok(())
            }
            Some(_) => Ok(()),
        }
    }

    /// Returns the number of levels at which the current coroutine holds the lock.
    pub fn depth(&self) -> usize {
        let me = me();
        self.owner
            .with(|owner| owner.filter(|(other, _)| *other == me).map_or(0, |(_, depth)| depth))
    }

    /// Releases all levels for the duration of a wait, and returns their number.
    ///
    /// Returns `None` if `owner` is not the current coroutine, or does not hold the lock.
    pub(super) fn release_all_levels(&self, owner: Owner) -> Option<usize> {
        let me = me();
        let depth = self.owner.with(|held| match held {
            Some((other, depth)) if *other == me && owner == me => Some(*depth),
            _ => None,
        })?;
        self.leave();
        Some(depth)
    }

    /// Takes the lock again, at the given depth.
    #[track_caller]
    pub(super) fn reacquire(&self, depth: usize) -> RLockGuard<'_, S> {
        self.gate.acquire();
        let me = me();
        self.owner.with(|owner| *owner = Some((me, depth)));
        self.guard(me)
    }

    fn guard(&self, owner: Owner) -> RLockGuard<'_, S> {
        RLockGuard { lock: self, owner, not_send: std::marker::PhantomData }
    }

    /// Takes the lock for the current coroutine, and returns the owner.
    ///
    /// Calls `acquire` unless the coroutine already holds the lock.
    #[track_caller]
    fn enter(&self, acquire: impl FnOnce()) -> Owner {
        let owner = self.try_enter(|| {
            acquire();
            true
        });
        owner.expect("`acquire` has returned")
    }

    /// Like [`RLock::enter`], but `acquire` may fail.
    ///
    /// The owner is determined after the wait: if a generator waits here, another coroutine may be its
    /// consumer by then.
    #[track_caller]
    fn try_enter(&self, acquire: impl FnOnce() -> bool) -> Option<Owner> {
        let before = me();
        if self.enter_again(before) {
            return Some(before);
        }
        acquire().then(|| {
            let me = me();
            self.owner.with(|owner| *owner = Some((me, 1)));
            me
        })
    }

    fn enter_again(&self, me: Owner) -> bool {
        self.owner.with(|owner| match owner {
            Some((other, depth)) if *other == me => {
                *depth += 1;
                true
            }
            _ => false,
        })
    }

    fn leave(&self) {
        self.owner.with(|owner| *owner = None);
        self.gate.release();
    }
}

impl<'a, S: Sharing> RLockGuard<'a, S> {
    /// Returns the lock and the coroutine that holds it by this guard.
    pub(super) fn parts(guard: &Self) -> (&'a RLock<S>, Owner) {
        (guard.lock, guard.owner)
    }
}

impl<S: Sharing> Drop for RLockGuard<'_, S> {
    fn drop(&mut self) {
        // A guard that was moved to another coroutine still releases its owner's level, unless the owner
        // has released it without the guard.
        let is_free = self.lock.owner.with(|owner| match owner {
            Some((other, depth)) if *other == self.owner => {
                *depth -= 1;
                *depth == 0
            }
            _ => false,
        });
        if is_free {
            self.lock.leave();
        }
    }
}

impl<S: Sharing> fmt::Debug for RLock<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let depth = self.owner.with(|owner| owner.map_or(0, |(_, depth)| depth));
        f.debug_struct("RLock").field("depth", &depth).finish_non_exhaustive()
    }
}

impl<S: Sharing> fmt::Debug for RLockGuard<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RLockGuard").finish_non_exhaustive()
    }
}
