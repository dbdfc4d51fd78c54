//! Stacks: memory of a known size with a guard below it, taken from a pool and given back to it.
//!
//! ```text
//!   a region: one mapping, reserved at once, touched page by page
//!   ┌─────────┬────────────────────────┬─────────┬────────────────────────┬─ ─ ─
//!   │  guard  │  stack 0          ▒▒▒▒ │  guard  │  stack 1         ▒▒▒▒▒ │
//!   └─────────┴────────────────────────┴─────────┴────────────────────────┴─ ─ ─
//!              ▲ bottom            top ▲              (▒ in use; a colour below each end)
//! ```
//!
//! - `region.rs` reserves regions and carves stacks off them;
//! - `pool.rs` keeps the free ones, the last used first, and decides when their memory goes back;
//! - `error.rs` says which limit was hit and what to do.
//!
//! This layer does not know who runs on a stack. **A stack is given back only from another stack.**

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

/// The size of a greenlet's stack in bytes, unless its builder says otherwise: 256 KiB.
///
/// It is address space that is reserved, not memory: a stack takes memory page by page as it is used,
/// mostly one page. It is enough for a panic with a symbolised backtrace in a debug build.
pub const DEFAULT_SIZE: usize = 256 * 1024;

/// The smallest stack in bytes: 16 KiB, so that a signal handler can run on it.
pub const MIN_SIZE: usize = 16 * 1024;

/// The largest stack in bytes: 1 GiB.
pub const MAX_SIZE: usize = 1 << 30;

/// The bytes below a stack on which every access faults: 16 KiB, or a page where that is more.
///
/// Rust code touches each page of a large frame in order, and one page would stop it. C code is often
/// compiled without that, and can step over a guard with one frame larger than the guard.
pub(crate) fn guard_size() -> usize {
    page_size().max(16 * 1024)
}

/// How guard pages are made in this process: `true` if by `MADV_GUARD_INSTALL` (Linux 6.13), which
/// leaves mappings whole, `false` if by `mprotect`, where each stack costs two of the
/// `vm.max_map_count` mappings that a process may have.
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

/// The memory that a computation runs on, named by what is written at its upper end.
///
/// It is a name and not an owner: who takes one from the pool gives it back, once.
#[derive(Clone, Copy)]
pub(crate) struct Stack(NonNull<Header>);

/// What lies at the upper end of every stack, above all frames: so that a stack is one word for who
/// uses it, and the free ones form a list without memory of its own.
#[repr(C, align(16))]
struct Header {
    bottom: NonNull<u8>,
    size: usize,
    /// The next free stack of the size.
    next: Cell<Option<Stack>>,
    /// The owner of the memory, if that is not a region of ours.
    custom: Cell<Option<Box<dyn corosensei::stack::Stack>>>,
}

impl Stack {
    /// Makes a stack of the memory from `bottom` to `end`.
    ///
    /// # Safety
    ///
    /// The memory is writable (below a custom stack's guard, which may reach above `bottom`), at least
    /// two pages, and used by nobody else.
    unsafe fn new(
        bottom: NonNull<u8>,
        end: NonNull<u8>,
        size: usize,
        custom: Option<Box<dyn corosensei::stack::Stack>>,
    ) -> Self {
        let misaligned = end.addr().get() % align_of::<Header>();
        // SAFETY: the highest bytes of the memory, aligned.
        unsafe {
            let header = end.sub(misaligned + size_of::<Header>()).cast::<Header>();
            header.write(Header { bottom, size, next: Cell::new(None), custom: Cell::new(custom) });
            Stack(header)
        }
    }

    /// A stack that somebody brings.
    pub(crate) fn custom(custom: Box<dyn corosensei::stack::Stack>) -> Self {
        let (base, limit) = (custom.base().get(), custom.limit().get());
        // SAFETY: whoever implements the trait vouches for the memory.
        unsafe { Stack::new(pointer(limit), pointer(base), base - limit, Some(custom)) }
    }

    #[inline]
    fn header(&self) -> &Header {
        // SAFETY: written in `new`, and there for as long as the stack is not given back.
        unsafe { self.0.as_ref() }
    }

    /// One past the highest usable byte, a multiple of 16.
    #[inline]
    pub(crate) fn top(self) -> NonNull<u8> {
        self.0.cast()
    }

    /// Asks for its upper end: the next to be taken.
    #[inline(always)]
    fn prefetch(self) {
        const CACHE_LINE: usize = 64;
        let top = self.top().as_ptr().cast_const();
        arch::prefetch(top);
        arch::prefetch(top.wrapping_sub(CACHE_LINE));
    }

    /// The lowest usable byte, page-aligned. For a custom stack it may be the start of the guard.
    #[inline]
    pub(crate) fn bottom(self) -> NonNull<u8> {
        self.header().bottom
    }

    /// Its size in bytes, as the builder was told.
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
            // Its guard is somewhere around the limit, of unknown size.
            return address < bottom + page_size() && address >= bottom - page_size();
        }
        address < bottom && address >= bottom - guard_size()
    }

    /// The bytes used at most since the stack was last clean, counted from its top. Frames that were
    /// reserved but never written to are not seen.
    ///
    /// # Safety
    ///
    /// Nobody writes to the stack meanwhile, except above what is in use now: it is a suspended
    /// computation's, or the caller's own.
    pub(crate) unsafe fn high_water(self) -> usize {
        let page = page_size();
        let mut start = self.bottom();
        if self.is_custom() {
            // Where its guard ends is not known: a page is skipped that may not be readable.
            start = pointer((start.addr().get() + 1).next_multiple_of(page));
        }
        let top = self.top().addr().get();
        let len = (top + size_of::<Header>()).next_multiple_of(page) - start.addr().get();
        // SAFETY: whole pages that are readable, since the top is in the last; the caller says that
        // they are quiet. At the latest the header is found.
        let lowest = unsafe { memory::first_written(start, len) };
        top.saturating_sub(start.addr().get() + lowest)
    }
}

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stack").field("top", &self.top()).field("size", &self.size()).finish()
    }
}

/// The pointer that an address stands for, the provenance of which somebody has exposed.
fn pointer(address: usize) -> NonNull<u8> {
    NonNull::new(std::ptr::with_exposed_provenance_mut(address))
        .expect("a stack is not at address zero")
}

/// Rounds a size asked for up to what a stack can have.
pub(crate) fn usable_size(asked: usize) -> Result<usize, StackError> {
    if (MIN_SIZE..=MAX_SIZE).contains(&asked) {
        Ok(asked.next_multiple_of(page_size()))
    } else {
        Err(StackError::Size { asked })
    }
}
