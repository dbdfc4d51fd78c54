//! How calls of C fail: -1, and a number that belongs to the thread.
//!
//! It is set last, when nobody else can run before the caller sees it.

use libc::c_int;

/// The number of the last failure.
pub(super) fn get() -> c_int {
    // SAFETY: this thread's own place, which is always there.
    unsafe { *libc::__errno_location() }
}

pub(super) fn set(errno: c_int) {
    // SAFETY: this thread's own place, which is always there.
    unsafe { *libc::__errno_location() = errno };
}

/// The result of a call of C that fails.
#[cold]
pub(super) fn fail(errno: c_int) -> c_int {
    set(errno);
    -1
}

/// As [`fail`], of a call that counts bytes.
#[cold]
pub(super) fn fail_long(errno: c_int) -> isize {
    set(errno);
    -1
}
