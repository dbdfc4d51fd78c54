//! Regions of address space, and the stacks that are carved off them.

use super::{Stack, StackError, guard_size};
use crate::sys::memory::{Guard, Mapping};
use crate::sys::valgrind::KnownStack;

/// The stacks in a thread's first region of a size; each further region has twice as many.
const FIRST_REGION: usize = 16;
/// A region's size in bytes at most, unless a single stack is larger.
const LARGEST_REGION: usize = 1 << 30;

/// Distances of a stack's top from the end of its memory, in cache lines: without them all tops lie at
/// the same offset in a page, and so compete for the same few lines of the first-level cache. The farthest is
/// memory that a shallow coroutine lacks in its first page: with 16, a parser of HTTP came into the second.
const COLOURS: usize = 12;
const LINE: usize = 64;

/// All regions for stacks of one size. Dropped, they are unmapped.
pub(super) struct Regions {
    size: usize,
    /// Declared first: forgotten before the regions are unmapped. Empty outside of Valgrind.
    known: Vec<KnownStack>,
    regions: Vec<Mapping>,
    /// Stacks carved off the newest region, and how many it has room for.
    carved: usize,
    room: usize,
    /// Stacks carved in all.
    total: usize,
}

impl Regions {
    /// For stacks of `size` bytes, a multiple of the page size. Reserves nothing yet.
    pub(super) fn new(size: usize) -> Self {
        Regions { size, known: Vec::new(), regions: Vec::new(), carved: 0, room: 0, total: 0 }
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Stacks carved so far.
    pub(super) fn total(&self) -> usize {
        self.total
    }

    /// A stack that has never been used, with its guard.
    pub(super) fn carve(&mut self) -> Result<Stack, StackError> {
        if self.carved == self.room {
            self.grow()?;
        }
        let region = self.regions.last().expect("grow has added one");
        let stride = guard_size() + self.size;
        let colour = (self.total % COLOURS) * LINE;
        // SAFETY: `carved < room`, and the region was reserved for `room` strides.
        let (guard, bottom, end) = unsafe {
            let guard = region.start().add(self.carved * stride);
            (guard, guard.add(guard_size()), guard.add(stride - colour))
        };
        // SAFETY: the range lies between this stack and the one below it, and is in neither.
        unsafe { Guard::best().install(guard, guard_size()) }
            .map_err(|source| StackError::Guard { guarded: self.total, source })?;
        self.known.extend(KnownStack::register(bottom, self.size));
        self.carved += 1;
        self.total += 1;
        // SAFETY: the memory above the guard is nobody's yet.
        Ok(unsafe { Stack::new(bottom, end, self.size, None) })
    }

    fn grow(&mut self) -> Result<(), StackError> {
        let stride = guard_size() + self.size;
        let most = (LARGEST_REGION / stride).max(1);
        let room = (self.room * 2).clamp(FIRST_REGION.min(most), most);
        let bytes = room * stride;
        let region =
            Mapping::reserve(bytes).map_err(|source| StackError::Reserve { bytes, source })?;
        self.regions.push(region);
        self.room = room;
        self.carved = 0;
        Ok(())
    }
}
