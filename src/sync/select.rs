#![forbid(unsafe_code)]
//! Waiting for the first of several objects to become ready.

use super::sharing::{Sharing, State, Waker};
use crate::hub::{self, Deadline, Wake};
use std::time::Duration;

/// An object that [`select`] can wait for. Sealed.
pub trait Selectable: sealed::Selectable {}

pub(crate) mod sealed {
    pub trait Selectable {
        fn is_ready(&self) -> bool;

        /// Panics if the current coroutine would wait for its own end.
        #[track_caller]
        fn refuse_own(&self) {}

        /// Wakes the current greenlet each time the object becomes ready.
        ///
        /// Ends when the returned function is called.
        fn watch(&self) -> Box<dyn FnOnce() + '_>;
    }
}

/// Waits until one of several objects is ready, and returns its position.
///
/// If several are ready, returns the first in the order given.
///
/// Nothing is taken from the object yet. Its `try_` operation does that, and may fail if another coroutine
/// was faster; then call `select` again.
///
/// # Examples
///
/// ```
/// use switchgrass::spawn;
/// use switchgrass::sync::{Event, Queue, select};
/// use std::rc::Rc;
///
/// let (queue, stop) = (Rc::new(Queue::new()), Rc::new(Event::new()));
/// let sender = {
///     let (queue, stop) = (Rc::clone(&queue), Rc::clone(&stop));
///     spawn(move || {
///         queue.put(1).unwrap();
///         queue.put(2).unwrap();
///         stop.set();
///     })
/// };
/// let mut sum = 0;
/// while select(&[&*queue, &*stop]) == 0 {
///     sum += queue.try_get().unwrap_or(0);
/// }
/// assert_eq!(sum, 3);
/// # sender.join().unwrap();
/// ```
///
/// # Panics
///
/// Unwinds with any kill or timeout delivered to the current coroutine during the wait. In main, panics on
/// deadlock: when nothing is left that can wake it. Panics if there are no objects, and if it would have to
/// wait while one of them is the join handle of the current coroutine.
///
/// # Switching
///
/// May switch: if no object is ready. Any other coroutine may run meanwhile.
///
/// # Cancellation
///
/// The wait is abandoned; the objects are unchanged.
#[track_caller]
pub fn select(objects: &[&dyn Selectable]) -> usize {
    assert!(!objects.is_empty(), "select needs at least one object, got 0");
    select_until(objects, None).expect("without a deadline, one object is ready")
}

/// Waits like [`select`], for at most `timeout`.
///
/// Returns `None` if no object is ready by then; with no objects, the timeout simply passes.
///
/// # Panics
///
/// Panics like [`select`], except that `objects` may be empty.
///
/// # Switching
///
/// May switch: if no object is ready. Any other coroutine may run meanwhile.
///
/// # Cancellation
///
/// The wait is abandoned; the objects are unchanged.
#[track_caller]
pub fn select_timeout(objects: &[&dyn Selectable], timeout: Duration) -> Option<usize> {
    select_until(objects, Deadline::after(timeout))
}

#[track_caller]
fn select_until(objects: &[&dyn Selectable], deadline: Option<Deadline>) -> Option<usize> {
    let ready = || objects.iter().position(|object| object.is_ready());
    if let Some(ready) = ready() {
        return Some(ready);
    }
    objects.iter().for_each(|object| object.refuse_own());
    let _watches: Vec<_> = objects.iter().map(|object| Unwatch(Some(object.watch()))).collect();
    loop {
        // Checked before the first park, too: a shared object may have become ready before it was watched.
        if let Some(ready) = ready() {
            return Some(ready);
        }
        if hub::park("select", deadline) == Wake::TimedOut {
            return ready();
        }
    }
}

struct Unwatch<'a>(Option<Box<dyn FnOnce() + 'a>>);

impl Drop for Unwatch<'_> {
    fn drop(&mut self) {
        if let Some(unwatch) = self.0.take() {
            unwatch();
        }
    }
}

/// The wakers to wake each time an object becomes ready.
pub(super) struct Watchers<S: Sharing> {
    list: Vec<(u64, S::Waker)>,
    next: u64,
}

/// Wakers to wake after the state is released.
pub(super) struct Wakers<W>(pub(super) Vec<W>);

impl<S: Sharing> Watchers<S> {
    pub(super) const fn new() -> Self {
        Watchers { list: Vec::new(), next: 0 }
    }

    #[inline]
    pub(super) fn all(&self) -> Wakers<S::Waker> {
        Wakers(self.list.iter().map(|(_, waker)| waker.clone()).collect())
    }

    #[inline]
    pub(super) fn if_any(&self) -> Option<Wakers<S::Waker>> {
        if self.list.is_empty() { None } else { Some(self.all()) }
    }

    fn add(&mut self, waker: S::Waker) -> u64 {
        self.next += 1;
        self.list.push((self.next, waker));
        self.next
    }

    fn remove(&mut self, id: u64) -> Option<(u64, S::Waker)> {
        let at = self.list.iter().position(|(other, _)| *other == id)?;
        Some(self.list.remove(at))
    }
}

impl<W: Waker> Wakers<W> {
    #[inline]
    pub(super) fn wake(self) {
        self.0.into_iter().for_each(Waker::wake);
    }
}

/// Watches an object whose state has watchers.
pub(super) fn watch<'a, S: Sharing, T: 'a>(
    state: &'a S::State<T>,
    watchers: fn(&mut T) -> &mut Watchers<S>,
) -> Box<dyn FnOnce() + 'a> {
    let (registration, waker) = S::Waker::register();
    let id = state.with(|state| watchers(state).add(waker));
    Box::new(move || {
        let watcher = state.with(|state| watchers(state).remove(id));
        drop((registration, watcher));
    })
}
