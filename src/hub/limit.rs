#![forbid(unsafe_code)]
//! Timeouts of coroutines.

use super::current::current_task;
use super::deadline::Deadline;
use super::here::{try_with, with};
use super::state::TimerAction;
use super::task::{self, TaskRef};
use super::timers::Key;
use crate::greenlet::scheduled;

/// A timeout of the current coroutine.
///
/// When it expires, a `TimeoutExit` with its id is thrown in the coroutine. Dropping it cancels the
/// timeout.
pub(crate) struct Limit {
    id: u64,
    task: TaskRef,
    timer: Key,
}

impl Limit {
    pub(crate) fn new(deadline: Deadline) -> Self {
        let task = current_task();
        let (id, timer) = with(|hub| {
            let (id, me) = (hub.next_id(), scheduled::running());
            let fire = TimerAction::Interrupt(task.clone(), id, task::panics(&me), me.clone());
            (id, hub.add_timer(deadline, true, fire))
        });
        Limit { id, task, timer }
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Whether it has expired and cut short a call in which nothing may be thrown.
    pub(crate) fn is_reported(&self) -> bool {
        let interrupts = self.task.interrupts.borrow();
        interrupts.iter().any(|interrupt| interrupt.id == self.id && interrupt.is_reported)
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        try_with(|hub| {
            let fire = hub.timers.borrow_mut().remove(self.timer);
            if fire.is_none() {
                // It has fired, but may not have been delivered yet.
                self.task.forget(self.id);
            }
        });
    }
}
