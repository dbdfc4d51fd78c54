#![forbid(unsafe_code)]
//! The hub in a copy of the process, in which only the forking coroutine continues.
//!
//! ```text
//!   parent                                   child
//!   A runs ── fork ──► A continues           A continues, and receives deadlock reports in place of main
//!   B ready                                  B, C, D, main: left behind. Their stacks and the values there
//!   C sleeps until 5 s                       stay as they are: never resumed, never unwound
//!   D waits for fd 7 ─ registered ─► epoll   fd 7 is registered with a new epoll when A first waits for it
//! ```
//!
//! Inherited values are never dropped, so no destructor runs in both processes.

use super::here::{adopt, here};
use super::run::WAKER_TOKEN;
use super::state::Hub;
use super::task::TaskRef;
use crate::greenlet::AnyWeakGreenlet;
use crate::greenlet::scheduled;
use crate::greenlet::scheduled::marks::{HUB, INTERRUPTED, LEFT_BEHIND, STATE};
use crate::sys::fork::{self, Side};
use std::io;
use std::mem::forget;
use std::sync::Arc;

/// Forks the process; in the child, only the current coroutine continues.
///
/// # Errors
///
/// If the kernel cannot create a process, or no descriptors are left: the child needs two of its own.
///
/// # Panics
///
/// In the hub's own greenlet, and in a callback that must not wait.
#[track_caller]
pub(crate) fn fork() -> io::Result<Side> {
    let hub = here();
    assert!(
        scheduled::running().mark() & HUB == 0,
        "a callback in the hub cannot fork: no coroutine would continue in the child; spawn one that forks",
    );
    let waker = hub.inbox.waker.renewal()?;
    let epoll = hub.epoll.get().map(|epoll| epoll.renewal(&waker, WAKER_TOKEN)).transpose()?;
    let side = fork::fork(&mut |fork| {
        // Other threads cannot push a message meanwhile, so the inbox is consistent in the child.
        let inbox = hub.inbox.lock();
        let side = fork();
        if matches!(side, Ok(Side::Child)) {
            adopt(hub);
            forget(inbox.clear());
        }
        side
    });
    if matches!(side, Ok(Side::Child)) {
        waker.renew();
        if let Some(epoll) = epoll {
            epoll.renew();
        }
        hub.reset_in_child();
    }
    side
}

impl Hub {
    /// Resets the hub in a child: only the current coroutine remains, and nothing is pending.
    fn reset_in_child(&self) {
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
        self.sources.reset_in_child();
        self.is_timed.set(false);
        self.waiting_for_idle.set(0);
        self.reports.set(0);
        drop(self.printed_deadlock.take());
    }
}
