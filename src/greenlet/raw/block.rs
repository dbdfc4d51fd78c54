//! The control block of a greenlet, and who keeps it.
//!
//! # The door
//!
//! Types are numbers here (see [`TypeKey`]). Two of a block's fields decide nearly every switch:
//!
//! - `accepts`: the type of what may be sent to the greenlet now;
//! - `door`: the type that a switch into it makes the *caller* await, or [`TypeKey::CLOSED`] if that
//!   cannot be told beforehand.
//!
//! | state | `door` | `accepts` |
//! |---|---|---|
//! | as it was declared: unstarted, running, suspended | its `Out` | its `In` |
//! | suspended in a wait for another type | closed | that type |
//! | waiting for the end of one that it drops | closed | [`TypeKey::ANY`] |
//! | waiting for the end of one that its scope has made | closed | [`TypeKey::END`] |
//! | the scheduler's own, while it runs | closed | none |
//! | main greenlet | closed | what it awaited last |
//! | dead | closed | none |
//!
//! A switch by a typed handle is right if `target.door == current.accepts`: one comparison, which also
//! says that the target is neither dead nor waiting for something special. **Invariant 1**: a `door`
//! that is not closed tells the truth: what a handle of the declared types sends is what is awaited.
//!
//! # Handles and holds
//!
//! `handles` keep the greenlet alive, `holds` keep the block. One hold each have
//!
//! - every weak handle, and every child;
//! - all handles together, from the first to the last;
//! - the greenlet's life, from `create` until its stack is given back: by `reclaim`, or `discard_unstarted`.
//!   A main greenlet's lasts until the thread has ended; one that is left behind then keeps it for ever.
//!
//! None of them depends on another, so that whatever a destructor does meanwhile, each is given up once.

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

/// Where a greenlet is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// Its body has not begun: `body` and `stack` are there.
    Unstarted,
    /// Its body has begun and not ended: it runs, or is suspended.
    Started,
    /// It has been ended before it began, and its body is being dropped: that is code of the user's, and
    /// may switch. To everybody but its scope it is dead.
    Ending,
    /// It has ended, or its thread has: nothing of it is left but this block.
    Dead,
}

/// The block. What every switch reads comes first, in one cache line; what only beginnings and ends
/// need is kept elsewhere, so that the lines of many greenlets lie side by side.
#[repr(C, align(64))]
pub(crate) struct Core {
    pub(super) context: Context,
    pub(super) door: Cell<TypeKey>,
    pub(super) accepts: Cell<TypeKey>,
    /// Handles that keep the greenlet alive.
    pub(super) handles: Cell<u32>,
    /// Whatever needs this block to exist: see above.
    pub(super) holds: Cell<u32>,
    pub(super) life: Cell<Life>,
    /// The scheduler's: see `scheduled.rs`.
    pub(super) mark: Cell<u8>,
    pub(super) purpose: Cell<&'static str>,
    pub(super) cold: NonNull<Cold>,
}

/// The rest of the block.
pub(crate) struct Cold {
    /// Distinguishes greenlets of a thread in messages.
    pub(super) id: Cell<u64>,
    pub(super) name: RefCell<Option<Cow<'static, str>>>,
    /// The declared types.
    pub(super) takes: Cell<TypeKey>,
    pub(super) gives: Cell<TypeKey>,
    /// Who gets the result; holds the block, not the life. `None` for the main greenlet. These links form
    /// no cycle.
    pub(super) parent: Cell<Option<NonNull<Core>>>,
    /// The most recent one that waits for this one's end, and gets it instead of the parent; the next in the
    /// list that this one is in itself; and whose end this one waits for. See `end_waiters.rs`.
    pub(super) end_waiter: Cell<Option<NonNull<Core>>>,
    pub(super) next_waiter: Cell<Option<NonNull<Core>>>,
    pub(super) awaits_end_of: Cell<Option<NonNull<Core>>>,
    pub(super) stack: Cell<Option<Stack>>,
    /// The body while it has not begun: where it lies on the stack, and how it is dropped.
    pub(super) body: Cell<Option<Body>>,
    pub(super) locals: RefCell<Option<Rc<Locals>>>,
    /// The scheduler's. One that has it is not ended when its last handle goes.
    pub(super) owner: Cell<Option<Rc<dyn Owner>>>,
    /// While the block is free: the next free one.
    pub(super) next_free: Cell<Option<NonNull<Core>>>,
    /// While suspended: how many panics of it are under way.
    pub(super) unwinding: Cell<usize>,
}

