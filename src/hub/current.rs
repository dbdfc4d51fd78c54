#![forbid(unsafe_code)]
//! The greenlet and the task that run, and what is queued or raised for them.

use super::here::{has_ended, here, is_copied, unless_ended, with};
use super::interrupt::{self, Interrupt, TimeoutExit};
use super::state::{Call, Hub};
use super::task::{self, TaskRef};
use crate::greenlet::AnyWeakGreenlet;
use crate::greenlet::scheduled::marks::HUB;
use crate::greenlet::scheduled::{self, Payload};
use std::mem::forget;

/// A new number, not used before on this thread.
pub(crate) fn next_id() -> u64 {
    with(Hub::next_id)
}

/// Has `f` called when this thread's hub ends, after its coroutines.
#[cfg(feature = "monkey")]
pub(crate) fn at_end(f: fn()) {
    with(|hub| hub.at_end.borrow_mut().push(f));
}

/// The greenlet that runs.
#[inline]
#[track_caller]
pub(crate) fn current_greenlet() -> AnyWeakGreenlet {
    // Main may be parked when there is a hub. In a copy of the process nothing is, and it may be asked for.
    if unless_ended().is_none() && !is_copied() {
        here();
    }
    scheduled::running().clone()
}

/// The task that the current greenlet runs for.
pub(crate) fn current_task() -> TaskRef {
    TaskRef::of(&current_greenlet()).expect("main has one")
}

/// Its number. Where the hub has ended only main is left.
pub(crate) fn current_task_id() -> u64 {
    if has_ended() && !is_copied() { 0 } else { current_task().id }
}

/// Has `f` run in the hub's greenlet, at the end of the queue of those that are ready. It must not wait. In a
/// copy of the process it never is, and is not dropped either.
pub(crate) fn call(f: impl FnOnce() + 'static) {
    if is_copied() {
        return forget(f);
    }
    with(|hub| hub.call(Call::Run(Box::new(f))));
}

/// Has `payload` raised in a task, when the hub comes to it: at the end of the queue of those that are ready.
/// In a copy of the process that task is not there.
pub(crate) fn interrupt(task: TaskRef, payload: Payload) {
    if is_copied() {
        return;
    }
    with(|hub| {
        let id = hub.next_id();
        hub.call(Call::Interrupt(task, Interrupt::new(id, 0, payload)));
    });
}

/// Has `payloads`, which were raised in the current coroutine and caught, raised once more where it
/// waits next, before what else is to be raised there.
pub(crate) fn defer_unwind(payloads: impl IntoIterator<Item = Payload>) {
    let interrupts = payloads.into_iter().filter_map(|payload| {
        let id = match payload.downcast_ref() {
            Some(TimeoutExit(id)) => *id,
            None => next_id(),
        };
        // Of a deadlock there is nothing left to be told: if it is one still, it is found again.
        let depth = task::panics(&scheduled::running());
        (!interrupt::is_message(&payload)).then_some(Interrupt::new(id, depth, payload))
    });
    let interrupts: Vec<_> = interrupts.collect();
    // The hub never waits, so nothing is raised in it.
    if !interrupts.is_empty() && scheduled::running().mark() & HUB == 0 {
        let task = current_task();
        task.interrupts.borrow_mut().splice(..0, interrupts);
        task.mark_interrupted(&scheduled::running());
    }
}
