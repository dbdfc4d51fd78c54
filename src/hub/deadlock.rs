#![forbid(unsafe_code)]
//! When nothing can ever wake anybody: who waits for what.

use super::interrupt::{Deadlock, Interrupt, OPENING, TimeoutExit, into_message};
use super::state::Hub;
use super::task::TaskRef;
use crate::greenlet::dropping::drop_payload;
use crate::greenlet::scheduled::marks::{LEFT_BEHIND, NO_THROW, STATE};
use crate::greenlet::scheduled::{self, Payload, describe};
use crate::greenlet::{AnyWeakGreenlet, GreenletExit};
use crate::sys::stderr;
use std::fmt::Write;
use std::process;

/// Says what main was not told, since it has not waited again before its thread's end.
pub(super) fn report_undelivered(payload: Payload) {
    if !payload.is::<GreenletExit>() && !payload.is::<TimeoutExit>() {
        let payload = into_message(payload);
        let message = describe(&payload);
        stderr::write(&[&format!("switchgrass: main has ended, and was not told of: {message}\n")]);
        drop_payload(payload);
    }
}

/// Writes the report to standard error, where it is thrown into main and no panic hook runs.
pub(super) fn say_where_no_hook_does(payload: &Payload) {
    if let Some(Deadlock(text)) = payload.downcast_ref() {
        stderr::write(&["switchgrass: ", text, "\n"]);
    }
}

/// How many coroutines are listed.
const LISTED: usize = 100;

/// How many reports may follow each other without anything that happens in between. Code that catches them
/// all and waits again would run indefinitely.
const PATIENCE: u32 = 250;

/// Raises in main a panic that says who is stuck.
///
/// In a wait in which nothing is raised (a call of C) main waits on, as a thread does in the kernel: what
/// is to be said is written to standard error, once, and the thread sleeps until a signal or another thread
/// wakes it.
pub(super) fn report(hub: &Hub) {
    // A greenlet that was made meanwhile is something that has happened.
    if hub.made_at_report.replace(scheduled::made_count()) != scheduled::made_count() {
        hub.reports.set(0);
        drop(hub.said_deadlock.take());
    }
    let root = hub.root.borrow().clone();
    match is_shielded(&root) {
        true => say_and_sleep(hub, text(hub)),
        false => tell_root(hub, text(hub)),
    }
}

/// Whether nothing may be raised where main waits.
fn is_shielded(root: &TaskRef) -> bool {
    root.target().is_some_and(|target| target.mark() & NO_THROW != 0)
}

/// Raises in main a panic with this message: where main waits, or where it is suspended by hand.
///
/// In a wait in which nothing is raised, main is told once: its call fails. If it waits on, the message is
/// written to standard error, once, and the thread sleeps. If nothing can be raised where main is suspended,
/// the process ends.
pub(super) fn tell_root(hub: &Hub, text: String) {
    let root = hub.root.borrow().clone();
    hub.reports.set(hub.reports.get() + 1);
    if hub.reports.get() > PATIENCE {
        give_up(&text, &format!("this was caught {PATIENCE} times, and waited for again"));
    }
    let before = root.take_deadlock();
    if let Some(before) = before.filter(|_| is_shielded(&root)) {
        root.interrupts.borrow_mut().push(before);
        return if hub.ready.is_empty() {
            say_and_sleep(hub, text)
        };
    }
    // In a destructor it ends the process, with its message: better than waiting indefinitely.
    let payload = Box::new(Deadlock(text.clone()));
    hub.interrupt(&root, Interrupt::new(0, usize::MAX, payload), false);
    if hub.ready.is_empty() && root.take_deadlock().is_some() {
        give_up(&text, "main cannot be told of it where it is suspended");
    }
}

fn give_up(text: &str, why: &str) -> ! {
    stderr::write(&["switchgrass: ", text, "\nswitchgrass: ", why, ": the process ends\n"]);
    process::abort();
}

/// Writes the message to standard error, unless it was the last one, and sleeps.
fn say_and_sleep(hub: &Hub, text: String) {
    let is_said = hub.said_deadlock.borrow().as_ref().is_some_and(|said| *said == text);
    if !is_said {
        stderr::write(&["switchgrass: ", &text, "\n"]);
    }
    let slept = hub.sleep(None);
    if let Err(error) = slept {
        give_up(&text, &format!("the hub of this thread could not wait: {error}"));
    }
    hub.said_deadlock.replace(Some(text));
}

impl TaskRef {
    /// Takes back a [`Deadlock`] that is still to be raised in it.
    fn take_deadlock(&self) -> Option<Interrupt> {
        let mut interrupts = self.interrupts.borrow_mut();
        let at = interrupts.iter().position(|interrupt| interrupt.payload.is::<Deadlock>())?;
        Some(interrupts.remove(at))
    }
}

/// What a greenlet that does not run is suspended for.
fn purpose_of(greenlet: &AnyWeakGreenlet) -> &'static str {
    match greenlet.mark() & STATE {
        0 => "a switch made by hand",
        _ => greenlet.purpose(),
    }
}

/// Who waits for what.
fn text(hub: &Hub) -> String {
    let main = hub.root.borrow().target();
    let purpose = main.map_or("", |main| purpose_of(&main));
    let mut text =
        format!("{OPENING}main waits for {purpose}, and nobody is left who could wake it");
    let mut others = Vec::new();
    scheduled::for_each_alive(|greenlet| {
        let Some(owner) = greenlet.owner() else { return };
        let task = TaskRef(owner);
        if greenlet != hub.context && greenlet.mark() & LEFT_BEHIND == 0 {
            let purpose = task.target().map_or("", |target| purpose_of(&target));
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
