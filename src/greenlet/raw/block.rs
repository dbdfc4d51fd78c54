//! The control block of a greenlet, and its reference counts.
//!
//! # The reply key
//!
//! Types are represented by numbers (see [`TypeKey`]). Two fields of a block decide nearly every switch:
//!
//! - `accepts`: the type of the values that may be sent to the greenlet now;
//! - `reply`: the type that a switch to it makes the *caller* await, or [`TypeKey::CLOSED`] if that is not
//!   known in advance.
//!
//! | state | `reply` | `accepts` |
//! |---|---|---|
//! | as declared: unstarted, running, suspended | its `Out` | its `In` |
//! | suspended in a wait for another type | closed | that type |
//! | waiting for the end of a greenlet that it drops | closed | [`TypeKey::ANY`] |
//! | waiting for the end of a greenlet of its scope | closed | [`TypeKey::END`] |
//! | the scheduler's own, while it runs | closed | none |
//! | main greenlet | closed | the type that it awaited last |
//! | dead | closed | none |
//!
//! A switch through a typed handle is allowed if `target.reply == current.accepts`. This single comparison
//! also excludes a dead target and a target in a special wait. **Invariant 1**: a `reply` that is not
//! closed is exact: a value sent through a handle of the declared types has the type that the target
//! awaits.
//!
//! # Handles and holds
//!
//! `handles` keep the greenlet alive, `holds` keep the block allocated. Each of these has one hold:
//!
//! - every weak handle, and every child;
//! - all counted handles together, from the first to the last;
//! - the greenlet's life, from `create` until its stack is given back by `reclaim` or `discard_unstarted`.
//!   A main greenlet has this hold until its thread has ended. A greenlet that is never unwound keeps it
//!   indefinitely.
//!
//! The holds are independent, so each is released exactly once, whatever a destructor does meanwhile.
//! **Invariant 7**: a block is freed with its last hold, and a `&Core` is only used while its block is
//! held.

use super::marks::STATE;
use super::thread::Here;
use super::types::TypeKey;
use crate::arch::Context;
use crate::stack::Stack;
use std::any::Any;
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::mem;
use std::ops::Deref;
use std::process;
use std::ptr::NonNull;
use std::rc::Rc;

/// The state of a greenlet's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// The body has not started: `body` and `stack` are set.
    Unstarted,
    /// The body has started and not ended: it runs, or is suspended.
    Started,
    /// Ended before it started, and the body is being dropped: user code, which may switch. Only a scope
    /// distinguishes this from `Dead`.
    Ending,
    /// It has ended, or its thread has: only this block is left.
    Dead,
}

/// The block. The fields that every switch reads are in one cache line. Those that only starts and ends
/// need are in `Cold`, so that the hot lines of many greenlets are adjacent.
#[repr(C, align(64))]
pub(crate) struct Core {
    pub(super) context: Context,
    pub(super) reply: Cell<TypeKey>,
    pub(super) accepts: Cell<TypeKey>,
    /// Number of handles that keep the greenlet alive.
    pub(super) handles: Cell<u32>,
    /// Number of holds that keep the block allocated: see the module head.
    pub(super) holds: Cell<u32>,
    pub(super) life: Cell<Life>,
    /// Bits for the scheduler: see `marks.rs`.
    pub(super) mark: Cell<u8>,
    pub(super) purpose: Cell<&'static str>,
    pub(super) cold: NonNull<Cold>,
}

/// The fields of a block that switches do not read.
pub(crate) struct Cold {
    /// Identifies the greenlet within its thread, in messages.
    pub(super) id: Cell<u64>,
    pub(super) name: RefCell<Option<Cow<'static, str>>>,
    /// The declared types, `In` and `Out`.
    pub(super) input: Cell<TypeKey>,
    pub(super) output: Cell<TypeKey>,
    /// The receiver of the result. A hold of the block, not a handle. `None` for the main greenlet. These
    /// links form no cycle (Invariant 10).
    pub(super) parent: Cell<Option<NonNull<Core>>>,
    /// `end_waiter`: the most recent waiter for this greenlet's end, which receives it instead of the
    /// parent. `next_waiter`: the next in the list of waiters that this greenlet is in. `awaits_end_of`:
    /// the greenlet whose end it waits for. See `end_waiters.rs`.
    pub(super) end_waiter: Cell<Option<NonNull<Core>>>,
    pub(super) next_waiter: Cell<Option<NonNull<Core>>>,
    pub(super) awaits_end_of: Cell<Option<NonNull<Core>>>,
    pub(super) stack: Cell<Option<Stack>>,
    /// The body until it starts: where it is on the stack, and how it is dropped.
    pub(super) body: Cell<Option<Body>>,
    pub(super) locals: RefCell<Option<Rc<Locals>>>,
    /// The scheduler's data. A greenlet that has it is not ended when its last handle is dropped.
    pub(super) owner: Cell<Option<Rc<dyn Owner>>>,
    /// While the block is free: the next free block.
    pub(super) next_free: Cell<Option<NonNull<Core>>>,
    /// While suspended: the number of its active panics.
    pub(super) unwinding: Cell<usize>,
}

