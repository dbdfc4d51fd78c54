#![forbid(unsafe_code)]
//! Queues: first in first out, last in first out, smallest first.

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

/// In which order a queue gives its items.
///
/// There are [`Fifo`], [`Lifo`] and [`Priority`], and there will be no others.
pub trait Order<T>: order::Order<T> {}

/// First in, first out.
#[derive(Clone, Copy, Debug)]
pub struct Fifo(());

/// Last in, first out.
#[derive(Clone, Copy, Debug)]
pub struct Lifo(());

/// Smallest first; which of two equal ones is not said.
///
/// The items' [`Ord`] runs while the queue is held: it must not wait, nor use the queue, which is refused
/// by a panic. A panic in it harms neither the queue nor others. It is raised in the one that puts or gets,
/// and if an item was to come in that had to wait for room, in the one that puts that item.
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

        /// Where an item goes, for [`Order::push`]. This may call user code, which may panic: so it changes
        /// nothing.
        #[inline]
        fn place(items: &Self::Items, item: &T) -> usize {
            let _ = (items, item);
            0
        }

        /// Calls no user code.
        fn push(items: &mut Self::Items, place: usize, item: T);

        /// Changes nothing if user code panics in it.
        fn pop(items: &mut Self::Items) -> Option<T>;

        fn len(items: &Self::Items) -> usize;

        /// Takes an item back that was handed over: when none was in, so that it was put before all that
        /// are in now, but those that came back as well. Never panics.
        fn take_back(items: &mut Self::Items, number: u64, item: T);
    }

    /// Items in the order in which they were put.
    #[derive(Debug)]
    pub struct InOrder<T> {
        /// Those that came back, before the others.
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

        fn push(items: &mut Heap<T>, place: usize, item: T) {
            items.insert(place, item);
        }

        fn pop(items: &mut Heap<T>) -> Option<T> {
            let way = calling_user(items, COMPARISON, || items.way_down());
            items.remove_first(way)
        }

        fn len(items: &Heap<T>) -> usize {
            items.len()
        }

        fn take_back(items: &mut Heap<T>, _: u64, item: T) {
            // This is in a destructor. Printed by its hook, the panic has nobody to go to: nor has its
            // payload, whose destructor must not run here.
            let place = catch_unwind(AssertUnwindSafe(|| Self::place(items, &item)));
            let place = place.map_err(std::mem::forget).unwrap_or(items.len());
            items.insert(place, item);
        }
    }
}

/// Items that some put and others get. Of a bounded one, who puts waits while it is full.
///
/// Items, who waits to get, and who waits to put, all take their turns in order. An item is never lost, nor
/// given twice, whoever is killed or gives up around it.
///
/// Items can be counted until they are done with: see [`Queue::task_done`].
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

/// A queue that gives what was put last. Made by `LifoQueue::lifo()` and the like.
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

/// A queue that gives what is smallest. Made by `PriorityQueue::priority()` and the like.
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

/// A queue whose items are counted until they are done with. Every [`Queue`] is one.
pub type JoinableQueue<T, S = Local> = Queue<T, S, Fifo>;

struct Items<T, S: Sharing, O: order::Order<T>> {
    items: O::Items,
    limit: usize,
    is_shut_down: bool,
    /// Whether items that come back are dropped.
    drops: bool,
    /// Items that were put and not said to be done with.
    unfinished: usize,
    /// The number of the last item that came. By it those that come back are in order.
    last: u64,
    /// They are granted an item, or nothing if there will be none.
    getters: WaitList<S::Waker, Option<Handed<T>>>,
    /// They leave their items here, and are granted whether these were taken.
    putters: WaitList<Putter<T, S>, Result<(), Refused<T>>>,
    joiners: WaitList<S::Waker>,
    watchers: Watchers<S>,
}

/// An item that was handed to one that waited, and its number.
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

