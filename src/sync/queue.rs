#![forbid(unsafe_code)]
//! Queues: FIFO, LIFO, and by priority.

use super::heap::Heap;
use super::select::{Selectable, Wakers, Watchers, sealed};
use super::sharing::{Local, Shared, Sharing, State, Waker, calling_user};
use super::wait::{Object, wait};
use super::wait_list::{WaitList, Waiter};
use crate::greenlet::dropping::drop_each;
use crate::greenlet::scheduled::Payload;
use crate::hub::Deadline;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque, btree_map, vec_deque};
use std::error::Error;
use std::fmt;
use std::iter::Chain;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

/// The order in which a queue returns its items.
///
/// Sealed: implemented by [`Fifo`], [`Lifo`] and [`Priority`] only.
pub trait Order<T>: order::Order<T> {}

/// First in, first out.
#[derive(Clone, Copy, Debug)]
pub struct Fifo(());

/// Last in, first out.
#[derive(Clone, Copy, Debug)]
pub struct Lifo(());

/// Smallest first; the order of equal items is unspecified.
///
/// The items' [`Ord`] runs while the queue is held. It must neither wait nor use the queue: both panic. A
/// panic in it leaves the queue intact. It propagates to the caller of the put or get; or, if a get makes
/// room for the item of a waiting putter and comparing that item panics, to that putter.
#[derive(Clone, Copy, Debug)]
pub struct Priority(());

impl<T> Order<T> for Fifo {}
impl<T> Order<T> for Lifo {}
impl<T: Ord> Order<T> for Priority {}

pub(crate) mod order {
    use super::*;

    const COMPARISON: &str = "the `Ord` of an item of a priority queue";

    pub trait Order<T> {
        type Items: Default + IntoIterator<Item = T>;

        /// Plans an [`Order::push`]: returns the item's position.
        ///
        /// May call user code, which may panic, so it changes nothing.
        #[inline]
        fn place(items: &Self::Items, item: &T) -> usize {
            let _ = (items, item);
            0
        }

        /// Inserts an item at its planned position. Calls no user code.
        fn push(items: &mut Self::Items, position: usize, item: T);

        /// Removes the next item. Changes nothing if user code panics in it.
        fn pop(items: &mut Self::Items) -> Option<T>;

        fn len(items: &Self::Items) -> usize;

        /// Takes back an item that was handed to a waiter that did not receive it.
        ///
        /// It was handed over while the queue was empty, so it is older than all items present, except for
        /// others that were taken back. Never panics.
        fn take_back(items: &mut Self::Items, number: u64, item: T);
    }

    /// Items in the order in which they were put.
    #[derive(Debug)]
    pub struct InOrder<T> {
        /// Items that were taken back, by number. They precede the others.
        back: BTreeMap<u64, T>,
        items: VecDeque<T>,
    }

    impl<T> Default for InOrder<T> {
        fn default() -> Self {
            InOrder { back: BTreeMap::new(), items: VecDeque::new() }
        }
    }

    impl<T> IntoIterator for InOrder<T> {
        type Item = T;
        type IntoIter = Chain<btree_map::IntoValues<u64, T>, vec_deque::IntoIter<T>>;

        fn into_iter(self) -> Self::IntoIter {
            self.back.into_values().chain(self.items)
        }
    }

    impl<T> Order<T> for Fifo {
        type Items = InOrder<T>;

        #[inline]
        fn push(items: &mut InOrder<T>, _: usize, item: T) {
            items.items.push_back(item);
        }

        #[inline]
        fn pop(items: &mut InOrder<T>) -> Option<T> {
            match items.back.pop_first() {
                Some((_, item)) => Some(item),
                None => items.items.pop_front(),
            }
        }

        #[inline]
        fn len(items: &InOrder<T>) -> usize {
            items.back.len() + items.items.len()
        }

        fn take_back(items: &mut InOrder<T>, number: u64, item: T) {
            items.back.insert(number, item);
        }
    }

