#![forbid(unsafe_code)]
//! What the hubs share, and what each hub exposes to the others.

use super::idle::Idle;
use super::run_queue::RunQueue;
use crate::hub::RemoteHub;
use crate::sync::{Event, Shared};
use crate::sys::exit::at_exit;
use crate::sys::lock::Lock;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, OnceLock, Weak};

/// One hub as the others see it. Aligned, so that no two hubs share cache lines.
#[repr(align(128))]
pub(super) struct RemoteWorker {
    pub(super) index: usize,
    pub(super) queue: RunQueue,
    /// Set by [`RemoteWorker::introduce`], before any other thread uses it.
    hub: OnceLock<RemoteHub>,
}

pub(super) struct SharedState {
    pub(super) remotes: Box<[Arc<RemoteWorker>]>,
    pub(super) idle: Idle,
    /// The stack size in bytes of the coroutines that run tasks.
    pub(super) stack_size: Option<usize>,
    /// How long an idle hub spins before it sleeps, in nanoseconds.
    pub(super) spin: u64,
    /// Set when all queues are closed.
    is_closed: AtomicBool,
    /// The same as an event, to wait for.
    pub(super) closing: Event<Shared>,
    /// Tasks that have not begun are dropped instead of run.
    is_killing: AtomicBool,
    /// Whether a task was killed because of `is_killing`.
    has_killed: AtomicBool,
    /// The number of threads that have not ended, and the event set when it reaches 0.
    running: AtomicUsize,
    pub(super) over: Event<Shared>,
}

/// All shared states. `None` once the process is ending: no more may be added.
static ALL: Lock<Option<Vec<Weak<SharedState>>>> = Lock::new(Some(Vec::new()));

/// The exit handler: closes all hubs.
fn close_all() {
    let all = ALL.lock().take();
    all.iter().flatten().filter_map(Weak::upgrade).for_each(|shared| shared.close());
}

impl RemoteWorker {
    fn new(index: usize) -> Self {
        RemoteWorker { index, queue: RunQueue::new(), hub: OnceLock::new() }
    }

    /// Publishes the hub. Called once, on its thread.
    pub(super) fn introduce(&self) {
        self.hub.get_or_init(RemoteHub::here);
    }

    pub(super) fn hub(&self) -> &RemoteHub {
        self.hub.get().expect("`introduce` ran before the worker was published")
    }

    pub(super) fn nudge(&self) {
        if let Some(hub) = self.hub.get() {
            hub.nudge();
        }
    }
}

impl SharedState {
    pub(super) fn new(threads: usize, stack_size: Option<usize>, spin: u64) -> Self {
        SharedState {
            remotes: (0..threads).map(|index| Arc::new(RemoteWorker::new(index))).collect(),
            idle: Idle::new(threads),
            stack_size,
            spin,
            is_closed: AtomicBool::new(false),
            closing: Event::shared(),
            is_killing: AtomicBool::new(false),
            has_killed: AtomicBool::new(false),
            running: AtomicUsize::new(threads),
            over: Event::shared(),
        }
    }

    /// Wakes an idle hub to search, when `movable` tasks wait on a busy hub.
    ///
    /// Which hub, and whether any, is decided by [`Idle::claim_searcher`]. A single task is not urgent: its
    /// own hub may begin it at once.
    pub(super) fn wake_searcher(&self, movable: usize) {
        if movable > 0
            && let Some(idle) = self.idle.claim_searcher(movable > 1)
        {
            self.remotes[idle].nudge();
        }
    }

    /// Accepts no more tasks. Each hub ends when it has none left.
    pub(super) fn close(&self) {
        self.remotes.iter().for_each(|remote| remote.queue.close());
        self.is_closed.store(true, Release);
        self.remotes.iter().for_each(|remote| remote.nudge());
        self.closing.set();
    }

    /// Registers these hubs to be closed when the process ends.
    ///
    /// Idle hubs would otherwise block the exit, which waits for their threads.
    ///
    /// Called after the threads were made, since exit handlers run in reverse order of registration.
    /// Returns `false` if the process is already ending and would not close them.
    #[must_use]
    pub(super) fn close_at_exit(self: &Arc<Self>) -> bool {
        let mut all = ALL.lock();
        let Some(states) = &mut *all else { return false };
        if !at_exit(close_all) {
            return false;
        }
        states.retain(|shared| shared.strong_count() > 0);
        states.push(Arc::downgrade(self));
        true
    }

    /// Whether no more tasks are accepted.
    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Acquire)
    }

    /// Whether no hub has tasks that another hub may take.
    pub(super) fn is_empty(&self) -> bool {
        self.remotes.iter().all(|remote| remote.queue.movable() == 0)
    }

    /// Kills tasks from now on instead of beginning them.
    pub(super) fn set_killing(&self) {
        self.is_killing.store(true, Release);
    }

    pub(super) fn is_killing(&self) -> bool {
        self.is_killing.load(Acquire)
    }

    /// Records that a task was killed because of `is_killing`.
    pub(super) fn note_killed(&self) {
        self.has_killed.store(true, Relaxed);
    }

    /// Whether a task was killed. Exact for the threads that have ended.
    pub(super) fn has_killed(&self) -> bool {
        self.has_killed.load(Relaxed)
    }

    /// Records the end of a thread, or that it was never made.
    pub(super) fn thread_ended(&self) {
        if self.running.fetch_sub(1, AcqRel) == 1 {
            self.over.set();
        }
    }
}
