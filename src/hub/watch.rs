#![forbid(unsafe_code)]
//! A word in memory by which others wake this thread, who know nothing of its hub: that of `thread::park`.
//!
//! Nothing comes to the inbox while the thread is awake: so the hub looks at the word whenever it looks for
//! events, and has it say that a call is wanted before it sleeps.

use super::here::with;
use super::state::Hub;

/// What is done about the word. None of this waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watch {
    /// Looks at it, and makes ready whoever is to be.
    pub(crate) look: fn(),
    /// Has it say that whoever changes it is to call. `false`: it has been changed, and there is no sleep.
    pub(crate) ask_to_be_called: fn() -> bool,
    /// Has it say so no more.
    pub(crate) ask_no_more: fn(),
}

/// Has this thread's hub watch a word. There is one at most.
pub(crate) fn watch(watch: Watch) {
    with(|hub| hub.watch.set(Some(watch)));
}

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
