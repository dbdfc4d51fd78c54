//! Memory mappings: reserving, guarding, discarding, and finding what was written.

use std::io;
use std::ptr::{self, NonNull};
use std::sync::LazyLock;

/// `MADV_GUARD_INSTALL` (Linux 6.13): makes pages of a mapping fault without splitting the mapping.
const MADV_GUARD_INSTALL: libc::c_int = 102;

/// Returns the size of a page in bytes.
pub(crate) fn page_size() -> usize {
    static PAGE: LazyLock<usize> = LazyLock::new(|| {
        // SAFETY: `sysconf` has no preconditions.
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
    /// Reserves `len` bytes of readable, writable, zeroed memory. `len` is a multiple of the page size.
    ///
    /// The mapping never uses huge pages, where a single touch would take 2 MiB.
    pub(crate) fn reserve(len: usize) -> io::Result<Self> {
        debug_assert_eq!(len % page_size(), 0);
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK;
        // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory.
        let start = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the range was just mapped. A kernel without huge pages refuses, which has the same effect.
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
        // SAFETY: this is the whole of the mapping that `reserve` has made. The owner of this value drops
        // it only when nothing points into the mapping any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// The way to make guard pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guard {
    /// By `madvise(MADV_GUARD_INSTALL)`, which does not split the mapping.
    Marker,
    /// By `mprotect(PROT_NONE)`, which splits the mapping: each guard takes two of the `vm.max_map_count`
    /// mappings that a process may have.
    Protection,
}

impl Guard {
    /// Returns the better kind that this kernel supports.
    ///
    /// `--cfg switchgrass_mprotect_guards` forces [`Guard::Protection`].
    pub(crate) fn best() -> Self {
        static BEST: LazyLock<Guard> = LazyLock::new(|| {
            if cfg!(switchgrass_mprotect_guards) {
                return Guard::Protection;
            }
            let Ok(probe) = Mapping::reserve(page_size()) else {
                return Guard::Protection;
            };
            // SAFETY: the range is the whole page of `probe`, which nothing else uses.
            let installed = unsafe { Guard::Marker.install(probe.start(), probe.len()) }.is_ok();
            // Emulators of Linux accept any advice and ignore it. So check that the kernel cannot write to
            // the page.
            // SAFETY: if it can, the page belongs to `probe` and has room for a `utsname`.
            let writable = unsafe { libc::uname(probe.start().as_ptr().cast()) } == 0;
            if installed && !writable { Guard::Marker } else { Guard::Protection }
        });
        *BEST
    }

    /// Makes every access to `len` bytes from `start` fault from now on.
    ///
    /// # Safety
    ///
    /// The range consists of whole pages of a [`Mapping`], and nothing uses it, now or later.
    pub(crate) unsafe fn install(self, start: NonNull<u8>, len: usize) -> io::Result<()> {
        let start = start.as_ptr().cast();
        let result = match self {
            // SAFETY: this function's contract: whole pages that nothing uses.
            Guard::Marker => unsafe { libc::madvise(start, len, MADV_GUARD_INSTALL) },
            // SAFETY: this function's contract: whole pages that nothing uses.
            Guard::Protection => unsafe { libc::mprotect(start, len, libc::PROT_NONE) },
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

/// Returns the memory of `len` bytes from `start` to the kernel. They read as zero afterwards.
///
/// Guards stay. Does nothing if the kernel refuses.
///
/// # Safety
///
/// The range consists of whole pages of a private anonymous mapping, and its content is not needed any more.
pub(crate) unsafe fn discard(start: NonNull<u8>, len: usize) {
    if len > 0 {
        // SAFETY: this function's contract: whole pages whose content is not needed.
        unsafe { libc::madvise(start.as_ptr().cast(), len, libc::MADV_DONTNEED) };
    }
}

/// Returns the offset of the first word that is not zero, or `len` if all are zero.
///
/// In memory that was zero at first, that is the lowest word that a nonzero value was written to. Reads
/// only resident pages, so it makes no page resident. Returns 0 if the kernel cannot say which are.
///
/// # Safety
///
/// The range consists of whole pages of a readable mapping, and during the call nothing writes to it below
/// the returned offset.
pub(crate) unsafe fn first_written(start: NonNull<u8>, len: usize) -> usize {
    let page = page_size();
    let mut resident = vec![0_u8; len / page];
    // SAFETY: the range is mapped, and `resident` has one byte for each of its pages.
    let result = unsafe { libc::mincore(start.as_ptr().cast(), len, resident.as_mut_ptr()) };
    if result != 0 {
        return 0;
    }
    for (index, _) in resident.iter().enumerate().filter(|(_, byte)| **byte & 1 == 1) {
        for offset in (index * page..(index + 1) * page).step_by(size_of::<usize>()) {
            // SAFETY: this function's contract: in a readable mapping; aligned, since the range begins at a
            // page.
            if unsafe { start.add(offset).cast::<usize>().read_volatile() } != 0 {
                return offset;
            }
        }
    }
    len
}
