#![forbid(unsafe_code)]
//! The hub in a copy of the process, where only the coroutine that has asked for it goes on.
//!
//! ```text
//!   parent                                   child
//!   A runs ── fork ──► A goes on             A goes on, and is main as far as a deadlock is told of
//!   B ready                                  B, C, D, main: left behind. Their stacks and what is on them
//!   C asleep until 5 s                       stay as they are, nobody wakes them, nobody unwinds them
//!   D waits for fd 7 ─ registered ─► epoll   fd 7 is registered with a new epoll when A first waits for it
//! ```
//!
//! Nothing that was inherited is dropped, so that no destructor runs in both processes.

use super::here::{here, keep};
use super::run::ALARM;
use super::state::Hub;
use super::task::TaskRef;
use crate::greenlet::AnyWeakGreenlet;
use crate::greenlet::scheduled;
use crate::greenlet::scheduled::marks::{HUB, INTERRUPTED, LEFT_BEHIND, STATE};
use crate::sys::fork::{self, Side};
use std::io;
use std::mem::forget;
use std::sync::Arc;

/// Makes a copy of the process, in which the current coroutine alone goes on.
///
/// # Errors
///
/// If the kernel makes no process, or there are no descriptors left: a child needs two of its own.
///
/// # Panics
///
/// In the hub's own greenlet.
#[track_caller]
pub(crate) fn fork() -> io::Result<Side> {
    let hub = here();
    assert!(
        scheduled::running().mark() & HUB == 0,
        "a callback in the hub cannot fork: it has no coroutine that could go on; but it can spawn one",
    );
    let alarm = hub.inbox.alarm.renewal()?;
    let epoll = hub.epoll.get().map(|epoll| epoll.renewal(&alarm, ALARM)).transpose()?;
    let side = fork::fork(&mut |fork| {
        // Whoever leaves a message meanwhile waits, so that it is whole in the child.
        let inbox = hub.inbox.hold();
        let side = fork();
        if matches!(side, Ok(Side::Child)) {
            keep(hub);
            forget(inbox.clear());
        }
        side
    });
    if matches!(side, Ok(Side::Child)) {
        alarm.renew();
        if let Some(epoll) = epoll {
            epoll.renew();
        }
        hub.begin_anew();
    }
    side
}

impl Hub {
    /// In a child: nobody but the current coroutine is to run, and nothing of what was to happen.
    fn begin_anew(&self) {
        let me = &*scheduled::running();
        let leave_behind = |greenlet: &AnyWeakGreenlet| {
            if greenlet != me && *greenlet != self.context {
                greenlet.set_mark(greenlet.mark() & !(STATE | INTERRUPTED) | LEFT_BEHIND);
            }
        };
        scheduled::for_each_alive(|greenlet| leave_behind(&greenlet));
        leave_behind(&self.main);
        me.set_mark(me.mark() & !INTERRUPTED);
        if let Some(task) = TaskRef::of(me) {
            forget(task.interrupts.take());
            forget(task.delegates.take());
            forget(self.root.replace(task));
        }
        while let Some(greenlet) = self.ready.pop() {
            forget(greenlet);
        }
        forget(self.calls.take());
        self.timers.borrow_mut().clear(forget);
        self.remotes.borrow_mut().clear(forget);
        forget(self.outside.replace(Arc::new(())));
        self.sources.begin_anew();
        self.is_timed.set(false);
        self.waiting_for_idle.set(0);
        self.reports.set(0);
        drop(self.said_deadlock.take());
    }
}
