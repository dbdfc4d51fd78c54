#![forbid(unsafe_code)]
//! Greenlet-local variables.

use super::raw;
use std::any::Any;
use std::rc::Rc;

/// A variable with a separate value per greenlet.
///
/// A greenlet's value is created when the greenlet first accesses it, and dropped when the greenlet ends.
///
/// When a body ends, its greenlet drops the values on its own stack, in the order of their creation. A
/// destructor may wait, subject to the timeouts and kills of its greenlet; joiners of a coroutine are woken
/// afterwards. If a destructor accesses a local, that creates a new value, which is dropped in turn; what
/// remains after 100 rounds is leaked. A panic in a destructor is reported on standard error and not
/// propagated.
///
/// A greenlet starts without values, unless it was built with
/// [`Builder::share_locals`](crate::Builder::share_locals). The main greenlet has values of its own, too.
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
    /// Creates a variable whose values are created by `make`. For use in a `static`.
    pub const fn new(make: fn() -> T) -> Self {
        Local { make }
    }

    /// Calls `f` with the current greenlet's value, creating it if necessary.
    ///
    /// `f` may switch: it keeps the value of the calling greenlet.
    ///
    /// # Panics
    ///
    /// If the thread is ending and has unwound its greenlets.
    ///
    /// # Switching
    ///
    /// May switch: if `f` or the function that creates the value does. Any greenlet may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The value stays as `f` left it.
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
            // `make` may access other locals, and this one.
            let made = Rc::new((self.make)());
            if find().is_none() {
                let value: Rc<dyn Any> = Rc::<T>::clone(&made);
                locals.borrow_mut().push((key, value));
                return made;
            }
            // Its destructor is user code, and may access the locals.
            drop(made);
            self.value()
        })
    }
}
