#![forbid(unsafe_code)]
//! A lock for many readers or one writer.

use super::sharing::{Local, Shared, Sharing, State, Waker};
use super::wait::{Object, wait};
use super::wait_list::{WaitList, Waiter};
use crate::hub::Deadline;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{self, LockResult, PoisonError, TryLockError, TryLockResult};
use std::time::Duration;

/// A lock for many readers or one writer, whose guards may be held across switches.
///
/// Like [`std::sync::RwLock`], it is poisoned by a writer that panics or is killed.
///
/// The lock is fair: readers and writers are admitted in order, adjacent readers together. So a reader that
/// reads again while a writer is waiting deadlocks.
///
/// # Examples
///
/// ```
/// use switchgrass::sync::RwLock;
///
/// let lock = RwLock::new(5);
/// {
///     let (a, b) = (lock.read().unwrap(), lock.read().unwrap());
///     assert_eq!(*a + *b, 10);
///     assert!(lock.try_write().is_err());
/// }
/// *lock.write().unwrap() += 1;
/// ```
pub struct RwLock<T: ?Sized, S: Sharing = Local> {
    gate: S::State<Gate<S>>,
    /// Holds the value and the poison flag. Only coroutines that have passed the gate lock it, so this
    /// never blocks.
    value: sync::RwLock<T>,
}

/// The holders of the lock, and its waiters.
struct Gate<S: Sharing> {
    readers: usize,
    is_written: bool,
    waiting: WaitList<Entry<S>>,
}

/// A waiter.
struct Entry<S: Sharing> {
    waker: S::Waker,
    role: Role,
}

impl<S: Sharing> Waiter for Entry<S> {
    #[inline]
    fn is_left_behind(&self) -> bool {
        self.waker.is_left_behind()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Reader,
    Writer,
}

impl<S: Sharing> Gate<S> {
    fn waiting(&mut self) -> &mut WaitList<Entry<S>> {
        &mut self.waiting
    }

    /// Admits a new arrival, unless others are waiting.
    fn enter(&mut self, role: Role) -> Option<()> {
        if self.waiting.is_empty() { self.let_in(role) } else { None }
    }

    fn let_in(&mut self, role: Role) -> Option<()> {
        match role {
            Role::Reader if !self.is_written => self.readers += 1,
            Role::Writer if !self.is_written && self.readers == 0 => self.is_written = true,
            _ => return None,
        }
        Some(())
    }

    /// Admits waiters in order, as far as possible. Returns their wakers.
    fn advance(&mut self) -> Vec<S::Waker> {
        let mut wakers = Vec::new();
        while let Some(role) = self.waiting.first_mut().map(|entry| entry.role) {
            if self.let_in(role).is_none() {
                break;
            }
            wakers.extend(self.waiting.grant(()).map(|entry| entry.waker));
        }
        wakers
    }

    fn leave(&mut self, role: Role) -> Vec<S::Waker> {
        match role {
            Role::Reader => self.readers -= 1,
            Role::Writer => self.is_written = false,
        }
        self.advance()
    }
}

/// The right to read the value of a [`RwLock`]. Released when dropped.
#[must_use = "if unused, the lock is released immediately"]
pub struct RwLockReadGuard<'a, T: ?Sized, S: Sharing = Local> {
    /// Declared first, so dropped before the gate opens.
    value: sync::RwLockReadGuard<'a, T>,
    _pass: GateGuard<'a, T, S>,
}

/// The right to read and write the value of a [`RwLock`]. Released when dropped.
#[must_use = "if unused, the lock is released immediately"]
pub struct RwLockWriteGuard<'a, T: ?Sized, S: Sharing = Local> {
    value: sync::RwLockWriteGuard<'a, T>,
    _pass: GateGuard<'a, T, S>,
}

/// Leaves the gate when dropped.
struct GateGuard<'a, T: ?Sized, S: Sharing>(&'a RwLock<T, S>, Role);

impl<T: ?Sized, S: Sharing> Drop for GateGuard<'_, T, S> {
    fn drop(&mut self) {
        self.0.leave(self.1);
    }
}

impl<T> RwLock<T, Local> {
    /// Creates a lock of this thread.
    pub fn new(value: T) -> Self {
        Self::open(value)
    }
}

