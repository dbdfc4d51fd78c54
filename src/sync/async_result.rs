#![forbid(unsafe_code)]
//! A value that comes later.

use super::select::{Selectable, Watchers, sealed};
use super::sharing::{Local, Shared, Sharing, State, Waker};
use super::wait::{Object, wait};
use super::wait_list::WaitList;
use crate::hub::Deadline;
use std::fmt;
use std::time::Duration;

/// A value that is set once, and that everybody who asks for it gets. For an outcome that may be an error,
/// let it be a `Result`.
///
/// Copies are made outside of it: a `Clone` may wait, panic, or use the same object. As with
/// [`OnceLock`](std::sync::OnceLock), threads share one only if they can share the value.
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
    /// One of this thread, without a value.
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
    /// One that threads can share, without a value.
    pub fn shared() -> Self {
        Self::empty()
    }
}

impl<T, S: Sharing> AsyncResult<T, S> {
    fn empty() -> Self {
        let state = Outcome { value: None, waiting: WaitList::new(), watchers: Watchers::new() };
        AsyncResult { state: State::new(state) }
    }

    /// Sets the value. All who wait go on, in the order of waiting.
    ///
    /// # Errors
    ///
    /// Returns the value if there is one already, which stays.
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

    /// Whether there is a value.
    pub fn is_set(&self) -> bool {
        self.state.with(|outcome| outcome.value.is_some())
    }

    /// Waits until there is a value.
    ///
    /// # Panics
    ///
    /// With what is raised in the current coroutine meanwhile. In main, when nobody is left who could wake
    /// it.
    ///
    /// # Switching
    ///
    /// Switches if there is none. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// Leaves nothing behind.
    #[track_caller]
    pub fn wait(&self) {
        self.wait_until(None);
    }

    /// As [`AsyncResult::wait`], for at most `limit`. Whether there is a value.
    ///
    /// # Panics
    ///
    /// As [`AsyncResult::wait`].
    ///
    /// # Switching
    ///
    /// Switches if there is none, also for a limit of zero.
    ///
    /// # Cancellation
    ///
    /// Leaves nothing behind.
    #[track_caller]
    pub fn wait_timeout(&self, limit: Duration) -> bool {
        self.wait_until(Deadline::after(limit))
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

    /// The value, if nobody else has this any more.
    pub fn into_inner(self) -> Option<T> {
        self.state.with(|outcome| outcome.value.take()).and_then(S::into_inner)
    }
}

impl<T: Clone, S: Sharing> AsyncResult<T, S> {
    /// Waits until there is a value, and returns a copy.
    ///
    /// # Panics
    ///
    /// As [`AsyncResult::wait`].
    ///
    /// # Switching
    ///
    /// Switches if there is none. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// Leaves nothing behind.
    #[track_caller]
    pub fn get(&self) -> T {
        self.wait();
        self.try_get().expect("a value stays")
    }

    /// A copy of the value, if there is one.
    ///
    /// # Switching
    ///
    /// Never switches, unless the value's `Clone` does.
    pub fn try_get(&self) -> Option<T> {
        let value = self.state.with(|outcome| outcome.value.clone());
        value.map(|value| T::clone(&value))
    }

    /// As [`AsyncResult::get`], for at most `limit`.
    ///
    /// # Panics
    ///
    /// As [`AsyncResult::wait`].
    ///
    /// # Switching
    ///
    /// Switches if there is none, also for a limit of zero.
    ///
    /// # Cancellation
    ///
    /// Leaves nothing behind.
    #[track_caller]
    pub fn get_timeout(&self, limit: Duration) -> Option<T> {
        self.wait_timeout(limit);
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

/// Ready when there is a value.
impl<T, S: Sharing> Selectable for AsyncResult<T, S> {}

impl<T, S: Sharing> fmt::Debug for AsyncResult<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncResult").field("is_set", &self.is_set()).finish_non_exhaustive()
    }
}
