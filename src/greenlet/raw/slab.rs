//! The allocator of control blocks: chunks, with stable addresses.

use super::block::{Cold, Core};
use std::cell::{Cell, RefCell};
use std::mem::MaybeUninit;
use std::ptr::NonNull;

const CHUNK: usize = 256;

/// The hot halves of a chunk's blocks are adjacent, and so are the cold ones.
struct Chunk {
    hot: [MaybeUninit<Core>; CHUNK],
    cold: [MaybeUninit<Cold>; CHUNK],
}

/// A thread's control blocks. Dropping the slab frees the blocks.
pub(super) struct Slab {
    chunks: RefCell<Vec<NonNull<Chunk>>>,
    /// Number of blocks of the newest chunk that are initialized.
    made: Cell<usize>,
    /// The free list; the block given back last comes first.
    free: Cell<Option<NonNull<Core>>>,
    in_use: Cell<usize>,
}

impl Slab {
    pub(super) fn new() -> Self {
        Slab {
            chunks: RefCell::new(Vec::new()),
            made: Cell::new(CHUNK),
            free: Cell::new(None),
            in_use: Cell::new(0),
        }
    }

    /// Returns a block as [`Core::new`] makes it, or as its last user left it.
    #[inline]
    pub(super) fn take(&self) -> NonNull<Core> {
        self.in_use.set(self.in_use.get() + 1);
        let Some(block) = self.free.get() else { return self.make() };
        // SAFETY: a block of the free list is initialized and has no other user.
        self.free.set(unsafe { block.as_ref() }.cold().next_free.take());
        block
    }

    /// Takes back a block.
    ///
    /// # Safety
    ///
    /// The block came from [`Slab::take`] of this slab, and is no longer used.
    #[inline]
    pub(super) unsafe fn give_back(&self, block: NonNull<Core>) {
        self.in_use.set(self.in_use.get() - 1);
        // SAFETY: the block is initialized, since `take` of this slab returned it.
        unsafe { block.as_ref() }.cold().next_free.set(self.free.replace(Some(block)));
    }

    pub(super) fn in_use(&self) -> usize {
        self.in_use.get()
    }

    /// Calls `look` with every block that was ever taken, in use or free.
    pub(super) fn each(&self, mut look: impl FnMut(NonNull<Core>)) {
        let mut chunk = 0;
        // `look` may take blocks, and so add chunks.
        while let Some(start) = { self.chunks.borrow().get(chunk).copied() } {
            let newest = chunk + 1 == self.chunks.borrow().len();
            let made = if newest { self.made.get() } else { CHUNK };
            for index in 0..made {
                look(Self::block(start, index));
            }
            chunk += 1;
        }
    }

    #[cold]
    fn make(&self) -> NonNull<Core> {
        if self.made.get() == CHUNK {
            let chunk: Box<MaybeUninit<Chunk>> = Box::new_uninit();
            // SAFETY: a chunk consists of two arrays of `MaybeUninit`, which need no initialization.
            let chunk = unsafe { chunk.assume_init() };
            self.chunks.borrow_mut().push(NonNull::from(Box::leak(chunk)));
            self.made.set(0);
        }
        let index = self.made.replace(self.made.get() + 1);
        let chunk = *self.chunks.borrow().last().expect("a chunk was just pushed or has room");
        let block = Self::block(chunk, index);
        // SAFETY: both places are in a chunk of this slab, and were never used.
        unsafe {
            let cold = (&raw mut (*chunk.as_ptr()).cold).cast::<Cold>().add(index);
            cold.write(Cold::new());
            block.write(Core::new(NonNull::new_unchecked(cold)));
        }
        block
    }

    fn block(chunk: NonNull<Chunk>, index: usize) -> NonNull<Core> {
        debug_assert!(index < CHUNK);
        // SAFETY: `index` is within the chunk's array, as asserted.
        unsafe {
            NonNull::new_unchecked((&raw mut (*chunk.as_ptr()).hot).cast::<Core>().add(index))
        }
    }
}

impl Drop for Slab {
    fn drop(&mut self) {
        let made = self.made.get();
        let chunks = self.chunks.take();
        let newest = chunks.len().wrapping_sub(1);
        for (number, chunk) in chunks.into_iter().enumerate() {
            let count = if number == newest { made } else { CHUNK };
            // SAFETY: the chunk was leaked in `make`, and its first `count` blocks are initialized. The
            // slab is dropped only when no block is in use.
            unsafe {
                let mut chunk = Box::from_raw(chunk.as_ptr());
                for index in 0..count {
                    chunk.hot[index].assume_init_drop();
                    chunk.cold[index].assume_init_drop();
                }
            }
        }
    }
}
