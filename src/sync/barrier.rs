#![forbid(unsafe_code)]
//! Where several wait for each other.

use super::sharing::{Local, Shared, Sharing, State, Waker};
use super::wait::{Object, Place};
use super::wait_list::WaitList;
use crate::hub::Deadline;
use std::cell::Cell;
use std::fmt;
use std::time::Duration;

/// Where so many wait until all of them are there; then it can be used again.
///
/// One that gives up, by its limit or because something is raised in it, breaks it: then nobody waits for
/// somebody who will not come. A broken barrier is an error for everybody until it is reset.
///
/// # Examples
///
/// ```
/// use std::rc::Rc;
/// use switchgrass::{coroutine::join_all, spawn, sync::Barrier};
///
/// let barrier = Rc::new(Barrier::new(3));
/// let all = (0..3).map(|_| {
///     let barrier = Rc::clone(&barrier);
///     spawn(move || barrier.wait().unwrap().is_leader())
/// });
/// let leaders = join_all(all).into_iter().filter(|leads| *leads.as_ref().unwrap()).count();
/// assert_eq!(leaders, 1);
/// ```
pub struct Barrier<S: Sharing = Local> {
    size: usize,
    state: S::State<Round<S>>,
}

struct Round<S: Sharing> {
    is_broken: bool,
    /// Counts the rounds that have ended, in whichever way.
    number: u64,
    /// They are granted whether all have come.
    waiting: WaitList<S::Waker, bool>,
}

/// Whether one was the last to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarrierWaitResult(bool);

impl BarrierWaitResult {
    /// Whether it was: that is so for one of those that went on together.
    pub fn is_leader(&self) -> bool {
        self.0
    }
}

/// Somebody has given up waiting, or the barrier was reset meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokenBarrier(());

impl fmt::Display for BrokenBarrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the barrier is broken: somebody has given up waiting, or it was reset")
    }
}

impl std::error::Error for BrokenBarrier {}

impl Barrier<Local> {
    /// A barrier of this thread, for so many.
    ///
    /// # Panics
    ///
    /// If `size` is zero.
    #[track_caller]
    pub fn new(size: usize) -> Self {
        Self::with(size)
    }
}

impl Barrier<Shared> {
    /// A barrier that threads can share, for so many.
    ///
    /// # Panics
    ///
    /// If `size` is zero.
    #[track_caller]
    pub fn shared(size: usize) -> Self {
        Self::with(size)
    }
}

impl<S: Sharing> Barrier<S> {
    #[track_caller]
    fn with(size: usize) -> Self {
        assert!(size > 0, "a barrier for nobody: its size must be at least 1");
        let round = Round { is_broken: false, number: 0, waiting: WaitList::new() };
        Barrier { size, state: State::new(round) }
    }

    /// Waits until all are there.
    ///
    /// # Errors
    ///
    /// If the barrier is broken, before or meanwhile.
    ///
    /// # Panics
    ///
    /// With what is raised in the current coroutine meanwhile. In main, when nobody is left who could wake
    /// it.
    ///
    /// # Switching
    ///
    /// Switches, unless this is the last to come. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// Breaks the barrier.
    #[track_caller]
    pub fn wait(&self) -> Result<BarrierWaitResult, BrokenBarrier> {
        self.wait_until(None)
    }

    /// As [`Barrier::wait`], for at most `limit`; then it breaks the barrier.
    ///
    /// # Errors
    ///
    /// As [`Barrier::wait`].
    ///
    /// # Panics
    ///
    /// As [`Barrier::wait`].
    ///
    /// # Switching
    ///
    /// As [`Barrier::wait`].
    ///
    /// # Cancellation
    ///
    /// Breaks the barrier.
    #[track_caller]
    pub fn wait_timeout(&self, limit: Duration) -> Result<BarrierWaitResult, BrokenBarrier> {
        self.wait_until(Deadline::after(limit))
    }

    fn wait_until(&self, deadline: Option<Deadline>) -> Result<BarrierWaitResult, BrokenBarrier> {
        let object = Object::<S, _, _, _> {
            state: &self.state,
            list: |round: &mut Round<S>| &mut round.waiting,
            purpose: "Barrier::wait",
        };
        // All have come, though this one was killed before it went on.
        let is_over = Cell::new(false);
        if let Some(over) = self.state.with(|round| round.arrive(self.size)) {
            return Self::lead(over);
        }
        let (registration, waker) = S::Waker::register();
        let entered = self.state.with(|round| match round.arrive(self.size) {
            Some(over) => Err(over),
            None => Ok((round.waiting.push(waker), round.number)),
        });
        let (place, number) = match entered {
            Ok((token, number)) => {
                (Place::new(object, registration, token, |_| is_over.set(true)), number)
            }
            Err(over) => return Self::lead(over),
        };
        let _break = Break { barrier: self, number, is_over: &is_over };
        match place.wait(deadline) {
            Ok(all) => {
                is_over.set(true);
                if all { Ok(BarrierWaitResult(false)) } else { Err(BrokenBarrier(())) }
            }
            Err(_) => Err(BrokenBarrier(())),
        }
    }

    /// Wakes the others of a round that is over.
    fn lead(over: Arrival<S>) -> Result<BarrierWaitResult, BrokenBarrier> {
        over?.into_iter().for_each(Waker::wake);
        Ok(BarrierWaitResult(true))
    }

    /// Whether somebody has given up waiting, since it was made or reset.
    pub fn is_broken(&self) -> bool {
        self.state.with(|round| round.is_broken)
    }

    /// Makes it as it was in the beginning. Who waits gets an error.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn reset(&self) {
        let wakers = self.state.with(|round| {
            round.is_broken = false;
            round.end(false)
        });
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// The wakers of the others, if all have come.
type Arrival<S> = Result<Vec<<S as super::sharing::sealed::Sharing>::Waker>, BrokenBarrier>;

impl<S: Sharing> Round<S> {
    /// What an arrival finds. `None`: it has to wait.
    fn arrive(&mut self, size: usize) -> Option<Arrival<S>> {
        if self.is_broken {
            return Some(Err(BrokenBarrier(())));
        }
        (self.waiting.len() + 1 == size).then(|| Ok(self.end(true)))
    }

    /// Lets all go on that wait.
    fn end(&mut self, all: bool) -> Vec<S::Waker> {
        self.number += 1;
        self.waiting.grant_all(|| all)
    }
}

/// Breaks a barrier when it is dropped, unless the round is over for the one that waits, or altogether.
struct Break<'a, S: Sharing> {
    barrier: &'a Barrier<S>,
    number: u64,
    is_over: &'a Cell<bool>,
}

impl<S: Sharing> Drop for Break<'_, S> {
    fn drop(&mut self) {
        if self.is_over.get() {
            return;
        }
        let wakers = self.barrier.state.with(|round| {
            if round.number != self.number {
                return Vec::new();
            }
            round.is_broken = true;
            round.end(false)
        });
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl<S: Sharing> fmt::Debug for Barrier<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Barrier").field("size", &self.size).finish_non_exhaustive()
    }
}
