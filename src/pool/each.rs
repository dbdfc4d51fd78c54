#![forbid(unsafe_code)]
//! One function for many items: one coroutine per item.

use crate::coroutine::{JoinError, JoinHandle, yield_now};
use crate::greenlet::GreenletExit;
use crate::hub::TimeoutExit;
use crate::sync::Queue;
use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

/// A spawner of coroutines: a group or a pool.
pub trait Spawner {
    /// Returns whether a coroutine can be spawned without waiting for a place.
    #[doc(hidden)]
    fn has_room(&self) -> bool;

    #[doc(hidden)]
    #[track_caller]
    fn run_in<T: 'static>(&self, body: impl FnOnce() -> T + 'static) -> JoinHandle<T>;
}

#[track_caller]
pub(super) fn map<I: 'static, R: 'static>(
    spawner: &impl Spawner,
    items: impl IntoIterator<Item = I>,
    f: impl Fn(I) -> R + 'static,
) -> Result<Vec<R>, JoinError> {
    let f = Rc::new(f);
    let mut all: Vec<JoinHandle<R>> = Vec::new();
    for item in items {
        let f = Rc::clone(&f);
        all.push(spawner.run_in(move || f(item)));
    }
    let ended: Vec<_> = all.into_iter().map(JoinHandle::join).collect();
    ended.into_iter().collect()
}

/// The items to come, and a panic of their iterator, which is raised after the results before it were
/// returned.
struct Input<It, I> {
    items: Option<It>,
    /// The item that was taken last, until its coroutine is spawned.
    ///
    /// If a kill, a timeout or a lack of stacks ends the attempt, the next call retries with this item.
    pending: Option<Slot<I>>,
    panic: Option<Box<dyn std::any::Any + Send>>,
}

/// An item, which its coroutine takes when it starts.
type Slot<I> = Rc<Cell<Option<I>>>;

impl<It: Iterator<Item = I>, I: 'static> Input<It, I> {
    fn new(items: It) -> Self {
        Input { items: Some(items), pending: None, panic: None }
    }

    /// Spawns a coroutine for the next item, if there is one.
    #[track_caller]
    fn spawn_next<R: 'static>(
        &mut self,
        spawner: &impl Spawner,
        f: &Rc<dyn Fn(I) -> R>,
    ) -> Option<JoinHandle<R>> {
        if self.pending.is_none() {
            self.pending = self.next().map(|item| Rc::new(Cell::new(Some(item))));
        }
        let (slot, f) = (Rc::clone(self.pending.as_ref()?), Rc::clone(f));
        let handle =
            spawner.run_in(move || f(slot.take().expect("only one coroutine takes the item")));
        self.pending = None;
        Some(handle)
    }

    fn next(&mut self) -> Option<I> {
        let items = self.items.as_mut()?;
        match catch_unwind(AssertUnwindSafe(|| items.next())) {
            Ok(Some(item)) => Some(item),
            Ok(None) => {
                self.items = None;
                None
            }
            // A kill or a timeout of the caller, not a panic of the iterator.
            Err(payload) if payload.is::<GreenletExit>() || payload.is::<TimeoutExit>() => {
                resume_unwind(payload)
            }
            Err(payload) => {
                self.panic = Some(payload);
                self.items = None;
                None
            }
        }
    }

    /// Returns whether to take another item while `under_way` results are pending, of at most `ahead`.
    ///
    /// Callers check only if no result is ready, and after the last coroutine has had its first turn: the
    /// next item may depend on its result.
    fn may_take_next(&self, under_way: usize, ahead: usize, spawner: &impl Spawner) -> bool {
        let has_more = (self.pending.is_some() || self.items.is_some()) && under_way < ahead;
        // If there is no place, spawning would wait; the end of a pending coroutine may free one.
        has_more && (under_way == 0 || spawner.has_room())
    }

    /// Called at the end of the items: raises the panic of their iterator, if any.
    fn end(&mut self) {
        if let Some(payload) = self.panic.take() {
            resume_unwind(payload);
        }
    }
}

#[track_caller]
fn check(ahead: usize) -> usize {
    assert!(ahead > 0, "number of calls under way must be at least 1, got 0");
    ahead
}

