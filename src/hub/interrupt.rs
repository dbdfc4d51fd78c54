#![forbid(unsafe_code)]
//! What the hub raises in a coroutine: kills, time limits, deadlocks.

use crate::greenlet::AnyWeakGreenlet;
use crate::greenlet::scheduled::Payload;

/// Something to be raised in a coroutine.
pub(crate) struct Interrupt {
    /// By which it can be taken back.
    pub(crate) id: u64,
    /// So many panics may be under way where it is raised. It waits for its destructors to end
    /// where there are more: a panic that left one of these would end the process.
    pub(crate) depth: usize,
    pub(crate) payload: Payload,
    /// The greenlet that it is meant for, if that is not the whole task: one whose time limit has passed. It
    /// is raised there, or in one that runs for it.
    pub(super) origin: Option<AnyWeakGreenlet>,
    /// A call in which nothing may be raised has been cut short for it (see `hub/nounwind.rs`).
    pub(super) is_reported: bool,
}

impl Interrupt {
    /// Whether it is to be raised in `me`.
    pub(super) fn is_meant_for(&self, me: &AnyWeakGreenlet) -> bool {
        let Some(origin) = &self.origin else { return true };
        origin == me || me.line().any(|node| node == *origin)
    }

    pub(crate) fn new(id: u64, depth: usize, payload: Payload) -> Self {
        Interrupt { id, depth, payload, origin: None, is_reported: false }
    }
}

/// What is raised in a coroutine when one of its time limits has passed. The number says which.
#[derive(Debug)]
pub(crate) struct TimeoutExit(pub(crate) u64);

/// What is raised in main. Raised where it waits, it becomes a panic with a message.
pub(super) struct Deadlock(pub(super) String);

/// How the message of a deadlock begins.
pub(super) const OPENING: &str = "this would block for ever: ";

/// Whether this is what main has panicked with because of a deadlock.
pub(crate) fn is_message(payload: &Payload) -> bool {
    payload.downcast_ref::<String>().is_some_and(|text| text.starts_with(OPENING))
}

/// As the payload of a panic, where there is no wait that would make one of it.
pub(super) fn into_message(payload: Payload) -> Payload {
    match payload.downcast::<Deadlock>() {
        Ok(deadlock) => Box::new(deadlock.0),
        Err(payload) => payload,
    }
}

/// Reverses [`into_message`].
pub(super) fn from_message(payload: Payload) -> Payload {
    match payload.downcast::<String>() {
        Ok(text) => Box::new(Deadlock(*text)),
        Err(payload) => payload,
    }
}