/// A body in place on its stack.
#[derive(Clone, Copy)]
pub(super) struct Body {
    pub(super) place: *mut u8,
    pub(super) drop: unsafe fn(*mut u8),
}

/// The values of a greenlet's locals, keyed by the address of the `Local`.
pub(crate) type Locals = RefCell<Vec<(usize, Rc<dyn Any>)>>;

impl Core {
    pub(super) fn new(cold: NonNull<Cold>) -> Self {
        Core {
            context: Context::new(),
            reply: Cell::new(TypeKey::CLOSED),
            accepts: Cell::new(TypeKey::NONE),
            handles: Cell::new(0),
            holds: Cell::new(0),
            life: Cell::new(Life::Dead),
            mark: Cell::new(0),
            purpose: Cell::new(""),
            cold,
        }
    }

    #[inline]
    pub(super) fn cold(&self) -> &Cold {
        // SAFETY: the slab makes and frees a block and its `Cold` together.
        unsafe { self.cold.as_ref() }
    }

    pub(super) fn is_main(&self) -> bool {
        self.cold().parent.get().is_none() && self.is_alive()
    }

    /// Returns whether it has not ended: it may still start, or has started.
    pub(super) fn is_alive(&self) -> bool {
        matches!(self.life.get(), Life::Unstarted | Life::Started)
    }

    /// Returns whether a scheduler owns it, so that it lives until it ends, whatever its handles.
    pub(super) fn is_detached(&self) -> bool {
        // SAFETY: nothing writes to the cell during the read.
        unsafe { (*self.cold().owner.as_ptr()).is_some() }
    }

    /// Returns the scheduler's data.
    pub(super) fn owner(&self) -> Option<Rc<dyn Owner>> {
        // SAFETY: cloning an `Rc` runs no user code, so nothing writes to the cell meanwhile. The cell is
        // not emptied for a moment either, which a signal handler could see (`peek.rs`).
        unsafe { (*self.cold().owner.as_ptr()).clone() }
    }

    /// Returns whether it is suspended in its body, provided that it is not the current greenlet.
    pub(super) fn is_started(&self) -> bool {
        self.life.get() == Life::Started
    }

    /// Clears the scheduler's suspension bits: it has been resumed, or has ended.
    pub(super) fn arrive(&self) {
        self.mark.set(self.mark.get() & !STATE);
    }

    /// Returns its parent. `None` for a main greenlet.
    pub(super) fn parent_hold(&self) -> Option<Hold> {
        // SAFETY: a block has a hold of its parent.
        self.cold().parent.get().map(|parent| unsafe { parent.as_ref() }.hold())
    }

    /// Returns the values of the greenlet's locals, creating the list if necessary.
    pub(super) fn locals(&self) -> Rc<Locals> {
        Rc::clone(self.cold().locals.borrow_mut().get_or_insert_default())
    }

    /// Returns the greenlet's designation in messages.
    pub(super) fn title(&self) -> String {
        match &*self.cold().name.borrow() {
            Some(name) => format!("'{name}'"),
            None => format!("#{}", self.cold().id.get()),
        }
    }
}

impl Cold {
    pub(super) fn new() -> Self {
        Cold {
            id: Cell::new(0),
            name: RefCell::new(None),
            input: Cell::new(TypeKey::NONE),
            output: Cell::new(TypeKey::NONE),
            parent: Cell::new(None),
            end_waiter: Cell::new(None),
            next_waiter: Cell::new(None),
            awaits_end_of: Cell::new(None),
            stack: Cell::new(None),
            body: Cell::new(None),
            locals: RefCell::new(None),
            owner: Cell::new(None),
            next_free: Cell::new(None),
            unwinding: Cell::new(0),
        }
    }
}

/// The scheduler's data about one of its greenlets.
pub(crate) trait Owner: Any {
    /// Returns the scheduler's own data.
    fn as_any(&self) -> &dyn Any;

    /// Returns data added by other parts of the crate.
    fn more(&self) -> Option<&dyn Any> {
        None
    }
}

impl Core {
    /// Adds a hold of the block.
    #[inline]
    pub(super) fn hold(&self) -> Hold {
        let block = NonNull::from(self);
        // SAFETY: `self` is held (Invariant 7).
        unsafe { hold(block) };
        Hold(block)
    }

    /// Returns whether it was declared with the types `T` and `R`.
    pub(super) fn is_declared<T: 'static, R: 'static>(&self) -> bool {
        let types = &Here::of_a_block().types;
        let cold = self.cold();
        (cold.input.get(), cold.output.get()) == (types.key::<T>(), types.key::<R>())
    }
}

