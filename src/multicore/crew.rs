#![forbid(unsafe_code)]
//! What the hubs of a crew share, and what each of them shows the others.

use super::idle::Idle;
use super::run_queue::RunQueue;
use crate::hub::RemoteHub;
use crate::sync::{Event, Shared};
use crate::sys::exit::at_exit;
use crate::sys::lock::Lock;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, OnceLock, Weak};

/// A hub, for the others: in cache lines of its own.
#[repr(align(128))]
pub(super) struct Member {
    pub(super) index: usize,
    pub(super) queue: RunQueue,
    /// Set before anybody else knows of it.
    remote: OnceLock<RemoteHub>,
}

pub(super) struct Crew {
    pub(super) members: Box<[Arc<Member>]>,
    pub(super) idle: Idle,
    /// Of the coroutines that bodies run in.
    pub(super) stack_size: Option<usize>,
    /// Nanoseconds: for so long a hub stays awake that has nothing to do.
    pub(super) spin: u64,
    /// Set when all queues are closed.
    is_closed: AtomicBool,
    /// The same, for who waits for it.
    pub(super) closing: Event<Shared>,
    /// Bodies do not begin any more.
    is_killing: AtomicBool,
    /// Whether a body was killed for it.
    has_killed: AtomicBool,
    /// Threads that have not ended, and an event for when there are none.
    running: AtomicUsize,
    pub(super) over: Event<Shared>,
}

/// The crews that there are. `None` when the process ends: there are to be no others.
static ALL: Lock<Option<Vec<Weak<Crew>>>> = Lock::new(Some(Vec::new()));

/// At the end of the process.
fn close_all() {
    let all = ALL.lock().take();
    all.iter().flatten().filter_map(Weak::upgrade).for_each(|crew| crew.close());
}

impl Member {
    fn new(index: usize) -> Self {
        Member { index, queue: RunQueue::new(), remote: OnceLock::new() }
    }

    /// To be called once, on its thread.
    pub(super) fn introduce(&self) {
        self.remote.get_or_init(RemoteHub::here);
    }

    pub(super) fn remote(&self) -> &RemoteHub {
        self.remote.get().expect("it was introduced")
    }

    pub(super) fn nudge(&self) {
        if let Some(remote) = self.remote.get() {
            remote.nudge();
        }
    }
}

impl Crew {
    pub(super) fn new(threads: usize, stack_size: Option<usize>, spin: u64) -> Self {
        Crew {
            members: (0..threads).map(|index| Arc::new(Member::new(index))).collect(),
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

    /// So many bodies may be waiting for a hub that does something else. One may be begun at once all the
    /// same.
    pub(super) fn call_for_help(&self, movable: usize) {
        if movable > 0
            && let Some(idle) = self.idle.call_for_help(movable > 1)
        {
            self.members[idle].nudge();
        }
    }

    /// Takes no more bodies. Hubs end when they have none left.
    pub(super) fn close(&self) {
        self.members.iter().for_each(|member| member.queue.close());
        self.is_closed.store(true, Release);
        self.members.iter().for_each(|member| member.nudge());
        self.closing.set();
    }

    /// Has it closed when the process ends, if it is not by then: hubs that are idle would keep the process,
    /// which waits for their threads. To be called when these have been made: what is said last to be done at
    /// the end is done first. `false` if the process ends already: nobody would close it.
    #[must_use]
    pub(super) fn close_at_exit(self: &Arc<Self>) -> bool {
        let mut all = ALL.lock();
        let Some(crews) = &mut *all else { return false };
        if !at_exit(close_all) {
            return false;
        }
        crews.retain(|crew| crew.strong_count() > 0);
        crews.push(Arc::downgrade(self));
        true
    }

    /// Whether no bodies come any more.
    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Acquire)
    }

    /// Whether there are none that could be taken from another hub.
    pub(super) fn is_empty(&self) -> bool {
        self.members.iter().all(|member| member.queue.movable() == 0)
    }

    /// Bodies are killed from now on, and do not begin.
    pub(super) fn set_killing(&self) {
        self.is_killing.store(true, Release);
    }

    pub(super) fn is_killing(&self) -> bool {
        self.is_killing.load(Acquire)
    }

    /// A body is killed because of this.
    pub(super) fn note_killed(&self) {
        self.has_killed.store(true, Relaxed);
    }

    /// Whether none was, of those whose threads have ended.
    pub(super) fn has_killed(&self) -> bool {
        self.has_killed.load(Relaxed)
    }

    /// A thread ends, or was never made.
    pub(super) fn thread_ended(&self) {
        if self.running.fetch_sub(1, AcqRel) == 1 {
            self.over.set();
        }
    }
}
