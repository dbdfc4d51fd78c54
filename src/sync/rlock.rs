#![forbid(unsafe_code)]
//! A lock that its owner may take again.

use super::semaphore::Semaphore;
use super::sharing::{Local, Shared, Sharing, State};
use crate::hub::{self, Deadline};
use std::fmt;
use std::thread::{self, ThreadId};
use std::time::Duration;

/// A lock that the coroutine that has it may take again: it is free when every guard is gone.
///
/// The owner is a coroutine, not a thread: with a greenlet that it runs by hand, and with a generator's body,
/// it is the same owner.
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

/// A coroutine, of whichever thread.
pub(super) type Owner = (ThreadId, u64);

fn me() -> Owner {
    (thread::current().id(), hub::current_task_id())
}

/// The lock, held. Dropped, it is held once less.
#[must_use = "dropped, it unlocks at once"]
pub struct RLockGuard<'a, S: Sharing = Local> {
    lock: &'a RLock<S>,
    owner: Owner,
    /// It is released on its thread.
    here: std::marker::PhantomData<*const ()>,
}

/// [`RLock::release`] was called by one that does not have the lock. It had no effect.
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
    /// A lock of this thread.
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
    /// A lock that threads can share.
    pub fn shared() -> Self {
        RLock { gate: Semaphore::with(1), owner: State::new(None) }
    }
}

impl<S: Sharing> RLock<S> {
    /// Takes the lock, once more if the current coroutine has it.
    ///
    /// # Panics
    ///
    /// With what is raised in the current coroutine meanwhile. In main, when nobody is left who could wake
    /// it.
    ///
    /// # Switching
    ///
    /// Switches if another has it. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// It is not taken.
    #[track_caller]
    pub fn lock(&self) -> RLockGuard<'_, S> {
        self.guard(self.enter(|| self.gate.acquire()))
    }

    /// As [`RLock::lock`], if no other has it.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn try_lock(&self) -> Option<RLockGuard<'_, S>> {
        self.try_enter(|| self.gate.try_acquire()).map(|owner| self.guard(owner))
    }

    /// As [`RLock::lock`], for at most `limit`. `None` when that has passed.
    ///
    /// # Panics
    ///
    /// As [`RLock::lock`].
    ///
    /// # Switching
    ///
    /// Switches if another has it, also for a limit of zero.
    ///
    /// # Cancellation
    ///
    /// It is not taken.
    #[track_caller]
    pub fn lock_timeout(&self, limit: Duration) -> Option<RLockGuard<'_, S>> {
        let deadline = Deadline::after(limit);
        self.try_enter(|| self.gate.acquire_until(deadline)).map(|owner| self.guard(owner))
    }

    /// As [`RLock::lock`], to be followed by one [`RLock::release`].
    ///
    /// # Panics
    ///
    /// As [`RLock::lock`].
    ///
    /// # Switching
    ///
    /// As [`RLock::lock`].
    ///
    /// # Cancellation
    ///
    /// It is not taken.
    #[track_caller]
    pub fn acquire(&self) {
        self.enter(|| self.gate.acquire());
    }

    /// Gives back what [`RLock::acquire`] has taken.
    ///
    /// # Errors
    ///
    /// If the current coroutine does not have it.
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

    /// How often the current coroutine has it.
    pub fn depth(&self) -> usize {
        let me = me();
        self.owner
            .with(|owner| owner.filter(|(other, _)| *other == me).map_or(0, |(_, depth)| depth))
    }

    /// Gives up all levels of it, for the time of a wait. `None` if `owner` is not the current coroutine, or
    /// does not have it.
    pub(super) fn leave_for_now(&self, owner: Owner) -> Option<usize> {
        let me = me();
        let depth = self.owner.with(|held| match held {
            Some((other, depth)) if *other == me && owner == me => Some(*depth),
            _ => None,
        })?;
        self.leave();
        Some(depth)
    }

    /// Takes all levels of it again.
    #[track_caller]
    pub(super) fn come_back(&self, depth: usize) -> RLockGuard<'_, S> {
        self.gate.acquire();
        let me = me();
        self.owner.with(|owner| *owner = Some((me, depth)));
        self.guard(me)
    }

    fn guard(&self, owner: Owner) -> RLockGuard<'_, S> {
        RLockGuard { lock: self, owner, here: std::marker::PhantomData }
    }

    /// Takes the lock for the current coroutine, by `acquire` if it has not taken it already. Returns the
    /// owner.
    #[track_caller]
    fn enter(&self, acquire: impl FnOnce()) -> Owner {
        let owner = self.try_enter(|| {
            acquire();
            true
        });
        owner.expect("`acquire` has returned")
    }

    /// As [`RLock::enter`], by what may fail. The one that owns it is asked for after the wait: meanwhile
    /// the consumer of a generator that waits here may be another.
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
    /// The lock, and the coroutine that has it by this.
    pub(super) fn parts(guard: &Self) -> (&'a RLock<S>, Owner) {
        (guard.lock, guard.owner)
    }
}

impl<S: Sharing> Drop for RLockGuard<'_, S> {
    fn drop(&mut self) {
        // Also if it was moved to another coroutine; but not if the one that took the lock has released it
        // without this guard.
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