    impl<T> Order<T> for Lifo {
        type Items = Vec<T>;

        fn push(items: &mut Vec<T>, _: usize, item: T) {
            items.push(item);
        }

        fn pop(items: &mut Vec<T>) -> Option<T> {
            items.pop()
        }

        fn len(items: &Vec<T>) -> usize {
            items.len()
        }

        fn take_back(items: &mut Vec<T>, _: u64, item: T) {
            items.push(item);
        }
    }

    impl<T: Ord> Order<T> for Priority {
        type Items = Heap<T>;

        fn place(items: &Heap<T>, item: &T) -> usize {
            calling_user(items, COMPARISON, || items.place(item))
        }

        fn push(items: &mut Heap<T>, position: usize, item: T) {
            items.insert(position, item);
        }

        fn pop(items: &mut Heap<T>) -> Option<T> {
            let path = calling_user(items, COMPARISON, || items.path_down());
            items.remove_first(path)
        }

        fn len(items: &Heap<T>) -> usize {
            items.len()
        }

        fn take_back(items: &mut Heap<T>, _: u64, item: T) {
            // This runs in a destructor, so the panic cannot be propagated; its hook has printed it. The
            // payload is leaked, since its destructor must not run here.
            let position = catch_unwind(AssertUnwindSafe(|| Self::place(items, &item)));
            let position = position.map_err(std::mem::forget).unwrap_or(items.len());
            items.insert(position, item);
        }
    }
}

/// A queue of items, optionally bounded: a put into a full queue waits.
///
/// Items, waiting getters, and waiting putters each proceed in order. No item is lost or returned twice
/// when a waiter is killed or times out.
///
/// The queue counts the items that were put but not processed. See [`Queue::task_done`].
///
/// # Examples
///
/// ```
/// use std::rc::Rc;
/// use switchgrass::{spawn, sync::Queue};
///
/// let queue = Rc::new(Queue::bounded(1));
/// let producer = spawn({
///     let queue = Rc::clone(&queue);
///     move || {
///         for number in 0..3 {
///             queue.put(number).unwrap();
///         }
///         queue.shut_down();
///     }
/// });
/// let mut all = Vec::new();
/// while let Ok(number) = queue.get() {
///     all.push(number);
/// }
/// assert_eq!(all, [0, 1, 2]);
/// # producer.join().unwrap();
/// ```
///
/// Between threads:
///
/// ```
/// use std::sync::Arc;
/// use switchgrass::sync::Queue;
///
/// let queue = Arc::new(Queue::shared());
/// let other = Arc::clone(&queue);
/// let thread = std::thread::spawn(move || other.put("hello").unwrap());
/// assert_eq!(queue.get().unwrap(), "hello");
/// thread.join().unwrap();
/// ```
pub struct Queue<T, S: Sharing = Local, O: Order<T> = Fifo> {
    state: S::State<Items<T, S, O>>,
    order: PhantomData<O>,
}

/// A queue that returns the most recently put item.
///
/// Created by `LifoQueue::lifo()` and similar functions.
///
/// # Examples
///
/// ```
/// use switchgrass::sync::LifoQueue;
///
/// let stack = LifoQueue::lifo();
/// stack.put(1).unwrap();
/// stack.put(2).unwrap();
/// assert_eq!((stack.get(), stack.get()), (Ok(2), Ok(1)));
/// ```
pub type LifoQueue<T, S = Local> = Queue<T, S, Lifo>;

/// A queue that returns the smallest item.
///
/// Created by `PriorityQueue::priority()` and similar functions.
///
/// # Examples
///
/// ```
/// use switchgrass::sync::PriorityQueue;
///
/// let queue = PriorityQueue::priority();
/// queue.put((2, "later")).unwrap();
/// queue.put((1, "first")).unwrap();
/// assert_eq!(queue.get(), Ok((1, "first")));
/// ```
pub type PriorityQueue<T, S = Local> = Queue<T, S, Priority>;

