#![forbid(unsafe_code)]
//! What a hub knows about descriptors: see `io.rs`.

use super::slots::Slots;
use crate::greenlet::AnyWeakGreenlet;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::mem::forget;
use std::os::fd::RawFd;
use std::rc::Rc;

/// In a cache line of its own: with many descriptors, it has left the cache by the time of the next event.
#[repr(align(64))]
pub(super) struct Inner {
    pub(super) read: Side,
    pub(super) write: Side,
    pub(super) fd: RawFd,
    /// A hang-up, an error or urgent data was seen: nothing is known by a short read any more.
    pub(super) exceptional: Cell<bool>,
    pub(super) state: Cell<State>,
    /// What is called by every event. Rare, so in a box: it is one word.
    pub(super) callback: Option<Box<Callback>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Its events are heard of.
    Registered,
    /// It is new, or was inherited from the process that has forked this one, and not waited for here.
    Unregistered,
    Closed,
}

pub(super) type Callback = Box<dyn Fn()>;

const _: () = assert!(size_of::<Inner>() == 64);

#[derive(Default)]
pub(super) struct Side {
    /// [`BLOCKED`], [`FIRST`], [`OTHERS`].
    pub(super) state: Cell<u8>,
    /// The first of the queue, and as a rule all of it. There is one if `FIRST` is set.
    pub(super) first: Cell<Option<AnyWeakGreenlet>>,
    /// `None` if there are none.
    pub(super) others: Cell<Option<Box<Others>>>,
}

/// A call would block, as far as is known: set when one has, cleared by an event. While it is not set, the
/// first of the queue has been woken.
pub(super) const BLOCKED: u8 = 0b001;
/// `Side::first` waits.
pub(super) const FIRST: u8 = 0b010;
/// `Others::queue` is not empty.
pub(super) const OTHERS: u8 = 0b100;

#[derive(Default)]
pub(super) struct Others {
    /// Behind `Side::first`, in order.
    pub(super) queue: VecDeque<(u64, AnyWeakGreenlet)>,
    /// Woken by every event. They take no turns.
    pub(super) watchers: Vec<(u64, AnyWeakGreenlet)>,
}

/// A thread's sources.
#[derive(Default)]
pub(super) struct Sources {
    pub(super) all: RefCell<Slots<Rc<Inner>>>,
    /// How many greenlets wait for an event.
    pub(super) waiting: Cell<usize>,
}

impl Sources {
    pub(super) fn is_empty(&self) -> bool {
        self.all.borrow().len() == 0
    }

    /// Whether anybody waits for an event.
    pub(super) fn are_waited_for(&self) -> bool {
        self.waiting.get() > 0
    }

    /// In a child: nobody waits, and nothing is registered.
    pub(super) fn begin_anew(&self) {
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

    pub(super) fn one_waits(&self) {
        self.waiting.set(self.waiting.get() + 1);
    }

    pub(super) fn one_waits_no_more(&self) {
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
    /// Whether one of these bits is set.
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

    /// Changes `others`, and keeps the bit `OTHERS` true.
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
