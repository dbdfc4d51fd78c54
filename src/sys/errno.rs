//! Reads and sets this thread's `errno`.

use libc::c_int;

pub(crate) fn get() -> c_int {
    // SAFETY: the location of the calling thread's errno, which is always valid.
    unsafe { *libc::__errno_location() }
}

pub(crate) fn set(errno: c_int) {
    // SAFETY: the location of the calling thread's errno, which is always valid.
    unsafe { *libc::__errno_location() = errno };
}