impl<T> RwLock<T, Shared> {
    /// Creates a lock that threads can share.
    pub fn shared(value: T) -> Self {
        Self::open(value)
    }
}

impl<T: Default> Default for RwLock<T, Local> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T, S: Sharing> RwLock<T, S> {
    fn open(value: T) -> Self {
        let gate = Gate { readers: 0, is_written: false, waiting: WaitList::new() };
        RwLock { gate: State::new(gate), value: sync::RwLock::new(value) }
    }

    /// Consumes the lock and returns the value.
    ///
    /// # Errors
    ///
    /// Returns an error that holds the value if the lock is poisoned.
    pub fn into_inner(self) -> LockResult<T> {
        self.value.into_inner()
    }
}

impl<T: ?Sized, S: Sharing> RwLock<T, S> {
    /// Locks for reading; waits while a writer holds the lock or others wait.
    ///
    /// # Errors
    ///
    /// Returns an error that holds the guard if the lock is poisoned: a writer has panicked.
    ///
    /// # Panics
    ///
    /// Unwinds with any kill or timeout delivered to the current coroutine during the wait. In main, panics
    /// on deadlock: when nothing is left that can wake it.
    ///
    /// # Switching
    ///
    /// May switch: if a writer holds the lock or others are waiting. Any other coroutine may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The lock is not taken.
    #[track_caller]
    pub fn read(&self) -> LockResult<RwLockReadGuard<'_, T, S>> {
        self.pass(Role::Reader, "RwLock::read", None);
        self.reader()
    }

    /// Locks for reading, unless a writer holds the lock or others are waiting.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`std::sync::RwLock::try_read`]: `WouldBlock` if it would have to wait,
    /// `Poisoned` if a writer has panicked.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn try_read(&self) -> TryLockResult<RwLockReadGuard<'_, T, S>> {
        match self.gate.with(|gate| gate.enter(Role::Reader)) {
            Some(()) => Ok(self.reader()?),
            None => Err(TryLockError::WouldBlock),
        }
    }

    /// Locks for reading, and waits for at most `timeout`.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`std::sync::RwLock::try_read`]: `WouldBlock` if the timeout has passed,
    /// `Poisoned` if a writer has panicked.
    ///
    /// # Panics
    ///
    /// Panics like [`RwLock::read`].
    ///
    /// # Switching
    ///
    /// May switch: if a writer holds the lock or others are waiting, even for a timeout of zero. Any other
    /// coroutine may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The lock is not taken.
    #[track_caller]
    pub fn read_timeout(&self, timeout: Duration) -> TryLockResult<RwLockReadGuard<'_, T, S>> {
        if self.pass(Role::Reader, "RwLock::read", Deadline::after(timeout)) {
            Ok(self.reader()?)
        } else {
            Err(TryLockError::WouldBlock)
        }
    }

    /// Locks for writing, and waits while the lock is held or others are waiting.
    ///
    /// # Errors
    ///
    /// Returns an error that holds the guard if the lock is poisoned: a writer has panicked.
    ///
    /// # Panics
    ///
    /// Panics like [`RwLock::read`].
    ///
    /// # Switching
    ///
    /// May switch: if the lock is held or others are waiting. Any other coroutine may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The lock is not taken.
    #[track_caller]
    pub fn write(&self) -> LockResult<RwLockWriteGuard<'_, T, S>> {
        self.pass(Role::Writer, "RwLock::write", None);
        self.writer()
    }

    /// Locks for writing, unless the lock is held or others are waiting.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`std::sync::RwLock::try_write`]: `WouldBlock` if it would have to wait,
    /// `Poisoned` if a writer has panicked.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn try_write(&self) -> TryLockResult<RwLockWriteGuard<'_, T, S>> {
        match self.gate.with(|gate| gate.enter(Role::Writer)) {
            Some(()) => Ok(self.writer()?),
            None => Err(TryLockError::WouldBlock),
        }
    }

    /// Locks for writing, and waits for at most `timeout`.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`std::sync::RwLock::try_write`]: `WouldBlock` if the timeout has passed,
    /// `Poisoned` if a writer has panicked.
    ///
    /// # Panics
    ///
    /// Panics like [`RwLock::read`].
    ///
    /// # Switching
    ///
    /// May switch: if the lock is held or others are waiting, even for a timeout of zero. Any other
    /// coroutine may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The lock is not taken.
    #[track_caller]
    pub fn write_timeout(&self, timeout: Duration) -> TryLockResult<RwLockWriteGuard<'_, T, S>> {
        if self.pass(Role::Writer, "RwLock::write", Deadline::after(timeout)) {
            Ok(self.writer()?)
        } else {
            Err(TryLockError::WouldBlock)
        }
    }

    /// Whether the lock is poisoned: a writer has panicked.
    pub fn is_poisoned(&self) -> bool {
        self.value.is_poisoned()
    }

    /// Clears the poison, to declare the value consistent again.
    pub fn clear_poison(&self) {
        self.value.clear_poison();
    }

    fn pass(&self, role: Role, purpose: &'static str, deadline: Option<Deadline>) -> bool {
        let object = Object::<S, _, _, _> { state: &self.gate, list: Gate::waiting, purpose };
        let enter = |waker| Entry { waker, role };
        let attempt = |gate: &mut Gate<S>| gate.enter(role);
        // A waiting writer that gives up may have blocked the waiters behind it: admit them.
        let mut advance = Advance(Some(self));
        let has_entered = wait(object, deadline, attempt, enter, |()| self.leave(role)).is_ok();
        if has_entered {
            advance.0 = None;
        }
        has_entered
    }

    fn leave(&self, role: Role) {
        let wakers = self.gate.with(|gate| gate.leave(role));
        wakers.into_iter().for_each(Waker::wake);
    }

    fn reader(&self) -> LockResult<RwLockReadGuard<'_, T, S>> {
        let pass = GateGuard(self, Role::Reader);
        match self.value.try_read() {
            Ok(value) => Ok(RwLockReadGuard { value, _pass: pass }),
            Err(TryLockError::Poisoned(error)) => {
                Err(PoisonError::new(RwLockReadGuard { value: error.into_inner(), _pass: pass }))
            }
            Err(TryLockError::WouldBlock) => {
                unreachable!("the gate admits no coroutine that would block")
            }
        }
    }

    fn writer(&self) -> LockResult<RwLockWriteGuard<'_, T, S>> {
        let pass = GateGuard(self, Role::Writer);
        match self.value.try_write() {
            Ok(value) => Ok(RwLockWriteGuard { value, _pass: pass }),
            Err(TryLockError::Poisoned(error)) => {
                Err(PoisonError::new(RwLockWriteGuard { value: error.into_inner(), _pass: pass }))
            }
            Err(TryLockError::WouldBlock) => {
                unreachable!("the gate admits no coroutine that would block")
            }
        }
    }
}

