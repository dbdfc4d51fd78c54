#![forbid(unsafe_code)]
//! One algorithm for both kinds of object: those of one thread, and those that threads share.
//!
//! | | [`Local`] | [`Shared`] |
//! |---|---|---|
//! | state | `RefCell` | a lock (`sys/lock.rs`), held for some instructions |
//! | who waits | a greenlet of this thread | a greenlet of any thread, woken through its hub's inbox |
//! | cost of an operation that need not wait | a few instructions | two atomic ones more |
//!
//! The state is never borrowed, nor the lock held, while code of the user's runs or anybody switches.

use crate::greenlet::AnyWeakGreenlet;
use crate::hub::{self, Registration, Unparker};
use crate::sys::lock::Lock;
use std::cell::RefCell;
use std::fmt::Debug;

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
    }

    impl Sharing for Local {
        type State<T> = RefCell<T>;
        type Waker = LocalWaker;
    }

    impl Sharing for Shared {
        type State<T> = Lock<T>;
        type Waker = SharedWaker;
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
        f(&mut self.borrow_mut())
    }
}

impl<T> State<T> for Lock<T> {
    #[inline]
    fn new(value: T) -> Self {
        Lock::new(value)
    }

    #[inline]
    fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        f(&mut self.lock())
    }
}

/// What wakes one that waits.
pub trait Waker: Sized + Clone + Debug {
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
