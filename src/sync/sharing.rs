#![forbid(unsafe_code)]
//! One algorithm for both kinds of object: those of one thread, and those that threads share.
//!
//! | | [`Local`] | [`Shared`] |
//! |---|---|---|
//! | state | `RefCell` | a lock (`sys/lock.rs`), held for some instructions |
//! | who waits | a greenlet of this thread | a greenlet of any thread, woken through its hub's inbox |
//! | cost of an operation that need not wait | a few instructions | two atomic ones more |
//!
//! The state is never borrowed, nor the lock held, while anybody switches or user code runs: no destructor,
//! no `Clone`, no `Debug`. There is one exception, the `Ord` of the items of a priority queue, which has to
//! see them where they are. It runs in [`calling_user`]: there a wait, or a use of the same object, is
//! refused by a panic, and a switch made by hand by an error, and no panic does any harm, since nothing has
//! been changed by then.

use super::wait_list::Waiter;
use crate::greenlet::AnyWeakGreenlet;
use crate::greenlet::scheduled::marks::{LEFT_BEHIND, STATE};
use crate::hub::{self, Registration, Unparker};
use crate::sys::lock::{Lock, Locked};
use crate::sys::{fork, lineage};
use std::cell::RefCell;
use std::fmt::Debug;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

/// Whether an object of [`sync`](crate::sync) belongs to one thread or is shared by several.
///
/// There are the two, [`Local`] and [`Shared`], and there will be no others.
pub trait Sharing: sealed::Sharing {}

/// Objects that stay on their thread: the faster ones.
#[derive(Clone, Copy, Debug)]
pub struct Local(());

/// Objects that several threads share, made by functions called `shared`.
#[derive(Clone, Copy, Debug)]
pub struct Shared(());

impl Sharing for Local {}
impl Sharing for Shared {}

pub(crate) mod sealed {
    use super::*;

    pub trait Sharing: Sized + 'static {
        type State<T>: State<T>;
        type Waker: Waker;
        /// A value that several look at.
        type Counted<T>: Deref<Target = T> + Clone + From<T>;

        /// The value, if nobody else looks at it.
        fn into_inner<T>(counted: Self::Counted<T>) -> Option<T>;
    }

    impl Sharing for Local {
        type State<T> = RefCell<T>;
        type Waker = LocalWaker;
        type Counted<T> = Rc<T>;

        fn into_inner<T>(counted: Rc<T>) -> Option<T> {
            Rc::into_inner(counted)
        }
    }

    impl Sharing for Shared {
        type State<T> = Lock<T>;
        type Waker = SharedWaker;
        type Counted<T> = Arc<T>;

        fn into_inner<T>(counted: Arc<T>) -> Option<T> {
            Arc::into_inner(counted)
        }
    }
}

/// Something that one at a time may look into.
pub trait State<T> {
    fn new(value: T) -> Self;

    /// `f` is ours, and short.
    fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R;
}

impl<T> State<T> for RefCell<T> {
    #[inline]
    fn new(value: T) -> Self {
        RefCell::new(value)
    }

    #[inline(always)]
    fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        match self.try_borrow_mut() {
            Ok(mut value) => f(&mut value),
            Err(_) => refuse_reentry(),
        }
    }
}

impl<T> State<T> for Lock<T> {
    #[inline]
    fn new(value: T) -> Self {
        Lock::new(value)
    }

    #[inline]
    fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        let mut value = self.try_lock().unwrap_or_else(|| lock_of_another(self));
        f(&mut value)
    }
}

thread_local! {
    /// Where in memory those objects are that user code is called with, on this thread.
    static CALLING: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// Calls user code that has to see `part` of an object, whose state is borrowed or locked meanwhile.
pub(super) fn calling_user<T, R>(part: &T, callback: &'static str, f: impl FnOnce() -> R) -> R {
    struct Calling;
    impl Drop for Calling {
        fn drop(&mut self) {
            let _ = CALLING.try_with(|calling| calling.borrow_mut().pop());
        }
    }
    let place = std::ptr::from_ref(part).addr();
    let _calling = CALLING.try_with(|calling| calling.borrow_mut().push(place)).map(|()| Calling);
    hub::without_waits(callback, f)
}

/// Waits for a lock that is held, which takes some instructions unless it is by this thread.
#[cold]
#[inline(never)]
fn lock_of_another<T>(lock: &Lock<T>) -> Locked<'_, T> {
    let start = std::ptr::from_ref(lock).addr();
    let own = start..start + size_of::<Lock<T>>();
    let is_own = |calling: &RefCell<Vec<usize>>| calling.borrow().iter().any(|at| own.contains(at));
    if CALLING.try_with(is_own).unwrap_or(false) {
        refuse_reentry();
    }
    lock.lock()
}

#[cold]
#[inline(never)]
fn refuse_reentry() -> ! {
    panic!("an object of `sync` was used by a callback that it is in the middle of calling")
}

/// What wakes one that waits.
pub trait Waker: Waiter + Sized + Clone + Debug {
    /// Keeps the one that waits awake-able, for as long as it waits.
    type Registration;

    /// Whether [`Waker::register`] is a matter of some instructions.
    const IS_CHEAP: bool;

    /// Of the current greenlet.
    fn register() -> (Self::Registration, Self);

    /// Wakes it, from wherever the object may be used. To be called when the state is let go of.
    fn wake(self);
}

#[derive(Clone, Debug)]
pub struct LocalWaker(AnyWeakGreenlet);

impl Waiter for LocalWaker {
    #[inline]
    fn is_left_behind(&self) -> bool {
        // One that has parked since goes on here: an inherited generator's. In a copy of the process that
        // this library has not made nobody does.
        let mark = || self.0.mark() & (LEFT_BEHIND | STATE);
        fork::is_child() && (mark() == LEFT_BEHIND || !lineage::owns())
    }
}

impl Waker for LocalWaker {
    type Registration = ();
    const IS_CHEAP: bool = true;

    #[inline]
    fn register() -> ((), Self) {
        ((), LocalWaker(hub::current_greenlet()))
    }

    #[inline]
    fn wake(self) {
        hub::unpark(&self.0);
    }
}

/// Kept for as long as one waits.
#[derive(Debug)]
pub struct SharedRegistration(#[expect(dead_code, reason = "it is dropped")] Registration);

#[derive(Clone, Debug)]
pub struct SharedWaker(Unparker);

impl Waiter for SharedWaker {
    #[inline]
    fn is_left_behind(&self) -> bool {
        fork::is_child() && self.0.is_left_behind()
    }
}

impl Waker for SharedWaker {
    type Registration = SharedRegistration;
    const IS_CHEAP: bool = false;

    fn register() -> (SharedRegistration, Self) {
        let registration = Registration::new();
        let unparker = registration.unparker();
        (SharedRegistration(registration), SharedWaker(unparker))
    }

    fn wake(self) {
        self.0.unpark();
    }
}
