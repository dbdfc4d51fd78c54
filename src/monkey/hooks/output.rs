//! Standard output and standard error. A write there is never waited for: `println!` holds a borrow of std's
//! meanwhile, and others that print would find it. What holds up the thread is counted.
//!
//! A pipe or a socket is asked to take all at once, which is the one call that is made if there is room. What
//! cannot be asked so (a file, a terminal) is written to as ever. A handler of signals may be in here.

use super::parts::{self, Parts};
use super::transfers::is_unknown;
use crate::monkey::gate::Row;
use crate::monkey::{errno, originals};
use crate::sys::descriptor::{Kind, is_ready};
use libc::{c_int, c_uint, c_void, iovec, size_t, ssize_t};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

/// What is known of the two numbers: [`PLAIN`] if they are a file or a terminal; the other bits count how
/// often they became something else.
static KNOWN: [AtomicU32; 2] = [const { AtomicU32::new(0) }; 2];

const PLAIN: u32 = 1;

fn known(fd: c_int) -> Option<&'static AtomicU32> {
    match fd {
        libc::STDOUT_FILENO => Some(&KNOWN[0]),
        libc::STDERR_FILENO => Some(&KNOWN[1]),
        _ => None,
    }
}

/// The number has become that of something else, or of nothing. To be called after that: what another thread
/// has found out before is not noted any more then.
#[inline]
pub(super) fn forget(fd: c_int) {
    if let Some(known) = known(fd) {
        let _ = known.fetch_update(SeqCst, SeqCst, |now| Some((now & !PLAIN).wrapping_add(2)));
    }
}

/// So have all numbers from `first` on, or some of them.
pub(super) fn forget_from(first: c_uint) {
    for fd in [libc::STDOUT_FILENO, libc::STDERR_FILENO] {
        if first <= fd as c_uint {
            forget(fd);
        }
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
    match unsafe { attempt(&originals::write::ROW, fd, &part, 1, Some(length)) } {
        (done, Left::Nothing) => done,
        (_, Left::From(done)) => {
            // SAFETY: the caller's: what is left of it.
            let rest = unsafe { originals::write::call(fd, buffer.byte_add(done), length - done) };
            together(done, rest)
        }
    }
}

/// # Safety
///
/// As libc's.
pub(super) unsafe fn writev(fd: c_int, parts: *const iovec, count: c_int) -> ssize_t {
    // SAFETY: the caller's.
    match unsafe { attempt(&originals::writev::ROW, fd, parts, count, None) } {
        (done, Left::Nothing) => done,
        // SAFETY: the caller's.
        (_, Left::From(0)) => unsafe { originals::writev::call(fd, parts, count) },
        (_, Left::From(done)) => {
            // SAFETY: the caller's; the kernel has read them.
            let mut left = unsafe { Parts::of(parts, count as usize) };
            left.advance(done);
            let Some((parts, count)) = left.rest() else { return done as ssize_t };
            // SAFETY: what is left of the caller's.
            together(done, unsafe { originals::writev::call(fd, parts, count) })
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
    let Some((known, before)) =
        known(fd).map(|known| (known, known.load(SeqCst))).filter(|(_, now)| now & PLAIN == 0)
    else {
        return (0, Left::From(0));
    };
    // It fails if the number has become that of something else meanwhile.
    let note_plain = || {
        let _ = known.compare_exchange(before, before | PLAIN, SeqCst, SeqCst);
    };
    // SAFETY: the caller's. Without a position: the descriptor's own.
    let written = unsafe { originals::pwritev2::call(fd, parts, count, -1, libc::RWF_NOWAIT) };
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
                match Kind::of(fd) {
                    // One that was opened by its name.
                    Some(Kind::Pipe) if is_nonblocking(fd) || is_ready(fd, false) => {}
                    Some(Kind::Pipe) => row.count_blocked(),
                    _ => note_plain(),
                }
                return (0, Left::From(0));
            }
            _ => return (-1, Left::Nothing),
        }
    }
    if Kind::of(fd) == Some(Kind::File) {
        note_plain();
    } else {
        row.count_blocked();
    }
    (written, Left::From(written.max(0) as usize))
}

fn is_nonblocking(fd: c_int) -> bool {
    // SAFETY: no memory is involved.
    unsafe { originals::fcntl::call(fd, libc::F_GETFL, 0) & libc::O_NONBLOCK != 0 }
}