/// An iterator over results, in item order: made by `imap`.
///
/// A failure is returned in its place, and does not end the iterator. Dropping the iterator lets pending
/// coroutines continue.
#[must_use = "iterators are lazy and do nothing unless consumed"]
pub struct Imap<It, I, R, P> {
    spawner: P,
    ahead: usize,
    input: Input<It, I>,
    f: Rc<dyn Fn(I) -> R>,
    under_way: VecDeque<JoinHandle<R>>,
}

impl<It: Iterator<Item = I>, I: 'static, R: 'static, P: Spawner> Imap<It, I, R, P> {
    #[track_caller]
    pub(super) fn new(spawner: P, ahead: usize, items: It, f: impl Fn(I) -> R + 'static) -> Self {
        let input = Input::new(items);
        Imap { spawner, ahead: check(ahead), input, f: Rc::new(f), under_way: VecDeque::new() }
    }
}

impl<It, I, R, P> Imap<It, I, R, P> {
    fn is_ready(&self) -> bool {
        self.under_way.front().is_some_and(|next| next.is_finished())
    }
}

impl<It: Iterator<Item = I>, I: 'static, R: 'static, P: Spawner> Iterator for Imap<It, I, R, P> {
    type Item = Result<R, JoinError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.is_ready()
            && self.input.may_take_next(self.under_way.len(), self.ahead, &self.spawner)
        {
            let Some(handle) = self.input.spawn_next(&self.spawner, &self.f) else { break };
            self.under_way.push_back(handle);
            yield_now();
        }
        let Some(next) = self.under_way.front() else {
            self.input.end();
            return None;
        };
        // If this unwinds, the handle is still in the queue for the next call.
        next.wait_end(None);
        self.under_way.pop_front().map(JoinHandle::join)
    }
}

impl<It, I, R, P> fmt::Debug for Imap<It, I, R, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Imap").field("under_way", &self.under_way.len()).finish_non_exhaustive()
    }
}

/// An iterator over results, in order of completion: made by `imap_unordered`.
///
/// Otherwise the same as [`Imap`].
#[must_use = "iterators are lazy and do nothing unless consumed"]
pub struct ImapUnordered<It, I, R, P> {
    spawner: P,
    ahead: usize,
    input: Input<It, I>,
    f: Rc<dyn Fn(I) -> R>,
    /// The ids of coroutines that have ended.
    ended: Rc<Queue<u64>>,
    under_way: BTreeMap<u64, JoinHandle<R>>,
}

impl<It: Iterator<Item = I>, I: 'static, R: 'static, P: Spawner> ImapUnordered<It, I, R, P> {
    #[track_caller]
    pub(super) fn new(spawner: P, ahead: usize, items: It, f: impl Fn(I) -> R + 'static) -> Self {
        let input = Input::new(items);
        let ended = Rc::new(Queue::new());
        let under_way = BTreeMap::new();
        ImapUnordered { spawner, ahead: check(ahead), input, f: Rc::new(f), ended, under_way }
    }
}

impl<It: Iterator<Item = I>, I: 'static, R: 'static, P: Spawner> Iterator
    for ImapUnordered<It, I, R, P>
{
    type Item = Result<R, JoinError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.ended.is_empty()
            && self.input.may_take_next(self.under_way.len(), self.ahead, &self.spawner)
        {
            let Some(handle) = self.input.spawn_next(&self.spawner, &self.f) else { break };
            let (id, ended) = (handle.id(), Rc::clone(&self.ended));
            // This callback owns no user value whose destructor could run while the coroutine is ending.
            handle.on_end(move || ended.try_put(id).expect("the queue is never shut down"));
            self.under_way.insert(id, handle);
            yield_now();
        }
        if self.under_way.is_empty() {
            self.input.end();
            return None;
        }
        let next = self.ended.get().expect("the queue is never shut down");
        self.under_way.remove(&next).map(JoinHandle::join)
    }
}

impl<It, I, R, P> fmt::Debug for ImapUnordered<It, I, R, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let under_way = self.under_way.len();
        f.debug_struct("ImapUnordered").field("under_way", &under_way).finish_non_exhaustive()
    }
}