/// An item that was not taken from one that waited.
struct Refused<T> {
    item: T,
    /// What its comparison has panicked with; otherwise the queue was shut down.
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

/// Why an item was not put. It comes back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum PutError<T> {
    /// The queue is full, or was until the limit had passed.
    Full(T),
    /// The queue was shut down.
    ShutDown(T),
}

impl<T> PutError<T> {
    /// The item.
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

/// Why no item was got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GetError {
    /// The queue is empty, or was until the limit had passed.
    Empty,
    /// The queue was shut down, and is empty.
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

/// [`Queue::task_done`] was called more often than items were put. It had no effect.
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
            /// A queue of this thread, for as many items as there is memory.
            pub fn $new() -> Self {
                Self::with(usize::MAX)
            }

            /// A queue of this thread, for so many items.
            ///
            /// # Panics
            ///
            /// If `limit` is zero: a [`Channel`](crate::sync::Channel) hands over without keeping.
            #[track_caller]
            pub fn $bounded(limit: usize) -> Self {
                Self::with(limit)
            }
        }

        impl<T $(: $bound)?> Queue<T, Shared, $order> {
            /// A queue that threads can share, for as many items as there is memory.
            pub fn $shared() -> Self {
                Self::with(usize::MAX)
            }

            /// A queue that threads can share, for so many items.
            ///
            /// # Panics
            ///
            /// If `limit` is zero: a [`Channel`](crate::sync::Channel) hands over without keeping.
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
        assert!(limit > 0, "a queue for no items: use a Channel, which hands over without keeping");
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

    /// Puts an item in, when there is room.
    ///
    /// # Errors
    ///
    /// [`PutError::ShutDown`], before or meanwhile.
    ///
    /// # Panics
    ///
    /// With what is raised in the current coroutine meanwhile. In main, when nobody is left who could wake
    /// it. In a priority queue, with what a comparison panics: the item is dropped.
    ///
    /// # Switching
    ///
    /// Switches if it is full. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The item is in the queue, if there was room by then, or is dropped.
    #[inline]
    #[track_caller]
    pub fn put(&self, item: T) -> Result<(), PutError<T>> {
        self.put_until(item, None)
    }

    /// As [`Queue::put`], if there is room.
    ///
    /// # Errors
    ///
    /// The cases of [`PutError`].
    ///
    /// # Switching
    ///
    /// Never switches.
    #[inline]
    pub fn try_put(&self, item: T) -> Result<(), PutError<T>> {
        let mut item = Some(item);
        match self.offer(&mut item) {
            Some(done) => done.map_err(PutError::ShutDown),
            None => Err(PutError::Full(item.expect("it was not taken"))),
        }
    }

    /// As [`Queue::put`], for at most `limit`.
    ///
    /// # Errors
    ///
    /// The cases of [`PutError`].
    ///
    /// # Panics
    ///
    /// As [`Queue::put`].
    ///
    /// # Switching
    ///
    /// Switches if it is full, also for a limit of zero.
    ///
    /// # Cancellation
    ///
    /// As [`Queue::put`].
    #[track_caller]
    pub fn put_timeout(&self, item: T, limit: Duration) -> Result<(), PutError<T>> {
        self.put_until(item, Deadline::after(limit))
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
        let place = RefCell::new(item.take());
        let mut wakers = None;
        let attempt = |items: &mut Items<T, S, O>| {
            let (done, woken) = items.offer(&mut place.borrow_mut());
            wakers = woken;
            done.map(|done| done.map_err(|item| Refused { item, panic: None }))
        };
        let enter = |waker| Putter { waker, item: place.take() };
        let result = wait(object, deadline, attempt, enter, drop);
        if let Some(wakers) = wakers {
            wakers.wake();
        }
        match result {
            Ok(done) => done.map_err(Refused::into_error),
            Err(putter) => Err(PutError::Full(putter.item.expect("it was not taken"))),
        }
    }

    /// Puts an item in if that can be said now: `None` if there is no room.
    #[inline]
    fn offer(&self, item: &mut Option<T>) -> Option<Result<(), T>> {
        let (done, wakers) = self.state.with(|items| items.offer(item));
        if let Some(wakers) = wakers {
            wakers.wake();
        }
        done
    }

    /// Takes an item out, when there is one.
    ///
    /// # Errors
    ///
    /// [`GetError::ShutDown`], when there will be none.
    ///
    /// # Panics
    ///
    /// With what is raised in the current coroutine meanwhile. In main, when nobody is left who could wake
    /// it. In a priority queue, with what a comparison panics: no item is taken.
    ///
    /// # Switching
    ///
    /// Switches if it is empty. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// No item is taken. One that had been handed over already goes to the next that waits, or back to where
    /// it would be got next.
    #[inline]
    #[track_caller]
    pub fn get(&self) -> Result<T, GetError> {
        self.get_until(None)
    }

    /// As [`Queue::get`], if there is an item.
    ///
    /// # Errors
    ///
    /// The cases of [`GetError`].
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

    /// As [`Queue::get`], for at most `limit`.
    ///
    /// # Errors
    ///
    /// The cases of [`GetError`].
    ///
    /// # Panics
    ///
    /// As [`Queue::get`].
    ///
    /// # Switching
    ///
    /// Switches if it is empty, also for a limit of zero.
    ///
    /// # Cancellation
    ///
    /// As [`Queue::get`].
    #[track_caller]
    pub fn get_timeout(&self, limit: Duration) -> Result<T, GetError> {
        self.get_until(Deadline::after(limit))
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
            // It is not given back: it was not handed over.
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

    /// Takes back an item that was handed to one that has been killed meanwhile.
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

    /// Says that one item that was got is done with.
    ///
    /// # Errors
    ///
    /// If that was said of all of them before.
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

    /// Waits until all items that were put have been got and are done with.
    ///
    /// # Panics
    ///
    /// As [`Queue::get`].
    ///
    /// # Switching
    ///
    /// Switches, unless there are none. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// Leaves nothing behind.
    #[track_caller]
    pub fn join(&self) {
        self.join_until(None);
    }

    /// As [`Queue::join`], for at most `limit`. Whether all are done with.
    ///
    /// # Panics
    ///
    /// As [`Queue::get`].
    ///
    /// # Switching
    ///
    /// Switches, unless there are none.
    ///
    /// # Cancellation
    ///
    /// Leaves nothing behind.
    #[track_caller]
    pub fn join_timeout(&self, limit: Duration) -> bool {
        self.join_until(Deadline::after(limit))
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

    /// Lets no more items in. Those that are in can still be got; then everybody is told that there will be
    /// none. Who waits to put gets the item back.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn shut_down(&self) {
        self.end(false);
    }

    /// As [`Queue::shut_down`], and drops the items that are in, which count as done with.
    ///
    /// # Panics
    ///
    /// With the first panic of a destructor of an item, when all are dropped. Further ones are reported on
    /// standard error.
    ///
    /// # Switching
    ///
    /// Never switches, unless the destructor of an item does.
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
                wakers.extend(items.let_joiners_go());
            }
            // Somebody waits to get only if there is nothing to be got.
            wakers.extend(items.getters.grant_all(|| None));
            (wakers, items.watchers.all(), dropped)
        });
        wakers.into_iter().for_each(Waker::wake);
        watchers.wake();
        drop_each("the destructor of an item of a queue", dropped);
    }

    /// How many items are in.
    pub fn len(&self) -> usize {
        self.state.with(|items| O::len(&items.items))
    }

    /// Whether no item is in.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether there is no room for a further item.
    pub fn is_full(&self) -> bool {
        self.state.with(|items| O::len(&items.items) >= items.limit)
    }

    /// How many items were put that are not done with.
    pub fn unfinished(&self) -> usize {
        self.state.with(|items| items.unfinished)
    }

    /// Whether it was shut down.
    pub fn is_shut_down(&self) -> bool {
        self.state.with(|items| items.is_shut_down)
    }
}

