#![forbid(unsafe_code)]
//! A value that is set once and can be waited for.

use super::select::{Selectable, Watchers, sealed};
use super::sharing::{Local, Shared, Sharing, State, Waker};
use super::wait::{Object, wait};
use super::wait_list::WaitList;
use crate::hub::Deadline;
use std::fmt;
use std::time::Duration;

/// A value that is set once and can be waited for.
///
/// Each `get` returns a copy of the value. For an outcome that may be an error, use a `Result` as the
/// value.
///
/// Copies are made outside of the object, so `Clone` may wait, panic, or use the same object. As with
/// [`OnceLock`](std::sync::OnceLock), threads can share an `AsyncResult` only if they can share its value.
///
/// # Examples
///
/// ```
/// use std::rc::Rc;
/// use switchgrass::{spawn, sync::AsyncResult};
///
/// let answer = Rc::new(AsyncResult::new());
/// let setter = Rc::clone(&answer);
/// spawn(move || setter.set(42));
/// assert_eq!(answer.get(), 42);
/// assert_eq!(answer.set(43), Err(43), "a second value is an error");
/// ```
pub struct AsyncResult<T, S: Sharing = Local> {
    state: S::State<Outcome<T, S>>,
}

struct Outcome<T, S: Sharing> {
    value: Option<S::Counted<T>>,
    waiting: WaitList<S::Waker>,
    watchers: Watchers<S>,
}

impl<T, S: Sharing> Outcome<T, S> {
    fn waiting(&mut self) -> &mut WaitList<S::Waker> {
        &mut self.waiting
    }
}

impl<T> AsyncResult<T, Local> {
    /// Creates an object of this thread, without a value.
    pub fn new() -> Self {
        Self::empty()
    }
}

impl<T> Default for AsyncResult<T, Local> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> AsyncResult<T, Shared> {
    /// Creates an object that threads can share, without a value.
    pub fn shared() -> Self {
        Self::empty()
    }
}

impl<T, S: Sharing> AsyncResult<T, S> {
    fn empty() -> Self {
        let state = Outcome { value: None, waiting: WaitList::new(), watchers: Watchers::new() };
        AsyncResult { state: State::new(state) }
    }

    /// Sets the value, and wakes all waiters in order.
    ///
    /// # Errors
    ///
    /// Returns `value` if one has been set before, which stays.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn set(&self, value: T) -> Result<(), T> {
        let (wakers, watchers) = self.state.with(|outcome| {
            if outcome.value.is_some() {
                return Err(value);
            }
            outcome.value = Some(value.into());
            Ok((outcome.waiting.grant_all(|| ()), outcome.watchers.all()))
        })?;
        wakers.into_iter().for_each(Waker::wake);
        watchers.wake();
        Ok(())
    }

    /// Whether a value has been set.
    pub fn is_set(&self) -> bool {
        self.state.with(|outcome| outcome.value.is_some())
    }

    /// Waits until a value is set.
    ///
    /// # Panics
    ///
    /// Unwinds with any kill or timeout delivered to the current coroutine during the wait. In main, panics
    /// on deadlock: when nothing is left that can wake it.
    ///
    /// # Switching
    ///
    /// May switch: if no value is set. Any other coroutine may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The wait is abandoned; the object is unchanged.
    #[track_caller]
    pub fn wait(&self) {
        self.wait_until(None);
    }

    /// Waits until a value is set, for at most `timeout`. Returns whether one is set.
    ///
    /// # Panics
    ///
    /// Panics like [`AsyncResult::wait`].
    ///
    /// # Switching
    ///
    /// May switch: if no value is set, even for a timeout of zero. Any other coroutine may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The wait is abandoned; the object is unchanged.
    #[track_caller]
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.wait_until(Deadline::after(timeout))
    }

    fn wait_until(&self, deadline: Option<Deadline>) -> bool {
        let object = Object::<S, _, _, _> {
            state: &self.state,
            list: Outcome::waiting,
            purpose: "AsyncResult::get",
        };
        let attempt = |outcome: &mut Outcome<T, S>| outcome.value.as_ref().map(|_| ());
        wait(object, deadline, attempt, |waker| waker, |()| ()).is_ok()
    }

    /// Returns the value, if one has been set and no copy of it is being made.
    pub fn into_inner(self) -> Option<T> {
        self.state.with(|outcome| outcome.value.take()).and_then(S::into_inner)
    }
}

impl<T: Clone, S: Sharing> AsyncResult<T, S> {
    /// Waits until a value is set, and returns a copy of it.
    ///
    /// # Panics
    ///
    /// Panics like [`AsyncResult::wait`]. Propagates panics of `Clone`.
    ///
    /// # Switching
    ///
    /// May switch: if no value is set. Any other coroutine may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The wait is abandoned; the object is unchanged.
    #[track_caller]
    pub fn get(&self) -> T {
        self.wait();
        self.try_get().expect("a value stays")
    }

    /// Returns a copy of the value, if one is set.
    ///
    /// # Switching
    ///
    /// Never switches, unless the value's `Clone` does.
    pub fn try_get(&self) -> Option<T> {
        let value = self.state.with(|outcome| outcome.value.clone());
        value.map(|value| T::clone(&value))
    }

    /// Waits until a value is set, for at most `timeout`, and returns a copy of it.
    ///
    /// Returns `None` if no value is set by then.
    ///
    /// # Panics
    ///
    /// Panics like [`AsyncResult::wait`]. Propagates panics of `Clone`.
    ///
    /// # Switching
    ///
    /// May switch: if no value is set, even for a timeout of zero. Any other coroutine may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The wait is abandoned; the object is unchanged.
    #[track_caller]
    pub fn get_timeout(&self, timeout: Duration) -> Option<T> {
        self.wait_timeout(timeout);
        self.try_get()
    }
}

impl<T, S: Sharing> sealed::Selectable for AsyncResult<T, S> {
    fn is_ready(&self) -> bool {
        self.is_set()
    }

    fn watch(&self) -> Box<dyn FnOnce() + '_> {
        super::select::watch::<S, _>(&self.state, |outcome| &mut outcome.watchers)
    }
}

/// Ready when a value is set.
impl<T, S: Sharing> Selectable for AsyncResult<T, S> {}

impl<T, S: Sharing> fmt::Debug for AsyncResult<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncResult").field("is_set", &self.is_set()).finish_non_exhaustive()
    }
}
