#![forbid(unsafe_code)]
//! Many readers or one writer.

use super::sharing::{Local, Shared, Sharing, State, Waker};
use super::wait::{Object, wait};
use super::wait_list::{WaitList, Waiter};
use crate::hub::Deadline;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{self, LockResult, PoisonError, TryLockError, TryLockResult};
use std::time::Duration;

/// A value that many may read at a time, or one may change, also over switches. As [`std::sync::RwLock`]: a
/// writer that panics, or is killed, poisons it.
///
/// Readers and writers get it in the order of waiting; readers next to each other together. So who reads
/// must not read again while somebody waits to write.
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
    /// Locked by those who have passed the gate, so never waited for. It knows of poison.
    value: sync::RwLock<T>,
}

/// Who is in, and who waits.
struct Gate<S: Sharing> {
    readers: usize,
    is_written: bool,
    waiting: WaitList<Entry<S>>,
}

/// One that waits.
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

    /// Lets one in that has just come, if nobody waits before it.
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

    /// Lets in those that wait, as far as that goes.
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

/// The right to read the value of a [`RwLock`]. Dropped, it is given up.
#[must_use = "dropped, it unlocks at once"]
pub struct RwLockReadGuard<'a, T: ?Sized, S: Sharing = Local> {
    /// Declared first, so that it is dropped before the gate opens.
    value: sync::RwLockReadGuard<'a, T>,
    _pass: Pass<'a, T, S>,
}

/// The right to change the value of a [`RwLock`]. Dropped, it is given up.
#[must_use = "dropped, it unlocks at once"]
pub struct RwLockWriteGuard<'a, T: ?Sized, S: Sharing = Local> {
    value: sync::RwLockWriteGuard<'a, T>,
    _pass: Pass<'a, T, S>,
}

/// Leaves the gate when it is dropped.
struct Pass<'a, T: ?Sized, S: Sharing>(&'a RwLock<T, S>, Role);

impl<T: ?Sized, S: Sharing> Drop for Pass<'_, T, S> {
    fn drop(&mut self) {
        self.0.leave(self.1);
    }
}

impl<T> RwLock<T, Local> {
    /// A lock of this thread.
    pub fn new(value: T) -> Self {
        Self::open(value)
    }
}

impl<T> RwLock<T, Shared> {
    /// A lock that threads can share.
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

    /// The value.
    ///
    /// # Errors
    ///
    /// If it is poisoned; the error has the value.
    pub fn into_inner(self) -> LockResult<T> {
        self.value.into_inner()
    }
}

