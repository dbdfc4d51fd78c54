#![forbid(unsafe_code)]
//! Creates coroutines.

use super::deadline::Deadline;
use super::here::{try_with, with};
use super::state::TimerAction;
use super::task::{Task, TaskRef};
use crate::greenlet::scheduled::marks::{PARKED, QUEUED, ROOT, STATE};
use crate::greenlet::scheduled::{self, DetachedSpec, Owner};
use crate::greenlet::{AnyWeakGreenlet, BuildError};
use std::rc::Rc;

/// When a new coroutine first runs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Start {
    /// After the greenlets that are ready now.
    Now,
    /// Not before this deadline.
    At(Deadline),
    /// When it is unparked.
    Held,
}

/// Creates a coroutine that runs `body` and belongs to `owner`. The body must call [`begin`] first.
#[inline]
pub(crate) fn spawn(
    spec: DetachedSpec,
    start: Start,
    owner: Rc<dyn Owner>,
    body: impl FnOnce(()) + 'static,
) -> Result<AnyWeakGreenlet, BuildError> {
    with(|hub| {
        let greenlet = scheduled::spawn(&hub.context, spec, Some(owner), body)?;
        match start {
            Start::Now => {
                greenlet.set_mark(ROOT | QUEUED);
                hub.ready.push(greenlet.clone());
            }
            Start::At(deadline) => {
                greenlet.set_mark(ROOT | PARKED);
                let fire = TimerAction::Unpark(greenlet.clone());
                let key = hub.add_timer(deadline, false, fire);
                if let Some(owner) = greenlet.owner() {
                    TaskRef(owner).start.set(Some(key));
                }
            }
            Start::Held => greenlet.set_mark(ROOT | PARKED),
        }
        greenlet.set_purpose("its first turn");
        Ok(greenlet)
    })
}

/// Cancels the timer of a coroutine that will never begin.
pub(crate) fn forget_start(task: &Task) {
    if let Some(key) = task.start.take() {
        let fire = try_with(|hub| hub.timers.borrow_mut().remove(key));
        drop(fire);
    }
}

/// Marks the current coroutine as running. Its body must call this first.
#[inline]
pub(crate) fn begin() {
    let me = scheduled::running();
    me.set_mark(me.mark() & !STATE);
}
