#![forbid(unsafe_code)]
//! Waiting for several coroutines at once.

use super::error::JoinError;
use super::join::{Coroutine, JoinHandle, LinkId};
use super::packet::{Head, Link, first_raised};
use super::spawn::current;
use crate::greenlet::AnyWeakGreenlet;
use crate::greenlet::scheduled::Payload;
use crate::hub::{self, Deadline, Wake};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::time::Duration;

/// Joins all coroutines, and returns their results in the order of the handles.
///
/// A failure does not end the wait, nor the other coroutines. To stop at the first failure, see [`iwait`].
///
/// # Examples
///
/// ```
/// use switchgrass::{coroutine::join_all, spawn};
///
/// let squares = join_all((1..=3).map(|n| spawn(move || n * n)));
/// let squares: Result<Vec<_>, _> = squares.into_iter().collect();
/// assert_eq!(squares.unwrap(), [1, 4, 9]);
/// ```
///
/// # Panics
///
/// Panics like [`JoinHandle::join`].
///
/// # Switching
///
/// May switch: if some have not ended. Any other coroutine may run meanwhile.
///
/// # Cancellation
///
/// The coroutines continue; their results are lost with the handles.
#[track_caller]
pub fn join_all<T: 'static>(
    handles: impl IntoIterator<Item = JoinHandle<T>>,
) -> Vec<Result<T, JoinError>> {
    let handles: Vec<_> = handles.into_iter().collect();
    handles.into_iter().map(JoinHandle::join).collect()
}

/// Kills all given coroutines and waits for their ends.
///
/// The wait for all of them together lasts at most `timeout` (`None`: no timeout). Returns whether all have
/// ended. Bodies that have not started are dropped first, which the timeout does not interrupt.
///
/// # Examples
///
/// ```
/// use switchgrass::{coroutine::kill_all, sleep, spawn};
///
/// let sleepers: Vec<_> = (0..3).map(|_| spawn(|| sleep(std::time::Duration::MAX))).collect();
/// assert!(kill_all(sleepers.iter().map(|handle| handle.coroutine()), None));
/// ```
///
/// # Panics
///
/// Resumes the first panic of a destructor of a body that has not started, once all are killed. Unwinds
/// with any kill or timeout delivered to the current coroutine during the wait. In main, panics on
/// deadlock: when nothing is left that can wake it. If the current coroutine is among the given ones, it is
/// killed like the others, after them.
///
/// # Switching
///
/// May switch: if some have not ended. Any other coroutine may run meanwhile.
///
/// # Cancellation
///
/// The kills remain pending.
#[track_caller]
pub fn kill_all(
    coroutines: impl IntoIterator<Item = Coroutine>,
    timeout: Option<Duration>,
) -> bool {
    let deadline = timeout.and_then(Deadline::after);
    let current = current();
    let (own, others): (Vec<_>, Vec<_>) =
        coroutines.into_iter().partition(|coroutine| *coroutine == current);
    let mut raised = Raised::default();
    for coroutine in others.iter().chain(&own) {
        // The destructor of an unstarted body may panic; the remaining coroutines are still killed.
        raised.note(|| coroutine.kill());
    }
    raised.resume();
    others.iter().all(|coroutine| coroutine.wait("kill_all", deadline))
}

/// The first panic of several calls, all of which are made.
#[derive(Default)]
pub(crate) struct Raised(Option<Payload>);

impl Raised {
    /// Calls `f`. [`Raised::resume`] resumes its panic, if it is the first.
    pub(crate) fn note(&mut self, f: impl FnOnce()) {
        let raised = catch_unwind(AssertUnwindSafe(f)).err();
        self.0 = first_raised(self.0.take(), raised);
    }

    pub(crate) fn resume(self) {
        if let Some(payload) = self.0 {
            resume_unwind(payload);
        }
    }
}

/// Iterates over coroutines' positions in the order of their ends.
///
/// Coroutines that have already ended come first, in the order given.
///
/// The caller may do anything between two calls of `next`. Dropping the iterator removes its links. A
/// coroutine that is given twice is yielded twice.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use switchgrass::{coroutine::iwait, sleep, spawn};
///
/// let handles = [30, 10, 20].map(|delay| spawn(move || sleep(Duration::from_millis(delay))));
/// let order: Vec<usize> = iwait(handles.iter().map(|handle| handle.coroutine())).collect();
/// assert_eq!(order, [1, 2, 0]);
/// ```
///
/// With a timeout and a count:
///
/// ```
/// use std::time::Duration;
/// use switchgrass::{coroutine::iwait, sleep, spawn};
///
/// let handles = [1, 60_000].map(|delay| spawn(move || sleep(Duration::from_millis(delay))));
/// let all = handles.iter().map(|handle| handle.coroutine());
/// let done: Vec<usize> = iwait(all).limit(Duration::from_millis(20)).take(2).collect();
/// assert_eq!(done, [0]);
/// ```
///
/// # Panics
///
/// Never panics itself. [`Iterator::next`] unwinds with any kill or timeout delivered to the current
/// coroutine during the wait. It also panics if it would have to wait while the current coroutine is among
/// those that have not ended, since it would wait for itself, or while main is, which ends with its thread.
///
/// # Switching
///
/// Never switches. [`Iterator::next`] may switch: if it has no ended coroutine to yield.
pub fn iwait(coroutines: impl IntoIterator<Item = Coroutine>) -> Iwait {
    let ended = Rc::new(Ended::default());
    let mut waiting = Vec::new();
    for (number, coroutine) in coroutines.into_iter().enumerate() {
        if coroutine.is_finished() {
            ended.numbers.borrow_mut().push_back((number, false));
            continue;
        }
        let notify = Rc::clone(&ended);
        let link = coroutine.add(Link::Notify(Box::new(move || {
            let is_late = notify.deadline.get().is_some_and(Deadline::has_passed);
            notify.numbers.borrow_mut().push_back((number, is_late));
            if let Some(waiter) = &*notify.waiter.borrow() {
                hub::unpark(waiter);
            }
        })));
        waiting.push((coroutine, link));
    }
    let left = waiting.len() + ended.numbers.borrow().len();
    Iwait { ended, waiting, left, is_over: false }
}

