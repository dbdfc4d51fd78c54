#![forbid(unsafe_code)]
//! The data of a thread's hub.

use super::deadline::Deadline;
use super::inbox::Inbox;
use super::interrupt::Interrupt;
use super::ready::Ready;
use super::slots::Slots;
use super::sources::Sources;
use super::task::TaskRef;
use super::timers::{Key, Timers};
#[cfg(feature = "monkey")]
use super::work_source::Watch;
use super::work_source::WorkSource;
use crate::greenlet::AnyWeakGreenlet;
use crate::sys::poll::Epoll;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// The scheduler state of one thread.
pub(super) struct Hub {
    pub(super) ready: Ready,
    /// Switches left before the clock is read, and how many there were after the last reading.
    pub(super) ticks: Cell<u64>,
    pub(super) interval: Cell<u64>,
    /// Whether a timer may be pending, and the processor's counter when the clock was last read. While a
    /// timer may be pending, each switch compares that counter.
    pub(super) is_timed: Cell<bool>,
    pub(super) counter_read: Cell<u64>,
    /// When the clock was last read for this, and when events were last polled for.
    pub(super) clock_read: Cell<u64>,
    pub(super) polled: Cell<u64>,
    /// A copy of `polled` for a watchdog, if there is one.
    pub(super) watched: OnceCell<Arc<AtomicU64>>,
    /// The hub's own greenlet, and why it has the thread.
    pub(super) context: AnyWeakGreenlet,
    pub(super) run_reason: Cell<RunReason>,
    pub(super) calls: RefCell<VecDeque<Call>>,
    pub(super) timers: RefCell<Timers<TimerAction>>,
    pub(super) epoll: OnceCell<Epoll>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) sources: Sources,
    /// The greenlets that are registered to be woken by other threads.
    pub(super) remotes: RefCell<Slots<AnyWeakGreenlet>>,
    /// Its strong count, minus one, is the number of `RemoteHub`s.
    pub(super) outside: RefCell<Arc<()>>,
    /// The thread's main greenlet.
    pub(super) main: AnyWeakGreenlet,
    /// The task that receives deadlock reports: main, or in a child the coroutine that forked.
    pub(super) root: RefCell<TaskRef>,
    /// Number of deadlock and failure reports without progress in between, and of greenlets made at the
    /// last one.
    pub(super) reports: Cell<u32>,
    pub(super) made_at_report: Cell<u64>,
    /// The deadlock message that was last printed while main waits on.
    pub(super) printed_deadlock: RefCell<Option<String>>,
    /// Whether its coroutines have been ended, in order.
    pub(super) has_ended: Cell<bool>,
    pub(super) next_id: Cell<u64>,
    /// The name of the running callback that must not wait, if any: see `park.rs`.
    pub(super) callback: Cell<Option<&'static str>>,
    /// Functions to be called last.
    pub(super) at_end: RefCell<Vec<fn()>>,
    pub(super) work_source: OnceCell<Rc<dyn WorkSource>>,
    /// When unused stacks were last looked for.
    pub(super) trimmed: Cell<u64>,
    /// Number of greenlets that wait until no other is ready.
    pub(super) waiting_for_idle: Cell<usize>,
    #[cfg(feature = "monkey")]
    pub(super) watch: Cell<Option<Watch>>,
    /// The count of signal handlers at the last check.
    #[cfg(feature = "monkey")]
    pub(super) handled: Cell<crate::sys::signal_counts::Count>,
    /// When the current call of C began, if other greenlets had their turn since.
    #[cfg(feature = "monkey")]
    pub(super) call_began: Cell<Option<crate::sys::signal_counts::Count>>,
    /// Number of waits that any signal handler ends. Some may have been left behind in the parent.
    #[cfg(feature = "monkey")]
    pub(super) ended_by_any_handler: Cell<usize>,
}

/// Why the hub's greenlet has the thread.
#[derive(Clone, Copy, Default)]
pub(super) enum RunReason {
    /// A coroutine has ended.
    #[default]
    End,
    /// A queued call has its turn.
    Call,
    /// No greenlet is ready, or the last poll for events was too long ago.
    Poll,
    /// The thread ends.
    Stop,
}

/// A call to be made in the hub's greenlet.
pub(super) enum Call {
    Run(Box<dyn FnOnce()>),
    Interrupt(TaskRef, Interrupt),
}

/// What a timer does when it is due.
pub(super) enum TimerAction {
    Unpark(AnyWeakGreenlet),
    /// Delivers a timeout: with its id, its depth, and the greenlet that set it.
    Interrupt(TaskRef, u64, usize, AnyWeakGreenlet),
}

impl Hub {
    /// Adds a timer. Urgent ones precede others with the same deadline.
    pub(super) fn add_timer(&self, deadline: Deadline, urgent: bool, fire: TimerAction) -> Key {
        self.is_timed.set(true);
        self.timers.borrow_mut().insert(deadline, urgent, fire)
    }

    pub(super) fn next_id(&self) -> u64 {
        self.next_id.replace(self.next_id.get() + 1)
    }
}
