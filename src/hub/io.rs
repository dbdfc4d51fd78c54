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
//! Those that wait for one direction form a queue, first in, first out. An event wakes the first; each wakes
//! the next when it leaves the queue while more may be ready. Whoever comes while others wait stands behind
//! them, also when a call would succeed at once; whoever was woken in vain goes back to the front:
//!
//! ```text
//!   new ──► │ others … │ first │ ──► its turn: leaves, wakes the next, makes its call
//!                          ▲              │
//!                          └── EAGAIN ◄───┘
//! ```
//!
//! A call is made outside the queue, so that one which switches or never returns holds up nobody.
//!
//! An event names a source by its slot and generation: one that is late, for a descriptor that was closed,
//! finds nobody, also if the number is in use again.

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
    /// A signal handler has run that interrupts the call.
    #[cfg(feature = "monkey")]
    Signalled,
}

/// A descriptor that is registered with this thread's hub. To be dropped before it is closed.
pub(crate) struct Source {
    key: SlotKey,
    inner: Rc<Inner>,
}

impl Hub {
    /// Notes what has happened to a descriptor.
    #[inline]
    pub(super) fn note(&self, token: u64, readiness: Readiness) {
        // Nobody's code but ours runs while it is borrowed.
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

    /// Asks for the memory that the events after the one at `index` need: with many descriptors, it is in a
    /// far cache or in none.
    #[inline]
    pub(super) fn look_ahead(&self, events: &Events, index: usize) {
        /// So many events ahead.
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
            // All at once, since the way to a page that is in no translation buffer is long.
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

    /// Wakes the first of the queue, if a call may succeed.
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

    /// Wakes all who wait.
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
    /// Registers a descriptor that does not block.
    pub(crate) fn new(fd: RawFd) -> io::Result<Self> {
        Self::register(Inner::new(fd, None))
    }

    /// As [`Source::new`], and has every event call `callback` in the hub's greenlet. It must be ours, and
    /// neither wait nor panic. Nobody waits for it: when all others are stuck, the hub says so.
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

    /// Calls `call` until it says something else than that it would block, and waits in between. Whoever
    /// calls this while others wait has its turn after them.
    ///
    /// # Errors
    ///
    /// What the call says; `TimedOut` when `deadline` has passed; that the descriptor is closed, if another
    /// coroutine has closed it meanwhile.
    #[inline(always)]
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
                Err(error) => match side.look_at(error) {
                    None => {}
                    Some(error) => return Err(error),
                },
            }
        }
    }

    /// Notes that a read has got less than it could: there is nothing more, until an event says so. Not of
    /// a stream whose other end may be closed: the event that says that may have come. Nor of one with urgent
    /// data, before which a read stops.
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

    /// Waits for an event, whatever was known. To be called after something that would block.
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

    /// Waits for a turn, behind those that `behind` names: all who wait, or if it is 0 nobody.
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
        let place = Place::in_queue(side, behind != 0);
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
            if self.inner.state.get() != State::Registered && !self.is_registered_now() {
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

    /// Registers one that was inherited. An event that is there already is told of at once.
    #[cold]
    #[inline(never)]
    fn is_registered_now(&self) -> bool {
        self.inner.state.get() == State::Unregistered && with(|hub| self.add_to(hub)).is_ok()
    }

    /// As [`Source::wait`], by another way of parking. `is_again`: the caller has waited and was woken in
    /// vain, so it goes back to the front.
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

    /// Has the current greenlet woken by every event, until what this returns is dropped.
    pub(crate) fn watch(&self, direction: Direction) -> impl Sized + '_ {
        if self.inner.state.get() == State::Unregistered {
            self.is_registered_now();
        }
        Place::watching(self.side(direction))
    }

    /// Whether a new call has to wait: it is known that it would block, or others wait.
    #[cfg(feature = "monkey")]
    #[inline]
    pub(crate) fn must_wait(&self, direction: Direction) -> bool {
        self.side(direction).is(BLOCKED | FIRST | OTHERS)
    }

    /// Has all that wait try again, though there was no event.
    #[cfg(feature = "monkey")]
    pub(crate) fn rouse(&self) {
        for side in [&self.inner.read, &self.inner.write] {
            with(|hub| hub.unblock(side));
        }
    }

    /// Says that nothing is known, so that [`Source::wait`] waits for the next event.
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

    /// Has all who wait fail, and who comes later. Nothing is heard of the descriptor any more.
    pub(crate) fn close(&self) {
        self.leave();
        self.inner.state.set(State::Closed);
        for side in [&self.inner.read, &self.inner.write] {
            // Each finds that it is closed.
            side.set(BLOCKED);
            try_with(|hub| hub.unpark_all(side));
        }
    }

    /// Leaves the hub, if that has not been done: neither the key nor the number is its own then.
    pub(crate) fn leave(&self) {
        try_with(|hub| {
            let Some(inner) = hub.sources.all.borrow_mut().remove(self.key) else { return };
            // What was never registered for this must not be: the number may be, for another source.
            if inner.state.get() != State::Registered {
                return;
            }
            if let Ok(epoll) = hub.epoll() {
                // Else a copy of the descriptor would keep it registered.
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
    /// Takes those off the front of the queue that never leave it by themselves: they have ended without
    /// being unwound.
    fn remove_dead(&self, hub: &Hub) {
        let first = self.first.take();
        if first.as_ref().is_some_and(|first| first.is_dead()) {
            self.clear(FIRST);
            hub.sources.one_waits_no_more();
        } else {
            self.first.set(first);
        }
        self.change_others(|Others { queue, .. }| {
            while queue.front().is_some_and(|(_, greenlet)| greenlet.is_dead()) {
                queue.pop_front();
                hub.sources.one_waits_no_more();
            }
        });
    }

    /// Classifies an error. `None`: the call is to be made again, after an event or at once.
    #[cold]
    fn look_at(&self, error: io::Error) -> Option<io::Error> {
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

/// The first place of a queue, until this is dropped. Then the next one is woken, if there is one.
struct First<'a> {
    hub: Here,
    side: &'a Side,
}

impl<'a> First<'a> {
    /// `None` if somebody has it, or if one of those waits that `behind` names.
    #[inline(always)]
    fn take(hub: Here, side: &'a Side, behind: u8) -> Option<Self> {
        if side.is(FIRST | behind) {
            return None;
        }
        side.first.set(Some(scheduled::running().clone()));
        side.set(FIRST);
        hub.sources.one_waits();
        Some(First { hub, side })
    }
}

impl Drop for First<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        let Some(first) = self.side.first.take() else { return };
        if first != *scheduled::running() {
            // This is a child's copy of a wait of its parent's, and another waits by now.
            return self.side.first.set(Some(first));
        }
        self.side.clear(FIRST);
        self.hub.sources.one_waits_no_more();
        if self.side.is(OTHERS) {
            self.hub.wake_next(self.side);
        }
    }
}

/// A further place in a queue, or one beside it, until this is dropped.
struct Place<'a> {
    side: &'a Side,
    id: u64,
}

impl<'a> Place<'a> {
    /// At the end of the queue, or else right behind `Side::first`.
    fn in_queue(side: &'a Side, at_end: bool) -> Self {
        Self::new(side, |others, entry| match at_end {
            true => others.queue.push_back(entry),
            false => others.queue.push_front(entry),
        })
    }

    /// Woken by every event.
    fn watching(side: &'a Side) -> Self {
        Self::new(side, |others, entry| others.watchers.push(entry))
    }

    fn new(side: &'a Side, add: impl FnOnce(&mut Others, (u64, AnyWeakGreenlet))) -> Self {
        let me = current_greenlet();
        let id = with(|hub| {
            hub.sources.one_waits();
            hub.next_id()
        });
        side.change_others(|others| add(others, (id, me)));
        Place { side, id }
    }

    fn is_first(&self) -> bool {
        let others = self.side.others.take();
        let first = others.as_ref().and_then(|others| others.queue.front()).map(|(id, _)| *id);
        self.side.others.set(others);
        !self.side.is(FIRST) && first == Some(self.id)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let is_this = |(id, _): &(u64, AnyWeakGreenlet)| *id == self.id;
        let was_there = self.side.change_others(|Others { queue, watchers }| {
            let in_queue = queue.iter().position(is_this).map(|at| queue.remove(at));
            let beside = watchers.iter().position(is_this).map(|at| watchers.swap_remove(at));
            in_queue.is_some() || beside.is_some()
        });
        // Not there: this is a child's copy of a wait of its parent's.
        if was_there {
            try_with(|hub| {
                hub.sources.one_waits_no_more();
                hub.wake_next(self.side);
            });
        }
    }
}