/// A body in place on its stack.
#[derive(Clone, Copy)]
pub(super) struct Body {
    pub(super) place: *mut u8,
    pub(super) drop: unsafe fn(*mut u8),
}

/// The values of a greenlet's locals, by the address of their key.
pub(crate) type Locals = RefCell<Vec<(usize, Rc<dyn Any>)>>;

impl Core {
    pub(super) fn new(cold: NonNull<Cold>) -> Self {
        Core {
            context: Context::new(),
            door: Cell::new(TypeKey::CLOSED),
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
        // SAFETY: a block and its rest are made together by the slab and live as long.
        unsafe { self.cold.as_ref() }
    }

    pub(super) fn is_main(&self) -> bool {
        self.cold().parent.get().is_none() && self.is_alive()
    }

    /// Whether it has begun and not ended, or may still begin.
    pub(super) fn is_alive(&self) -> bool {
        matches!(self.life.get(), Life::Unstarted | Life::Started)
    }

    /// Whether a scheduler keeps it, whatever becomes of its handles.
    pub(super) fn is_detached(&self) -> bool {
        // SAFETY: as in `owner`.
        unsafe { (*self.cold().owner.as_ptr()).is_some() }
    }

    /// What the scheduler knows about it.
    pub(super) fn owner(&self) -> Option<Rc<dyn Owner>> {
        // SAFETY: a clone runs no user code, so the cell is not written to meanwhile. It is never empty for
        // a moment either, which a signal handler would see (`peek.rs`).
        unsafe { (*self.cold().owner.as_ptr()).clone() }
    }

    /// Whether it is suspended in the middle of its body, given that it is not the current one.
    pub(super) fn is_started(&self) -> bool {
        self.life.get() == Life::Started
    }

    /// It is not suspended any more: it has been resumed, or has ended.
    pub(super) fn arrive(&self) {
        self.mark.set(self.mark.get() & !STATE);
    }

    /// Its parent, if it is not a main greenlet.
    pub(super) fn parent_hold(&self) -> Option<Hold> {
        // SAFETY: a block holds its parent's.
        self.cold().parent.get().map(|parent| unsafe { parent.as_ref() }.hold())
    }

    /// The values of a greenlet's locals, made if need be.
    pub(super) fn locals(&self) -> Rc<Locals> {
        Rc::clone(self.cold().locals.borrow_mut().get_or_insert_default())
    }

    /// What it is called in messages.
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
            takes: Cell::new(TypeKey::NONE),
            gives: Cell::new(TypeKey::NONE),
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

/// What a scheduler knows about one of its greenlets.
pub(crate) trait Owner: Any {
    /// What the scheduler itself knows.
    fn as_any(&self) -> &dyn Any;

    /// What others have added.
    fn more(&self) -> Option<&dyn Any> {
        None
    }
}

impl Core {
    /// Keeps the block. Whoever has a `&Core` has it from somebody who holds it (Invariant 7).
    #[inline]
    pub(super) fn hold(&self) -> Hold {
        let block = NonNull::from(self);
        // SAFETY: held.
        unsafe { hold(block) };
        Hold(block)
    }

    /// Whether it was declared to take a `T` and to give an `R`.
    pub(super) fn is_declared<T: 'static, R: 'static>(&self) -> bool {
        let types = &Here::of_a_block().types;
        let cold = self.cold();
        (cold.takes.get(), cold.gives.get()) == (types.key::<T>(), types.key::<R>())
    }
}

/// Keeps a block, and not its greenlet.
#[repr(transparent)]
pub(crate) struct Hold(NonNull<Core>);

impl Hold {
    #[inline]
    pub(super) fn block(&self) -> NonNull<Core> {
        self.0
    }

    /// The block, with the hold left to whoever calls [`Hold::from_block`].
    #[inline]
    pub(super) fn into_block(self) -> NonNull<Core> {
        let block = self.0;
        mem::forget(self);
        block
    }

    /// Takes over a hold.
    ///
    /// # Safety
    ///
    /// It is the caller's to take: left by [`Hold::into_block`], or counted by who set `holds`.
    #[inline]
    pub(super) unsafe fn from_block(block: NonNull<Core>) -> Self {
        Hold(block)
    }
}

impl Deref for Hold {
    type Target = Core;

    #[inline]
    fn deref(&self) -> &Core {
        // SAFETY: held.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Hold {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the hold is this one's.
        unsafe { unhold(self.0) };
    }
}

/// Adds a hold.
///
/// # Safety
///
/// The block is held by somebody.
#[inline]
pub(super) unsafe fn hold(block: NonNull<Core>) {
    // SAFETY: as the caller says.
    let holds = unsafe { &block.as_ref().holds };
    holds.set(holds.get().checked_add(1).unwrap_or_else(|| process::abort()));
}

/// Takes a hold away, and frees the block with the last.
///
/// # Safety
///
/// The hold was the caller's, who does not use the block any more.
#[inline]
pub(super) unsafe fn unhold(block: NonNull<Core>) {
    // SAFETY: held until now.
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
        // That of the handles together, until `remove_handle`.
        let _ = block.hold().into_block();
    }
    block.handles.set(block.handles.get().checked_add(1).unwrap_or_else(|| process::abort()));
}

/// Takes away what [`add_handle`] has added. Whether it was the last one has no consequences but this.
///
/// # Safety
///
/// The handle was the caller's.
pub(super) unsafe fn remove_handle(block: &Core) {
    block.handles.set(block.handles.get() - 1);
    if block.handles.get() == 0 {
        // SAFETY: that of the handles together, of which there is none any more.
        drop(unsafe { Hold::from_block(block.into()) });
    }
}

/// Frees a block that nobody holds, and its ancestors as far as it alone held them.
#[inline(never)]
fn free(block: NonNull<Core>) {
    let here = Here::of_a_block();
    // SAFETY: nobody holds it, so nobody has freed it.
    let cold = unsafe { block.as_ref() }.cold();
    if cold.name.borrow().is_some() {
        drop_name(cold);
    }
    let parent = cold.parent.take();
    // SAFETY: nobody uses it any more.
    unsafe { here.slab.give_back(block) };
    if here.ended.get() {
        free_thread(here);
    }
    let Some(parent) = parent else { return };
    // SAFETY: a block holds its parent's.
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

/// Frees a block that only a block held that was just freed, and so on. A loop, since a chain of
/// parents may be longer than a stack is deep.
#[cold]
#[inline(never)]
fn free_ancestors(here: Here, block: NonNull<Core>) {
    let mut next = Some(block);
    while let Some(block) = next.take() {
        // SAFETY: nobody holds it, so nobody has freed it.
        let cold = unsafe { block.as_ref() }.cold();
        drop_name(cold);
        if let Some(parent) = cold.parent.take() {
            // SAFETY: a block holds its parent's.
            let holds = unsafe { &parent.as_ref().holds };
            holds.set(holds.get() - 1);
            next = (holds.get() == 0).then_some(parent);
        }
        // SAFETY: nobody uses it any more.
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
        // SAFETY: the last block is gone, and whoever asked for a `Here` has it on a frame that does
        // not use it after its block.
        unsafe { here.free() };
    }
}
