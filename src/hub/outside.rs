#![forbid(unsafe_code)]
//! Registers the work sources of a hub, and asks them: see `feed.rs`.

use super::feed::Feed;
#[cfg(feature = "monkey")]
use super::feed::Watch;
use super::here::with;
use super::state::Hub;
use std::rc::Rc;

/// Has this thread's hub ask `feed` from now on. There is one at most.
pub(crate) fn feed(feed: Rc<dyn Feed>) {
    with(|hub| {
        let is_first = hub.feed.set(feed).is_ok();
        assert!(is_first, "a hub has one feed");
    });
}

#[cfg(feature = "monkey")]
/// Has this thread's hub watch a word. There is one at most.
#[cfg(feature = "monkey")]
pub(crate) fn watch(watch: Watch) {
    with(|hub| hub.watch.set(Some(watch)));
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

#[cfg(feature = "monkey")]
impl Hub {
    pub(super) fn look_at_the_word(&self) {
        if let Some(watch) = self.watch.get() {
            (watch.look)();
        }
    }

    pub(super) fn ask_to_be_called(&self) -> bool {
        self.watch.get().is_none_or(|watch| (watch.ask_to_be_called)())
    }

    pub(super) fn ask_no_more(&self) {
        if let Some(watch) = self.watch.get() {
            (watch.ask_no_more)();
        }
    }
}
