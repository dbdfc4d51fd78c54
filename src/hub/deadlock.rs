#![forbid(unsafe_code)]
//! When nothing can ever wake anybody: who waits for what.

use super::state::Hub;
use super::task::{Interrupt, TaskRef};
use crate::greenlet::scheduled::{self, LEFT_BEHIND, Payload};
use std::fmt::Write;

/// What is raised in main. Raised where it waits, it becomes a panic with a message.
pub(super) struct Deadlock(pub(super) String);

/// How its message begins.
const OPENING: &str = "this would block for ever: ";

/// Whether this is what main has panicked with because of it.
pub(crate) fn is_message(payload: &Payload) -> bool {
    payload.downcast_ref::<String>().is_some_and(|text| text.starts_with(OPENING))
}

/// So many coroutines are listed.
const LISTED: usize = 100;

/// Raises in main a panic that says who is stuck.
pub(super) fn report(hub: &Hub) {
    // In a destructor it ends the process, with its message: better than waiting for ever.
    let payload = Box::new(Deadlock(text(hub)));
    let interrupt = Interrupt::new(0, usize::MAX, payload);
    let root = hub.root.borrow().clone();
    hub.interrupt(&root, interrupt, false);
}

/// Who waits for what.
fn text(hub: &Hub) -> String {
    let main = hub.root.borrow().target();
    let purpose = main.map_or("", |main| main.purpose());
    let mut text =
        format!("{OPENING}main waits for {purpose}, and nobody is left who could wake it");
    let mut others = Vec::new();
    scheduled::for_each_alive(|greenlet| {
        let Some(owner) = greenlet.owner() else { return };
        let task = TaskRef(owner);
        if greenlet != hub.context && greenlet.mark() & LEFT_BEHIND == 0 {
            let purpose = task.target().map_or("", |target| target.purpose());
            others.push((task.id, task, purpose));
        }
    });
    others.sort_by_key(|(id, ..)| *id);
    for (_, task, purpose) in others.iter().take(LISTED) {
        let _ = write!(text, "\n  coroutine {} waits for {purpose}", task.title());
        if let Some(site) = task.site {
            let _ = write!(text, " (spawned at {site})");
        }
    }
    if let Some(more @ 1..) = others.len().checked_sub(LISTED) {
        let _ = write!(text, "\n  and {more} more");
    }
    text
}
