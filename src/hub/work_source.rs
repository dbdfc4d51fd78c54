#![forbid(unsafe_code)]
//! Where a hub finds work besides its own queues: what it calls when it looks for events, and before and
//! after it sleeps.

/// Asked by the hub, in its own greenlet: so none of this waits, and none may panic.
pub(crate) trait WorkSource {
    /// Makes ready whoever is to be. Comes each time that the hub looks for events, busy or not.
    fn look(&self, is_busy: bool);

    /// Nobody is ready, and the hub would sleep for so many nanoseconds. Makes somebody ready and returns
    /// `None`, or says for how many it may. (Longer than it would anyway it does not.)
    fn before_sleep(&self, limit: u64) -> Option<u64>;

    /// The sleep that was agreed to is over. Somebody may be ready.
    fn after_sleep(&self);
}

/// A word in memory through which code unaware of the hub wakes its thread: that of `thread::park`.
///
/// Nothing comes to the inbox while the thread is awake: so the hub looks at the word whenever it looks for
/// events, and marks it before it sleeps, so that a change calls the hub. None of these functions waits.
#[cfg(feature = "monkey")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watch {
    /// Looks at it, and makes ready whoever is to be.
    pub(crate) look: fn(),
    /// Has it say that whoever changes it is to call. `false`: it has been changed, and there is no sleep.
    pub(crate) request_call: fn() -> bool,
    /// Has it say so no more.
    pub(crate) cancel_call: fn(),
}
