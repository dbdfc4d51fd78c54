//! Mappings: reserve, guard, give back, and see what is resident.

use std::io;
use std::ptr::{self, NonNull};
use std::sync::LazyLock;

/// `MADV_GUARD_INSTALL`, Linux 6.13: makes pages of a mapping fault without splitting the mapping.
const MADV_GUARD_INSTALL: libc::c_int = 102;

/// The size of a page in bytes.
pub(crate) fn page_size() -> usize {
    static PAGE: LazyLock<usize> = LazyLock::new(|| {
        // SAFETY: sysconf has no preconditions.
        let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        usize::try_from(size).expect("the kernel knows its page size")
    });
    *PAGE
}

/// A private anonymous mapping, unmapped when dropped. Its pages take memory once they are touched.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

impl Mapping {
    /// Reserves `len` bytes, a multiple of the page size, readable, writable, zero, and without huge
    /// pages (one touch of which would cost 2 MiB).
    pub(crate) fn reserve(len: usize) -> io::Result<Self> {
        debug_assert_eq!(len % page_size(), 0);
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK;
        // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory.
        let start = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the range was just mapped. A kernel without huge pages refuses; that is as good.
        unsafe { libc::madvise(start, len, libc::MADV_NOHUGEPAGE) };
        let start = NonNull::new(start.cast()).expect("mmap does not return address zero");
        Ok(Mapping { start, len })
    }

    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn contains(&self, address: usize) -> bool {
        address.wrapping_sub(self.start.addr().get()) < self.len
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, whole, and whoever owns this says by dropping it that nothing
        // points into it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// How a guard page is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guard {
    /// By `madvise(MADV_GUARD_INSTALL)`: the mapping stays one.
    Marker,
    /// By `mprotect(PROT_NONE)`: the mapping is split, so that each guard costs two of the
    /// `vm.max_map_count` mappings that a process may have.
    Protection,
}

impl Guard {
    /// The better kind that this kernel has. `--cfg switchgrass_mprotect_guards` forces the other.
    pub(crate) fn best() -> Self {
        static BEST: LazyLock<Guard> = LazyLock::new(|| {
            if cfg!(switchgrass_mprotect_guards) {
                return Guard::Protection;
            }
            let Ok(probe) = Mapping::reserve(page_size()) else {
                return Guard::Protection;
            };
            // SAFETY: the page is `probe`'s and nobody looks at it.
            let installed = unsafe { Guard::Marker.install(probe.start(), probe.len()) }.is_ok();
            // There are emulators of Linux that take any advice and do nothing. So a page is guarded
            // if the kernel cannot write there either.
            // SAFETY: if it can, there is a page of ours, larger than what it writes.
            let writable = unsafe { libc::uname(probe.start().as_ptr().cast()) } == 0;
            if installed && !writable { Guard::Marker } else { Guard::Protection }
        });
        *BEST
    }

    /// Makes every access to `len` bytes from `start` fault, from now on.
    ///
    /// # Safety
    ///
    /// The range consists of whole pages of a [`Mapping`] that nobody uses, now or later.
    pub(crate) unsafe fn install(self, start: NonNull<u8>, len: usize) -> io::Result<()> {
        let start = start.as_ptr().cast();
        let result = match self {
            // SAFETY: the caller gives up the range.
            Guard::Marker => unsafe { libc::madvise(start, len, MADV_GUARD_INSTALL) },
            // SAFETY: as above.
            Guard::Protection => unsafe { libc::mprotect(start, len, libc::PROT_NONE) },
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

/// Gives the memory behind `len` bytes from `start` back to the kernel; they read as zero afterwards.
/// Guards stay. Where the kernel refuses, nothing happens.
///
/// # Safety
///
/// The range consists of whole pages of a private anonymous mapping, and nobody needs what is there.
pub(crate) unsafe fn discard(start: NonNull<u8>, len: usize) {
    if len > 0 {
        // SAFETY: the caller gives up what is in the range.
        unsafe { libc::madvise(start.as_ptr().cast(), len, libc::MADV_DONTNEED) };
    }
}

/// Where the first byte that is not zero lies, counted from `start`: the lowest that was ever
/// written, in memory that was zero at first. `len` if there is none. Reads only resident pages, so
/// that it makes none resident.
///
/// # Safety
///
/// The range consists of whole pages of a readable mapping that nobody writes to meanwhile, except
/// above what is found.
pub(crate) unsafe fn first_written(start: NonNull<u8>, len: usize) -> usize {
    let page = page_size();
    let mut resident = vec![0_u8; len / page];
    // SAFETY: the vector has a byte for each page of the range.
    let result = unsafe { libc::mincore(start.as_ptr().cast(), len, resident.as_mut_ptr()) };
    if result != 0 {
        return 0;
    }
    for (index, _) in resident.iter().enumerate().filter(|(_, byte)| **byte & 1 == 1) {
        for offset in (index * page..(index + 1) * page).step_by(size_of::<usize>()) {
            // SAFETY: in range and aligned, since the range consists of whole pages.
            if unsafe { start.add(offset).cast::<usize>().read_volatile() } != 0 {
                return offset;
            }
        }
    }
    len
}
