#![forbid(unsafe_code)]
//! What a thread's hub keeps.

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

/// What a thread keeps for its coroutines.
pub(super) struct Hub {
    pub(super) ready: Ready,
    /// Changes left before the clock is looked at, and how many there were last time.
    pub(super) ticks: Cell<u64>,
    pub(super) interval: Cell<u64>,
    /// Whether a timer may be pending: then each change looks at the processor's counter, which said this
    /// when the clock was last looked at.
    pub(super) is_timed: Cell<bool>,
    pub(super) counted: Cell<u64>,
    /// When the clock was last looked at for this, and when events were looked for.
    pub(super) looked: Cell<u64>,
    pub(super) polled: Cell<u64>,
    /// The same for a watchdog, if there is one.
    pub(super) watched: OnceCell<Arc<AtomicU64>>,
    /// The hub's own greenlet, and what it is to do when it has the thread.
    pub(super) context: AnyWeakGreenlet,
    pub(super) why: Cell<RunReason>,
    pub(super) calls: RefCell<VecDeque<Call>>,
    pub(super) timers: RefCell<Timers<TimerAction>>,
    pub(super) epoll: OnceCell<Epoll>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) sources: Sources,
    /// Who is registered to be woken from elsewhere.
    pub(super) remotes: RefCell<Slots<AnyWeakGreenlet>>,
    /// Counts, by its copies, the [`RemoteHub`]s that there are.
    pub(super) outside: RefCell<Arc<()>>,
    /// The thread's main greenlet.
    pub(super) main: AnyWeakGreenlet,
    /// Who is told when nobody can ever wake anybody: main, or in a child the coroutine that has forked.
    pub(super) root: RefCell<TaskRef>,
    /// Reports of deadlocks and failures since something has happened, and what they keep.
    pub(super) reports: Cell<u32>,
    pub(super) made_at_report: Cell<u64>,
    /// What was last written to standard error of a deadlock in which main waits on.
    pub(super) said_deadlock: RefCell<Option<String>>,
    /// Its coroutines have been ended, in order.
    pub(super) has_ended: Cell<bool>,
    pub(super) next_id: Cell<u64>,
    /// The callback that runs and must not wait, if one does: see `park.rs`.
    pub(super) callback: Cell<Option<&'static str>>,
    /// What is to be done last.
    pub(super) at_end: RefCell<Vec<fn()>>,
    pub(super) work_source: OnceCell<Rc<dyn WorkSource>>,
    /// When unused stacks were last looked for.
    pub(super) trimmed: Cell<u64>,
    /// How many wait until nobody is ready.
    pub(super) waiting_for_idle: Cell<usize>,
    #[cfg(feature = "monkey")]
    pub(super) watch: Cell<Option<Watch>>,
    /// When signal handlers were last looked for.
    #[cfg(feature = "monkey")]
    pub(super) handled: Cell<crate::sys::signal_counts::Count>,
    /// When the current call of C began, if others have had their turn since.
    #[cfg(feature = "monkey")]
    pub(super) call_began: Cell<Option<crate::sys::signal_counts::Count>>,
    /// How many wait in calls that any handler ends. Some of them may have been left behind in the parent.
    #[cfg(feature = "monkey")]
    pub(super) ended_by_any_handler: Cell<usize>,
}

/// RunReason the hub's greenlet has the thread.
#[derive(Clone, Copy, Default)]
pub(super) enum RunReason {
    /// A coroutine has ended.
    #[default]
    End,
    /// It is its turn to run a call.
    Call,
    /// Nobody is ready, or events were not looked for in a while.
    Poll,
    /// The thread ends.
    Stop,
}

/// What is to be done in the hub's greenlet.
pub(super) enum Call {
    Run(Box<dyn FnOnce()>),
    Interrupt(TaskRef, Interrupt),
}

/// What happens when a time has come.
pub(super) enum TimerAction {
    Unpark(AnyWeakGreenlet),
    /// A time limit has passed: with its number and depth, and the greenlet that has set it.
    Interrupt(TaskRef, u64, usize, AnyWeakGreenlet),
}

impl Hub {
    /// Has something happen at a time.
    pub(super) fn add_timer(&self, deadline: Deadline, urgent: bool, fire: TimerAction) -> Key {
        self.is_timed.set(true);
        self.timers.borrow_mut().insert(deadline, urgent, fire)
    }

    pub(super) fn next_id(&self) -> u64 {
        self.next_id.replace(self.next_id.get() + 1)
    }
}