/// A queue whose unprocessed items are counted. Every [`Queue`] is one.
pub type JoinableQueue<T, S = Local> = Queue<T, S, Fifo>;

struct Items<T, S: Sharing, O: order::Order<T>> {
    items: O::Items,
    limit: usize,
    is_shut_down: bool,
    /// Whether items that are taken back are dropped, after `shut_down_now`.
    drops: bool,
    /// The number of items that were put and not marked as processed.
    unfinished: usize,
    /// The number of the last item that was put. Items that are taken back are ordered by it.
    last: u64,
    /// Waiting getters. Each is granted an item, or `None` once the queue is shut down and empty.
    getters: WaitList<S::Waker, Option<Handed<T>>>,
    /// Waiting putters with their items. Each is granted whether its item was accepted.
    putters: WaitList<Putter<T, S>, Result<(), Refused<T>>>,
    joiners: WaitList<S::Waker>,
    watchers: Watchers<S>,
}

/// An item that was handed to a waiting getter, with its number.
struct Handed<T> {
    number: u64,
    item: T,
}

struct Putter<T, S: Sharing> {
    waker: S::Waker,
    item: Option<T>,
}

impl<T, S: Sharing> Waiter for Putter<T, S> {
    #[inline]
    fn is_left_behind(&self) -> bool {
        self.waker.is_left_behind()
    }
}

/// An item that was refused from a waiting putter.
struct Refused<T> {
    item: T,
    /// The panic of the item's comparison; `None` if the queue was shut down.
    panic: Option<Payload>,
}

impl<T> Refused<T> {
    fn into_error(self) -> PutError<T> {
        match self.panic {
            Some(payload) => {
                drop(self.item);
                resume_unwind(payload)
            }
            None => PutError::ShutDown(self.item),
        }
    }
}

/// The error of a put, which returns the item.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum PutError<T> {
    /// The queue is full, or was until the timeout passed.
    Full(T),
    /// The queue was shut down.
    ShutDown(T),
}

impl<T> PutError<T> {
    /// Returns the item.
    pub fn into_inner(self) -> T {
        match self {
            PutError::Full(item) | PutError::ShutDown(item) => item,
        }
    }
}

impl<T> fmt::Debug for PutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PutError::Full(_) => "Full(..)",
            PutError::ShutDown(_) => "ShutDown(..)",
        })
    }
}

impl<T> fmt::Display for PutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PutError::Full(_) => "the queue is full",
            PutError::ShutDown(_) => "the queue was shut down",
        })
    }
}

impl<T> Error for PutError<T> {}

/// The error of a get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GetError {
    /// The queue is empty, or was until the timeout passed.
    Empty,
    /// The queue was shut down and is empty.
    ShutDown,
}

impl fmt::Display for GetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            GetError::Empty => "the queue is empty",
            GetError::ShutDown => "the queue was shut down, and is empty",
        })
    }
}

impl Error for GetError {}

/// [`Queue::task_done`] was called more often than items were put.
///
/// The call had no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DoneTooOften(());

impl fmt::Display for DoneTooOften {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("task_done was called more often than items were put")
    }
}

impl Error for DoneTooOften {}

macro_rules! constructors {
    ($order:ident: $($bound:ident)?, $new:ident, $bounded:ident, $shared:ident, $shared_bounded:ident) => {
        impl<T $(: $bound)?> Queue<T, Local, $order> {
            /// Creates an unbounded queue of this thread.
            pub fn $new() -> Self {
                Self::with(usize::MAX)
            }

            /// Creates a queue of this thread that holds at most `limit` items.
            ///
            /// # Panics
            ///
            /// Panics if `limit` is zero. For a rendezvous, see [`Channel`](crate::sync::Channel).
            #[track_caller]
            pub fn $bounded(limit: usize) -> Self {
                Self::with(limit)
            }
        }

        impl<T $(: $bound)?> Queue<T, Shared, $order> {
            /// Creates an unbounded queue that threads can share.
            pub fn $shared() -> Self {
                Self::with(usize::MAX)
            }

            /// Creates a queue that threads can share and that holds at most `limit` items.
            ///
            /// # Panics
            ///
            /// Panics if `limit` is zero. For a rendezvous, see [`Channel`](crate::sync::Channel).
            #[track_caller]
            pub fn $shared_bounded(limit: usize) -> Self {
                Self::with(limit)
            }
        }
    };
}

