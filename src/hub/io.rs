#![forbid(unsafe_code)]
//! Descriptors: calls are tried first, and wait only when they would block.
//!
//! ```text
//!   register: EPOLLET, both directions, once, for the life of the descriptor
//!
//!             a call returns EAGAIN, or a short read
//!     ready ──────────────────────────────────────────────────────► blocked: waits for an event
//!       ▲                                                              │
//!       └────────────── an event of the direction, or a hang-up ◄──────┘
//! ```
//!
//! Events arrive only while the hub polls, and no switch happens between a call and the note that it would
//! block. So an event that occurs in between is delivered later, and none is missed.
//!
//! The waiters of one direction form a queue, first in, first out. An event wakes the first; each waiter
//! wakes the next when it leaves the queue, if more may be ready. A new call queues behind existing
//! waiters, even if it would succeed at once; a waiter that was woken in vain returns to the front:
//!
//! ```text
//!   new ──► │ others … │ first │ ──► its turn: leaves, wakes the next, makes its call
//!                          ▲              │
//!                          └── EAGAIN ◄───┘
//! ```
//!
//! Calls are made outside of the queue, so a call that switches or never returns does not block other
//! waiters.
//!
//! An event names its source by slot and generation. A late event, for a closed descriptor, finds no
//! source, even if the descriptor's number is in use again.

use super::current::current_greenlet;
use super::deadline::Deadline;
use super::here::{Here, here, try_with, unless_ended, with};
use super::park::Wake;
use super::slots::SlotKey;
use super::sources::{BLOCKED, FIRST, Inner, OTHERS, Others, Side, State};
use super::state::Hub;
use crate::arch::prefetch;
use crate::greenlet::AnyWeakGreenlet;
use crate::greenlet::scheduled;
use crate::sys::poll::{Events, Readiness};
use std::io;
use std::os::fd::RawFd;
use std::ptr;
use std::rc::Rc;

/// The direction of an operation on a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Read,
    Write,
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Event,
    TimedOut,
    /// The source was closed.
    Closed,
    #[cfg(feature = "monkey")]
    Interrupted,
    /// A signal handler has run that interrupts the call.
    #[cfg(feature = "monkey")]
    Signalled,
}

/// A descriptor registered with this thread's hub. Must be dropped before the descriptor is closed.
pub(crate) struct Source {
    key: SlotKey,
    inner: Rc<Inner>,
}

impl Hub {
    /// Handles an event of a descriptor.
    #[inline]
    pub(super) fn handle_event(&self, token: u64, readiness: Readiness) {
        // No foreign code runs during this borrow.
        let sources = self.sources.all.borrow();
        let Some(inner) = sources.get(SlotKey::from_bits(token)) else { return };
        if readiness.exceptional {
            inner.exceptional.set(true);
        }
        if readiness.read {
            self.unblock(&inner.read);
        }
        if readiness.write {
            self.unblock(&inner.write);
        }
        if inner.callback.is_some() {
            let inner = Rc::clone(inner);
            drop(sources);
            inner.callback.iter().for_each(|callback| callback());
        }
    }

    /// Prefetches the memory that the events after the one at `index` need.
    ///
    /// With many descriptors, it is in a distant cache or in none.
    #[inline]
    pub(super) fn prefetch_ahead(&self, events: &Events, index: usize) {
        /// Prefetch distances, in events.
        const SOURCE: usize = 6;
        const GREENLET: usize = 3;
        let sources = self.sources.all.borrow();
        let source = |ahead: usize| {
            let (token, _) = events.get(index + ahead)?;
            sources.get(SlotKey::from_bits(token))
        };
        if let Some(inner) = source(SOURCE) {
            prefetch(ptr::from_ref(&**inner).cast());
        }
        if let Some(inner) = source(GREENLET)
            && let Some(first) = inner.read.first.take()
        {
            first.prefetch();
            inner.read.first.set(Some(first));
        }
    }

    #[inline]
    fn unblock(&self, side: &Side) {
        let state = side.state.get();
        side.state.set(state & !BLOCKED);
        if state & BLOCKED != 0
            && let Some(first) = side.first.take()
        {
            self.unpark(&first);
            // The whole chain at once, since a page that is not in the TLB takes long to reach.
            first.prefetch_stack();
            side.first.set(Some(first));
        }
        if let Some(others) = side.others.take() {
            self.unpark_watchers(&others);
            side.others.set(Some(others));
            if state & OTHERS != 0 {
                self.wake_next(side);
            }
        }
    }

