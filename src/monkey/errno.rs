//! How C calls fail: they return -1 and set errno, which belongs to the thread.
//!
//! A hook sets errno last: no other coroutine can run before the caller reads it. A call that succeeds leaves
//! errno unchanged, even if it has waited: `hub/nounwind.rs` restores it when a coroutine resumes, and the
//! errno of a call that another thread made is copied only if that call has set it.

pub(super) use crate::sys::errno::{get, set};
use libc::c_int;

/// Sets errno, and returns -1.
#[cold]
pub(super) fn fail(errno: c_int) -> c_int {
    set(errno);
    -1
}

/// Sets errno, and returns -1 as the result of a call that returns a number of bytes.
#[cold]
pub(super) fn fail_long(errno: c_int) -> isize {
    set(errno);
    -1
}
