#![forbid(unsafe_code)]
//! Events: flags that can be waited for.

use super::select::{Selectable, Watchers, sealed};
use super::sharing::{Local, Shared, Sharing, State, Waker};
use super::wait::{Object, wait};
use super::wait_list::WaitList;
use crate::hub::{self, Deadline};
use std::fmt;
use std::time::Duration;

/// A flag that can be set, cleared, and waited for.
///
/// # Examples
///
/// ```
/// use std::rc::Rc;
/// use switchgrass::{spawn, sync::Event};
///
/// let event = Rc::new(Event::new());
/// let setter = Rc::clone(&event);
/// spawn(move || setter.set());
/// event.wait();
/// assert!(event.is_set());
/// ```
pub struct Event<S: Sharing = Local> {
    state: S::State<Flag<S>>,
}

struct Flag<S: Sharing> {
    is_set: bool,
    /// The number of waiters that were woken by `set` and have not resumed yet.
    waking: usize,
    waiting: WaitList<S::Waker, Passage>,
    watchers: Watchers<S>,
}

/// How a waiter passed the event.
#[derive(Clone, Copy)]
enum Passage {
    /// It was woken by `set`.
    Woken,
    /// The event was set, and no woken waiter was left to resume.
    Immediate,
    /// The event was set, and woken waiters resume first.
    BehindWoken,
}

impl<S: Sharing> Flag<S> {
    fn waiting(&mut self) -> &mut WaitList<S::Waker, Passage> {
        &mut self.waiting
    }
}

impl Event<Local> {
    /// Creates an event of this thread, not set.
    pub fn new() -> Self {
        Self::cleared()
    }
}

impl Default for Event<Local> {
    fn default() -> Self {
        Self::new()
    }
}

impl Event<Shared> {
    /// Creates an event that threads can share, not set.
    pub fn shared() -> Self {
        Self::cleared()
    }
}

impl<S: Sharing> Event<S> {
    fn cleared() -> Self {
        let flag =
            Flag { is_set: false, waking: 0, waiting: WaitList::new(), watchers: Watchers::new() };
        Event { state: State::new(flag) }
    }

    /// Sets the event, and wakes all waiters in order.
    ///
    /// The waiters' waits end even if the event is cleared before they run.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn set(&self) {
        let (wakers, watchers) = self.state.with(|flag| {
            flag.is_set = true;
            let wakers = flag.waiting.grant_all(|| Passage::Woken);
            flag.waking += wakers.len();
            (wakers, flag.watchers.all())
        });
        wakers.into_iter().for_each(Waker::wake);
        watchers.wake();
    }

    /// Clears the event.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn clear(&self) {
        self.state.with(|flag| flag.is_set = false);
    }

    /// Whether the event is set.
    pub fn is_set(&self) -> bool {
        self.state.with(|flag| flag.is_set)
    }

    /// Waits until the event is set.
    ///
    /// If the event is set, but waiters of this thread that it has woken have not resumed yet, they resume
    /// first: no waiter is overtaken.
    ///
    /// # Panics
    ///
    /// Unwinds with any kill or timeout delivered to the current coroutine during the wait. In main, panics
    /// on deadlock: when nothing is left that can wake it.
    ///
    /// # Switching
    ///
    /// May switch: if the event is not set, or waiters that it has woken have not resumed. Any other
    /// coroutine may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The wait is abandoned; the object is unchanged.
    #[track_caller]
    pub fn wait(&self) {
        self.wait_until(None);
    }

    /// Waits until the event is set, for at most `timeout`. Returns whether it was set.
    ///
    /// # Panics
    ///
    /// Panics like [`Event::wait`].
    ///
    /// # Switching
    ///
    /// May switch: if the event is not set, even for a timeout of zero, or waiters that it has woken have
    /// not resumed. Any other coroutine may run meanwhile.
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
            list: Flag::waiting,
            purpose: "Event::wait",
        };
        let attempt = |flag: &mut Flag<S>| match (flag.is_set, flag.waking) {
            (false, _) => None,
            (true, 0) => Some(Passage::Immediate),
            (true, _) => Some(Passage::BehindWoken),
        };
        let note_resumed = || self.state.with(|flag| flag.waking -= 1);
        match wait(object, deadline, attempt, |waker| waker, |_| note_resumed()) {
            Ok(Passage::Immediate) => {}
            Ok(Passage::BehindWoken) => hub::yield_now(),
            Ok(Passage::Woken) => note_resumed(),
            Err(_) => return false,
        }
        true
    }
}

impl<S: Sharing> sealed::Selectable for Event<S> {
    fn is_ready(&self) -> bool {
        self.is_set()
    }

    fn watch(&self) -> Box<dyn FnOnce() + '_> {
        super::select::watch::<S, _>(&self.state, |flag| &mut flag.watchers)
    }
}

/// Ready when the event is set.
impl<S: Sharing> Selectable for Event<S> {}

impl<S: Sharing> fmt::Debug for Event<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event").field("is_set", &self.is_set()).finish_non_exhaustive()
    }
}
