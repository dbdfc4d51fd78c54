//! Standard output and standard error. A write there is never waited for: `println!` holds a borrow of std's
//! meanwhile, and others that print would find it. What holds up the thread is counted.
//!
//! A pipe or a socket is asked to take all at once, which is the one call that is made if there is room. What
//! cannot be asked so (a file, a terminal) is written to as ever. A handler of signals may be in here.

use super::parts::{self, Parts};
use super::streams::is_unknown;
use crate::monkey::gate::Row;
use crate::monkey::{errno, table};
use crate::sys::descriptor::Kind;
use libc::{c_int, c_void, iovec, size_t, ssize_t};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Whether a number is a file or a terminal, as far as is known.
static IS_PLAIN: [AtomicBool; 2] = [const { AtomicBool::new(false) }; 2];

fn is_plain(fd: c_int) -> Option<&'static AtomicBool> {
    match fd {
        libc::STDOUT_FILENO => Some(&IS_PLAIN[0]),
        libc::STDERR_FILENO => Some(&IS_PLAIN[1]),
        _ => None,
    }
}

/// The number becomes that of something else.
#[inline]
pub(super) fn forget(fd: c_int) {
    if let Some(is_plain) = is_plain(fd) {
        is_plain.store(false, Relaxed);
    }
}

/// What is left to do after an attempt.
enum Left {
    Nothing,
    /// All behind this many bytes, by a call that may hold up the thread.
    From(usize),
}

/// # Safety
///
/// As libc's.
pub(super) unsafe fn write(fd: c_int, buffer: *const c_void, length: size_t) -> ssize_t {
    let part = iovec { iov_base: buffer.cast_mut(), iov_len: length };
    // SAFETY: the caller's buffer.
    match unsafe { attempt(&table::write::ROW, fd, &part, 1, Some(length)) } {
        (done, Left::Nothing) => done,
        (_, Left::From(done)) => {
            // SAFETY: the caller's: what is left of it.
            let rest = unsafe { table::write::original(fd, buffer.byte_add(done), length - done) };
            together(done, rest)
        }
    }
}

/// # Safety
///
/// As libc's.
pub(super) unsafe fn writev(fd: c_int, parts: *const iovec, count: c_int) -> ssize_t {
    // SAFETY: the caller's.
    match unsafe { attempt(&table::writev::ROW, fd, parts, count, None) } {
        (done, Left::Nothing) => done,
        // SAFETY: the caller's.
        (_, Left::From(0)) => unsafe { table::writev::original(fd, parts, count) },
        (_, Left::From(done)) => {
            // SAFETY: the caller's; the kernel has read them.
            let mut left = unsafe { Parts::of(parts, count as usize) };
            left.advance(done);
            let Some((parts, count)) = left.rest() else { return done as ssize_t };
            // SAFETY: what is left of the caller's.
            together(done, unsafe { table::writev::original(fd, parts, count) })
        }
    }
}

/// What counts is what was written, if anything was.
fn together(done: usize, rest: ssize_t) -> ssize_t {
    if done > 0 { done as ssize_t + rest.max(0) } else { rest }
}

/// Writes what is taken at once, and counts what is going to hold up the thread.
///
/// # Safety
///
/// As libc's `writev`.
unsafe fn attempt(
    row: &Row,
    fd: c_int,
    parts: *const iovec,
    count: c_int,
    length: Option<usize>,
) -> (ssize_t, Left) {
    let Some(plain) = is_plain(fd).filter(|plain| !plain.load(Relaxed)) else {
        return (0, Left::From(0));
    };
    // SAFETY: the caller's. Without a position: the descriptor's own.
    let written = unsafe { table::pwritev2::original(fd, parts, count, -1, libc::RWF_NOWAIT) };
    if written >= 0 {
        // SAFETY: the caller's; the kernel has read them.
        let length = length.or_else(|| unsafe { parts::length(parts, count) }).unwrap_or(0);
        if written as usize >= length || is_nonblocking(fd) {
            return (written, Left::Nothing);
        }
    } else {
        match errno::get() {
            libc::EAGAIN if is_nonblocking(fd) => {
                return (errno::fail_long(libc::EAGAIN), Left::Nothing);
            }
            libc::EAGAIN => {}
            error if is_unknown(error) => {
                plain.store(true, Relaxed);
                return (0, Left::From(0));
            }
            _ => return (-1, Left::Nothing),
        }
    }
    if Kind::of(fd) == Some(Kind::File) {
        plain.store(true, Relaxed);
    } else {
        row.count_blocked();
    }
    (written, Left::From(written.max(0) as usize))
}

fn is_nonblocking(fd: c_int) -> bool {
    // SAFETY: no memory is involved.
    unsafe { table::fcntl::original(fd, libc::F_GETFL, 0) & libc::O_NONBLOCK != 0 }
}