    #[cold]
    fn unpark_watchers(&self, others: &Others) {
        others.watchers.iter().for_each(|(_, greenlet)| self.unpark(greenlet));
    }

    /// Wakes the first waiter of the queue, if a call may succeed.
    #[cold]
    #[inline(never)]
    fn wake_next(&self, side: &Side) {
        if side.is(BLOCKED) {
            return;
        }
        side.remove_dead(self);
        if let Some(first) = side.first.take() {
            self.unpark(&first);
            side.first.set(Some(first));
        } else if let Some(others) = side.others.take() {
            others.queue.iter().take(1).for_each(|(_, greenlet)| self.unpark(greenlet));
            side.others.set(Some(others));
        }
    }

    /// Wakes all waiters and watchers.
    fn unpark_all(&self, side: &Side) {
        let (first, others) = (side.first.take(), side.others.take());
        first.iter().for_each(|first| self.unpark(first));
        if let Some(others) = &others {
            self.unpark_watchers(others);
            others.queue.iter().for_each(|(_, greenlet)| self.unpark(greenlet));
        }
        side.first.set(first);
        side.others.set(others);
    }
}

impl Source {
    /// Registers a non-blocking descriptor.
    pub(crate) fn new(fd: RawFd) -> io::Result<Self> {
        Self::register(Inner::new(fd, None))
    }

    /// Registers a non-blocking descriptor whose events call `callback` in the hub's greenlet.
    ///
    /// The callback must be this crate's, and neither wait nor panic. It does not count as a waiter: a
    /// deadlock of all greenlets is reported nonetheless.
    pub(crate) fn calling(fd: RawFd, callback: impl Fn() + 'static) -> io::Result<Self> {
        Self::register(Inner::new(fd, Some(Box::new(Box::new(callback)))))
    }

    fn register(inner: Inner) -> io::Result<Self> {
        with(|hub| {
            let inner = Rc::new(inner);
            let key = hub.sources.all.borrow_mut().insert(Rc::clone(&inner));
            let source = Source { key, inner };
            source.add_to(hub)?;
            Ok(source)
        })
    }

    fn add_to(&self, hub: &Hub) -> io::Result<()> {
        hub.epoll()?.add(self.inner.fd, self.key.to_bits())?;
        self.inner.state.set(State::Registered);
        Ok(())
    }

    /// Makes a call until it does not fail with `WouldBlock` or `Interrupted`, and waits in between.
    ///
    /// A caller queues behind existing waiters.
    ///
    /// # Errors
    ///
    /// The error of the call; `TimedOut` when `deadline` has passed; `EBADF` if another coroutine has
    /// closed the descriptor meanwhile.
    #[inline(always)]
    #[track_caller]
    pub(crate) fn attempt<R>(
        &self,
        direction: Direction,
        purpose: &'static str,
        deadline: Option<Deadline>,
        mut call: impl FnMut() -> io::Result<R>,
    ) -> io::Result<R> {
        // Calls may succeed indefinitely without blocking. Yields before the call, not after it: a kill may
        // be thrown here, and the result of a call would be lost.
        if let Some(hub) = unless_ended() {
            hub.yield_if_due();
        }
        let side = self.side(direction);
        let mut behind = FIRST | OTHERS;
        loop {
            if side.is(BLOCKED | behind) {
                match self.wait_in(here(), side, behind, purpose, deadline) {
                    Ended::Event => behind = 0,
                    ended => return Err(ended.into_error(purpose)),
                }
            }
            match call() {
                Ok(result) => return Ok(result),
                Err(error) => match side.classify(error) {
                    None => {}
                    Some(error) => return Err(error),
                },
            }
        }
    }

    /// Notes a short read: the descriptor is drained until the next event.
    ///
    /// Ignored after a hang-up, whose event may have arrived already, and after urgent data, before which a
    /// read stops.
    #[inline]
    pub(crate) fn is_drained(&self) {
        if !self.inner.exceptional.get() {
            self.inner.read.set(BLOCKED);
        }
    }

    /// Whether a hang-up, an error or urgent data was seen.
    #[inline]
    pub(crate) fn is_exceptional(&self) -> bool {
        self.inner.exceptional.get()
    }

    /// Waits until the direction may be ready and it is the caller's turn.
    ///
    /// To be called after a call that would block; [`Source::expect_event`] makes it wait for the next
    /// event.
    #[track_caller]
    pub(crate) fn wait(
        &self,
        direction: Direction,
        purpose: &'static str,
        deadline: Option<Deadline>,
    ) -> io::Result<()> {
        match self.wait_in(here(), self.side(direction), FIRST | OTHERS, purpose, deadline) {
            Ended::Event => Ok(()),
            ended => Err(ended.into_error(purpose)),
        }
    }

