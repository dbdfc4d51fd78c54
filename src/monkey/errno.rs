//! How calls of C fail: -1, and a number that belongs to the thread.
//!
//! It is set last, when nobody else can run before the caller sees it. A call that succeeds leaves it as it
//! was, also one that has waited: `hub/nounwind.rs` gives it back to a coroutine that goes on, and what
//! another thread has done in its stead counts only if it has set it.

pub(super) use crate::sys::errno::{get, set};
use libc::c_int;

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