constructors!(Fifo: , new, bounded, shared, shared_bounded);
constructors!(Lifo: , lifo, bounded_lifo, shared_lifo, shared_bounded_lifo);
constructors!(Priority: Ord, priority, bounded_priority, shared_priority, shared_bounded_priority);

impl<T> Default for Queue<T, Local, Fifo> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T, S: Sharing, O: Order<T>> Queue<T, S, O> {
    #[track_caller]
    fn with(limit: usize) -> Self {
        assert!(
            limit > 0,
            "queue limit must be at least 1, got 0: for a rendezvous, use a `Channel`"
        );
        let items = Items {
            items: O::Items::default(),
            limit,
            is_shut_down: false,
            drops: false,
            unfinished: 0,
            last: 0,
            getters: WaitList::new(),
            putters: WaitList::new(),
            joiners: WaitList::new(),
            watchers: Watchers::new(),
        };
        Queue { state: State::new(items), order: PhantomData }
    }

    /// Puts an item into the queue, and waits for room if necessary.
    ///
    /// # Errors
    ///
    /// Returns [`PutError::ShutDown`] if the queue was shut down before or during the wait.
    ///
    /// # Panics
    ///
    /// Unwinds with any kill or timeout delivered to the current coroutine during the wait. In main, panics
    /// on deadlock: when nothing is left that can wake it. In a priority queue, propagates panics of a
    /// comparison; the item is dropped.
    ///
    /// # Switching
    ///
    /// May switch: if the queue is full. Any other coroutine may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The item is in the queue if there was room by then; otherwise it is dropped.
    #[inline]
    #[track_caller]
    pub fn put(&self, item: T) -> Result<(), PutError<T>> {
        self.put_until(item, None)
    }

    /// Puts an item into the queue if there is room.
    ///
    /// # Errors
    ///
    /// Returns [`PutError::Full`] if there is no room, [`PutError::ShutDown`] if the queue was shut down.
    ///
    /// # Switching
    ///
    /// Never switches.
    #[inline]
    pub fn try_put(&self, item: T) -> Result<(), PutError<T>> {
        let mut item = Some(item);
        match self.offer(&mut item) {
            Some(done) => done.map_err(PutError::ShutDown),
            None => Err(PutError::Full(item.expect("the item was not taken"))),
        }
    }

    /// Puts an item into the queue, and waits for room for at most `timeout`.
    ///
    /// # Errors
    ///
    /// Returns [`PutError::Full`] if there is no room by then, [`PutError::ShutDown`] if the queue was shut
    /// down.
    ///
    /// # Panics
    ///
    /// Panics like [`Queue::put`].
    ///
    /// # Switching
    ///
    /// May switch: if the queue is full, even for a timeout of zero. Any other coroutine may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The item is in the queue if there was room by then; otherwise it is dropped.
    #[track_caller]
    pub fn put_timeout(&self, item: T, timeout: Duration) -> Result<(), PutError<T>> {
        self.put_until(item, Deadline::after(timeout))
    }

    #[inline]
    fn put_until(&self, item: T, deadline: Option<Deadline>) -> Result<(), PutError<T>> {
        let mut item = Some(item);
        if let Some(done) = self.offer(&mut item) {
            return done.map_err(PutError::ShutDown);
        }
        self.put_slowly(item, deadline)
    }

