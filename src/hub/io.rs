#![forbid(unsafe_code)]
//! Descriptors: try first, wait only when there is nothing to be done.
//!
//! ```text
//!   register: EPOLLET, both directions, once and for the life of the descriptor
//!
//!             the call says EAGAIN, or has read less than it could
//!     ready ──────────────────────────────────────────────────────► not ready: waits for an event
//!       ▲                                                              │
//!       └────────────── an event of the direction, or a hang-up ◄──────┘
//! ```
//!
//! Events come only while the hub polls, and nobody switches between a call and the note that it found
//! nothing: so an event that comes in between is still to be delivered, and none is missed.
//!
//! An event names a source by its slot and generation: one that is late, for a descriptor that was closed,
//! finds nobody, also if the number is in use again.

use super::deadline::Deadline;
use super::here::{try_with, with};
use super::park::{Wake, breathe, park, unpark};
use super::slots::{SlotKey, Slots};
use super::state::{Hub, current_greenlet};
use crate::greenlet::AnyWeakGreenlet;
use crate::sys::poll::Interest;
use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;

/// A direction in which something is done with a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Read,
    Write,
}

/// How a wait has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Event,
    TimedOut,
    /// The source was closed.
    Closed,
    #[cfg(feature = "monkey")]
    Interrupted,
}

/// A descriptor that is registered with this thread's hub. To be dropped before it is closed.
pub(crate) struct Source {
    fd: RawFd,
    key: SlotKey,
    inner: Rc<Inner>,
}

#[derive(Default)]
struct Inner {
    read: Side,
    write: Side,
    /// A hang-up, an error or urgent data was seen: nothing is known by a short read any more.
    exceptional: Cell<bool>,
    is_closed: Cell<bool>,
    /// What is called by every event.
    callback: Option<Box<dyn Fn()>>,
}

#[derive(Default)]
struct Side {
    is_blocked: Cell<bool>,
    waiting: RefCell<Vec<(u64, AnyWeakGreenlet)>>,
}

/// A thread's sources.
#[derive(Default)]
pub(super) struct Sources {
    all: Slots<Rc<Inner>>,
    /// How many greenlets wait for an event.
    waiting: usize,
}

impl Sources {
    pub(super) fn is_empty(&self) -> bool {
        self.all.len() == 0
    }

    /// Whether anybody waits for an event.
    pub(super) fn are_waited_for(&self) -> bool {
        self.waiting > 0
    }
}

impl Hub {
    /// Notes what has happened to a descriptor.
    pub(super) fn note(&self, token: u64, interest: Interest) {
        let inner = self.sources.borrow().all.get(SlotKey::from_bits(token)).cloned();
        let Some(inner) = inner else { return };
        inner.exceptional.set(inner.exceptional.get() || interest.exceptional);
        for (side, is_ready) in [(&inner.read, interest.read), (&inner.write, interest.write)] {
            if is_ready {
                self.unblock(side);
            }
        }
        if let Some(callback) = &inner.callback {
            callback();
        }
    }

    fn unblock(&self, side: &Side) {
        side.is_blocked.set(false);
        // All try again: one of them may leave something for the next, and no further event would say so.
        for (_, greenlet) in side.waiting.borrow().iter() {
            self.unpark(greenlet);
        }
    }
}

impl Source {
    /// Registers a descriptor that does not block.
    pub(crate) fn new(fd: RawFd) -> io::Result<Self> {
        Self::register(fd, Inner::default())
    }

    /// As [`Source::new`], and has every event call `callback` in the hub's greenlet. It must be ours, and
    /// neither wait nor panic. Nobody waits for it: when all others are stuck, the hub says so.
    pub(crate) fn calling(fd: RawFd, callback: impl Fn() + 'static) -> io::Result<Self> {
        Self::register(fd, Inner { callback: Some(Box::new(callback)), ..Inner::default() })
    }

    fn register(fd: RawFd, inner: Inner) -> io::Result<Self> {
        with(|hub| {
            let inner = Rc::new(inner);
            let key = hub.sources.borrow_mut().all.insert(Rc::clone(&inner));
            let source = Source { fd, key, inner };
            hub.epoll()?.add(fd, key.to_bits())?;
            Ok(source)
        })
    }

