#![forbid(unsafe_code)]
//! The current greenlet and task, and what is queued or thrown for them.

use super::here::{has_ended, here, is_copied, unless_ended, with};
use super::interrupt::{self, Interrupt, TimeoutExit};
use super::state::{Call, Hub};
use super::task::{self, TaskRef};
use crate::greenlet::AnyWeakGreenlet;
use crate::greenlet::scheduled::marks::HUB;
use crate::greenlet::scheduled::{self, Payload};
use std::mem::forget;

/// Returns an id that was not used before on this thread.
pub(crate) fn next_id() -> u64 {
    with(Hub::next_id)
}

/// Registers `f` to be called when this thread's hub ends, after its coroutines have ended.
#[cfg(feature = "monkey")]
pub(crate) fn at_end(f: fn()) {
    with(|hub| hub.at_end.borrow_mut().push(f));
}

/// Returns the running greenlet.
#[inline]
#[track_caller]
pub(crate) fn current_greenlet() -> AnyWeakGreenlet {
    // Ensures that there is a hub, without which main cannot park. In a copy of the process nothing parks,
    // so none is needed.
    if unless_ended().is_none() && !is_copied() {
        here();
    }
    scheduled::running().clone()
}

/// Returns the task that the current greenlet runs for.
pub(crate) fn current_task() -> TaskRef {
    TaskRef::of(&current_greenlet()).expect("main has a task")
}

/// Returns the id of the current task. After the hub has ended, only main is left, with id 0.
pub(crate) fn current_task_id() -> u64 {
    if has_ended() && !is_copied() { 0 } else { current_task().id }
}

/// Queues `f` to run in the hub's greenlet, at the end of the ready queue. `f` must not wait.
///
/// In a copy of the process, `f` is neither run nor dropped.
pub(crate) fn call(f: impl FnOnce() + 'static) {
    if is_copied() {
        return forget(f);
    }
    with(|hub| hub.call(Call::Run(Box::new(f))));
}

/// Queues the delivery of `payload` to a task, at the end of the ready queue.
///
/// Does nothing in a copy of the process, where the task does not run.
pub(crate) fn interrupt(task: TaskRef, payload: Payload) {
    if is_copied() {
        return;
    }
    with(|hub| {
        let id = hub.next_id();
        hub.call(Call::Interrupt(task, Interrupt::new(id, 0, payload)));
    });
}

/// Throws `payloads` again at the next wait of the current coroutine.
///
/// They were thrown in this coroutine before and caught. They precede its other pending interrupts.
pub(crate) fn defer_unwind(payloads: impl IntoIterator<Item = Payload>) {
    let interrupts = payloads.into_iter().filter_map(|payload| {
        let id = match payload.downcast_ref() {
            Some(TimeoutExit(id)) => *id,
            None => next_id(),
        };
        // A deadlock report is not repeated: if the deadlock persists, it is detected again.
        let depth = task::panics(&scheduled::running());
        (!interrupt::is_message(&payload)).then_some(Interrupt::new(id, depth, payload))
    });
    let interrupts: Vec<_> = interrupts.collect();
    // The hub's own greenlet never waits, so nothing can be delivered to it.
    if !interrupts.is_empty() && scheduled::running().mark() & HUB == 0 {
        let task = current_task();
        task.interrupts.borrow_mut().splice(..0, interrupts);
        task.mark_interrupted(&scheduled::running());
    }
}