    #[cold]
    fn put_slowly(
        &self,
        mut item: Option<T>,
        deadline: Option<Deadline>,
    ) -> Result<(), PutError<T>> {
        let object = Object::<S, _, _, _> {
            state: &self.state,
            list: |items: &mut Items<T, S, O>| &mut items.putters,
            purpose: "Queue::put",
        };
        let item_cell = RefCell::new(item.take());
        let mut wakers = None;
        let attempt = |items: &mut Items<T, S, O>| {
            let (done, woken) = items.offer(&mut item_cell.borrow_mut());
            wakers = woken;
            done.map(|done| done.map_err(|item| Refused { item, panic: None }))
        };
        let enter = |waker| Putter { waker, item: item_cell.take() };
        let result = wait(object, deadline, attempt, enter, drop);
        if let Some(wakers) = wakers {
            wakers.wake();
        }
        match result {
            Ok(done) => done.map_err(Refused::into_error),
            Err(putter) => Err(PutError::Full(putter.item.expect("the item was not taken"))),
        }
    }

    /// Accepts or refuses an item without waiting.
    ///
    /// Returns `None` if there is no room, and leaves the item.
    #[inline]
    fn offer(&self, item: &mut Option<T>) -> Option<Result<(), T>> {
        let (done, wakers) = self.state.with(|items| items.offer(item));
        if let Some(wakers) = wakers {
            wakers.wake();
        }
        done
    }

    /// Takes the next item, and waits for one if necessary.
    ///
    /// # Errors
    ///
    /// Returns [`GetError::ShutDown`] if the queue is shut down and empty.
    ///
    /// # Panics
    ///
    /// Unwinds with any kill or timeout delivered to the current coroutine during the wait. In main, panics
    /// on deadlock: when nothing is left that can wake it. In a priority queue, propagates panics of a
    /// comparison; no item is taken.
    ///
    /// # Switching
    ///
    /// May switch: if the queue is empty. Any other coroutine may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// No item is taken. An item that had already been handed over goes to the next waiter, or returns to
    /// the queue, where it keeps its turn; after [`Queue::shut_down_now`], it is dropped.
    #[inline]
    #[track_caller]
    pub fn get(&self) -> Result<T, GetError> {
        self.get_until(None)
    }

    /// Takes the next item if there is one.
    ///
    /// # Errors
    ///
    /// Returns [`GetError::Empty`] if there is no item, [`GetError::ShutDown`] if the queue is also shut
    /// down.
    ///
    /// # Switching
    ///
    /// Never switches.
    #[inline]
    pub fn try_get(&self) -> Result<T, GetError> {
        let (done, waker) = self.state.with(Items::take);
        if let Some(waker) = waker {
            waker.wake();
        }
        match done {
            Some(item) => item.ok_or(GetError::ShutDown),
            None => Err(GetError::Empty),
        }
    }

    /// Takes the next item, and waits for one for at most `timeout`.
    ///
    /// # Errors
    ///
    /// Returns [`GetError::Empty`] if there is no item by then, [`GetError::ShutDown`] if the queue is also
    /// shut down.
    ///
    /// # Panics
    ///
    /// Panics like [`Queue::get`].
    ///
    /// # Switching
    ///
    /// May switch: if the queue is empty, even for a timeout of zero. Any other coroutine may run
    /// meanwhile.
    ///
    /// # Cancellation
    ///
    /// No item is taken, as for [`Queue::get`].
    #[track_caller]
    pub fn get_timeout(&self, timeout: Duration) -> Result<T, GetError> {
        self.get_until(Deadline::after(timeout))
    }

    #[inline]
    fn get_until(&self, deadline: Option<Deadline>) -> Result<T, GetError> {
        match self.try_get() {
            Err(GetError::Empty) => self.get_slowly(deadline),
            done => done,
        }
    }

