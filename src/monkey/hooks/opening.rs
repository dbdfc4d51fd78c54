//! Opening. One end of a FIFO is opened when there is the other one: a thread waits for that. Whatever else
//! has a path is opened at once.

use crate::monkey::descriptors::forget;
use crate::monkey::elsewhere::elsewhere_or_signalled;
use crate::monkey::{errno, table};
use libc::{c_char, c_int, mode_t};
use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: the caller's.
    unsafe { openat(libc::AT_FDCWD, path, flags, mode) }
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn creat(path: *const c_char, mode: mode_t) -> c_int {
    // SAFETY: the caller's.
    unsafe { open(path, libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC, mode) }
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn openat(
    folder: c_int,
    path: *const c_char,
    flags: c_int,
    mode: mode_t,
) -> c_int {
    let waits = flags & (libc::O_NONBLOCK | libc::O_PATH) == 0
        && flags & libc::O_ACCMODE != libc::O_RDWR
        // SAFETY: the caller's.
        && unsafe { is_fifo(folder, path) };
    let opened = if waits {
        // SAFETY: the caller's.
        let path: CString = unsafe { CStr::from_ptr(path) }.into();
        let opened = elsewhere_or_signalled("open", move || {
            // SAFETY: a path that lives on.
            Opened(unsafe { table::openat64::original(folder, path.as_ptr(), flags, mode) })
        });
        match opened {
            Err(error) => return errno::fail(error),
            Ok(opened) => opened.keep(),
        }
    } else {
        // SAFETY: the caller's.
        unsafe { table::openat64::original(folder, path, flags, mode) }
    };
    // Somebody may have closed the number behind our back.
    forget(opened);
    opened
}

/// # Safety
///
/// A path, or null.
unsafe fn is_fifo(folder: c_int, path: *const c_char) -> bool {
    if path.is_null() {
        return false;
    }
    let before = errno::get();
    let mut status = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the caller's path, and room for the answer.
    let answer = unsafe { libc::fstatat(folder, path, status.as_mut_ptr(), 0) };
    errno::set(before);
    // SAFETY: it was answered.
    answer == 0 && unsafe { status.assume_init() }.st_mode & libc::S_IFMT == libc::S_IFIFO
}

/// A new descriptor, or -1. Closed if nobody takes it.
struct Opened(c_int);

impl Opened {
    fn keep(mut self) -> c_int {
        std::mem::replace(&mut self.0, -1)
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        if self.0 >= 0 {
            let before = errno::get();
            // SAFETY: nobody else has it.
            unsafe { table::close::original(self.0) };
            errno::set(before);
        }
    }
}
