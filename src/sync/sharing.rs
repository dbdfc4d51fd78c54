#![forbid(unsafe_code)]
//! What differs between local and shared objects; each type is written once.
//!
//! | | [`Local`] | [`Shared`] |
//! |---|---|---|
//! | state | `RefCell` | a lock (`sys/lock.rs`), held for some instructions |
//! | waiter | a greenlet of this thread | a greenlet of any thread, woken through its hub's inbox |
//! | cost of an operation that does not wait | a few instructions | two atomic instructions more |
//!
//! The state is never borrowed, nor the lock held, across a switch or while user code runs: no destructor,
//! no `Clone`, no `Debug`. The one exception is the `Ord` of a priority queue's items, which has to see
//! them in place. It runs in [`calling_user`], where a wait or a use of the same object is refused by a
//! panic, and a manual switch by an error. A panic there is harmless, since nothing has been changed at
//! that point.

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

/// Whether an object of [`sync`](crate::sync) is local or shared.
///
/// That is, whether it belongs to one thread or to several.
///
/// Sealed: implemented by [`Local`] and [`Shared`] only.
pub trait Sharing: sealed::Sharing {}

/// Marks objects that stay on their thread, the faster kind.
#[derive(Clone, Copy, Debug)]
pub struct Local(());

/// Marks objects that several threads share, created by functions called `shared`.
#[derive(Clone, Copy, Debug)]
pub struct Shared(());

impl Sharing for Local {}
impl Sharing for Shared {}

pub(crate) mod sealed {
    use super::*;

    pub trait Sharing: Sized + 'static {
        type State<T>: State<T>;
        type Waker: Waker;
        /// A reference-counted value.
        type Counted<T>: Deref<Target = T> + Clone + From<T>;

        /// Returns the value if this is the last reference.
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

/// Exclusive access to a value: a borrow or a lock.
pub trait State<T> {
    fn new(value: T) -> Self;

    /// Calls `f` with exclusive access.
    ///
    /// `f` must be short and must not call user code, except by [`calling_user`].
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
        let mut value = self.try_lock().unwrap_or_else(|| lock_slowly(self));
        f(&mut value)
    }
}

thread_local! {
    /// The addresses of the objects on whose behalf this thread is calling user code.
    static CALLING: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// Calls user code that has to see `part` of an object.
///
/// The object's state is borrowed or locked meanwhile.
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

/// Acquires a contended lock; panics if this thread holds it.
///
/// Another thread holds it for a few instructions only.
#[cold]
#[inline(never)]
fn lock_slowly<T>(lock: &Lock<T>) -> Locked<'_, T> {
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

/// Wakes the waiter that it was registered for.
pub trait Waker: Waiter + Sized + Clone + Debug {
    /// Keeps the waiter wakeable. To be held for the duration of the wait.
    type Registration;

    /// Whether [`Waker::register`] takes only a few instructions.
    const IS_CHEAP: bool;

    /// Registers the current greenlet, and returns its waker.
    fn register() -> (Self::Registration, Self);

    /// Wakes the waiter, from any thread that may use the object.
    ///
    /// To be called after the state is released.
    fn wake(self);
}

#[derive(Clone, Debug)]
pub struct LocalWaker(AnyWeakGreenlet);

impl Waiter for LocalWaker {
    #[inline]
    fn is_left_behind(&self) -> bool {
        // A greenlet that has parked since the fork continues here: that of an inherited generator. In a
        // copy of the process that this library did not create, no greenlet does.
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

/// The registration of a waiter. Held for the duration of the wait.
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
