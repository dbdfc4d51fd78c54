#![forbid(unsafe_code)]
//! Interrupts that the hub delivers to coroutines: kills, timeouts, deadlock reports.

use crate::greenlet::AnyWeakGreenlet;
use crate::greenlet::scheduled::Payload;

/// A payload to be thrown in a coroutine.
pub(crate) struct Interrupt {
    /// Identifies the interrupt, so that it can be taken back.
    pub(crate) id: u64,
    /// Maximum depth of nested panics at delivery. At a greater depth the interrupt waits until the
    /// destructors that run there have ended: a panic that escaped from one of these would end the process.
    pub(crate) depth: usize,
    pub(crate) payload: Payload,
    /// The greenlet whose timeout has expired; `None` if the interrupt is meant for the whole task. It is
    /// thrown in that greenlet, or in one that runs for it.
    pub(super) origin: Option<AnyWeakGreenlet>,
    /// Whether a call in which nothing may be thrown was cut short for it (see `hub/nounwind.rs`).
    pub(super) is_reported: bool,
}

impl Interrupt {
    /// Whether it may be thrown in `me`: it has no origin, or `me` is the origin or runs for it.
    pub(super) fn is_meant_for(&self, me: &AnyWeakGreenlet) -> bool {
        let Some(origin) = &self.origin else { return true };
        origin == me || me.line().any(|node| node == *origin)
    }

    pub(crate) fn new(id: u64, depth: usize, payload: Payload) -> Self {
        Interrupt { id, depth, payload, origin: None, is_reported: false }
    }
}

/// The payload that is thrown in a coroutine when the timeout with this id has expired.
#[derive(Debug)]
pub(crate) struct TimeoutExit(pub(crate) u64);

/// A deadlock report for main. Thrown where main waits, it becomes a panic with this message.
pub(super) struct Deadlock(pub(super) String);

/// The beginning of a deadlock message.
pub(super) const OPENING: &str = "this would block for ever: ";

/// Whether this is the payload of a panic of main because of a deadlock.
pub(crate) fn is_message(payload: &Payload) -> bool {
    payload.downcast_ref::<String>().is_some_and(|text| text.starts_with(OPENING))
}

/// Converts a [`Deadlock`] to the payload of a panic, for a target that is not at a wait that would do so.
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
