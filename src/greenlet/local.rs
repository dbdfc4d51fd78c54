#![forbid(unsafe_code)]
//! Variables of which each greenlet has its own.

use super::raw;
use std::any::Any;
use std::rc::Rc;

/// A variable of which each greenlet has its own value, made when it first asks for it and dropped when
/// it ends.
///
/// When a body ends, its greenlet drops the values on its own stack, in the order in which they were made. A
/// destructor may wait, under time limits and kills of its own greenlet, and joiners of a coroutine are woken
/// afterwards. A destructor that uses a local makes a new value, which is dropped in turn; if that does not
/// stop after 100 rounds, the rest is leaked. A panic of a destructor is reported on standard error and goes
/// no further.
///
/// A greenlet begins without values, unless it was built with
/// [`Builder::share_locals`](crate::Builder::share_locals). The main greenlet has its own as well.
///
/// # Examples
///
/// ```
/// use std::cell::Cell;
/// use switchgrass::{Greenlet, Local};
///
/// static REQUEST: Local<Cell<u32>> = Local::new(|| Cell::new(0));
///
/// REQUEST.with(|request| request.set(1));
/// let greenlet = Greenlet::new(|()| REQUEST.with(|request| request.get()));
/// assert_eq!(greenlet.switch(()), 0);
/// assert_eq!(REQUEST.with(|request| request.get()), 1);
/// ```
#[derive(Debug)]
pub struct Local<T: 'static> {
    make: fn() -> T,
}

impl<T: 'static> Local<T> {
    /// A variable whose values are made by `make`. It belongs in a `static`.
    pub const fn new(make: fn() -> T) -> Self {
        Local { make }
    }

    /// Calls `f` with the current greenlet's value, which is made first if it is not there.
    ///
    /// `f` may switch: the value stays that of the greenlet that called.
    ///
    /// # Panics
    ///
    /// When the thread is ending and has unwound its greenlets.
    ///
    /// # Switching
    ///
    /// Switches if `f` or the function that makes the value does.
    ///
    /// # Cancellation
    ///
    /// Leaves the value as `f` left it.
    #[track_caller]
    pub fn with<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        f(&self.value())
    }

    fn value(&'static self) -> Rc<T> {
        let locals = raw::locals().expect("the thread is ending and has unwound its greenlets");
        let key = std::ptr::from_ref(self).addr();
        let find = || -> Option<Rc<T>> {
            let values = locals.borrow();
            let (_, value) = values.iter().find(|(other, _)| *other == key)?;
            Rc::clone(value).downcast().ok()
        };
        find().unwrap_or_else(|| {
            // Making it may ask for other locals, and for this one.
            let made = Rc::new((self.make)());
            if find().is_none() {
                let value: Rc<dyn Any> = Rc::<T>::clone(&made);
                locals.borrow_mut().push((key, value));
                return made;
            }
            // Its destructor may do anything, also to the locals.
            drop(made);
            self.value()
        })
    }
}