    /// Waits for a turn behind the waiters that `behind` names: all of them, or none if it is 0.
    #[track_caller]
    fn wait_in(
        &self,
        hub: Here,
        side: &Side,
        behind: u8,
        purpose: &'static str,
        deadline: Option<Deadline>,
    ) -> Ended {
        let Some(_place) = First::take(hub, side, behind) else {
            return self.wait_with_others(side, behind, || hub.park(purpose, deadline));
        };
        self.wait_for_turn(side, || true, || hub.park(purpose, deadline))
    }

    #[cold]
    #[inline(never)]
    fn wait_with_others(&self, side: &Side, behind: u8, park: impl FnMut() -> Wake) -> Ended {
        let place = QueueEntry::in_queue(side, behind != 0);
        with(|hub| hub.wake_next(side));
        self.wait_for_turn(side, || place.is_first(), park)
    }

    #[inline(always)]
    fn wait_for_turn(
        &self,
        side: &Side,
        is_first: impl Fn() -> bool,
        mut park: impl FnMut() -> Wake,
    ) -> Ended {
        while side.is(BLOCKED) || !is_first() {
            if self.inner.state.get() != State::Registered && !self.register_if_inherited() {
                return Ended::Closed;
            }
            let wake = park();
            if !side.is(BLOCKED) && is_first() {
                break;
            }
            match wake {
                Wake::Unparked => {}
                Wake::TimedOut => return Ended::TimedOut,
                #[cfg(feature = "monkey")]
                Wake::Interrupted => return Ended::Interrupted,
                #[cfg(feature = "monkey")]
                Wake::Signalled => return Ended::Signalled,
            }
        }
        Ended::Event
    }

    /// Registers an inherited source with this process's hub. The kernel reports pending events at once.
    #[cold]
    #[inline(never)]
    fn register_if_inherited(&self) -> bool {
        self.inner.state.get() == State::Unregistered && with(|hub| self.add_to(hub)).is_ok()
    }

    /// Like [`Source::wait`], but parks by calling `park`.
    ///
    /// `is_again`: the caller has waited and was woken in vain, so it returns to the front of the queue.
    #[cfg(feature = "monkey")]
    pub(crate) fn wait_by(
        &self,
        direction: Direction,
        is_again: bool,
        park: impl FnMut() -> Wake,
    ) -> Ended {
        let (side, behind) = (self.side(direction), if is_again { 0 } else { FIRST | OTHERS });
        let Some(_place) = First::take(here(), side, behind) else {
            return self.wait_with_others(side, behind, park);
        };
        self.wait_for_turn(side, || true, park)
    }

    /// Wakes the current greenlet at every event, until the returned guard is dropped.
    pub(crate) fn watch(&self, direction: Direction) -> impl Sized + '_ {
        if self.inner.state.get() == State::Unregistered {
            self.register_if_inherited();
        }
        QueueEntry::watching(self.side(direction))
    }

    /// Whether a new call must wait: it is known to block, or there are waiters.
    #[cfg(feature = "monkey")]
    #[inline]
    pub(crate) fn must_wait(&self, direction: Direction) -> bool {
        self.side(direction).is(BLOCKED | FIRST | OTHERS)
    }

    /// Makes the waiters retry as if there had been an event.
    #[cfg(feature = "monkey")]
    pub(crate) fn rouse(&self) {
        for side in [&self.inner.read, &self.inner.write] {
            with(|hub| hub.unblock(side));
        }
    }

    /// Marks the direction as blocked, so that [`Source::wait`] waits for the next event.
    pub(crate) fn expect_event(&self, direction: Direction) {
        self.side(direction).set(BLOCKED);
    }

    #[inline]
    fn side(&self, direction: Direction) -> &Side {
        match direction {
            Direction::Read => &self.inner.read,
            Direction::Write => &self.inner.write,
        }
    }

    /// Makes all current and later waits fail. No further events are received.
    pub(crate) fn close(&self) {
        self.leave();
        self.inner.state.set(State::Closed);
        for side in [&self.inner.read, &self.inner.write] {
            // Each waiter then finds the source closed.
            side.set(BLOCKED);
            try_with(|hub| hub.unpark_all(side));
        }
    }

    /// Removes the source from the hub, unless it was removed before: its key and descriptor may be in use
    /// again.
    pub(crate) fn leave(&self) {
        try_with(|hub| {
            let Some(inner) = hub.sources.all.borrow_mut().remove(self.key) else { return };
            // A source that was not registered must not be removed from epoll: another source may have its
            // number.
            if inner.state.get() != State::Registered {
                return;
            }
            if let Ok(epoll) = hub.epoll() {
                // Otherwise a duplicate of the descriptor would keep it registered.
                epoll.remove(self.inner.fd);
            }
        });
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Side {
    /// Removes dead greenlets from the front of the queue. They ended without being unwound, so they do not
    /// leave the queue by themselves.
    fn remove_dead(&self, hub: &Hub) {
        let first = self.first.take();
        if first.as_ref().is_some_and(|first| first.is_dead()) {
            self.clear(FIRST);
            hub.sources.remove_waiter();
        } else {
            self.first.set(first);
        }
        self.change_others(|Others { queue, .. }| {
            while queue.front().is_some_and(|(_, greenlet)| greenlet.is_dead()) {
                queue.pop_front();
                hub.sources.remove_waiter();
            }
        });
    }

    /// Classifies an error. `None`: make the call again, after an event or at once.
    #[cold]
    fn classify(&self, error: io::Error) -> Option<io::Error> {
        match error.kind() {
            io::ErrorKind::WouldBlock => self.set(BLOCKED),
            io::ErrorKind::Interrupted => {}
            _ => return Some(error),
        }
        None
    }
}

impl Ended {
    #[cold]
    fn into_error(self, purpose: &'static str) -> io::Error {
        match self {
            Ended::Closed => io::Error::from_raw_os_error(libc::EBADF),
            _ => io::Error::new(io::ErrorKind::TimedOut, format!("{purpose} has timed out")),
        }
    }
}

/// The first place of a queue, until dropped. Then the next waiter is woken, if any.
struct First<'a> {
    hub: Here,
    side: &'a Side,
}

