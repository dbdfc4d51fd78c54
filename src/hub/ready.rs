//! Who is to run next: first in, first out.

use crate::greenlet::AnyWeakGreenlet;
use std::cell::{Cell, UnsafeCell};

type Slots = Box<[Cell<Option<AnyWeakGreenlet>>]>;

/// A ring that grows.
///
/// One of the few places of the hub with `unsafe`: every change from one to another passes here twice, and
/// a `RefCell` would cost more than all the rest of it.
pub(super) struct Ready {
    /// A power of two of them.
    slots: UnsafeCell<Slots>,
    /// Where the next one to run is, and where the next one to wait is put: counted up for ever.
    head: Cell<usize>,
    tail: Cell<usize>,
}

impl Ready {
    pub(super) fn new() -> Self {
        Ready { slots: UnsafeCell::new(ring(64)), head: Cell::new(0), tail: Cell::new(0) }
    }

    #[inline(always)]
    pub(super) fn is_empty(&self) -> bool {
        self.head.get() == self.tail.get()
    }

    #[inline(always)]
    fn len(&self) -> usize {
        self.tail.get().wrapping_sub(self.head.get())
    }

    #[inline(always)]
    fn slots(&self) -> &Slots {
        // SAFETY: they are replaced in `grow` alone, while nobody uses what this returned: no function here
        // keeps it over a call of another, and a value that is dropped in one is a `None`.
        unsafe { &*self.slots.get() }
    }

    #[inline(always)]
    fn slot(&self, at: usize) -> &Cell<Option<AnyWeakGreenlet>> {
        let slots = self.slots();
        &slots[at & (slots.len() - 1)]
    }

    /// To the end.
    #[inline(always)]
    pub(super) fn push(&self, greenlet: AnyWeakGreenlet) {
        if self.len() == self.slots().len() {
            self.grow();
        }
        let tail = self.tail.get();
        let before = self.slot(tail).replace(Some(greenlet));
        debug_assert!(before.is_none());
        std::mem::forget(before);
        self.tail.set(tail.wrapping_add(1));
    }

    /// To the front.
    pub(super) fn push_front(&self, greenlet: AnyWeakGreenlet) {
        if self.len() == self.slots().len() {
            self.grow();
        }
        let head = self.head.get().wrapping_sub(1);
        self.slot(head).set(Some(greenlet));
        self.head.set(head);
    }

    #[inline(always)]
    pub(super) fn pop(&self) -> Option<AnyWeakGreenlet> {
        if self.is_empty() {
            return None;
        }
        let head = self.head.get();
        self.head.set(head.wrapping_add(1));
        self.slot(head).take()
    }

    #[cold]
    #[inline(never)]
    fn grow(&self) {
        let bigger = ring(self.slots().len() * 2);
        let count = self.len();
        for (index, slot) in bigger.iter().enumerate().take(count) {
            slot.set(self.slot(self.head.get().wrapping_add(index)).take());
        }
        // SAFETY: nobody uses the old ones: see `slots`. All of them are empty, so that dropping them runs
        // no code but the allocator's.
        unsafe { *self.slots.get() = bigger };
        self.head.set(0);
        self.tail.set(count);
    }
}

fn ring(len: usize) -> Slots {
    (0..len).map(|_| Cell::new(None)).collect()
}
