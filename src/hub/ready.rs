//! Who is to run next: first in, first out.

use crate::greenlet::AnyWeakGreenlet;
use std::cell::Cell;
use std::ptr::NonNull;

type Slot = Cell<Option<AnyWeakGreenlet>>;

/// A ring that grows.
///
/// One of the few places of the hub with `unsafe`: every change from one to another passes here twice, and
/// a `RefCell` would cost more than all the rest of it.
pub(super) struct Ready {
    /// A boxed slice, a power of two of them, and that number less one.
    slots: Cell<NonNull<Slot>>,
    mask: Cell<usize>,
    /// Where the next one to run is, and where the next one to wait is put: counted up for ever.
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
        // SAFETY: within the slice. It is replaced in `grow` alone, while nobody uses what this returned: no
        // function here keeps it over a call of another, and a value that is dropped in one is a `None`.
        unsafe { self.slots.get().add(at & self.mask.get()).as_ref() }
    }

    /// Puts somebody into a slot that is empty.
    #[inline(always)]
    fn fill(&self, at: usize, greenlet: AnyWeakGreenlet) {
        let before = self.slot(at).replace(Some(greenlet));
        debug_assert!(before.is_none());
        std::mem::forget(before);
    }

    /// Takes out the first one, and puts `greenlet` to the end. There is a first one.
    #[inline(always)]
    pub(super) fn rotate(&self, greenlet: AnyWeakGreenlet) -> Option<AnyWeakGreenlet> {
        debug_assert!(!self.is_empty());
        let (head, tail) = (self.head.get(), self.tail.get());
        self.head.set(head.wrapping_add(1));
        self.tail.set(tail.wrapping_add(1));
        self.look_ahead(head);
        let first = self.slot(head).take();
        self.fill(tail, greenlet);
        first
    }

    /// To the end.
    #[inline(always)]
    pub(super) fn push(&self, greenlet: AnyWeakGreenlet) {
        if self.is_full() {
            self.grow();
        }
        let tail = self.tail.get();
        self.fill(tail, greenlet);
        self.tail.set(tail.wrapping_add(1));
    }

    /// To the front.
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
        self.look_ahead(head);
        self.slot(head).take()
    }

    /// Asks for the memory of those who come soon after the one at `head`: with many of them, it is in a far
    /// cache or in none, and a turn is shorter than the way there.
    #[inline(always)]
    fn look_ahead(&self, head: usize) {
        /// So many turns ahead.
        const BLOCK: usize = 6;
        const STACK: usize = 3;
        /// The caches have those of fewer.
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

    /// Whoever is in a slot, if anybody.
    #[inline(always)]
    fn peek(&self, at: usize) -> Option<&AnyWeakGreenlet> {
        // SAFETY: nobody changes a slot while the callers here use this.
        unsafe { &*self.slot(at).as_ptr() }.as_ref()
    }

    #[cold]
    #[inline(never)]
    fn grow(&self) {
        let (count, size) = (self.len(), self.mask.get() + 1);
        let (bigger, mask) = (ring(2 * size), 2 * size - 1);
        for index in 0..count {
            // SAFETY: within the new slice.
            let slot = unsafe { bigger.add(index).as_ref() };
            slot.set(self.slot(self.head.get().wrapping_add(index)).take());
        }
        let old = self.slots.replace(bigger);
        self.mask.set(mask);
        self.head.set(0);
        self.tail.set(count);
        // SAFETY: made by `ring` of that size, and nobody uses it: see `slot`.
        unsafe { drop_ring(old, size) };
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        // SAFETY: made by `ring` of that size, and nobody uses it any more.
        unsafe { drop_ring(self.slots.get(), self.mask.get() + 1) };
    }
}

fn ring(size: usize) -> NonNull<Slot> {
    let slots: Box<[Slot]> = (0..size).map(|_| Cell::new(None)).collect();
    NonNull::from(Box::leak(slots)).cast()
}

/// # Safety
///
/// [`ring`] has made it, of that size, and it is not used again.
unsafe fn drop_ring(slots: NonNull<Slot>, size: usize) {
    // SAFETY: as the caller says.
    drop(unsafe { Box::from_raw(NonNull::slice_from_raw_parts(slots, size).as_ptr()) });
}
