#![forbid(unsafe_code)]
//! Deadlock reports: what main and each coroutine wait for, when nothing can wake any of them.

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

/// Prints a payload that was still pending for main at the end of its thread.
///
/// Kills and timeouts are not printed.
pub(super) fn report_undelivered(payload: Payload) {
    if !payload.is::<GreenletExit>() && !payload.is::<TimeoutExit>() {
        let payload = into_message(payload);
        let message = describe(&payload);
        stderr::write(&[&format!(
            "switchgrass: main ended with an undelivered panic: {message}\n"
        )]);
        drop_payload(payload);
    }
}

/// Prints a deadlock report that is about to be thrown in main where no panic hook runs.
pub(super) fn print_where_no_hook_runs(payload: &Payload) {
    if let Some(Deadlock(text)) = payload.downcast_ref() {
        stderr::write(&["switchgrass: ", text, "\n"]);
    }
}

/// Maximum number of coroutines that a report lists.
const MAX_LISTED: usize = 100;

/// Maximum number of consecutive reports without progress in between. Code that catches every report and
/// waits again would otherwise run indefinitely.
const MAX_REPORTS: u32 = 250;

/// Reports a deadlock: throws a panic in main that lists the waiting coroutines.
///
/// In a non-unwinding wait (a call from C) main keeps waiting, like a thread in the kernel: the report is
/// printed to standard error once, and the thread sleeps until a signal or another thread wakes it.
pub(super) fn report(hub: &Hub) {
    // A greenlet made since the last report counts as progress.
    if hub.made_at_report.replace(scheduled::made_count()) != scheduled::made_count() {
        hub.reports.set(0);
        drop(hub.printed_deadlock.take());
    }
    let root = hub.root.borrow().clone();
    match is_shielded(&root) {
        true => print_and_sleep(hub, text(hub)),
        false => report_to_root(hub, text(hub)),
    }
}

/// Whether main is in a non-unwinding wait, where nothing may be thrown.
fn is_shielded(root: &TaskRef) -> bool {
    root.target().is_some_and(|target| target.mark() & NO_THROW != 0)
}

/// Throws a panic with this message in main, where it waits or where a manual switch suspended it.
///
/// In a non-unwinding wait, the first report makes main's call fail. If main waits again, the message is
/// printed to standard error, once, and the thread sleeps. If nothing can be thrown where main is
/// suspended, the process aborts.
pub(super) fn report_to_root(hub: &Hub, text: String) {
    let root = hub.root.borrow().clone();
    hub.reports.set(hub.reports.get() + 1);
    if hub.reports.get() > MAX_REPORTS {
        give_up(&text, &format!("this was caught {MAX_REPORTS} times, and waited for again"));
    }
    let before = root.take_deadlock();
    if let Some(before) = before.filter(|_| is_shielded(&root)) {
        root.interrupts.borrow_mut().push(before);
        return if hub.ready.is_empty() {
            print_and_sleep(hub, text)
        };
    }
    // In a destructor this ends the process, with its message, which is better than waiting indefinitely.
    let payload = Box::new(Deadlock(text.clone()));
    hub.interrupt(&root, Interrupt::new(0, usize::MAX, payload), false);
    if hub.ready.is_empty() && root.take_deadlock().is_some() {
        give_up(&text, "main cannot receive it where it is suspended");
    }
}

fn give_up(text: &str, why: &str) -> ! {
    stderr::write(&["switchgrass: ", text, "\nswitchgrass: ", why, ": the process ends\n"]);
    process::abort();
}

/// Prints the message, unless it was the last one printed, and sleeps.
fn print_and_sleep(hub: &Hub, text: String) {
    let is_printed = hub.printed_deadlock.borrow().as_ref().is_some_and(|printed| *printed == text);
    if !is_printed {
        stderr::write(&["switchgrass: ", &text, "\n"]);
    }
    let slept = hub.sleep(None);
    if let Err(error) = slept {
        give_up(&text, &format!("the hub of this thread cannot wait for events: {error}"));
    }
    hub.printed_deadlock.replace(Some(text));
}

impl TaskRef {
    /// Removes a [`Deadlock`] that is still pending.
    fn take_deadlock(&self) -> Option<Interrupt> {
        let mut interrupts = self.interrupts.borrow_mut();
        let at = interrupts.iter().position(|interrupt| interrupt.payload.is::<Deadlock>())?;
        Some(interrupts.remove(at))
    }
}

/// Returns what a suspended greenlet waits for.
fn purpose_of(greenlet: &AnyWeakGreenlet) -> &'static str {
    match greenlet.mark() & STATE {
        0 => "a switch made by hand",
        _ => greenlet.purpose(),
    }
}

/// Builds the report: what main and each coroutine wait for.
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
    for (_, task, purpose) in others.iter().take(MAX_LISTED) {
        let _ = write!(text, "\n  coroutine {} waits for {purpose}", task.title());
        if let Some(site) = task.site {
            let _ = write!(text, " (spawned at {site})");
        }
    }
    if let Some(more @ 1..) = others.len().checked_sub(MAX_LISTED) {
        let _ = write!(text, "\n  and {more} more");
    }
    text
}