/// Admits waiters, as far as possible, when dropped.
struct Advance<'a, T: ?Sized, S: Sharing>(Option<&'a RwLock<T, S>>);

impl<T: ?Sized, S: Sharing> Drop for Advance<'_, T, S> {
    fn drop(&mut self) {
        if let Some(lock) = self.0 {
            lock.gate.with(Gate::advance).into_iter().for_each(Waker::wake);
        }
    }
}

impl<T: ?Sized, S: Sharing> Deref for RwLockReadGuard<'_, T, S> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: ?Sized, S: Sharing> Deref for RwLockWriteGuard<'_, T, S> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: ?Sized, S: Sharing> DerefMut for RwLockWriteGuard<'_, T, S> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T: ?Sized + fmt::Debug, S: Sharing> fmt::Debug for RwLockReadGuard<'_, T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl<T: ?Sized + fmt::Debug, S: Sharing> fmt::Debug for RwLockWriteGuard<'_, T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

/// Shows the value if it is not locked for writing, like [`std::sync::RwLock`].
///
/// Shows no value while others wait, either. The lock is held for reading meanwhile.
impl<T: ?Sized + fmt::Debug, S: Sharing> fmt::Debug for RwLock<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = match self.try_read() {
            Ok(value) => Some(value),
            Err(TryLockError::Poisoned(error)) => Some(error.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        };
        let mut f = f.debug_struct("RwLock");
        match &value {
            Some(value) => f.field("data", &&**value),
            None => f.field("data", &format_args!("<locked>")),
        };
        f.field("poisoned", &self.is_poisoned()).finish_non_exhaustive()
    }
}
