//! Standard output and standard error.
//!
//! A write to them never switches: `println!` holds a borrow of `std` meanwhile, which a sibling that prints
//! would find taken. A write that blocks the thread is counted.
//!
//! A pipe or a socket gets one non-blocking write of everything, which is the only call if there is room. A
//! descriptor that does not support this (a file, a terminal) gets a plain write. This code also runs in
//! signal handlers.

use super::parts::{self, Parts};
use super::transfers::is_unknown;
use crate::monkey::gate::Row;
use crate::monkey::{errno, originals};
use crate::sys::descriptor::{Kind, is_ready};
use libc::{c_int, c_uint, c_void, iovec, size_t, ssize_t};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

/// The state of the two descriptors.
///
/// [`PLAIN`] is set if the descriptor is a file or a terminal. The other bits count how often the number
/// was reused.
static KNOWN: [AtomicU32; 2] = [const { AtomicU32::new(0) }; 2];

const PLAIN: u32 = 1;

/// The state of a descriptor. `None` if it is neither of the two.
fn known(fd: c_int) -> Option<&'static AtomicU32> {
    match fd {
        libc::STDOUT_FILENO => Some(&KNOWN[0]),
        libc::STDERR_FILENO => Some(&KNOWN[1]),
        _ => None,
    }
}

/// Notes that a number now refers to another file, or to none.
///
/// Called after that change: what another thread has found out before it is then no longer recorded.
#[inline]
pub(super) fn forget(fd: c_int) {
    if let Some(known) = known(fd) {
        let _ = known.fetch_update(SeqCst, SeqCst, |now| Some((now & !PLAIN).wrapping_add(2)));
    }
}

/// Like [`forget`], for all numbers from `first` on.
pub(super) fn forget_from(first: c_uint) {
    for fd in [libc::STDOUT_FILENO, libc::STDERR_FILENO] {
        if first <= fd as c_uint {
            forget(fd);
        }
    }
}

/// The rest of a write after an attempt.
enum Rest {
    Nothing,
    /// Everything after this many bytes, by a call that may block the thread.
    From(usize),
}

/// Writes to standard output or standard error without switching.
///
/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(super) unsafe fn write(fd: c_int, buffer: *const c_void, length: size_t) -> ssize_t {
    let part = iovec { iov_base: buffer.cast_mut(), iov_len: length };
    // SAFETY: contract of a hook: `part` is the caller's buffer.
    match unsafe { attempt(&originals::write::ROW, fd, &part, 1, Some(length)) } {
        (done, Rest::Nothing) => done,
        (_, Rest::From(done)) => {
            // SAFETY: contract of a hook: the rest of the caller's buffer.
            let rest = unsafe { originals::write::call(fd, buffer.byte_add(done), length - done) };
            total_written(done, rest)
        }
    }
}

/// Like [`write`], but from several buffers.
///
/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(super) unsafe fn writev(fd: c_int, parts: *const iovec, count: c_int) -> ssize_t {
    // SAFETY: contract of a hook: `attempt` has the same contract.
    match unsafe { attempt(&originals::writev::ROW, fd, parts, count, None) } {
        (done, Rest::Nothing) => done,
        // SAFETY: contract of a hook: libc's `writev` gets the caller's pointers.
        (_, Rest::From(0)) => unsafe { originals::writev::call(fd, parts, count) },
        (_, Rest::From(done)) => {
            // SAFETY: contract of a hook: the kernel has just read the `count` parts.
            let mut left = unsafe { Parts::of(parts, count as usize) };
            left.advance(done);
            let Some((parts, count)) = left.rest() else { return done as ssize_t };
            // SAFETY: contract of a hook: the rest of the caller's parts.
            total_written(done, unsafe { originals::writev::call(fd, parts, count) })
        }
    }
}

/// The result of a write in two steps: bytes that were written count more than an error.
fn total_written(done: usize, rest: ssize_t) -> ssize_t {
    if done > 0 { done as ssize_t + rest.max(0) } else { rest }
}

/// Writes what can be written at once, and counts if the rest is going to block the thread.
///
/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`), as for libc's `writev`.
unsafe fn attempt(
    row: &Row,
    fd: c_int,
    parts: *const iovec,
    count: c_int,
    length: Option<usize>,
) -> (ssize_t, Rest) {
    let Some((known, before)) =
        known(fd).map(|known| (known, known.load(SeqCst))).filter(|(_, now)| now & PLAIN == 0)
    else {
        return (0, Rest::From(0));
    };
    // Does nothing if the number was reused meanwhile.
    let note_plain = || {
        let _ = known.compare_exchange(before, before | PLAIN, SeqCst, SeqCst);
    };
    // SAFETY: contract of a hook: libc's `pwritev2` gets the caller's pointers. The position -1 means the
    // descriptor's own.
    let written = unsafe { originals::pwritev2::call(fd, parts, count, -1, libc::RWF_NOWAIT) };
    if written >= 0 {
        // SAFETY: contract of a hook: the kernel has just read the `count` parts.
        let length = length.or_else(|| unsafe { parts::length(parts, count) }).unwrap_or(0);
        if written as usize >= length || is_nonblocking(fd) {
            return (written, Rest::Nothing);
        }
    } else {
        match errno::get() {
            libc::EAGAIN if is_nonblocking(fd) => {
                return (errno::fail_long(libc::EAGAIN), Rest::Nothing);
            }
            libc::EAGAIN => {}
            error if is_unknown(error) => {
                match Kind::of(fd) {
                    // A pipe that was opened by its path, like a FIFO.
                    Some(Kind::Pipe) if is_nonblocking(fd) || is_ready(fd, false) => {}
                    Some(Kind::Pipe) => row.count_blocked(),
                    _ => note_plain(),
                }
                return (0, Rest::From(0));
            }
            _ => return (-1, Rest::Nothing),
        }
    }
    if Kind::of(fd) == Some(Kind::File) {
        note_plain();
    } else {
        row.count_blocked();
    }
    (written, Rest::From(written.max(0) as usize))
}

fn is_nonblocking(fd: c_int) -> bool {
    // SAFETY: no pointer is passed.
    unsafe { originals::fcntl::call(fd, libc::F_GETFL, 0) & libc::O_NONBLOCK != 0 }
}
