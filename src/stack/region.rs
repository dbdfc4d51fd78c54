//! Regions of address space, and the stacks carved off them.

use super::{Stack, StackError, guard_size};
use crate::sys::memory::{Guard, Mapping};
use crate::sys::valgrind::KnownStack;

/// The number of stacks in a thread's first region per size. Each further region has twice as many.
const FIRST_REGION: usize = 16;
/// The maximum size of a region in bytes, unless a single stack is larger.
const LARGEST_REGION: usize = 1 << 30;

/// The number of colours. A stack's colour is the distance of its top from the end of its memory, in cache
/// lines.
///
/// Without colours all tops lie at the same offset in a page, and compete for the same few lines of the
/// first-level cache. A colour's bytes are missing from the first page of a stack: with 16 colours, an HTTP
/// parser spilled into a second page.
const COLOURS: usize = 12;
const LINE: usize = 64;

/// All regions for stacks of one size. Dropping it unmaps them.
pub(super) struct Regions {
    size: usize,
    /// Declared first, so that it is dropped before the regions are unmapped. Empty outside of Valgrind.
    known: Vec<KnownStack>,
    regions: Vec<Mapping>,
    /// The stacks carved off the newest region, and the number that it has room for.
    carved: usize,
    room: usize,
    /// The stacks carved off all regions.
    total: usize,
}

impl Regions {
    /// Creates an empty set for stacks of `size` bytes, a multiple of the page size. Reserves nothing yet.
    pub(super) fn new(size: usize) -> Self {
        Regions { size, known: Vec::new(), regions: Vec::new(), carved: 0, room: 0, total: 0 }
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Returns the number of stacks carved so far.
    pub(super) fn total(&self) -> usize {
        self.total
    }

    /// Returns a stack that has never been used, above its guard.
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
        // SAFETY: the range is the lowest part of this stride, below the new stack, and no other stack uses
        // it.
        unsafe { Guard::best().install(guard, guard_size()) }
            .map_err(|source| StackError::Guard { guarded: self.total, source })?;
        self.known.extend(KnownStack::register(bottom, self.size));
        self.carved += 1;
        self.total += 1;
        // SAFETY: the memory above the guard is writable, and nothing uses it yet.
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