impl<'a> First<'a> {
    /// Returns `None` if the place is taken, or if waiters exist that `behind` names.
    #[inline(always)]
    fn take(hub: Here, side: &'a Side, behind: u8) -> Option<Self> {
        if side.is(FIRST | behind) {
            return None;
        }
        side.first.set(Some(scheduled::running().clone()));
        side.set(FIRST);
        hub.sources.add_waiter();
        Some(First { hub, side })
    }
}

impl Drop for First<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        let Some(first) = self.side.first.take() else { return };
        if first != *scheduled::running() {
            // This is a child's copy of a wait of the parent, and another greenlet waits now.
            return self.side.first.set(Some(first));
        }
        self.side.clear(FIRST);
        self.hub.sources.remove_waiter();
        if self.side.is(OTHERS) {
            self.hub.wake_next(self.side);
        }
    }
}

/// A further place in a queue, or that of a watcher, until dropped.
struct QueueEntry<'a> {
    side: &'a Side,
    id: u64,
}

impl<'a> QueueEntry<'a> {
    /// At the end of the queue if `at_end`, otherwise directly behind `Side::first`.
    fn in_queue(side: &'a Side, at_end: bool) -> Self {
        Self::new(side, |others, entry| match at_end {
            true => others.queue.push_back(entry),
            false => others.queue.push_front(entry),
        })
    }

    /// A watcher, woken by every event.
    fn watching(side: &'a Side) -> Self {
        Self::new(side, |others, entry| others.watchers.push(entry))
    }

    fn new(side: &'a Side, add: impl FnOnce(&mut Others, (u64, AnyWeakGreenlet))) -> Self {
        let me = current_greenlet();
        let id = with(|hub| {
            hub.sources.add_waiter();
            hub.next_id()
        });
        side.change_others(|others| add(others, (id, me)));
        QueueEntry { side, id }
    }

    fn is_first(&self) -> bool {
        let others = self.side.others.take();
        let first = others.as_ref().and_then(|others| others.queue.front()).map(|(id, _)| *id);
        self.side.others.set(others);
        !self.side.is(FIRST) && first == Some(self.id)
    }
}

impl Drop for QueueEntry<'_> {
    fn drop(&mut self) {
        let is_this = |(id, _): &(u64, AnyWeakGreenlet)| *id == self.id;
        let was_there = self.side.change_others(|Others { queue, watchers }| {
            let in_queue = queue.iter().position(is_this).map(|at| queue.remove(at));
            let beside = watchers.iter().position(is_this).map(|at| watchers.swap_remove(at));
            in_queue.is_some() || beside.is_some()
        });
        // If it was not found, this is a child's copy of a wait of the parent.
        if was_there {
            try_with(|hub| {
                hub.sources.remove_waiter();
                hub.wake_next(self.side);
            });
        }
    }
}