    /// Calls `call` until it says something else than that it would block, and waits in between.
    ///
    /// # Errors
    ///
    /// What the call says; `TimedOut` when `deadline` has passed; that the descriptor is closed, if another
    /// coroutine has closed it meanwhile.
    #[track_caller]
    pub(crate) fn attempt<R>(
        &self,
        direction: Direction,
        purpose: &'static str,
        deadline: Option<Deadline>,
        mut call: impl FnMut() -> io::Result<R>,
    ) -> io::Result<R> {
        // There may be no end to what can be done at once. Before the call, and not after it: a kill may be
        // raised here, and what the call has brought would be lost.
        breathe();
        loop {
            let side = self.side(direction);
            if side.is_blocked.get() {
                self.wait(direction, purpose, deadline)?;
            }
            match call() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    side.is_blocked.set(true)
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    /// Notes that a read has got less than it could: there is nothing more, until an event says so. Not of
    /// a stream whose other end may be closed: the event that says that may have come. Nor of one with urgent
    /// data, before which a read stops.
    #[inline]
    pub(crate) fn is_drained(&self) {
        if !self.inner.exceptional.get() {
            self.inner.read.is_blocked.set(true);
        }
    }

    /// Waits for an event, whatever was known. To be called after something that would block.
    pub(crate) fn wait(
        &self,
        direction: Direction,
        purpose: &'static str,
        deadline: Option<Deadline>,
    ) -> io::Result<()> {
        match self.wait_by(direction, || park(purpose, deadline)) {
            Ended::Event => Ok(()),
            Ended::Closed => Err(io::Error::from_raw_os_error(libc::EBADF)),
            _ => {
                let message = format!("{purpose} has timed out");
                Err(io::Error::new(io::ErrorKind::TimedOut, message))
            }
        }
    }

    /// As [`Source::wait`], by another way of parking.
    pub(crate) fn wait_by(&self, direction: Direction, mut park: impl FnMut() -> Wake) -> Ended {
        let side = self.side(direction);
        let _place = Place::new(&self.inner, direction);
        while side.is_blocked.get() {
            if self.inner.is_closed.get() {
                return Ended::Closed;
            }
            let wake = park();
            if !side.is_blocked.get() {
                break;
            }
            match wake {
                Wake::Unparked => {}
                Wake::TimedOut => return Ended::TimedOut,
                #[cfg(feature = "monkey")]
                Wake::Interrupted => return Ended::Interrupted,
            }
        }
        Ended::Event
    }

    /// Has the current greenlet woken by every event, until what this returns is dropped.
    pub(crate) fn watch(&self, direction: Direction) -> impl Sized + '_ {
        Place::new(&self.inner, direction)
    }

    /// Whether it is known that a call would have to wait.
    #[cfg(feature = "monkey")]
    #[inline]
    pub(crate) fn is_blocked(&self, direction: Direction) -> bool {
        self.side(direction).is_blocked.get()
    }

    /// Says that nothing is known, so that [`Source::wait`] waits for the next event.
    pub(crate) fn expect_event(&self, direction: Direction) {
        self.side(direction).is_blocked.set(true);
    }

    fn side(&self, direction: Direction) -> &Side {
        self.inner.side(direction)
    }
}

impl Inner {
    fn side(&self, direction: Direction) -> &Side {
        match direction {
            Direction::Read => &self.read,
            Direction::Write => &self.write,
        }
    }
}

impl Source {
    /// Has all who wait fail, and who comes later. Nothing is heard of the descriptor any more.
    pub(crate) fn close(&self) {
        self.leave();
        self.inner.is_closed.set(true);
        for side in [&self.inner.read, &self.inner.write] {
            side.is_blocked.set(true);
            for (_, greenlet) in side.waiting.borrow().iter() {
                unpark(greenlet);
            }
        }
    }
}

impl Source {
    /// Leaves the hub, if that has not been done: neither the key nor the number is its own then.
    pub(crate) fn leave(&self) {
        try_with(|hub| {
            let Some(_inner) = hub.sources.borrow_mut().all.remove(self.key) else { return };
            if let Ok(epoll) = hub.epoll() {
                // Else a copy of the descriptor would keep it registered.
                epoll.remove(self.fd);
            }
        });
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.leave();
    }
}

/// One that waits for an event, until this is dropped.
struct Place<'a> {
    inner: &'a Inner,
    direction: Direction,
    id: u64,
}

impl<'a> Place<'a> {
    fn new(inner: &'a Inner, direction: Direction) -> Self {
        let me = current_greenlet();
        let id = with(|hub| {
            hub.sources.borrow_mut().waiting += 1;
            hub.next_id()
        });
        inner.side(direction).waiting.borrow_mut().push((id, me));
        Place { inner, direction, id }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        try_with(|hub| hub.sources.borrow_mut().waiting -= 1);
        let mut waiting = self.inner.side(self.direction).waiting.borrow_mut();
        let at = waiting.iter().position(|(id, _)| *id == self.id);
        let place = at.map(|at| waiting.swap_remove(at));
        drop(waiting);
        drop(place);
    }
}
