#![forbid(unsafe_code)]
//! What servers have in common: one coroutine takes what comes, and each that has come gets one of its own.
//!
//! ```text
//!              start                    stop, or an error that is for ever
//!     paused ─────────► accepting ─────────────────────────────────────────► over
//!        ▲    pause         │                                                 ▲
//!        ├──────────────────┘                                                 │
//!        └────────────────────────────── stop ────────────────────────────────┘
//! ```
//!
//! A pause kills the coroutine that accepts. It takes nothing without handing it over: a kill reaches it
//! while it waits, and it waits only before it has something. A stop takes what the kernel has by then: those
//! connections were accepted, as far as their clients know.

use crate::coroutine::{Builder, JoinHandle, sleep};
use crate::greenlet::BuildError;
use crate::hub;
use crate::pool::Group;
use crate::sync::{Event, Semaphore};
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

/// What is taken, and what is done with it.
pub(super) trait Serve: 'static {
    type Taken: 'static;

    /// Waits for the next one. A kill while it waits loses none.
    fn take(&self) -> io::Result<Self::Taken>;

    /// Takes one that is there already, without waiting.
    fn try_take(&self) -> io::Result<Self::Taken>;

    fn handle(&self, taken: Self::Taken);
}

pub(super) struct Serving<S> {
    pub(super) serve: S,
    /// So many more may be taken.
    room: Option<Semaphore>,
    group: Group,
    acceptor: RefCell<Option<JoinHandle<io::Result<()>>>>,
    has_started: Cell<bool>,
    is_over: Event,
}

impl<S: Serve> Serving<S> {
    pub(super) fn new(serve: S, room: Option<Semaphore>) -> Rc<Self> {
        let (group, acceptor) = (Group::new(), RefCell::new(None));
        let has_started = Cell::new(false);
        Rc::new(Serving { serve, room, group, acceptor, has_started, is_over: Event::new() })
    }

    pub(super) fn start(self: &Rc<Self>) {
        self.try_start().unwrap_or_else(|error| panic!("the server cannot start: {error}"));
    }

    /// Fails if there is no stack for the coroutine that accepts.
    pub(super) fn try_start(self: &Rc<Self>) -> io::Result<()> {
        if self.acceptor.borrow().is_some() || self.is_over() {
            return Ok(());
        }
        let serving = Rc::clone(self);
        let begun = Builder::new().spawn(move || serving.accept()).map_err(no_stack)?;
        self.has_started.set(true);
        let (serving, id) = (Rc::downgrade(self), begun.id());
        begun.on_end(move || {
            if let Some(serving) = serving.upgrade() {
                serving.accepting_ended(id);
            }
        });
        self.acceptor.replace(Some(begun));
        Ok(())
    }

    /// If the one that accepts has not been taken away, it has failed.
    fn accepting_ended(&self, id: u64) {
        if self.acceptor.borrow().as_ref().is_some_and(|acceptor| acceptor.id() == id) {
            self.is_over.set();
        }
    }

    pub(super) fn pause(&self) {
        if !self.is_over() {
            let acceptor = self.acceptor.borrow_mut().take();
            if let Some(acceptor) = acceptor {
                acceptor.kill();
            }
        }
    }

    pub(super) fn is_accepting(&self) -> bool {
        self.acceptor.borrow().as_ref().is_some_and(|acceptor| !acceptor.is_finished())
    }

    pub(super) fn serve_forever(self: &Rc<Self>) -> io::Result<()> {
        self.try_start()?;
        self.is_over.wait();
        let failed = self.acceptor.borrow_mut().take();
        match failed {
            None => Ok(()),
            Some(acceptor) => acceptor.join().unwrap_or_else(|error| error.resume()),
        }
    }

    /// Takes what is there already, and then no more, ever.
    pub(super) fn end(self: &Rc<Self>) {
        self.pause();
        self.is_over.set();
        if self.has_started.get() {
            self.take_rest();
        }
    }

    fn take_rest(self: &Rc<Self>) {
        // More than any queue of the kernel's holds: more than that were not there already.
        for _ in 0..1 << 16 {
            match self.serve.try_take() {
                Ok(taken) => match self.spawn(taken, None) {
                    Ok(()) => {}
                    Err(_) => return,
                },
                Err(error) if is_of_one_peer(&error) => {}
                Err(_) => return,
            }
        }
    }

    /// Has `taken` handled by a coroutine of its own, which waits for its place if it is given none. Without
    /// a stack for it `taken` is dropped.
    fn spawn(self: &Rc<Self>, taken: S::Taken, place: Option<Place<S>>) -> Result<(), BuildError> {
        let serving = Rc::clone(self);
        let handler = Builder::new().spawn(move || {
            let _place = place.unwrap_or_else(|| Place::take(&serving));
            serving.serve.handle(taken);
        })?;
        self.group.add(&handler);
        Ok(())
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over.is_set()
    }

    /// Waits until all handlers have ended, and kills those that have not within `limit`. Whether there were
    /// none of those.
    pub(super) fn join(&self, limit: Option<Duration>) -> bool {
        let Some(limit) = limit else {
            self.group.join();
            return true;
        };
        let all = self.group.join_timeout(limit);
        if !all {
            self.group.kill(None);
        }
        all
    }

    pub(super) fn running(&self) -> usize {
        self.group.len()
    }

    fn accept(self: Rc<Self>) -> io::Result<()> {
        const FIRST: Duration = Duration::from_millis(10);
        const LONGEST: Duration = Duration::from_secs(1);
        let mut pause = FIRST;
        loop {
            // A socket of a user type may have something, or fail for one peer, each time without a wait.
            hub::yield_if_due();
            let place = Place::take(&self);
            let has_begun = match self.serve.take() {
                Ok(taken) => self.spawn(taken, Some(place)).is_ok(),
                Err(error) if is_for_ever(&error) => return Err(error),
                Err(error) if is_of_one_peer(&error) => continue,
                Err(_) => false,
            };
            if has_begun {
                pause = FIRST;
            } else {
                // No descriptors, no stack, no memory: that may get better.
                sleep(pause);
                pause = (pause * 2).min(LONGEST);
            }
        }
    }
}

fn no_stack(error: BuildError) -> io::Error {
    io::Error::new(io::ErrorKind::OutOfMemory, error)
}

fn is_for_ever(error: &io::Error) -> bool {
    const ALL: [i32; 4] = [libc::EBADF, libc::EINVAL, libc::ENOTSOCK, libc::EOPNOTSUPP];
    error.raw_os_error().is_some_and(|number| ALL.contains(&number))
}

/// Somebody went away before he was taken, or is not there for an answer: the next one may be there already.
/// The kernel says it once.
fn is_of_one_peer(error: &io::Error) -> bool {
    const ALL: [i32; 3] = [libc::ECONNABORTED, libc::ECONNREFUSED, libc::ECONNRESET];
    error.raw_os_error().is_some_and(|number| ALL.contains(&number))
}

/// Room for one, given back when it is dropped.
struct Place<S>(Rc<Serving<S>>);

impl<S> Place<S> {
    /// Waits for room.
    fn take(serving: &Rc<Serving<S>>) -> Self {
        if let Some(room) = &serving.room {
            room.acquire();
        }
        Place(Rc::clone(serving))
    }
}

impl<S> Drop for Place<S> {
    fn drop(&mut self) {
        if let Some(room) = &self.0.room {
            room.release();
        }
    }
}

/// Room for so many at a time.
#[track_caller]
pub(super) fn room_for(most: usize) -> Option<Semaphore> {
    assert!(most > 0, "a server for none at a time: let there be at least 1");
    Some(Semaphore::new(most))
}
