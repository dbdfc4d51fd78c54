#![forbid(unsafe_code)]
//! Events: a flag that can be waited for.

use super::select::{Selectable, Watchers, sealed};
use super::sharing::{Local, Shared, Sharing, State, Waker};
use super::wait::{Object, wait};
use super::wait_list::WaitList;
use crate::hub::{self, Deadline};
use std::fmt;
use std::time::Duration;

/// A flag that is set and cleared, and can be waited for.
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
    /// How many it has woken that have not gone on yet.
    waking: usize,
    waiting: WaitList<S::Waker, Came>,
    watchers: Watchers<S>,
}

/// How one comes to find it set.
#[derive(Clone, Copy)]
enum Came {
    Woken,
    First,
    BehindOthers,
}

impl<S: Sharing> Flag<S> {
    fn waiting(&mut self) -> &mut WaitList<S::Waker, Came> {
        &mut self.waiting
    }
}

impl Event<Local> {
    /// An event of this thread, not set.
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
    /// An event that threads can share, not set.
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

    /// Sets it. All who wait go on, in the order of waiting, even if it is cleared before they run.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn set(&self) {
        let (wakers, watchers) = self.state.with(|flag| {
            flag.is_set = true;
            let wakers = flag.waiting.grant_all(|| Came::Woken);
            flag.waking += wakers.len();
            (wakers, flag.watchers.all())
        });
        wakers.into_iter().for_each(Waker::wake);
        watchers.wake();
    }

    /// Clears it.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn clear(&self) {
        self.state.with(|flag| flag.is_set = false);
    }

    /// Whether it is set.
    pub fn is_set(&self) -> bool {
        self.state.with(|flag| flag.is_set)
    }

    /// Waits until it is set. If it is set already, but those of this thread that it has woken have not
    /// gone on yet, they do so first: nobody is overtaken.
    ///
    /// # Panics
    ///
    /// With what is raised in the current coroutine meanwhile. In main, when nobody is left who could wake
    /// it.
    ///
    /// # Switching
    ///
    /// Switches if it is not set, or has woken others that have not gone on yet. All others may run
    /// meanwhile.
    ///
    /// # Cancellation
    ///
    /// Leaves nothing behind.
    #[track_caller]
    pub fn wait(&self) {
        self.wait_until(None);
    }

    /// As [`Event::wait`], for at most `limit`. Whether it was set.
    ///
    /// # Panics
    ///
    /// As [`Event::wait`].
    ///
    /// # Switching
    ///
    /// As [`Event::wait`], also for a limit of zero.
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
            list: Flag::waiting,
            purpose: "Event::wait",
        };
        let attempt = |flag: &mut Flag<S>| match (flag.is_set, flag.waking) {
            (false, _) => None,
            (true, 0) => Some(Came::First),
            (true, _) => Some(Came::BehindOthers),
        };
        let has_gone_on = || self.state.with(|flag| flag.waking -= 1);
        match wait(object, deadline, attempt, |waker| waker, |_| has_gone_on()) {
            Ok(Came::First) => {}
            Ok(Came::BehindOthers) => hub::yield_now(),
            Ok(Came::Woken) => has_gone_on(),
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

/// Ready when it is set.
impl<S: Sharing> Selectable for Event<S> {}

impl<S: Sharing> fmt::Debug for Event<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event").field("is_set", &self.is_set()).finish_non_exhaustive()
    }
}
