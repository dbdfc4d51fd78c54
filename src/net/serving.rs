#![forbid(unsafe_code)]
//! What the servers share: one coroutine accepts, and each accepted item gets one of its own.
//!
//! ```text
//!              start                    stop, or a permanent error
//!     paused ─────────► accepting ─────────────────────────────────────────► over
//!        ▲    pause         │                                                 ▲
//!        ├──────────────────┘                                                 │
//!        └────────────────────────────── stop ────────────────────────────────┘
//! ```
//!
//! A pause kills the accepting coroutine. No item is lost by that: a kill is delivered only while the
//! coroutine waits, and it waits only before it holds an item. A stop drains what the kernel has queued by
//! then, since clients regard those connections as accepted.

use crate::coroutine::{Builder, JoinHandle, sleep};
use crate::greenlet::BuildError;
use crate::hub;
use crate::pool::Group;
use crate::sync::{Event, Semaphore};
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

/// Where items come from, and how they are handled.
pub(super) trait Serve: 'static {
    type Taken: 'static;

    /// Waits for the next item. A kill during the wait loses none.
    fn take(&self) -> io::Result<Self::Taken>;

    /// Takes an item that is already queued, without waiting.
    fn try_take(&self) -> io::Result<Self::Taken>;

    fn handle(&self, taken: Self::Taken);
}

pub(super) struct Serving<S> {
    pub(super) serve: S,
    /// Permits for items that may be handled at the same time; `None`: no limit.
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

    /// Starts accepting. Fails if there is no stack for the accepting coroutine.
    pub(super) fn try_start(self: &Rc<Self>) -> io::Result<()> {
        if self.acceptor.borrow().is_some() || self.is_over() {
            return Ok(());
        }
        let serving = Rc::clone(self);
        let handle = Builder::new().spawn(move || serving.accept()).map_err(no_stack)?;
        self.has_started.set(true);
        let (serving, id) = (Rc::downgrade(self), handle.id());
        handle.on_end(move || {
            if let Some(serving) = serving.upgrade() {
                serving.accepting_ended(id);
            }
        });
        self.acceptor.replace(Some(handle));
        Ok(())
    }

    /// The acceptor is still registered, so it was not paused: it has failed.
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

    /// Drains the queue, and accepts nothing after that.
    pub(super) fn end(self: &Rc<Self>) {
        self.pause();
        self.is_over.set();
        if self.has_started.get() {
            self.take_rest();
        }
    }

    fn take_rest(self: &Rc<Self>) {
        // More than any kernel queue holds: items beyond that were not queued when this began.
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

    /// Spawns a handler for `taken`, which waits for a permit if it is given none.
    ///
    /// Drops `taken` if there is no stack for it.
    fn spawn(
        self: &Rc<Self>,
        taken: S::Taken,
        permit: Option<Permit<S>>,
    ) -> Result<(), BuildError> {
        let serving = Rc::clone(self);
        let handler = Builder::new().spawn(move || {
            let _permit = permit.unwrap_or_else(|| Permit::take(&serving));
            serving.serve.handle(taken);
        })?;
        self.group.add(&handler);
        Ok(())
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over.is_set()
    }

    /// Waits until all handlers have ended, and kills those that have not within `timeout`.
    ///
    /// Returns whether there were none of those.
    pub(super) fn join(&self, timeout: Option<Duration>) -> bool {
        let Some(timeout) = timeout else {
            self.group.join();
            return true;
        };
        let all = self.group.join_timeout(timeout);
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
            // A socket of a user type may return items, or errors of one peer, without ever waiting.
            hub::yield_if_due();
            let permit = Permit::take(&self);
            let has_begun = match self.serve.take() {
                Ok(taken) => self.spawn(taken, Some(permit)).is_ok(),
                Err(error) if is_permanent(&error) => return Err(error),
                Err(error) if is_of_one_peer(&error) => continue,
                Err(_) => false,
            };
            if has_begun {
                pause = FIRST;
            } else {
                // Out of descriptors, stacks or memory: this may improve.
                sleep(pause);
                pause = (pause * 2).min(LONGEST);
            }
        }
    }
}

fn no_stack(error: BuildError) -> io::Error {
    io::Error::new(io::ErrorKind::OutOfMemory, error)
}

fn is_permanent(error: &io::Error) -> bool {
    const ALL: [i32; 4] = [libc::EBADF, libc::EINVAL, libc::ENOTSOCK, libc::EOPNOTSUPP];
    error.raw_os_error().is_some_and(|number| ALL.contains(&number))
}

/// Whether the error concerns only one peer: it left before it was accepted, or could not be reached with a
/// reply. The kernel reports it once, and the next item may already be queued.
fn is_of_one_peer(error: &io::Error) -> bool {
    const ALL: [i32; 3] = [libc::ECONNABORTED, libc::ECONNREFUSED, libc::ECONNRESET];
    error.raw_os_error().is_some_and(|number| ALL.contains(&number))
}

/// A permit for one handler, released on drop.
struct Permit<S>(Rc<Serving<S>>);

impl<S> Permit<S> {
    /// Waits for a permit.
    fn take(serving: &Rc<Serving<S>>) -> Self {
        if let Some(room) = &serving.room {
            room.acquire();
        }
        Permit(Rc::clone(serving))
    }
}

impl<S> Drop for Permit<S> {
    fn drop(&mut self) {
        if let Some(room) = &self.0.room {
            room.release();
        }
    }
}

/// Makes permits for `most` handlers at a time.
#[track_caller]
pub(super) fn room_for(most: usize) -> Option<Semaphore> {
    assert!(most > 0, "limit of a server must be at least 1, got 0");
    Some(Semaphore::new(most))
}
