#![forbid(unsafe_code)]
//! Where a hub finds work that is not its own yet: it asks there when it looks for events, and before and
//! after it sleeps.

use super::here::with;
use super::state::Hub;
use std::rc::Rc;

/// Asked by the hub, in its own greenlet: so none of this waits, and none may panic.
pub(crate) trait Feed {
    /// Makes ready whoever is to be. Comes each time that the hub looks for events, busy or not.
    fn look(&self, is_busy: bool);

    /// Nobody is ready, and the hub would sleep for so many nanoseconds. Makes somebody ready and returns
    /// `None`, or says for how many it may. (Longer than it would anyway it does not.)
    fn before_sleep(&self, limit: u64) -> Option<u64>;

    /// The sleep that was agreed to is over. Somebody may be ready.
    fn after_sleep(&self);
}

/// Has this thread's hub ask `feed` from now on. There is one at most.
pub(crate) fn feed(feed: Rc<dyn Feed>) {
    with(|hub| {
        let is_first = hub.feed.set(feed).is_ok();
        assert!(is_first, "a hub has one feed");
    });
}

impl Hub {
    pub(super) fn ask_for_work(&self) {
        if let Some(feed) = self.feed.get() {
            feed.look(!self.ready.is_empty());
        }
    }

    /// How long to sleep, where it would be `limit`. `None`: not at all.
    pub(super) fn ask_before_sleep(&self, limit: Option<u64>) -> Option<Option<u64>> {
        let Some(feed) = self.feed.get() else { return Some(limit) };
        let limit = limit.unwrap_or(u64::MAX);
        let other = feed.before_sleep(limit)?;
        Some(Some(limit.min(other)).filter(|limit| *limit != u64::MAX))
    }

    pub(super) fn tell_of_sleep(&self) {
        if let Some(feed) = self.feed.get() {
            feed.after_sleep();
        }
    }
}
