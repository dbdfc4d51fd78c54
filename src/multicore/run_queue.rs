#![forbid(unsafe_code)]
//! The bodies of a hub that have not begun.
//!
//! Its owner and whoever takes bodies from it begin with the oldest: who came first begins first, whoever has
//! it run. (To take the newest from the other end is the custom where the two ends have a lock each, or none.
//! Here there is one, and no end is cheaper.)

use super::body::Body;
use crate::sys::lock::Lock;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// At most so many are taken at a time by another hub: they are moved under the lock.
const MOST: usize = 128;

type Numbered = (u64, Arc<dyn Body>);

pub(super) struct RunQueue {
    bodies: Lock<Bodies>,
    /// How many there are, and how many of these may be taken by others: for who does not have the lock.
    all: AtomicUsize,
    movable: AtomicUsize,
}

#[derive(Default)]
struct Bodies {
    /// Those that stay, and those that need not, each with its number in the order of both.
    staying: VecDeque<Numbered>,
    movable: VecDeque<Numbered>,
    next: u64,
    is_closed: bool,
}

impl RunQueue {
    pub(super) fn new() -> Self {
        let bodies = Lock::new(Bodies::default());
        RunQueue { bodies, all: AtomicUsize::new(0), movable: AtomicUsize::new(0) }
    }

    fn with<R>(&self, f: impl FnOnce(&mut Bodies) -> R) -> R {
        let mut bodies = self.bodies.lock();
        let result = f(&mut bodies);
        let movable = bodies.movable.len();
        self.movable.store(movable, Relaxed);
        self.all.store(movable + bodies.staying.len(), Relaxed);
        result
    }

    /// To the end, unless it is closed. Returns how many there are that may be taken.
    pub(super) fn push(&self, body: Arc<dyn Body>, is_movable: bool) -> Option<usize> {
        self.with(|bodies| {
            if bodies.is_closed {
                return None;
            }
            bodies.push(body, is_movable);
            Some(bodies.movable.len())
        })
    }

    /// Puts in what was taken elsewhere, also if it is closed.
    pub(super) fn put(&self, taken: &mut Vec<Arc<dyn Body>>) {
        self.with(|bodies| taken.drain(..).for_each(|body| bodies.push(body, true)));
    }

    /// Takes so many of the oldest, at most.
    pub(super) fn take(&self, most: usize, into: &mut Vec<Arc<dyn Body>>) {
        self.with(|bodies| into.extend(std::iter::from_fn(|| bodies.pop()).take(most)));
    }

    /// For another hub: takes the older half of those that may be taken.
    pub(super) fn take_half(&self, into: &mut Vec<Arc<dyn Body>>) {
        if self.movable() > 0 {
            self.with(|bodies| {
                let half = bodies.movable.len().div_ceil(2).min(MOST);
                into.extend(bodies.movable.drain(..half).map(|(_, body)| body));
            });
        }
    }

    /// Lets no more in.
    pub(super) fn close(&self) {
        self.with(|bodies| bodies.is_closed = true);
    }

    /// How many there are, of late.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.all.load(Relaxed)
    }

    /// How many may be taken, of late.
    #[inline]
    pub(super) fn movable(&self) -> usize {
        self.movable.load(Relaxed)
    }
}

impl Bodies {
    fn push(&mut self, body: Arc<dyn Body>, is_movable: bool) {
        let numbered = (self.next, body);
        self.next += 1;
        if is_movable {
            self.movable.push_back(numbered);
        } else {
            self.staying.push_back(numbered);
        }
    }

    fn pop(&mut self) -> Option<Arc<dyn Body>> {
        let oldest = match (self.staying.front(), self.movable.front()) {
            (Some((staying, _)), Some((movable, _))) if staying < movable => &mut self.staying,
            (Some(_), None) => &mut self.staying,
            _ => &mut self.movable,
        };
        oldest.pop_front().map(|(_, body)| body)
    }
}
