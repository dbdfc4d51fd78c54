//! Where control blocks live: in chunks, at addresses that stay.

use super::block::{Cold, Core};
use std::cell::{Cell, RefCell};
use std::mem::MaybeUninit;
use std::ptr::NonNull;

const CHUNK: usize = 256;

/// The hot halves of a chunk's blocks lie side by side, and so do the cold ones.
struct Chunk {
    hot: [MaybeUninit<Core>; CHUNK],
    cold: [MaybeUninit<Cold>; CHUNK],
}

/// A thread's control blocks. Dropped, the blocks are gone.
pub(super) struct Slab {
    chunks: RefCell<Vec<NonNull<Chunk>>>,
    /// How many blocks of the newest chunk have been made.
    made: Cell<usize>,
    /// Free blocks, the last one given back first.
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

    /// A block as [`Core::new`] makes it, or as its last user left it.
    #[inline]
    pub(super) fn take(&self) -> NonNull<Core> {
        self.in_use.set(self.in_use.get() + 1);
        let Some(block) = self.free.get() else { return self.make() };
        // SAFETY: a block of ours that nobody else uses.
        self.free.set(unsafe { block.as_ref() }.cold().next_free.take());
        block
    }

    /// Takes back a block.
    ///
    /// # Safety
    ///
    /// [`Slab::take`] of this slab gave it, and nobody uses it any more.
    #[inline]
    pub(super) unsafe fn give_back(&self, block: NonNull<Core>) {
        self.in_use.set(self.in_use.get() - 1);
        // SAFETY: as the caller says.
        unsafe { block.as_ref() }.cold().next_free.set(self.free.replace(Some(block)));
    }

    pub(super) fn in_use(&self) -> usize {
        self.in_use.get()
    }

    /// Calls `look` with every block that was ever taken, whether it is in use or not.
    pub(super) fn each(&self, mut look: impl FnMut(NonNull<Core>)) {
        let mut chunk = 0;
        // Looking may take blocks, and so add chunks.
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
            // SAFETY: a chunk is two arrays of `MaybeUninit`, for which no bytes are wrong.
            let chunk = unsafe { chunk.assume_init() };
            self.chunks.borrow_mut().push(NonNull::from(Box::leak(chunk)));
            self.made.set(0);
        }
        let index = self.made.replace(self.made.get() + 1);
        let chunk = *self.chunks.borrow().last().expect("there is one now");
        let block = Self::block(chunk, index);
        // SAFETY: both places are in the chunk, which is ours, and have never been used.
        unsafe {
            let cold = (&raw mut (*chunk.as_ptr()).cold).cast::<Cold>().add(index);
            cold.write(Cold::new());
            block.write(Core::new(NonNull::new_unchecked(cold)));
        }
        block
    }

    fn block(chunk: NonNull<Chunk>, index: usize) -> NonNull<Core> {
        debug_assert!(index < CHUNK);
        // SAFETY: inside the array of the chunk.
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
            // SAFETY: leaked in `make`; its first `count` blocks were made, and whoever drops the
            // slab says that nobody uses them any more.
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
