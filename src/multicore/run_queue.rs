#![forbid(unsafe_code)]
//! The queue of a hub's tasks that have not begun.
//!
//! The owner and the hubs that steal from it both take the oldest task, so tasks begin in the order in
//! which they were spawned, whichever hub runs them. (Queues whose two ends have separate locks, or none,
//! let thieves take from the other end. Here both ends are under one lock, and neither is cheaper.)

use super::task::Task;
use crate::sys::lock::Lock;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The maximum number of tasks another hub takes at a time, since they are moved under the lock.
const MAX_TAKEN: usize = 128;

type Numbered = (u64, Arc<dyn Task>);

pub(super) struct RunQueue {
    tasks: Lock<Tasks>,
    /// The number of tasks, and how many of these may be taken by other hubs. Readable without the lock.
    all: AtomicUsize,
    movable: AtomicUsize,
}

#[derive(Default)]
struct Tasks {
    /// Tasks bound to this hub, and tasks that may move, each with its number in their common order.
    staying: VecDeque<Numbered>,
    movable: VecDeque<Numbered>,
    next: u64,
    is_closed: bool,
}

impl RunQueue {
    pub(super) fn new() -> Self {
        let tasks = Lock::new(Tasks::default());
        RunQueue { tasks, all: AtomicUsize::new(0), movable: AtomicUsize::new(0) }
    }

    fn with<R>(&self, f: impl FnOnce(&mut Tasks) -> R) -> R {
        let mut tasks = self.tasks.lock();
        let result = f(&mut tasks);
        let movable = tasks.movable.len();
        self.movable.store(movable, Relaxed);
        self.all.store(movable + tasks.staying.len(), Relaxed);
        result
    }

    /// Appends a task, and returns how many may be taken.
    ///
    /// `None` if the queue is closed.
    pub(super) fn push(&self, task: Arc<dyn Task>, is_movable: bool) -> Option<usize> {
        self.with(|tasks| {
            if tasks.is_closed {
                return None;
            }
            tasks.push(task, is_movable);
            Some(tasks.movable.len())
        })
    }

    /// Appends tasks that were taken from another hub, even if the queue is closed.
    pub(super) fn put(&self, taken: &mut Vec<Arc<dyn Task>>) {
        self.with(|tasks| taken.drain(..).for_each(|task| tasks.push(task, true)));
    }

    /// Moves at most `most` of the oldest tasks to `into`.
    pub(super) fn take(&self, most: usize, into: &mut Vec<Arc<dyn Task>>) {
        self.with(|tasks| into.extend(std::iter::from_fn(|| tasks.pop()).take(most)));
    }

    /// Moves the older half of the tasks that may be taken to `into`, for another hub.
    pub(super) fn take_half(&self, into: &mut Vec<Arc<dyn Task>>) {
        if self.movable() > 0 {
            self.with(|tasks| {
                let half = tasks.movable.len().div_ceil(2).min(MAX_TAKEN);
                into.extend(tasks.movable.drain(..half).map(|(_, task)| task));
            });
        }
    }

    /// Accepts no more tasks.
    pub(super) fn close(&self) {
        self.with(|tasks| tasks.is_closed = true);
    }

    /// The number of tasks; may be out of date.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.all.load(Relaxed)
    }

    /// The number of tasks that may be taken; may be out of date.
    #[inline]
    pub(super) fn movable(&self) -> usize {
        self.movable.load(Relaxed)
    }
}

impl Tasks {
    fn push(&mut self, task: Arc<dyn Task>, is_movable: bool) {
        let numbered = (self.next, task);
        self.next += 1;
        if is_movable {
            self.movable.push_back(numbered);
        } else {
            self.staying.push_back(numbered);
        }
    }

    fn pop(&mut self) -> Option<Arc<dyn Task>> {
        let oldest = match (self.staying.front(), self.movable.front()) {
            (Some((staying, _)), Some((movable, _))) if staying < movable => &mut self.staying,
            (Some(_), None) => &mut self.staying,
            _ => &mut self.movable,
        };
        oldest.pop_front().map(|(_, task)| task)
    }
}
