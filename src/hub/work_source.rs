#![forbid(unsafe_code)]
//! Work sources: where a hub finds work besides its own queues.
//!
//! The hub calls them when it polls for events, and before and after it sleeps.

/// Called by the hub, in its own greenlet: no method may wait or panic.
pub(crate) trait WorkSource {
    /// Makes greenlets ready that have work. Called at each poll for events, whether the hub is busy or
    /// not.
    fn look(&self, is_busy: bool);

    /// Called when no greenlet is ready and the hub would sleep for `timeout` nanoseconds.
    ///
    /// Returns how many nanoseconds the hub may sleep, or makes a greenlet ready and returns `None`. The
    /// hub never sleeps longer than `timeout`.
    fn before_sleep(&self, timeout: u64) -> Option<u64>;

    /// Called after that sleep. Greenlets may be ready.
    fn after_sleep(&self);
}

/// A futex word through which code unaware of the hub wakes its thread: that of `thread::park`.
///
/// While the thread is awake, a change of the word sends nothing to the inbox. So the hub checks the word
/// at each poll for events, and marks it before it sleeps, so that a change wakes the hub. None of these
/// functions waits.
#[cfg(feature = "monkey")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watch {
    /// Checks the word, and makes the greenlets ready that it wakes.
    pub(crate) look: fn(),
    /// Marks the word, so that the next change wakes the hub. `false`: it has changed, and the hub must not
    /// sleep.
    pub(crate) request_call: fn() -> bool,
    /// Removes the mark.
    pub(crate) cancel_call: fn(),
}
