#![forbid(unsafe_code)]
//! A barrier: coroutines wait for each other.

use super::sharing::{Local, Shared, Sharing, State, Waker};
use super::wait::{ListEntry, Object};
use super::wait_list::WaitList;
use crate::hub::Deadline;
use std::cell::Cell;
use std::fmt;
use std::time::Duration;

/// A reusable barrier, where `size` coroutines wait until all of them have arrived.
///
/// A waiter that gives up, by its timeout or because a panic is raised in it, breaks the barrier, so that
/// the others do not wait for one that will not arrive. A broken barrier returns an error to each waiter
/// until it is reset.
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
    /// The number of rounds that have ended, in any way.
    number: u64,
    /// The waiters. Each is granted whether all have arrived.
    waiting: WaitList<S::Waker, bool>,
}

/// Whether a waiter was the last to arrive. Returned by [`Barrier::wait`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarrierWaitResult(bool);

impl BarrierWaitResult {
    /// Whether this waiter was the last to arrive.
    ///
    /// True for one waiter of each completed round.
    pub fn is_leader(&self) -> bool {
        self.0
    }
}

/// The error of a broken barrier.
///
/// A waiter gave up, or the barrier was reset during the wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokenBarrier(());

impl fmt::Display for BrokenBarrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the barrier is broken: a waiter gave up, or the barrier was reset")
    }
}

impl std::error::Error for BrokenBarrier {}

impl Barrier<Local> {
    /// Creates a barrier of this thread, for `size` coroutines.
    ///
    /// # Panics
    ///
    /// Panics if `size` is zero.
    #[track_caller]
    pub fn new(size: usize) -> Self {
        Self::with(size)
    }
}

impl Barrier<Shared> {
    /// Creates a barrier that threads can share, for `size` coroutines.
    ///
    /// # Panics
    ///
    /// Panics if `size` is zero.
    #[track_caller]
    pub fn shared(size: usize) -> Self {
        Self::with(size)
    }
}

impl<S: Sharing> Barrier<S> {
    #[track_caller]
    fn with(size: usize) -> Self {
        assert!(size > 0, "barrier size must be at least 1, got 0");
        let round = Round { is_broken: false, number: 0, waiting: WaitList::new() };
        Barrier { size, state: State::new(round) }
    }

    /// Waits until all have arrived.
    ///
    /// # Errors
    ///
    /// Returns [`BrokenBarrier`] if the barrier is broken before or during the wait, or reset during it.
    ///
    /// # Panics
    ///
    /// Unwinds with any kill or timeout delivered to the current coroutine during the wait. In main, panics
    /// on deadlock: when nothing is left that can wake it.
    ///
    /// # Switching
    ///
    /// May switch: if this coroutine is not the last to arrive and the barrier is not broken. Any other
    /// coroutine may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The barrier breaks.
    #[track_caller]
    pub fn wait(&self) -> Result<BarrierWaitResult, BrokenBarrier> {
        self.wait_until(None)
    }

    /// Waits until all have arrived, for at most `timeout`.
    ///
    /// A wait that times out breaks the barrier.
    ///
    /// # Errors
    ///
    /// Returns [`BrokenBarrier`] if the timeout passes, or the barrier is broken before or during the wait,
    /// or reset during it.
    ///
    /// # Panics
    ///
    /// Panics like [`Barrier::wait`].
    ///
    /// # Switching
    ///
    /// May switch: if this coroutine is not the last to arrive and the barrier is not broken. Any other
    /// coroutine may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The barrier breaks.
    #[track_caller]
    pub fn wait_timeout(&self, timeout: Duration) -> Result<BarrierWaitResult, BrokenBarrier> {
        self.wait_until(Deadline::after(timeout))
    }

    fn wait_until(&self, deadline: Option<Deadline>) -> Result<BarrierWaitResult, BrokenBarrier> {
        let object = Object::<S, _, _, _> {
            state: &self.state,
            list: |round: &mut Round<S>| &mut round.waiting,
            purpose: "Barrier::wait",
        };
        // Set when the round is over, even if this coroutine was killed before it resumed.
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
                (ListEntry::new(object, registration, token, |_| is_over.set(true)), number)
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

    /// Wakes the others, or returns the error of a broken barrier.
    fn lead(over: Arrival<S>) -> Result<BarrierWaitResult, BrokenBarrier> {
        over?.into_iter().for_each(Waker::wake);
        Ok(BarrierWaitResult(true))
    }

    /// Whether the barrier is broken.
    ///
    /// That is, whether a waiter has given up since the barrier was created or last reset.
    pub fn is_broken(&self) -> bool {
        self.state.with(|round| round.is_broken)
    }

    /// Resets the barrier to its initial state. Current waiters get [`BrokenBarrier`].
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

/// The wakers of the other waiters if all have arrived, or an error.
type Arrival<S> = Result<Vec<<S as super::sharing::sealed::Sharing>::Waker>, BrokenBarrier>;

impl<S: Sharing> Round<S> {
    /// Returns the outcome of an arrival; `None` if the coroutine has to wait.
    fn arrive(&mut self, size: usize) -> Option<Arrival<S>> {
        if self.is_broken {
            return Some(Err(BrokenBarrier(())));
        }
        (self.waiting.len() + 1 == size).then(|| Ok(self.end(true)))
    }

    /// Ends the round, and grants `all` to each waiter. Returns the wakers.
    fn end(&mut self, all: bool) -> Vec<S::Waker> {
        self.number += 1;
        self.waiting.grant_all(|| all)
    }
}

/// Breaks the barrier when dropped, unless the round is over.
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
