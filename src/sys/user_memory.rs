//! Memory that a caller names by an address, which may be wrong: the kernel answers such a call with
//! `EFAULT`, and so do the functions that look at the arguments before the kernel does.
//!
//! A word is readable if `rt_sigprocmask` gets as far as complaining of its first argument: it reads the new
//! set before that, and then changes nothing. That is one short system call per page, and none for what lies
//! in the frames of the callers, the next [`FRAMES`] bytes of the stack, or in the program's constants and
//! statics: arguments are there as a rule.

use std::hint::black_box;
use std::io::Error;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::sync::OnceLock;

const PAGE: usize = 4096;

/// Bytes above the current frame that are assumed to be the stack, and so to be readable.
const FRAMES: usize = 16 * 1024;

/// What the kernel reads in one probe.
const WORD: usize = size_of::<u64>();

/// Whether all of `length` bytes can be read. Errno stays as it is.
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

/// Room for the segments of the program: as a rule it has four, of which one has code, and is not read.
const SEGMENTS: usize = 4;

/// What the program has mapped of its own file for good, and can be read.
fn segments() -> &'static [Range<usize>; SEGMENTS] {
    static FOUND: OnceLock<[Range<usize>; SEGMENTS]> = OnceLock::new();
    FOUND.get_or_init(find_segments)
}

fn find_segments() -> [Range<usize>; SEGMENTS] {
    let mut found = [const { 0..0 }; SEGMENTS];
    // SAFETY: no preconditions.
    let (table, count) =
        unsafe { (libc::getauxval(libc::AT_PHDR), libc::getauxval(libc::AT_PHNUM)) };
    if table == 0 {
        return found;
    }
    let headers = std::ptr::with_exposed_provenance::<Header>(table as usize);
    // SAFETY: the kernel says that the program's headers are there, as many, which stay.
    let headers = unsafe { std::slice::from_raw_parts(headers, count as usize) };
    // The table says itself where it was meant to be.
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
    // The last word: the first one of the first page is at address 0, where there is no set at all.
    let address = page * PAGE + (PAGE - WORD);
    const NONE: libc::c_int = -1;
    // SAFETY: the location of this thread's own errno.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let before = unsafe { *errno };
    let no_set = std::ptr::null_mut::<u64>();
    // SAFETY: the kernel checks the address that it reads; no action has this number, so nothing is changed.
    let result = unsafe { libc::syscall(libc::SYS_rt_sigprocmask, NONE, address, no_set, WORD) };
    // SAFETY: as above.
    unsafe {
        let is_readable = result == 0 || *errno != libc::EFAULT;
        *errno = before;
        is_readable
    }
}

/// The value at `place`. `None` if it cannot be read, or the address is null.
///
/// # Safety
///
/// If there is memory, it holds a `T`, which nobody changes meanwhile.
pub(crate) unsafe fn read<T: Copy>(place: *const T) -> Option<T> {
    // SAFETY: it can be read; the caller vouches for what it is.
    is_readable(place, size_of::<T>()).then(|| unsafe { place.read_unaligned() })
}

/// Writes `value` to `place`. `false` if that cannot be written to. Errno is changed.
///
/// # Safety
///
/// If there is memory, the caller may overwrite it with a `T`.
pub(crate) unsafe fn write<T: Copy>(place: *mut T, value: T) -> bool {
    let value = MaybeUninit::new(value);
    let from = libc::iovec { iov_base: value.as_ptr().cast_mut().cast(), iov_len: size_of::<T>() };
    let to = libc::iovec { iov_base: place.cast(), iov_len: size_of::<T>() };
    // SAFETY: a value of this size; the kernel checks where it writes to.
    let written = unsafe { libc::process_vm_writev(libc::getpid(), &from, 1, &to, 1, 0) };
    if written >= 0 {
        return written as usize == size_of::<T>();
    }
    let is_forbidden = matches!(
        Error::last_os_error().raw_os_error(),
        Some(libc::ENOSYS | libc::EPERM | libc::EACCES)
    );
    if is_forbidden {
        // Nothing can be asked here: the address is taken for a good one.
        // SAFETY: the caller's.
        unsafe { place.cast::<MaybeUninit<T>>().write_unaligned(value) };
    }
    is_forbidden
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ptr;

    /// A page that can be used in the way that is said.
    fn page(protection: libc::c_int) -> *mut u64 {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping.
        unsafe { libc::mmap(ptr::null_mut(), PAGE, protection, flags, -1, 0) }.cast()
    }

    #[test]
    fn bad_addresses_are_told_from_good_ones() {
        let (none, some) = (page(libc::PROT_NONE), page(libc::PROT_READ));
        static CONSTANT: u64 = 3;
        let data = segments().iter().filter(|range| !range.is_empty());
        assert!(data.clone().any(|range| range.contains(&(&raw const CONSTANT).addr())));
        // What is taken for readable is so.
        let mut pages = data.flat_map(|range| range.start / PAGE..=(range.end - 1) / PAGE);
        assert!(pages.all(is_page_readable));
        let local = 7_u64;
        assert!(is_readable(&raw const local, 8) && is_readable(some, PAGE));
        assert!(!is_readable(none, 1) && !is_readable(ptr::null::<u64>(), 8));
        assert!(!is_readable(ptr::without_provenance::<u64>(16), 8));
        assert!(!is_readable(ptr::without_provenance::<u64>(usize::MAX), 8));
        // SAFETY: numbers, or nothing.
        unsafe {
            assert_eq!((read(&raw const local), read(some), read(none)), (Some(7), Some(0), None));
            let mut place = 0;
            assert!(write(&raw mut place, 5_u64) && !write(some, 5) && !write(none, 5));
            assert_eq!(place, 5);
        }
    }
}