/// A counted reference that keeps a block allocated, but not its greenlet alive.
#[repr(transparent)]
pub(crate) struct Hold(NonNull<Core>);

impl Hold {
    #[inline]
    pub(super) fn block(&self) -> NonNull<Core> {
        self.0
    }

    /// Returns the block without giving up the hold, for a later [`Hold::from_block`].
    #[inline]
    pub(super) fn into_block(self) -> NonNull<Core> {
        let block = self.0;
        mem::forget(self);
        block
    }

    /// Takes over an existing hold.
    ///
    /// # Safety
    ///
    /// The caller owns a hold of `block`: left by [`Hold::into_block`], or included when `holds` was set.
    #[inline]
    pub(super) unsafe fn from_block(block: NonNull<Core>) -> Self {
        Hold(block)
    }
}

impl Deref for Hold {
    type Target = Core;

    #[inline]
    fn deref(&self) -> &Core {
        // SAFETY: `self` is a hold of the block.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Hold {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: `self` owns the hold, and is not used after this.
        unsafe { unhold(self.0) };
    }
}

/// Adds a hold.
///
/// # Safety
///
/// The block is held.
#[inline]
pub(super) unsafe fn hold(block: NonNull<Core>) {
    // SAFETY: the block is held, says the caller.
    let holds = unsafe { &block.as_ref().holds };
    holds.set(holds.get().checked_add(1).unwrap_or_else(|| process::abort()));
}

/// Releases a hold, and frees the block with the last.
///
/// # Safety
///
/// The caller owns the hold, and does not use the block any more.
#[inline]
pub(super) unsafe fn unhold(block: NonNull<Core>) {
    // SAFETY: the hold that is released here keeps the block until now.
    let holds = unsafe { &block.as_ref().holds };
    holds.set(holds.get() - 1);
    if holds.get() == 0 {
        free(block);
    }
}

/// Adds a handle.
#[inline]
pub(super) fn add_handle(block: &Core) {
    if block.handles.get() == 0 {
        // The hold of all handles together, until `remove_handle` or the drop of the last handle.
        let _ = block.hold().into_block();
    }
    block.handles.set(block.handles.get().checked_add(1).unwrap_or_else(|| process::abort()));
}

/// Removes a handle added by [`add_handle`]. Unlike the drop of a handle, this does not end the greenlet if
/// it is the last one.
///
/// # Safety
///
/// The caller owns the handle.
pub(super) unsafe fn remove_handle(block: &Core) {
    block.handles.set(block.handles.get() - 1);
    if block.handles.get() == 0 {
        // SAFETY: the hold of all handles together, of which the last is gone.
        drop(unsafe { Hold::from_block(block.into()) });
    }
}

/// Frees a block that has no holds, and those ancestors that only it held.
#[inline(never)]
fn free(block: NonNull<Core>) {
    let here = Here::of_a_block();
    // SAFETY: the last hold was released just now, so the block is not freed yet.
    let cold = unsafe { block.as_ref() }.cold();
    if cold.name.borrow().is_some() {
        drop_name(cold);
    }
    let parent = cold.parent.take();
    // SAFETY: the block came from this thread's slab, and is no longer used.
    unsafe { here.slab.give_back(block) };
    if here.ended.get() {
        free_thread(here);
    }
    let Some(parent) = parent else { return };
    // SAFETY: the freed block had a hold of its parent, which is still counted.
    let holds = unsafe { &parent.as_ref().holds };
    holds.set(holds.get() - 1);
    if holds.get() == 0 {
        free_ancestors(here, parent);
    }
}

#[cold]
#[inline(never)]
fn drop_name(cold: &Cold) {
    drop(cold.name.take());
}

/// Frees a block that only a freed block held, and so on. This is a loop, since a chain of parents may be
/// too long for recursion.
#[cold]
#[inline(never)]
fn free_ancestors(here: Here, block: NonNull<Core>) {
    let mut next = Some(block);
    while let Some(block) = next.take() {
        // SAFETY: the last hold was released just now, so the block is not freed yet.
        let cold = unsafe { block.as_ref() }.cold();
        drop_name(cold);
        if let Some(parent) = cold.parent.take() {
            // SAFETY: the block has a hold of its parent, which is still counted.
            let holds = unsafe { &parent.as_ref().holds };
            holds.set(holds.get() - 1);
            next = (holds.get() == 0).then_some(parent);
        }
        // SAFETY: the block came from this thread's slab, and is no longer used.
        unsafe { here.slab.give_back(block) };
    }
    if here.ended.get() {
        free_thread(here);
    }
}

/// Frees the state of a thread that has ended, if no block is in use.
#[cold]
#[inline(never)]
fn free_thread(here: Here) {
    if here.slab.in_use() == 0 {
        // SAFETY: the thread has ended and its last block is gone; a caller with a `Here` on its frame does
        // not use it after its block.
        unsafe { here.free() };
    }
}
