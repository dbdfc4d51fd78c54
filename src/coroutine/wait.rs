#![forbid(unsafe_code)]
//! Waiting for several at once.

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

/// Waits until all have ended, and returns their results in the order of the handles.
///
/// One that fails does not end the others: to go on at the first failure, see [`iwait`].
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
/// As [`JoinHandle::join`].
///
/// # Switching
///
/// Switches, unless all have ended already. All others may run meanwhile.
///
/// # Cancellation
///
/// The coroutines go on; their results are lost with the handles.
#[track_caller]
pub fn join_all<T: 'static>(
    handles: impl IntoIterator<Item = JoinHandle<T>>,
) -> Vec<Result<T, JoinError>> {
    let handles: Vec<_> = handles.into_iter().collect();
    handles.into_iter().map(JoinHandle::join).collect()
}

/// Kills all, and waits for their ends, for at most `limit` together (`None`: for ever). Whether all have
/// ended. Bodies that have not begun are dropped here first, however long that takes.
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
/// With what is raised in the current coroutine meanwhile. When the current one is among them it is killed
/// like the others.
///
/// # Switching
///
/// Switches, unless all have ended already. All others may run meanwhile.
///
/// # Cancellation
///
/// The kills are under way all the same.
#[track_caller]
pub fn kill_all(coroutines: impl IntoIterator<Item = Coroutine>, limit: Option<Duration>) -> bool {
    let deadline = limit.and_then(Deadline::after);
    let current = current();
    let (own, others): (Vec<_>, Vec<_>) =
        coroutines.into_iter().partition(|coroutine| *coroutine == current);
    let mut raised = Raised::default();
    for coroutine in others.iter().chain(&own) {
        // The destructor of an unstarted body may panic: the rest are killed all the same.
        raised.note(|| coroutine.kill());
    }
    raised.resume();
    others.iter().all(|coroutine| coroutine.wait("kill_all", deadline))
}

/// The first panic of several calls that are all to be made.
#[derive(Default)]
pub(crate) struct Raised(Option<Payload>);

impl Raised {
    /// Calls `f`. If it panics, that is raised by [`Raised::resume`], unless there was one before.
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

/// Waits for several, and gives their numbers in the order in which they end: first those that have ended
/// already, in the order given.
///
/// Between two of them the caller may do whatever it likes. Dropped, it leaves nothing behind. One that is
/// given twice comes twice.
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
/// With a limit, and a count:
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
/// Its [`Iterator::next`] panics with what is raised in the current coroutine meanwhile. It panics as well
/// when it would wait, and the current coroutine is one of those that have not ended: it would wait for
/// itself; and when it would wait and main is one of them, which ends with its thread.
///
/// # Switching
///
/// Never switches; its [`Iterator::next`] does, unless one has ended already.
pub fn iwait(coroutines: impl IntoIterator<Item = Coroutine>) -> Iwait {
    let ended = Rc::new(Ended::default());
    let mut waiting = Vec::new();
    for (number, coroutine) in coroutines.into_iter().enumerate() {
        if coroutine.is_finished() {
            ended.numbers.borrow_mut().push_back((number, false));
            continue;
        }
        let tell = Rc::clone(&ended);
        let link = coroutine.add(Link::Tell(Box::new(move || {
            let is_late = tell.deadline.get().is_some_and(Deadline::has_passed);
            tell.numbers.borrow_mut().push_back((number, is_late));
            if let Some(waiter) = &*tell.waiter.borrow() {
                hub::unpark(waiter);
            }
        })));
        waiting.push((coroutine, link));
    }
    let left = waiting.len() + ended.numbers.borrow().len();
    Iwait { ended, waiting, left, is_over: false }
}

/// Those that have ended, and who is to be told.
#[derive(Default)]
struct Ended {
    /// In the order of their ends, each with whether that was after the deadline.
    numbers: RefCell<VecDeque<(usize, bool)>>,
    waiter: RefCell<Option<crate::greenlet::AnyWeakGreenlet>>,
    deadline: Cell<Option<Deadline>>,
}

/// What [`iwait`] returns.
#[must_use = "an iterator does nothing until it is asked"]
pub struct Iwait {
    ended: Rc<Ended>,
    waiting: Vec<(Coroutine, LinkId)>,
    left: usize,
    /// `next` has returned `None` because of the deadline.
    is_over: bool,
}

impl Iwait {
    /// Ends the iteration after `limit` from now, whether or not all coroutines have ended. Coroutines that
    /// end in time are yielded, however late `next` is called. Coroutines that end later are yielded only by
    /// calls of `next` after the one that has returned `None` because of the limit.
    pub fn limit(self, limit: Duration) -> Self {
        self.ended.deadline.set(Deadline::after(limit));
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
    /// Looks at all of them. Once per waiter is enough: none is ever added.
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

/// Waits until the first of several has ended, and says which. `None` if there are none.
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
/// As [`JoinHandle::join`]; when it would wait, and main is one of them, which ends with its thread.
///
/// # Switching
///
/// Switches, unless one has ended already. All others may run meanwhile.
///
/// # Cancellation
///
/// Leaves nothing behind.
#[track_caller]
pub fn wait_any(coroutines: impl IntoIterator<Item = Coroutine>) -> Option<usize> {
    iwait(coroutines).next()
}

impl Coroutine {
    /// Waits for its end, for at most `limit` (`None`: for ever). Whether it has ended. The result is left
    /// where it is.
    ///
    /// # Panics
    ///
    /// As [`JoinHandle::join`]; for main, which ends with its thread.
    ///
    /// # Switching
    ///
    /// Switches, unless it has ended already. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// Leaves nothing behind.
    #[track_caller]
    pub fn wait_end(&self, limit: Option<Duration>) -> bool {
        self.wait("Coroutine::wait_end", limit.and_then(Deadline::after))
    }

    /// Whether it has ended in another way than by a panic.
    pub fn is_successful(&self) -> bool {
        Head::of(&self.0).is_some_and(Head::is_successful)
    }
}