    fn get_slowly(&self, deadline: Option<Deadline>) -> Result<T, GetError> {
        let object = Object::<S, _, _, _> {
            state: &self.state,
            list: |items: &mut Items<T, S, O>| &mut items.getters,
            purpose: "Queue::get",
        };
        let mut waker = None;
        let attempt = |items: &mut Items<T, S, O>| {
            let (done, woken) = items.take();
            waker = woken;
            // The number is unused: only items that were handed over are given back.
            done.map(|item| item.map(|item| Handed { number: 0, item }))
        };
        let give_back = |handed: Option<Handed<T>>| {
            if let Some(handed) = handed {
                self.give_back(handed);
            }
        };
        let result = wait(object, deadline, attempt, |waker| waker, give_back);
        if let Some(waker) = waker {
            waker.wake();
        }
        match result {
            Ok(Some(handed)) => Ok(handed.item),
            Ok(None) => Err(GetError::ShutDown),
            Err(_) => Err(GetError::Empty),
        }
    }

    /// Takes back an item handed to a waiter that was killed before it resumed.
    fn give_back(&self, handed: Handed<T>) {
        let (woken, joiners, dropped) = self.state.with(|items| {
            if items.drops {
                (None, items.done(), Some(handed.item))
            } else {
                (Some(items.take_back(handed)), None, None)
            }
        });
        if let Some(woken) = woken {
            woken.wake();
        }
        joiners.into_iter().flatten().for_each(Waker::wake);
        drop(dropped);
    }

    /// Marks one retrieved item as processed.
    ///
    /// # Errors
    ///
    /// Returns [`DoneTooOften`] if all items that were put have been marked already.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::rc::Rc;
    /// use switchgrass::{spawn, sync::Queue};
    ///
    /// let jobs = Rc::new(Queue::new());
    /// let worker = Rc::clone(&jobs);
    /// spawn(move || {
    ///     while let Ok(job) = worker.get() {
    ///         println!("{job}");
    ///         worker.task_done().unwrap();
    ///     }
    /// });
    /// for job in ["one", "two"] {
    ///     jobs.put(job).unwrap();
    /// }
    /// jobs.join();
    /// assert_eq!(jobs.unfinished(), 0);
    /// ```
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn task_done(&self) -> Result<(), DoneTooOften> {
        let wakers = self.state.with(Items::done);
        wakers.ok_or(DoneTooOften(()))?.into_iter().for_each(Waker::wake);
        Ok(())
    }

    /// Waits until all items that were put have been retrieved and marked as processed.
    ///
    /// # Panics
    ///
    /// Unwinds with any kill or timeout delivered to the current coroutine during the wait. In main, panics
    /// on deadlock: when nothing is left that can wake it.
    ///
    /// # Switching
    ///
    /// May switch: if some items are not processed. Any other coroutine may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The wait is abandoned; the object is unchanged.
    #[track_caller]
    pub fn join(&self) {
        self.join_until(None);
    }

    /// Waits like [`Queue::join`], for at most `timeout`.
    ///
    /// Returns whether all items are processed.
    ///
    /// # Panics
    ///
    /// Panics like [`Queue::join`].
    ///
    /// # Switching
    ///
    /// May switch: if some items are not processed. Any other coroutine may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The wait is abandoned; the object is unchanged.
    #[track_caller]
    pub fn join_timeout(&self, timeout: Duration) -> bool {
        self.join_until(Deadline::after(timeout))
    }

    fn join_until(&self, deadline: Option<Deadline>) -> bool {
        let object = Object::<S, _, _, _> {
            state: &self.state,
            list: |items: &mut Items<T, S, O>| &mut items.joiners,
            purpose: "Queue::join",
        };
        let attempt = |items: &mut Items<T, S, O>| (items.unfinished == 0).then_some(());
        wait(object, deadline, attempt, |waker| waker, |()| ()).is_ok()
    }

