//! Handles: counted ones, which keep a greenlet alive, and weak ones, which keep its block. Their public
//! methods are in `../handle.rs`.

use super::block::{Core, Hold, Life, add_handle};
use std::marker::PhantomData;
use std::mem;
use std::ops::Deref;
use std::ptr::{self, NonNull};

/// The types of a handle that does not know them.
///
/// There are no values of this type, so a typed switch through such a handle is impossible.
#[derive(Debug)]
pub enum Untyped {}

/// A greenlet: a computation with its own stack, which runs when switched to.
///
/// It receives values of type `In`. A greenlet that switches to it awaits an `Out`, which is also the type
/// of its result.
///
/// Handles of this type are counted, like an `Rc`, and keep the greenlet alive: when the last handle of a
/// suspended greenlet is dropped, the greenlet is unwound at once (see
/// [`GreenletExit`](crate::GreenletExit)). The methods are those of [`WeakGreenlet`], to which this type
/// dereferences.
///
/// # Examples
///
/// ```
/// use switchgrass::Greenlet;
///
/// let double = Greenlet::new(|number: u64| number * 2);
/// assert_eq!(double.switch(21), 42);
/// assert!(double.is_dead());
/// ```
///
/// The handle does not leave its thread:
///
/// ```compile_fail,E0277
/// let greenlet = switchgrass::Greenlet::new(|()| ());
/// std::thread::spawn(move || greenlet.switch(()));
/// ```
///
/// ```compile_fail,E0277
/// let greenlet = switchgrass::Greenlet::new(|()| ());
/// std::thread::scope(|scope| {
///     scope.spawn(|| greenlet.switch(()));
/// });
/// ```
///
/// Values that are sent are checked by the compiler:
///
/// ```compile_fail,E0308
/// let double = switchgrass::Greenlet::new(|number: u64| number * 2);
/// double.switch("21");
/// ```
///
/// The body must not borrow, since it may outlive everything (but see [`scoped`](crate::greenlet::scoped)):
///
/// ```compile_fail,E0373
/// let text = String::new();
/// let greenlet = switchgrass::Greenlet::new(|()| println!("{text}"));
/// ```
// Invariant 2: `In` and `Out` are the types that the greenlet was declared with, or `Untyped`.
#[repr(transparent)]
pub struct Greenlet<In = (), Out = In> {
    block: NonNull<Core>,
    /// Invariant in both types, and neither `Send` nor `Sync`.
    types: PhantomData<(*mut In, *mut Out)>,
}

/// A handle that does not keep its greenlet alive, with the methods of greenlets.
///
/// [`current`](crate::current) and [`WeakGreenlet::parent`] return weak handles. A counted handle on the
/// stack of a suspended greenlet would keep its target alive, and if that is the greenlet itself, or one
/// that owns it, neither would ever end. A greenlet whose last counted handle is gone is dead.
///
/// # Examples
///
/// ```
/// use switchgrass::Greenlet;
///
/// let greenlet = Greenlet::new(|()| ());
/// let weak = greenlet.downgrade();
/// assert!(weak.upgrade().is_some());
/// drop(greenlet);
/// assert!(weak.upgrade().is_none());
/// assert!(weak.is_dead());
/// ```
///
/// The handle does not leave its thread:
///
/// ```compile_fail,E0277
/// let main = switchgrass::current();
/// std::thread::spawn(move || main.is_dead());
/// ```
// Invariant 2 holds here as well.
#[repr(transparent)]
pub struct WeakGreenlet<In = (), Out = In> {
    hold: Hold,
    types: PhantomData<(*mut In, *mut Out)>,
}

/// A weak handle of a greenlet whose types are checked at run time.
pub type AnyWeakGreenlet = WeakGreenlet<Untyped, Untyped>;

impl<In, Out> Greenlet<In, Out> {
    /// Creates a handle that is already counted.
    ///
    /// # Safety
    ///
    /// The types satisfy Invariant 2, and the caller owns one count of `handles`.
    pub(super) unsafe fn from_counted(block: NonNull<Core>) -> Self {
        Greenlet { block, types: PhantomData }
    }

