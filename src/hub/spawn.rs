#![forbid(unsafe_code)]
//! Making coroutines.

use super::deadline::Deadline;
use super::here::{try_with, with};
use super::state::TimerAction;
use super::task::{Task, TaskRef};
use crate::greenlet::scheduled::marks::{PARKED, QUEUED, ROOT, STATE};
use crate::greenlet::scheduled::{self, DetachedSpec, Owner};
use crate::greenlet::{AnyWeakGreenlet, BuildError};
use std::rc::Rc;

/// When a new coroutine is to begin.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Start {
    /// At the end of the queue of those that are ready.
    Now,
    /// Not before this.
    At(Deadline),
    /// When it is unparked.
    Held,
}

/// Makes a coroutine that runs `body`, and belongs to `owner`. Its body begins with [`begin`].
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

/// It never begins: so nobody waits for its start any more.
pub(crate) fn forget_start(task: &Task) {
    if let Some(key) = task.start.take() {
        let fire = try_with(|hub| hub.timers.borrow_mut().remove(key));
        drop(fire);
    }
}

/// The first thing that a coroutine's body calls: it runs now.
#[inline]
pub(crate) fn begin() {
    let me = scheduled::running();
    me.set_mark(me.mark() & !STATE);
}