    /// Shuts the queue down: it accepts no more items.
    ///
    /// The items in the queue can still be retrieved; after that, each get returns [`GetError::ShutDown`].
    /// Waiting putters get their items back.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn shut_down(&self) {
        self.end(false);
    }

    /// Shuts the queue down like [`Queue::shut_down`], and drops its items.
    ///
    /// The dropped items count as processed.
    ///
    /// # Panics
    ///
    /// Resumes the first panic of an item's destructor, after all items are dropped. Further ones are
    /// reported on standard error.
    ///
    /// # Switching
    ///
    /// Never switches, unless an item's destructor does.
    pub fn shut_down_now(&self) {
        self.end(true);
    }

    fn end(&self, now: bool) {
        let (wakers, watchers, dropped) = self.state.with(|items| {
            items.is_shut_down = true;
            items.drops |= now;
            let mut wakers: Vec<S::Waker> = Vec::new();
            while let Some(waker) = items.refuse_putter(None) {
                wakers.push(waker);
            }
            let dropped = if now { std::mem::take(&mut items.items) } else { O::Items::default() };
            items.unfinished = items.unfinished.saturating_sub(O::len(&dropped));
            if items.unfinished == 0 {
                wakers.extend(items.release_joiners());
            }
            // Getters wait only while the queue is empty.
            wakers.extend(items.getters.grant_all(|| None));
            (wakers, items.watchers.all(), dropped)
        });
        wakers.into_iter().for_each(Waker::wake);
        watchers.wake();
        drop_each("the destructor of an item of a queue", dropped);
    }

    /// Returns the number of items in the queue.
    pub fn len(&self) -> usize {
        self.state.with(|items| O::len(&items.items))
    }

    /// Whether the queue is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the queue is full: there is no room for another item.
    pub fn is_full(&self) -> bool {
        self.state.with(|items| O::len(&items.items) >= items.limit)
    }

    /// Returns the number of items that were put and not marked as processed.
    pub fn unfinished(&self) -> usize {
        self.state.with(|items| items.unfinished)
    }

    /// Whether the queue was shut down.
    pub fn is_shut_down(&self) -> bool {
        self.state.with(|items| items.is_shut_down)
    }
}

const LEFT: &str = "a waiting putter has left its item in the list";

/// The outcome of an offered item, `None` if it has to wait for room, and the waiters to wake.
type Offered<T, W> = (Option<Result<(), T>>, Option<Woken<W>>);

/// The waiters to wake after the state is released.
struct Woken<W> {
    first: Option<W>,
    others: Option<Wakers<W>>,
}

impl<W: Waker> Woken<W> {
    #[inline]
    fn wake(self) {
        if let Some(first) = self.first {
            first.wake();
        }
        if let Some(others) = self.others {
            others.wake();
        }
    }
}

impl<T, S: Sharing, O: order::Order<T>> Items<T, S, O> {
    /// Accepts or refuses an item without waiting. Leaves the item if there is no room.
    #[inline]
    fn offer(&mut self, item: &mut Option<T>) -> Offered<T, S::Waker> {
        if self.is_shut_down {
            return (item.take().map(Err), None);
        }
        if O::len(&self.items) >= self.limit {
            return (None, None);
        }
        let Some(position) = self.place(item) else { return (None, None) };
        let Some(item) = item.take() else { return (None, None) };
        self.unfinished += 1;
        self.last += 1;
        let woken = self.give(Handed { number: self.last, item }, |items, handed| {
            O::push(items, position, handed.item);
        });
        (Some(Ok(())), Some(woken))
    }

    /// Plans the position of an item, in case no getter takes it.
    ///
    /// Changes nothing if it panics.
    #[inline]
    fn place(&mut self, item: &Option<T>) -> Option<usize> {
        let item = item.as_ref()?;
        Some(if self.getters.is_empty() { O::place(&self.items, item) } else { 0 })
    }

