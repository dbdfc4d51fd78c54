#![forbid(unsafe_code)]
//! Registers and polls the work source of a hub: see `work_source.rs`.

use super::here::with;
use super::state::Hub;
#[cfg(feature = "monkey")]
use super::work_source::Watch;
use super::work_source::WorkSource;
use std::rc::Rc;

/// Makes this thread's hub poll `source` from now on. A hub has at most one work source.
pub(crate) fn set_work_source(source: Rc<dyn WorkSource>) {
    with(|hub| {
        let is_first = hub.work_source.set(source).is_ok();
        assert!(is_first, "a hub can have only one work source");
    });
}

/// Makes this thread's hub watch a futex word. A hub has at most one.
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

    /// Returns how long the hub may sleep, given its own `timeout`. `None`: it must not sleep.
    ///
    /// In `timeout` and in the inner result, `None` means indefinitely.
    pub(super) fn work_source_before_sleep(&self, timeout: Option<u64>) -> Option<Option<u64>> {
        let Some(source) = self.work_source.get() else { return Some(timeout) };
        let timeout = timeout.unwrap_or(u64::MAX);
        let other = source.before_sleep(timeout)?;
        Some(Some(timeout.min(other)).filter(|timeout| *timeout != u64::MAX))
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
