//! The number of the last failure of a call of C, which belongs to the thread.

use libc::c_int;

pub(crate) fn get() -> c_int {
    // SAFETY: this thread's own place, which is always there.
    unsafe { *libc::__errno_location() }
}

pub(crate) fn set(errno: c_int) {
    // SAFETY: this thread's own place, which is always there.
    unsafe { *libc::__errno_location() = errno };
}
