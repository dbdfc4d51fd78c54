#![forbid(unsafe_code)]
//! Waiting for the first of several objects.

use super::sharing::{Sharing, State, Waker};
use crate::hub::{self, Deadline, Wake};
use std::time::Duration;

/// An object that can be waited for together with others: see [`select`].
pub trait Selectable: sealed::Selectable {}

pub(crate) mod sealed {
    pub trait Selectable {
        fn is_ready(&self) -> bool;

        /// Panics if the current coroutine would wait for itself.
        #[track_caller]
        fn refuse_own(&self) {}

        /// Has the current greenlet woken whenever the object becomes ready, until what this returns is
        /// called.
        fn watch(&self) -> Box<dyn FnOnce() + '_>;
    }
}

/// Waits until one of several objects is ready, and says which: the first in the order given.
///
/// Nothing is taken from it yet: that is done by its `try_` operation, which may find that somebody else
/// was faster. Then wait again.
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
/// With what is raised in the current coroutine meanwhile. In main, when nobody is left who could wake it.
/// When there are no objects. When it would wait, and one of them is the join handle of what calls it.
///
/// # Switching
///
/// Switches, unless one is ready already. All others may run meanwhile.
///
/// # Cancellation
///
/// Leaves nothing behind, and takes nothing.
#[track_caller]
pub fn select(objects: &[&dyn Selectable]) -> usize {
    assert!(!objects.is_empty(), "nothing to select from: this would wait for ever");
    select_until(objects, None).expect("it has waited until one was ready")
}

/// As [`select`], for at most `limit`. `None` if none was ready by then.
///
/// # Panics
///
/// As [`select`].
///
/// # Switching
///
/// As [`select`].
///
/// # Cancellation
///
/// Leaves nothing behind, and takes nothing.
#[track_caller]
pub fn select_timeout(objects: &[&dyn Selectable], limit: Duration) -> Option<usize> {
    select_until(objects, Deadline::after(limit))
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
        // Also before the first time: shared objects may have become ready meanwhile.
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

/// Who is to be told whenever an object becomes ready.
pub(super) struct Watchers<S: Sharing> {
    list: Vec<(u64, S::Waker)>,
    next: u64,
}

/// Those that are to be woken when the state is let go of.
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

/// Watches an object the state of which has watchers.
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
