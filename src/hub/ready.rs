//! The queue of ready greenlets: first in, first out.
//!
//! **Ring invariant**, cited by the `SAFETY` comments below: `slots` points to a leaked boxed slice of
//! `mask + 1` slots, a power of two. Only `grow` and `drop` free the slice. No method holds a reference
//! into it across a call of `grow` or of foreign code, and none drops a greenlet while it holds one.

use crate::greenlet::AnyWeakGreenlet;
use std::cell::Cell;
use std::ptr::NonNull;

type Slot = Cell<Option<AnyWeakGreenlet>>;

/// A growable ring buffer.
///
/// One of the few types of the hub with `unsafe`: every switch uses it twice, and a `RefCell` would cost
/// more than all the rest.
pub(super) struct Ready {
    /// The slots: a boxed slice whose length is a power of two. And that length minus one.
    slots: Cell<NonNull<Slot>>,
    mask: Cell<usize>,
    /// Positions of the next greenlet to run and of the next free slot. They wrap at the size of a `usize`.
    head: Cell<usize>,
    tail: Cell<usize>,
}

impl Ready {
    pub(super) fn new() -> Self {
        const FIRST: usize = 64;
        Ready {
            slots: Cell::new(ring(FIRST)),
            mask: Cell::new(FIRST - 1),
            head: Cell::new(0),
            tail: Cell::new(0),
        }
    }

    #[inline(always)]
    pub(super) fn is_empty(&self) -> bool {
        self.head.get() == self.tail.get()
    }

    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        self.tail.get().wrapping_sub(self.head.get())
    }

    #[inline(always)]
    fn is_full(&self) -> bool {
        self.len() > self.mask.get()
    }

    #[inline(always)]
    fn slot(&self, at: usize) -> &Slot {
        // SAFETY: the masked index is within the slice, which is not freed while the result is in use (ring
        // invariant).
        unsafe { self.slots.get().add(at & self.mask.get()).as_ref() }
    }

    /// Fills an empty slot.
    #[inline(always)]
    fn fill(&self, at: usize, greenlet: AnyWeakGreenlet) {
        let before = self.slot(at).replace(Some(greenlet));
        debug_assert!(before.is_none());
        std::mem::forget(before);
    }

    /// Removes the first greenlet, and appends `greenlet`. The queue must not be empty.
    #[inline(always)]
    pub(super) fn rotate(&self, greenlet: AnyWeakGreenlet) -> Option<AnyWeakGreenlet> {
        debug_assert!(!self.is_empty());
        let (head, tail) = (self.head.get(), self.tail.get());
        self.head.set(head.wrapping_add(1));
        self.tail.set(tail.wrapping_add(1));
        self.prefetch_ahead(head);
        let first = self.slot(head).take();
        self.fill(tail, greenlet);
        first
    }

    /// Appends at the end.
    #[inline(always)]
    pub(super) fn push(&self, greenlet: AnyWeakGreenlet) {
        if self.is_full() {
            self.grow();
        }
        let tail = self.tail.get();
        self.fill(tail, greenlet);
        self.tail.set(tail.wrapping_add(1));
    }

    /// Inserts at the front.
    pub(super) fn push_front(&self, greenlet: AnyWeakGreenlet) {
        if self.is_full() {
            self.grow();
        }
        let head = self.head.get().wrapping_sub(1);
        self.fill(head, greenlet);
        self.head.set(head);
    }

    #[inline(always)]
    pub(super) fn pop(&self) -> Option<AnyWeakGreenlet> {
        if self.is_empty() {
            return None;
        }
        let head = self.head.get();
        self.head.set(head.wrapping_add(1));
        self.prefetch_ahead(head);
        self.slot(head).take()
    }

    /// Prefetches the greenlets that run soon after the one at `head`. With many of them, their memory is
    /// in a distant cache or in none, and a turn is shorter than the latency.
    #[inline(always)]
    fn prefetch_ahead(&self, head: usize) {
        /// Prefetch distances, in turns.
        const BLOCK: usize = 6;
        const STACK: usize = 3;
        /// The caches hold the memory of fewer.
        const MANY: usize = 32;
        if self.len() < MANY {
            return;
        }
        if let Some(greenlet) = self.peek(head.wrapping_add(BLOCK)) {
            greenlet.prefetch();
        }
        if let Some(greenlet) = self.peek(head.wrapping_add(STACK)) {
            greenlet.prefetch_stack();
        }
    }

    /// Returns the greenlet in a slot, if any.
    #[inline(always)]
    fn peek(&self, at: usize) -> Option<&AnyWeakGreenlet> {
        // SAFETY: `slot` is valid for the borrow of `self` (ring invariant), and the callers only prefetch,
        // so the slot is not changed while the result is in use.
        unsafe { &*self.slot(at).as_ptr() }.as_ref()
    }

    #[cold]
    #[inline(never)]
    fn grow(&self) {
        let (count, size) = (self.len(), self.mask.get() + 1);
        let (bigger, mask) = (ring(2 * size), 2 * size - 1);
        for index in 0..count {
            // SAFETY: `index < count <= size`, and the new slice has `2 * size` slots.
            let slot = unsafe { bigger.add(index).as_ref() };
            slot.set(self.slot(self.head.get().wrapping_add(index)).take());
        }
        let old = self.slots.replace(bigger);
        self.mask.set(mask);
        self.head.set(0);
        self.tail.set(count);
        // SAFETY: `old` was made by `ring(size)` and is replaced; no reference into it is in use (ring
        // invariant).
        unsafe { drop_ring(old, size) };
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        // SAFETY: `slots` was made by `ring(mask + 1)`, and is not used after `self` is dropped.
        unsafe { drop_ring(self.slots.get(), self.mask.get() + 1) };
    }
}

fn ring(size: usize) -> NonNull<Slot> {
    let slots: Box<[Slot]> = (0..size).map(|_| Cell::new(None)).collect();
    NonNull::from(Box::leak(slots)).cast()
}

/// Frees a slice of slots.
///
/// # Safety
///
/// `slots` must have been returned by [`ring`] for this `size`, and must not be used again.
unsafe fn drop_ring(slots: NonNull<Slot>, size: usize) {
    // SAFETY: `ring` leaked a boxed slice of this length, and the caller gives it up (`# Safety`).
    drop(unsafe { Box::from_raw(NonNull::slice_from_raw_parts(slots, size).as_ptr()) });
}
