#![forbid(unsafe_code)]
//! The hub's data about descriptors: see `io.rs`.

use super::slots::Slots;
use crate::greenlet::AnyWeakGreenlet;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::mem::forget;
use std::os::fd::RawFd;
use std::rc::Rc;

/// In a cache line of its own: with many descriptors, it is evicted by the time of the next event.
#[repr(align(64))]
pub(super) struct Inner {
    pub(super) read: Side,
    pub(super) write: Side,
    pub(super) fd: RawFd,
    /// A hang-up, an error or urgent data was seen: a short read no longer means that the socket is
    /// drained.
    pub(super) exceptional: Cell<bool>,
    pub(super) state: Cell<State>,
    /// Called at every event. Boxed, since it is rare: it takes one word.
    pub(super) callback: Option<Box<Callback>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Registered with the epoll instance of the hub.
    Registered,
    /// New, or inherited from the forking process and not waited for since.
    Unregistered,
    Closed,
}

pub(super) type Callback = Box<dyn Fn()>;

const _: () = assert!(size_of::<Inner>() == 64);

/// One direction of a source: its readiness and its waiters.
#[derive(Default)]
pub(super) struct Side {
    /// The bits [`BLOCKED`], [`FIRST`], [`OTHERS`].
    pub(super) state: Cell<u8>,
    /// The first waiter of the queue, usually the only one. Present if `FIRST` is set.
    pub(super) first: Cell<Option<AnyWeakGreenlet>>,
    /// The other waiters, and the watchers. `None` if empty.
    pub(super) others: Cell<Option<Box<Others>>>,
}

/// A call would block, as far as is known. Set when a call has returned `EAGAIN` or a read was short, when
/// a waiter expects an event, and at the close of the source; cleared by an event. While it is clear, the
/// first waiter has been woken.
pub(super) const BLOCKED: u8 = 0b001;
/// `Side::first` holds a waiter. Set and cleared together with that field.
pub(super) const FIRST: u8 = 0b010;
/// `Others::queue` is not empty. Updated by [`Side::change_others`].
pub(super) const OTHERS: u8 = 0b100;

/// The waiters of a direction besides the first.
#[derive(Default)]
pub(super) struct Others {
    /// The waiters behind `Side::first`, in order.
    pub(super) queue: VecDeque<(u64, AnyWeakGreenlet)>,
    /// Woken by every event. They take no turns.
    pub(super) watchers: Vec<(u64, AnyWeakGreenlet)>,
}

/// The sources of a thread.
#[derive(Default)]
pub(super) struct Sources {
    pub(super) all: RefCell<Slots<Rc<Inner>>>,
    /// Number of greenlets that wait for an event.
    pub(super) waiting: Cell<usize>,
}

impl Sources {
    pub(super) fn is_empty(&self) -> bool {
        self.all.borrow().len() == 0
    }

    /// Whether a greenlet waits for an event.
    pub(super) fn has_waiters(&self) -> bool {
        self.waiting.get() > 0
    }

    /// Resets all sources in a child: without waiters, and not registered.
    pub(super) fn reset_in_child(&self) {
        self.waiting.set(0);
        for inner in self.all.borrow().iter() {
            for side in [&inner.read, &inner.write] {
                side.state.set(0);
                forget((side.first.take(), side.others.take()));
            }
            if inner.state.get() == State::Registered {
                inner.state.set(State::Unregistered);
            }
        }
    }

    pub(super) fn add_waiter(&self) {
        self.waiting.set(self.waiting.get() + 1);
    }

    pub(super) fn remove_waiter(&self) {
        self.waiting.set(self.waiting.get() - 1);
    }
}

impl Inner {
    pub(super) fn new(fd: RawFd, callback: Option<Box<Callback>>) -> Self {
        Inner {
            read: Side::default(),
            write: Side::default(),
            fd,
            exceptional: Cell::new(false),
            state: Cell::new(State::Unregistered),
            callback,
        }
    }
}

impl Side {
    /// Whether any of these bits is set.
    #[inline(always)]
    pub(super) fn is(&self, bits: u8) -> bool {
        self.state.get() & bits != 0
    }

    #[inline(always)]
    pub(super) fn set(&self, bits: u8) {
        self.state.set(self.state.get() | bits);
    }

    #[inline(always)]
    pub(super) fn clear(&self, bits: u8) {
        self.state.set(self.state.get() & !bits);
    }

    /// Changes `others`, and updates the bit `OTHERS`.
    pub(super) fn change_others<R>(&self, change: impl FnOnce(&mut Others) -> R) -> R {
        let mut others = self.others.take().unwrap_or_default();
        let result = change(&mut others);
        self.clear(OTHERS);
        if !others.queue.is_empty() {
            self.set(OTHERS);
        }
        if !others.queue.is_empty() || !others.watchers.is_empty() {
            self.others.set(Some(others));
        }
        result
    }
}