/// The coroutines that have ended but were not yielded.
#[derive(Default)]
struct Ended {
    /// Positions in the order of the ends, each with whether it ended too late.
    numbers: RefCell<VecDeque<(usize, bool)>>,
    /// The greenlet to wake at the next end.
    waiter: RefCell<Option<crate::greenlet::AnyWeakGreenlet>>,
    deadline: Cell<Option<Deadline>>,
}

/// An iterator over coroutines in the order of their ends. Returned by [`iwait`].
#[must_use = "iterators are lazy and do nothing unless consumed"]
pub struct Iwait {
    ended: Rc<Ended>,
    waiting: Vec<(Coroutine, LinkId)>,
    left: usize,
    /// Whether `next` has returned `None` because of the deadline.
    is_over: bool,
}

impl Iwait {
    /// Ends the iteration after `timeout` from now.
    ///
    /// It ends even if some coroutines have not.
    ///
    /// Coroutines that end in time are yielded, however late `next` is called. Coroutines that end later
    /// are yielded only by calls of `next` after the one that returned `None` because of the timeout.
    pub fn limit(self, timeout: Duration) -> Self {
        self.ended.deadline.set(Deadline::after(timeout));
        self
    }
}

impl Iterator for Iwait {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        if self.left == 0 {
            return None;
        }
        loop {
            let next = self.ended.numbers.borrow().front().copied();
            if let Some((number, is_late)) = next {
                if is_late && !self.is_over {
                    break;
                }
                self.ended.numbers.borrow_mut().pop_front();
                self.left -= 1;
                return Some(number);
            }
            let me = hub::current_greenlet();
            let before = self.ended.waiter.replace(Some(me.clone()));
            if before.as_ref() != Some(&me) {
                self.refuse_own(&me);
            }
            drop(before);
            if hub::park("iwait", self.ended.deadline.get()) == Wake::TimedOut
                && self.ended.numbers.borrow().is_empty()
            {
                break;
            }
        }
        self.is_over = true;
        None
    }
}

impl Iwait {
    /// Panics if `me` would wait for itself or for main.
    ///
    /// Checked once per waiting greenlet, since no coroutine is ever added.
    #[track_caller]
    fn refuse_own(&self, me: &AnyWeakGreenlet) {
        let unfinished = self.waiting.iter().filter(|(coroutine, _)| !coroutine.is_finished());
        unfinished.for_each(|(coroutine, _)| coroutine.refuse_wait(me));
    }
}

impl Drop for Iwait {
    fn drop(&mut self) {
        for (coroutine, link) in self.waiting.drain(..) {
            coroutine.unlink(link);
        }
    }
}

impl fmt::Debug for Iwait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iwait").field("left", &self.left).finish_non_exhaustive()
    }
}

/// Waits until the first of several coroutines has ended, and returns its position.
///
/// Returns `None` if no coroutines are given.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use switchgrass::{coroutine::wait_any, sleep, spawn};
///
/// let handles = [20, 1].map(|delay| spawn(move || sleep(Duration::from_millis(delay))));
/// assert_eq!(wait_any(handles.iter().map(|handle| handle.coroutine())), Some(1));
/// ```
///
/// # Panics
///
/// Panics like [`JoinHandle::join`]. Also panics if it would have to wait and main is among the coroutines,
/// since main ends with its thread.
///
/// # Switching
///
/// May switch: if none has ended. Any other coroutine may run meanwhile.
///
/// # Cancellation
///
/// No coroutine is affected.
#[track_caller]
pub fn wait_any(coroutines: impl IntoIterator<Item = Coroutine>) -> Option<usize> {
    iwait(coroutines).next()
}

impl Coroutine {
    /// Waits for the coroutine's end for at most `timeout` (`None`: no timeout).
    ///
    /// Returns whether the coroutine has ended. The result is not taken.
    ///
    /// # Panics
    ///
    /// Panics like [`JoinHandle::join`]. Also panics for main, which ends with its thread.
    ///
    /// # Switching
    ///
    /// May switch: if the coroutine has not ended. Any other coroutine may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The coroutine is not affected.
    #[track_caller]
    pub fn wait_end(&self, timeout: Option<Duration>) -> bool {
        self.wait("Coroutine::wait_end", timeout.and_then(Deadline::after))
    }

    /// Whether the coroutine has ended without a panic: by returning or by a kill.
    pub fn is_successful(&self) -> bool {
        Head::of(&self.0).is_some_and(Head::is_successful)
    }
}