impl<T: ?Sized, S: Sharing> RwLock<T, S> {
    /// Waits until nobody changes the value, nor waits to.
    ///
    /// # Errors
    ///
    /// If a writer has panicked; the error has the guard.
    ///
    /// # Panics
    ///
    /// With what is raised in the current coroutine meanwhile. In main, when nobody is left who could wake
    /// it.
    ///
    /// # Switching
    ///
    /// Switches if somebody writes or waits. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// It is not locked.
    #[track_caller]
    pub fn read(&self) -> LockResult<RwLockReadGuard<'_, T, S>> {
        self.pass(Role::Reader, "RwLock::read", None);
        self.reader()
    }

    /// As [`RwLock::read`], if nobody changes the value, nor waits.
    ///
    /// # Errors
    ///
    /// As [`std::sync::RwLock::try_read`].
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

    /// As [`RwLock::read`], for at most `limit`.
    ///
    /// # Errors
    ///
    /// As [`std::sync::RwLock::try_read`]; `WouldBlock` says that the limit has passed.
    ///
    /// # Panics
    ///
    /// As [`RwLock::read`].
    ///
    /// # Switching
    ///
    /// As [`RwLock::read`], also for a limit of zero.
    ///
    /// # Cancellation
    ///
    /// It is not locked.
    #[track_caller]
    pub fn read_timeout(&self, limit: Duration) -> TryLockResult<RwLockReadGuard<'_, T, S>> {
        if self.pass(Role::Reader, "RwLock::read", Deadline::after(limit)) {
            Ok(self.reader()?)
        } else {
            Err(TryLockError::WouldBlock)
        }
    }

    /// Waits until nobody else uses the value.
    ///
    /// # Errors
    ///
    /// As [`RwLock::read`].
    ///
    /// # Panics
    ///
    /// As [`RwLock::read`].
    ///
    /// # Switching
    ///
    /// Switches if somebody reads, writes or waits. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// It is not locked.
    #[track_caller]
    pub fn write(&self) -> LockResult<RwLockWriteGuard<'_, T, S>> {
        self.pass(Role::Writer, "RwLock::write", None);
        self.writer()
    }

    /// As [`RwLock::write`], if nobody uses the value.
    ///
    /// # Errors
    ///
    /// As [`std::sync::RwLock::try_write`].
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

    /// As [`RwLock::write`], for at most `limit`.
    ///
    /// # Errors
    ///
    /// As [`std::sync::RwLock::try_write`]; `WouldBlock` says that the limit has passed.
    ///
    /// # Panics
    ///
    /// As [`RwLock::read`].
    ///
    /// # Switching
    ///
    /// As [`RwLock::write`], also for a limit of zero.
    ///
    /// # Cancellation
    ///
    /// It is not locked.
    #[track_caller]
    pub fn write_timeout(&self, limit: Duration) -> TryLockResult<RwLockWriteGuard<'_, T, S>> {
        if self.pass(Role::Writer, "RwLock::write", Deadline::after(limit)) {
            Ok(self.writer()?)
        } else {
            Err(TryLockError::WouldBlock)
        }
    }

    /// Whether a writer has panicked.
    pub fn is_poisoned(&self) -> bool {
        self.value.is_poisoned()
    }

    /// Says that the value is as it should be again.
    pub fn clear_poison(&self) {
        self.value.clear_poison();
    }

    fn pass(&self, role: Role, purpose: &'static str, deadline: Option<Deadline>) -> bool {
        let object = Object::<S, _, _, _> { state: &self.gate, list: Gate::waiting, purpose };
        let enter = |waker| Entry { waker, role };
        let attempt = |gate: &mut Gate<S>| gate.enter(role);
        // One that waits to write, and gives up, has held up those behind it.
        let mut advance = Advance(Some(self));
        let has = wait(object, deadline, attempt, enter, |()| self.leave(role)).is_ok();
        if has {
            advance.0 = None;
        }
        has
    }

    fn leave(&self, role: Role) {
        let wakers = self.gate.with(|gate| gate.leave(role));
        wakers.into_iter().for_each(Waker::wake);
    }

    fn reader(&self) -> LockResult<RwLockReadGuard<'_, T, S>> {
        let pass = Pass(self, Role::Reader);
        match self.value.try_read() {
            Ok(value) => Ok(RwLockReadGuard { value, _pass: pass }),
            Err(TryLockError::Poisoned(error)) => {
                Err(PoisonError::new(RwLockReadGuard { value: error.into_inner(), _pass: pass }))
            }
            Err(TryLockError::WouldBlock) => unreachable!("the gate lets nobody in who would wait"),
        }
    }

    fn writer(&self) -> LockResult<RwLockWriteGuard<'_, T, S>> {
        let pass = Pass(self, Role::Writer);
        match self.value.try_write() {
            Ok(value) => Ok(RwLockWriteGuard { value, _pass: pass }),
            Err(TryLockError::Poisoned(error)) => {
                Err(PoisonError::new(RwLockWriteGuard { value: error.into_inner(), _pass: pass }))
            }
            Err(TryLockError::WouldBlock) => unreachable!("the gate lets nobody in who would wait"),
        }
    }
}

/// Lets in those that can be, when it is dropped.
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

/// As of [`std::sync::RwLock`]: the value, if nobody writes or waits. It is read meanwhile, so that writers
/// wait.
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
