//! Who keeps a block.
//!
//! `handles` keep the greenlet alive, `holds` keep the block. One hold each have
//!
//! - every weak handle, and every child;
//! - all handles together, from the first to the last;
//! - the greenlet's life, from `create` until its stack is given back: by `bury`, or `discard_unstarted`.
//!   A main greenlet's lasts until the thread has ended; one that is left behind then keeps it for ever.
//!
//! None of them depends on another, so that whatever a destructor does meanwhile, each is given up once.

use super::core::{Cold, Core};
use super::handle::Hold;
use super::thread::Here;
use std::process;
use std::ptr::NonNull;

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
