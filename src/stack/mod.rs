//! Stacks: memory of a known size above a guard, from a pool that takes them back.
//!
//! ```text
//!   a region: one mapping, reserved in one call, touched page by page
//!   ┌─────────┬────────────────────────┬─────────┬────────────────────────┬─ ─ ─
//!   │  guard  │  stack 0          ▒▒▒▒ │  guard  │  stack 1         ▒▒▒▒▒ │
//!   └─────────┴────────────────────────┴─────────┴────────────────────────┴─ ─ ─
//!              ▲ bottom            top ▲              (▒ in use; a colour below each end)
//! ```
//!
//! - `region.rs` reserves regions and carves stacks off them;
//! - `pool.rs` keeps the free stacks, the most recently used first, and decides when to return their memory;
//! - `error.rs` names the limit that was hit and how to raise it.
//!
//! This layer does not know what runs on a stack. **A stack is given back only from another stack**
//! (invariant 4 of ARCHITECTURE.md).

mod error;
mod pool;
mod region;

pub use error::StackError;
pub(crate) use pool::Pool;

use crate::arch;
use crate::sys::memory::{self, Guard, page_size};
use std::cell::Cell;
use std::fmt;
use std::ptr::NonNull;

/// The default size of a greenlet's stack in bytes: 256 KiB.
///
/// This is reserved address space, not memory: a stack takes memory page by page as it is used, typically
/// one page. The size suffices for a panic with a symbolised backtrace in a debug build.
pub const DEFAULT_SIZE: usize = 256 * 1024;

/// The smallest size of a stack in bytes: 16 KiB, so that a signal handler can run on it.
pub const MIN_SIZE: usize = 16 * 1024;

/// The largest size of a stack in bytes: 1 GiB.
pub const MAX_SIZE: usize = 1 << 30;

/// Returns the size of the guard below a stack in bytes: 16 KiB, or a page if that is larger.
///
/// Every access to the guard faults. Rust code touches the pages of a large frame in order, so one page
/// would stop it. C code is often compiled without such stack probes, and can skip the guard with a frame
/// larger than that.
pub(crate) fn guard_size() -> usize {
    page_size().max(16 * 1024)
}

/// Whether guard pages cost no mappings in this process.
///
/// `true` if they are made by `MADV_GUARD_INSTALL` (Linux 6.13), which does not split a mapping. `false` if
/// they are made by `mprotect`: then each stack takes two of the `vm.max_map_count` mappings that a process
/// may have.
///
/// # Examples
///
/// ```
/// if !switchgrass::stack::guards_are_cheap() {
///     println!("at most some 32,000 greenlets, unless vm.max_map_count is raised");
/// }
/// ```
///
/// # Switching
///
/// Never switches.
pub fn guards_are_cheap() -> bool {
    Guard::best() == Guard::Marker
}

/// The memory that a computation runs on, identified by the header at its upper end.
///
/// A copyable name, not an owner: a stack taken from the pool has to be given back exactly once.
#[derive(Clone, Copy)]
pub(crate) struct Stack(NonNull<Header>);

/// The header at the upper end of every stack, above all frames.
///
/// It makes a [`Stack`] a single pointer, and links the free stacks without further memory.
#[repr(C, align(16))]
struct Header {
    bottom: NonNull<u8>,
    size: usize,
    /// The next free stack of the same size.
    next: Cell<Option<Stack>>,
    /// The owner of the memory, unless that is a region of the pool.
    custom: Cell<Option<Box<dyn corosensei::stack::Stack>>>,
}

impl Stack {
    /// Creates a stack in the memory from `bottom` to `end`.
    ///
    /// # Safety
    ///
    /// The memory is writable, at least two pages, and used by nothing else. (A custom stack's guard may
    /// reach above `bottom`; the memory above that guard is writable.)
    unsafe fn new(
        bottom: NonNull<u8>,
        end: NonNull<u8>,
        size: usize,
        custom: Option<Box<dyn corosensei::stack::Stack>>,
    ) -> Self {
        let misaligned = end.addr().get() % align_of::<Header>();
        // SAFETY: this function's contract: the header lies in the highest bytes of the memory, and is
        // aligned.
        unsafe {
            let header = end.sub(misaligned + size_of::<Header>()).cast::<Header>();
            header.write(Header { bottom, size, next: Cell::new(None), custom: Cell::new(custom) });
            Stack(header)
        }
    }

