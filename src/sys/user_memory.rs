//! Memory that a caller names by an address, which may be wrong: the kernel answers such a call with
//! `EFAULT`, and so do the functions that look at the arguments before the kernel does.
//!
//! A word is readable if `rt_sigprocmask` gets as far as complaining of its first argument: it reads the new
//! set before that, and then changes nothing. That is one short system call per page, and none for what lies
//! in the frames of the callers, where arguments are as a rule: the next [`FRAMES`] bytes of the stack.

use std::hint::black_box;
use std::io::Error;
use std::mem::MaybeUninit;

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
    if frames.contains(&place.addr()) && frames.contains(&last) {
        return true;
    }
    length == 0 || (place.addr() / PAGE..=last / PAGE).all(is_page_readable)
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
