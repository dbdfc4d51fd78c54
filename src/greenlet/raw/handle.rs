//! Handles: what keeps a greenlet alive, and what keeps its block. Their methods are in `../handle.rs`.

use super::block::{Core, Hold, Life, add_handle};
use std::marker::PhantomData;
use std::mem;
use std::ops::Deref;
use std::ptr::{self, NonNull};

/// The types of a handle that does not know them. Nobody has a value of it, so that nothing can be
/// sent by such a handle unchecked.
#[derive(Debug)]
pub enum Untyped {}

/// A greenlet: a computation with a stack of its own, that runs when it is switched to.
///
/// It accepts values of type `In`. Whoever switches to it awaits an `Out`, which is also the type of
/// its result.
///
/// A handle of this type is counted, like an `Rc`, and keeps the greenlet alive: when the last one of a
/// suspended greenlet is dropped, the greenlet is unwound there and then (see
/// [`GreenletExit`](crate::GreenletExit)). What can be done with a greenlet needs no such handle, and is
/// listed at [`WeakGreenlet`], to which this one dereferences.
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
/// A greenlet stays on its thread, by the type of its handle:
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
/// What it is sent is checked by the compiler:
///
/// ```compile_fail,E0308
/// let double = switchgrass::Greenlet::new(|number: u64| number * 2);
/// double.switch("21");
/// ```
///
/// And its body does not borrow, since it may outlive everything (but see
/// [`scoped`](crate::greenlet::scoped)):
///
/// ```compile_fail,E0373
/// let text = String::new();
/// let greenlet = switchgrass::Greenlet::new(|()| println!("{text}"));
/// ```
// Invariant 2: `In` and `Out` are what the greenlet was declared with, or `Untyped`.
#[repr(transparent)]
pub struct Greenlet<In = (), Out = In> {
    block: NonNull<Core>,
    /// Invariant in both, and neither `Send` nor `Sync`.
    types: PhantomData<(*mut In, *mut Out)>,
}

/// A handle that does not keep its greenlet alive, and what can be done with a greenlet.
///
/// [`current`](crate::current) and [`WeakGreenlet::parent`] return such handles: a counted one, kept on
/// the stack of a suspended greenlet, would keep alive whom it is of, and if that is the greenlet itself,
/// or one that owns it, nothing would ever end them. A greenlet whose last counted handle has gone is
/// dead.
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
/// It stays on its thread as well:
///
/// ```compile_fail,E0277
/// let main = switchgrass::current();
/// std::thread::spawn(move || main.is_dead());
/// ```
// Invariant 2 holds for it as well.
#[repr(transparent)]
pub struct WeakGreenlet<In = (), Out = In> {
    hold: Hold,
    types: PhantomData<(*mut In, *mut Out)>,
}

/// A weak handle of a greenlet whose types are not known to the compiler.
pub type AnyWeakGreenlet = WeakGreenlet<Untyped, Untyped>;

impl<In, Out> Greenlet<In, Out> {
    /// Takes over a handle that is counted already.
    ///
    /// # Safety
    ///
    /// The types are as Invariant 2 says.
    pub(super) unsafe fn from_counted(block: NonNull<Core>) -> Self {
        Greenlet { block, types: PhantomData }
    }

    /// The same handle, with other types.
    ///
    /// # Safety
    ///
    /// The types are as Invariant 2 says.
    unsafe fn cast<T, R>(self) -> Greenlet<T, R> {
        let block = self.block;
        mem::forget(self);
        Greenlet { block, types: PhantomData }
    }

    pub(crate) fn erase_types(self) -> Greenlet<Untyped, Untyped> {
        // SAFETY: no types.
        unsafe { self.cast() }
    }

    pub(crate) fn into_typed<T: 'static, R: 'static>(self) -> Result<Greenlet<T, R>, Self> {
        if self.core().is_declared::<T, R>() {
            // SAFETY: the types are the declared ones.
            Ok(unsafe { self.cast() })
        } else {
            Err(self)
        }
    }
}

impl<In, Out> WeakGreenlet<In, Out> {
    /// # Safety
    ///
    /// The types are as Invariant 2 says.
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
        // SAFETY: the types are the declared ones.
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
        // SAFETY: no types.
        unsafe { Self::of(hold) }
    }
}

impl<In, Out> Deref for Greenlet<In, Out> {
    type Target = WeakGreenlet<In, Out>;

    #[inline]
    fn deref(&self) -> &WeakGreenlet<In, Out> {
        // SAFETY: both are nothing but the address of a block, and the handles of a block hold it
        // together; a reference gives nothing up.
        unsafe { &*ptr::from_ref(self).cast() }
    }
}

impl<In, Out> Clone for Greenlet<In, Out> {
    /// A further handle of the same greenlet.
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
            // SAFETY: that of the handles together, of which there is none any more.
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