    /// Hands an item to the first waiting getter, or stores it by `keep`.
    #[inline]
    fn give(
        &mut self,
        handed: Handed<T>,
        keep: impl FnOnce(&mut O::Items, Handed<T>),
    ) -> Woken<S::Waker> {
        match self.getters.grant(Some(handed)) {
            Ok(getter) => Woken { first: Some(getter), others: None },
            Err(handed) => {
                keep(&mut self.items, handed.expect("the grant comes back unchanged"));
                Woken { first: None, others: self.watchers.if_any() }
            }
        }
    }

    /// Hands on or stores an item that was handed over and not received.
    fn take_back(&mut self, handed: Handed<T>) -> Woken<S::Waker> {
        self.give(handed, |items, handed| O::take_back(items, handed.number, handed.item))
    }

    /// Counts one item as processed.
    ///
    /// Returns the joiners to wake if it was the last one, and `None` if no item was unprocessed.
    fn done(&mut self) -> Option<Vec<S::Waker>> {
        self.unfinished = self.unfinished.checked_sub(1)?;
        Some(if self.unfinished == 0 { self.release_joiners() } else { Vec::new() })
    }

    /// Takes the next item without waiting, and admits a waiting putter's.
    ///
    /// Returns `None` for the item if the queue is empty, `Some(None)` if it is also shut down. The first
    /// waiting putter's item is admitted if there is room.
    #[inline]
    fn take(&mut self) -> (Option<Option<T>>, Option<Woken<S::Waker>>) {
        let Some(item) = O::pop(&mut self.items) else {
            return (self.is_shut_down.then_some(None), None);
        };
        // The queue may still be at its limit, if items were taken back.
        let has_room = !self.putters.is_empty() && O::len(&self.items) < self.limit;
        let woken = if has_room { Some(self.admit_putter()) } else { None };
        (Some(Some(item)), woken)
    }

    /// Admits the first waiting putter's item.
    ///
    /// Putters whose items' comparisons panic get the panic.
    fn admit_putter(&mut self) -> Woken<S::Waker> {
        let mut refused = Vec::new();
        let first = loop {
            let Some(putter) = self.putters.first_mut() else { break None };
            let item = putter.item.as_ref().expect(LEFT);
            // User code runs first: then either the item is stored and its putter granted, or neither.
            match catch_unwind(AssertUnwindSafe(|| O::place(&self.items, item))) {
                Ok(position) => {
                    let putter = self.putters.grant(Ok(())).ok().expect("a putter is waiting");
                    O::push(&mut self.items, position, putter.item.expect(LEFT));
                    self.unfinished += 1;
                    break Some(putter.waker);
                }
                Err(payload) => refused.extend(self.refuse_putter(Some(payload))),
            }
        };
        Woken { first, others: if refused.is_empty() { None } else { Some(Wakers(refused)) } }
    }

    fn refuse_putter(&mut self, panic: Option<Payload>) -> Option<S::Waker> {
        let item = self.putters.first_mut()?.item.take().expect(LEFT);
        self.putters.grant(Err(Refused { item, panic })).ok().map(|putter| putter.waker)
    }

    fn release_joiners(&mut self) -> Vec<S::Waker> {
        self.joiners.grant_all(|| ())
    }
}

impl<T, S: Sharing, O: Order<T>> sealed::Selectable for Queue<T, S, O> {
    fn is_ready(&self) -> bool {
        self.state.with(|items| O::len(&items.items) > 0 || items.is_shut_down)
    }

    fn watch(&self) -> Box<dyn FnOnce() + '_> {
        super::select::watch::<S, _>(&self.state, |items| &mut items.watchers)
    }
}

/// Ready when an item can be retrieved, or the queue was shut down.
impl<T, S: Sharing, O: Order<T>> Selectable for Queue<T, S, O> {}

/// Retrieves items until the queue is shut down and empty.
impl<T, S: Sharing, O: Order<T>> Iterator for &Queue<T, S, O> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.get().ok()
    }
}

impl<T, S: Sharing, O: Order<T>> fmt::Debug for Queue<T, S, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("len", &self.len()).finish_non_exhaustive()
    }
}
