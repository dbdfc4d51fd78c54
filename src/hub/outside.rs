#![forbid(unsafe_code)]
//! Registers the work sources of a hub, and asks them: see `work_source.rs`.

use super::here::with;
use super::state::Hub;
#[cfg(feature = "monkey")]
use super::work_source::Watch;
use super::work_source::WorkSource;
use std::rc::Rc;

/// Has this thread's hub ask `feed` from now on. There is one at most.
pub(crate) fn set_work_source(source: Rc<dyn WorkSource>) {
    with(|hub| {
        let is_first = hub.work_source.set(source).is_ok();
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
    pub(super) fn poll_work_source(&self) {
        if let Some(source) = self.work_source.get() {
            source.look(!self.ready.is_empty());
        }
    }

    /// How long to sleep, where it would be `limit`. `None`: not at all.
    pub(super) fn work_source_before_sleep(&self, limit: Option<u64>) -> Option<Option<u64>> {
        let Some(source) = self.work_source.get() else { return Some(limit) };
        let limit = limit.unwrap_or(u64::MAX);
        let other = source.before_sleep(limit)?;
        Some(Some(limit.min(other)).filter(|limit| *limit != u64::MAX))
    }

    pub(super) fn work_source_after_sleep(&self) {
        if let Some(source) = self.work_source.get() {
            source.after_sleep();
        }
    }
}

#[cfg(feature = "monkey")]
impl Hub {
    pub(super) fn poll_watched_word(&self) {
        if let Some(watch) = self.watch.get() {
            (watch.look)();
        }
    }

    pub(super) fn request_call(&self) -> bool {
        self.watch.get().is_none_or(|watch| (watch.request_call)())
    }

    pub(super) fn cancel_call(&self) {
        if let Some(watch) = self.watch.get() {
            (watch.cancel_call)();
        }
    }
}