    /// Converts the handle to other types.
    ///
    /// # Safety
    ///
    /// The types satisfy Invariant 2.
    unsafe fn cast<T, R>(self) -> Greenlet<T, R> {
        let block = self.block;
        mem::forget(self);
        Greenlet { block, types: PhantomData }
    }

    pub(crate) fn erase_types(self) -> Greenlet<Untyped, Untyped> {
        // SAFETY: `Untyped` satisfies Invariant 2.
        unsafe { self.cast() }
    }

    pub(crate) fn into_typed<T: 'static, R: 'static>(self) -> Result<Greenlet<T, R>, Self> {
        if self.core().is_declared::<T, R>() {
            // SAFETY: the types are the declared ones, as Invariant 2 requires.
            Ok(unsafe { self.cast() })
        } else {
            Err(self)
        }
    }
}

impl<In, Out> WeakGreenlet<In, Out> {
    /// # Safety
    ///
    /// The types satisfy Invariant 2.
    #[inline]
    pub(super) unsafe fn of(hold: Hold) -> Self {
        WeakGreenlet { hold, types: PhantomData }
    }

    #[inline]
    pub(super) fn block(&self) -> NonNull<Core> {
        self.hold.block()
    }

    pub(super) fn into_hold(self) -> Hold {
        self.hold
    }

    #[inline]
    pub(crate) fn core(&self) -> &Core {
        &self.hold
    }

    pub(crate) fn to_untyped(&self) -> WeakGreenlet<Untyped, Untyped> {
        WeakGreenlet::untyped(self.core())
    }

    pub(crate) fn to_typed<T: 'static, R: 'static>(&self) -> Option<WeakGreenlet<T, R>> {
        // SAFETY: the types are the declared ones, as Invariant 2 requires.
        self.core().is_declared::<T, R>().then(|| unsafe { WeakGreenlet::of(self.core().hold()) })
    }

    pub(crate) fn to_counted(&self) -> Option<Greenlet<In, Out>> {
        let core = self.core();
        (core.handles.get() > 0 || core.life.get() == Life::Started).then(|| {
            add_handle(&self.hold);
            Greenlet { block: self.block(), types: PhantomData }
        })
    }
}

impl WeakGreenlet<Untyped, Untyped> {
    #[inline]
    pub(super) fn untyped(core: &Core) -> Self {
        Self::untyped_of(core.hold())
    }

    #[inline]
    pub(crate) fn untyped_of(hold: Hold) -> Self {
        // SAFETY: `Untyped` satisfies Invariant 2.
        unsafe { Self::of(hold) }
    }
}

impl<In, Out> Deref for Greenlet<In, Out> {
    type Target = WeakGreenlet<In, Out>;

    #[inline]
    fn deref(&self) -> &WeakGreenlet<In, Out> {
        // SAFETY: both types consist of the address of a block. The handles together have a hold of it, and
        // a reference does not release a hold.
        unsafe { &*ptr::from_ref(self).cast() }
    }
}

impl<In, Out> Clone for Greenlet<In, Out> {
    /// Returns another handle of the same greenlet.
    #[inline]
    fn clone(&self) -> Self {
        add_handle(&self.hold);
        Greenlet { block: self.block, types: PhantomData }
    }
}

impl<In, Out> Drop for Greenlet<In, Out> {
    #[inline]
    fn drop(&mut self) {
        let handles = &self.core().handles;
        handles.set(handles.get() - 1);
        if handles.get() == 0 {
            // SAFETY: the hold of all handles together, of which the last is gone.
            unsafe { Hold::from_block(self.block) }.release();
        }
    }
}

impl<In, Out> Clone for WeakGreenlet<In, Out> {
    #[inline]
    fn clone(&self) -> Self {
        WeakGreenlet { hold: self.hold.hold(), types: PhantomData }
    }
}