const LEFT: &str = "one that waits to put has left its item";

/// What has become of an item that was offered, if that can be said, and who is to be woken for it.
type Offered<T, W> = (Option<Result<(), T>>, Option<Woken<W>>);

/// Who is to be woken when the state is let go of.
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
    /// Takes an item in, if that can be said now.
    #[inline]
    fn offer(&mut self, item: &mut Option<T>) -> Offered<T, S::Waker> {
        if self.is_shut_down {
            return (item.take().map(Err), None);
        }
        if O::len(&self.items) >= self.limit {
            return (None, None);
        }
        let Some(place) = self.place(item) else { return (None, None) };
        let Some(item) = item.take() else { return (None, None) };
        self.unfinished += 1;
        self.last += 1;
        let woken = self.give(Handed { number: self.last, item }, |items, handed| {
            O::push(items, place, handed.item);
        });
        (Some(Ok(())), Some(woken))
    }

    /// Where an item goes if it is kept. Until this has returned, nothing has changed.
    #[inline]
    fn place(&mut self, item: &Option<T>) -> Option<usize> {
        let item = item.as_ref()?;
        Some(if self.getters.is_empty() { O::place(&self.items, item) } else { 0 })
    }

    /// Gives an item to the first that waits for one, or has it kept.
    #[inline]
    fn give(
        &mut self,
        handed: Handed<T>,
        keep: impl FnOnce(&mut O::Items, Handed<T>),
    ) -> Woken<S::Waker> {
        match self.getters.grant(Some(handed)) {
            Ok(getter) => Woken { first: Some(getter), others: None },
            Err(handed) => {
                keep(&mut self.items, handed.expect("as it was given"));
                Woken { first: None, others: self.watchers.if_any() }
            }
        }
    }

    /// Gives or keeps one that was handed over, and not taken.
    fn take_back(&mut self, handed: Handed<T>) -> Woken<S::Waker> {
        self.give(handed, |items, handed| O::take_back(items, handed.number, handed.item))
    }

    /// Counts one item as done with. Returns who joins, if that was the last one, and nothing if there was
    /// none.
    fn done(&mut self) -> Option<Vec<S::Waker>> {
        self.unfinished = self.unfinished.checked_sub(1)?;
        Some(if self.unfinished == 0 { self.let_joiners_go() } else { Vec::new() })
    }

    /// Takes an item out, if that can be said now: `Some(None)` if there will be none. Lets in the item of
    /// the first that waits to put.
    #[inline]
    fn take(&mut self) -> (Option<Option<T>>, Option<Woken<S::Waker>>) {
        let Some(item) = O::pop(&mut self.items) else {
            return (self.is_shut_down.then_some(None), None);
        };
        // It may have been too full, if an item had come back.
        let has_room = !self.putters.is_empty() && O::len(&self.items) < self.limit;
        let woken = if has_room { Some(self.let_putter_in()) } else { None };
        (Some(Some(item)), woken)
    }

    /// Those whose items cannot be compared get them back, with the panic.
    fn let_putter_in(&mut self) -> Woken<S::Waker> {
        let mut refused = Vec::new();
        let first = loop {
            let Some(putter) = self.putters.first_mut() else { break None };
            let item = putter.item.as_ref().expect(LEFT);
            // User code comes first: then the item is in, and its putter granted, or neither.
            match catch_unwind(AssertUnwindSafe(|| O::place(&self.items, item))) {
                Ok(place) => {
                    let putter = self.putters.grant(Ok(())).ok().expect("it waits");
                    O::push(&mut self.items, place, putter.item.expect(LEFT));
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

    fn let_joiners_go(&mut self) -> Vec<S::Waker> {
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

/// Ready when an item can be got, or the queue was shut down.
impl<T, S: Sharing, O: Order<T>> Selectable for Queue<T, S, O> {}

/// Gets items until the queue is shut down and empty.
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
