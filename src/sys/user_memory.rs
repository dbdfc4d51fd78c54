//! Accesses memory at addresses from callers, which may be invalid.
//!
//! The kernel answers a call with a bad address by `EFAULT`. So do the hooks that look at such arguments
//! before the kernel does.
//!
//! A page is readable if `rt_sigprocmask` reads the new set from it, and only then complains about its
//! first argument; it changes nothing. That is one short system call per page. None is made for addresses
//! in the frames of the callers (the next [`FRAMES`] bytes of the stack) or in the program's constants and
//! statics, where most arguments are.

use std::hint::black_box;
use std::io::Error;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::sync::OnceLock;

const PAGE: usize = 4096;

/// Bytes above the current frame that are assumed to be stack, and so to be readable.
const FRAMES: usize = 16 * 1024;

/// The number of bytes that the kernel reads in one probe.
const WORD: usize = size_of::<u64>();

/// Whether `length` bytes from `place` are readable. Preserves errno.
pub(crate) fn is_readable<T>(place: *const T, length: usize) -> bool {
    let here = 0_u8;
    let frames = black_box(&raw const here).addr();
    let frames = frames..frames.saturating_add(FRAMES);
    let Some(last) = place.addr().checked_add(length.saturating_sub(1)) else { return false };
    let is_within = |range: &Range<usize>| range.contains(&place.addr()) && range.contains(&last);
    if is_within(&frames) || segments().iter().any(is_within) {
        return true;
    }
    length == 0 || (place.addr() / PAGE..=last / PAGE).all(is_page_readable)
}

#[cfg(target_pointer_width = "64")]
type Header = libc::Elf64_Phdr;
#[cfg(not(target_pointer_width = "64"))]
type Header = libc::Elf32_Phdr;

/// Room for the program's readable data segments. A program usually has four segments, one of them code.
const SEGMENTS: usize = 4;

/// Returns the ranges of the program's file that are mapped for good, readable and not code.
fn segments() -> &'static [Range<usize>; SEGMENTS] {
    static FOUND: OnceLock<[Range<usize>; SEGMENTS]> = OnceLock::new();
    FOUND.get_or_init(find_segments)
}

fn find_segments() -> [Range<usize>; SEGMENTS] {
    let mut found = [const { 0..0 }; SEGMENTS];
    // SAFETY: `getauxval` has no preconditions.
    let (table, count) =
        unsafe { (libc::getauxval(libc::AT_PHDR), libc::getauxval(libc::AT_PHNUM)) };
    if table == 0 {
        return found;
    }
    let headers = std::ptr::with_exposed_provenance::<Header>(table as usize);
    // SAFETY: the kernel states that `count` program headers are at this address. They stay mapped.
    let headers = unsafe { std::slice::from_raw_parts(headers, count as usize) };
    // The table contains the address that it was linked for.
    let Some(own) = headers.iter().find(|header| header.p_type == libc::PT_PHDR) else {
        return found;
    };
    let base = (table as usize).wrapping_sub(own.p_vaddr as usize);
    let is_data = |header: &&Header| {
        header.p_type == libc::PT_LOAD && header.p_flags & (libc::PF_R | libc::PF_X) == libc::PF_R
    };
    for (place, header) in found.iter_mut().zip(headers.iter().filter(is_data)) {
        let start = base.wrapping_add(header.p_vaddr as usize);
        *place = start..start.wrapping_add(header.p_memsz as usize);
    }
    found
}

#[cold]
fn is_page_readable(page: usize) -> bool {
    // Probe the last word: the first word of the first page is at address 0, which means that there is no
    // set.
    let address = page * PAGE + (PAGE - WORD);
    const NONE: libc::c_int = -1;
    // SAFETY: `__errno_location` has no preconditions.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: `errno` is the location of this thread's errno.
    let before = unsafe { *errno };
    let no_set = std::ptr::null_mut::<u64>();
    // SAFETY: the kernel checks the address that it reads, and rejects the unknown action, so nothing
    // changes.
    let result = unsafe { libc::syscall(libc::SYS_rt_sigprocmask, NONE, address, no_set, WORD) };
    // SAFETY: `errno` is the location of this thread's errno.
    unsafe {
        let is_readable = result == 0 || *errno != libc::EFAULT;
        *errno = before;
        is_readable
    }
}

/// Returns the value at `place`. `None` if it is not readable, or the address is null.
///
/// # Safety
///
/// If the memory is readable, it holds a `T`, and nothing changes it during the call.
pub(crate) unsafe fn read<T: Copy>(place: *const T) -> Option<T> {
    // SAFETY: `is_readable` has checked the memory; by this function's contract it holds a `T`.
    is_readable(place, size_of::<T>()).then(|| unsafe { place.read_unaligned() })
}

/// Writes `value` to `place`. `false` if that is not writable. Changes errno.
///
/// # Safety
///
/// If the memory is writable, the caller may overwrite it with a `T`.
pub(crate) unsafe fn write<T: Copy>(place: *mut T, value: T) -> bool {
    let value = MaybeUninit::new(value);
    let from = libc::iovec { iov_base: value.as_ptr().cast_mut().cast(), iov_len: size_of::<T>() };
    let to = libc::iovec { iov_base: place.cast(), iov_len: size_of::<T>() };
    // SAFETY: `from` describes `value`; the kernel checks the addresses in `to`.
    let written = unsafe { libc::process_vm_writev(libc::getpid(), &from, 1, &to, 1, 0) };
    if written >= 0 {
        return written as usize == size_of::<T>();
    }
    let is_forbidden = matches!(
        Error::last_os_error().raw_os_error(),
        Some(libc::ENOSYS | libc::EPERM | libc::EACCES)
    );
    if is_forbidden {
        // The kernel does not allow this check here: assume that the address is valid.
        // SAFETY: this function's contract, with the address assumed to be writable.
        unsafe { place.cast::<MaybeUninit<T>>().write_unaligned(value) };
    }
    is_forbidden
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ptr;

    /// Maps a page with the given protection.
    fn page(protection: libc::c_int) -> *mut u64 {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory.
        unsafe { libc::mmap(ptr::null_mut(), PAGE, protection, flags, -1, 0) }.cast()
    }

    #[test]
    fn bad_addresses_are_distinguished_from_good_ones() {
        let (none, some) = (page(libc::PROT_NONE), page(libc::PROT_READ));
        static CONSTANT: u64 = 3;
        let data = segments().iter().filter(|range| !range.is_empty());
        assert!(data.clone().any(|range| range.contains(&(&raw const CONSTANT).addr())));
        // The pages that are assumed to be readable are readable.
        let mut pages = data.flat_map(|range| range.start / PAGE..=(range.end - 1) / PAGE);
        assert!(pages.all(is_page_readable));
        let local = 7_u64;
        assert!(is_readable(&raw const local, 8) && is_readable(some, PAGE));
        assert!(!is_readable(none, 1) && !is_readable(ptr::null::<u64>(), 8));
        assert!(!is_readable(ptr::without_provenance::<u64>(16), 8));
        assert!(!is_readable(ptr::without_provenance::<u64>(usize::MAX), 8));
        // SAFETY: every pointer is to a `u64` that nothing else changes, or to no accessible memory.
        unsafe {
            assert_eq!((read(&raw const local), read(some), read(none)), (Some(7), Some(0), None));
            let mut place = 0;
            assert!(write(&raw mut place, 5_u64) && !write(some, 5) && !write(none, 5));
            assert_eq!(place, 5);
        }
    }
}