    /// Creates a stack in memory that the user provides.
    pub(crate) fn custom(custom: Box<dyn corosensei::stack::Stack>) -> Self {
        let (base, limit) = (custom.base().get(), custom.limit().get());
        // SAFETY: implementing this `unsafe` trait promises such memory from `limit` to `base`.
        unsafe { Stack::new(pointer(limit), pointer(base), base - limit, Some(custom)) }
    }

    #[inline]
    fn header(&self) -> &Header {
        // SAFETY: written in `new`, and it stays there until the stack is given back.
        unsafe { self.0.as_ref() }
    }

    /// Returns the address past the highest usable byte, a multiple of 16.
    #[inline]
    pub(crate) fn top(self) -> NonNull<u8> {
        self.0.cast()
    }

    /// Prefetches its upper end. For the stack that will be taken next.
    #[inline(always)]
    fn prefetch(self) {
        const CACHE_LINE: usize = 64;
        let top = self.top().as_ptr().cast_const();
        arch::prefetch(top);
        arch::prefetch(top.wrapping_sub(CACHE_LINE));
    }

    /// Returns the lowest usable byte, page-aligned. For a custom stack, it may be the start of the guard.
    #[inline]
    pub(crate) fn bottom(self) -> NonNull<u8> {
        self.header().bottom
    }

    /// Returns its size in bytes, as its builder requested.
    #[inline]
    pub(crate) fn size(self) -> usize {
        self.header().size
    }

    fn is_custom(self) -> bool {
        let custom = self.header().custom.take();
        let is_custom = custom.is_some();
        self.header().custom.set(custom);
        is_custom
    }

    /// Whether an access to `address` means that this stack has overflowed.
    pub(crate) fn guards(self, address: usize) -> bool {
        let bottom = self.bottom().addr().get();
        if self.is_custom() {
            // The guard of a custom stack is somewhere around its limit, and its size is unknown.
            return address < bottom + page_size() && address >= bottom - page_size();
        }
        address < bottom && address >= bottom - guard_size()
    }

    /// Returns the most bytes in use at any time since the stack was last clean, counted from its top.
    ///
    /// Frames that were reserved but never written to are not counted.
    ///
    /// # Safety
    ///
    /// Nothing writes to the unused part of the stack during the call: the stack is a suspended
    /// computation's, or the caller's own.
    pub(crate) unsafe fn high_water(self) -> usize {
        let page = page_size();
        let mut start = self.bottom();
        if self.is_custom() {
            // Where its guard ends is unknown: skip a page that may not be readable.
            start = pointer((start.addr().get() + 1).next_multiple_of(page));
        }
        let top = self.top().addr().get();
        let len = (top + size_of::<Header>()).next_multiple_of(page) - start.addr().get();
        // SAFETY: these are whole readable pages, since the last one contains the top, and by this
        // function's contract nothing writes below the part in use. The scan ends at the header at the
        // latest.
        let lowest = unsafe { memory::first_written(start, len) };
        top.saturating_sub(start.addr().get() + lowest)
    }
}

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stack").field("top", &self.top()).field("size", &self.size()).finish()
    }
}

/// Returns the pointer for an address whose provenance has been exposed.
fn pointer(address: usize) -> NonNull<u8> {
    NonNull::new(std::ptr::with_exposed_provenance_mut(address))
        .expect("a stack is not at address zero")
}

/// Rounds a requested size up to a size that stacks can have.
pub(crate) fn usable_size(asked: usize) -> Result<usize, StackError> {
    if (MIN_SIZE..=MAX_SIZE).contains(&asked) {
        Ok(asked.next_multiple_of(page_size()))
    } else {
        Err(StackError::Size { asked })
    }
}
