//! Reads of any descriptor.
//!
//! A socket is read as in `receiving.rs`, a file as in `files.rs`. A pipe is read by calls that do not block
//! (`RWF_NOWAIT`), where the kernel has these; anything else that can be waited for is polled first.

use super::files;
use super::parts::{Parts, is_length};
use super::receiving::{receive, receive_parts};
use super::terminals::Timing;
use super::transfers::{is_unknown, may_wait, patched};
use crate::hub::{Direction, Interrupts};
use crate::monkey::blocking_pool::Lent;
use crate::monkey::dedicated::aside_or_interrupted;
use crate::monkey::known::{Known, Nature};
use crate::monkey::{errno, originals};
use crate::sys::descriptor::{Kind, is_ready};
use libc::{c_int, c_void, iovec, size_t, ssize_t};
use std::ptr;

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn read(fd: c_int, buffer: *mut c_void, length: size_t) -> ssize_t {
    let Some(known) = patched(fd).filter(|_| is_length(length)) else {
        // SAFETY: the caller's.
        return unsafe { originals::read::call(fd, buffer, length) };
    };
    // A read of nothing never waits, as a receive of nothing does.
    if length == 0 {
        // SAFETY: the caller's.
        return unsafe { read_nothing(&known, fd) };
    }
    if known.kind() == Kind::File {
        // SAFETY: the caller's.
        return unsafe { files::read(fd, buffer, length) };
    }
    let done = if known.kind().is_socket() {
        // SAFETY: the caller's.
        unsafe { receive(&known, buffer, length, 0) }
    } else {
        let part = iovec { iov_base: buffer, iov_len: length };
        // SAFETY: the caller's.
        unsafe { read_parts(&known, &part, 1, 0) }
    };
    // SAFETY: the caller's.
    done.unwrap_or_else(|| unsafe { originals::read::call_blocking(fd, buffer, length) })
}

/// A socket, a pipe, a terminal and what has records of a known length return at once. Others, as inotify,
/// say that the next record does not fit, when there is one.
///
/// # Safety
///
/// As libc's `read`.
#[cold]
unsafe fn read_nothing(known: &Known, fd: c_int) -> ssize_t {
    // SAFETY: no bytes.
    let call = |fd| unsafe { originals::read::call(fd, ptr::null_mut(), 0) };
    let may_wait = known.kind() == Kind::Other && known.nature() == Nature::Unknown;
    if !may_wait || known.is_nonblocking() {
        return call(fd);
    }
    let outcome = known.attempts(Direction::Read, "read").make(|fd| match is_ready(fd, true) {
        true => call(fd),
        false if is_unreadable(known, fd) => call(fd),
        false => errno::fail_long(libc::EAGAIN),
    });
    outcome.or_zero().unwrap_or_else(|| call(fd))
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn readv(fd: c_int, parts: *const iovec, count: c_int) -> ssize_t {
    // SAFETY: the caller's.
    unsafe { readv_with(fd, parts, count, 0) }
}

/// `preadv2` without a position.
///
/// # Safety
///
/// As libc's `preadv2`.
pub(super) unsafe fn readv_with(
    fd: c_int,
    parts: *const iovec,
    count: c_int,
    flags: c_int,
) -> ssize_t {
    // SAFETY: the caller's.
    let original = || unsafe {
        match flags {
            0 => originals::readv::call(fd, parts, count),
            _ => originals::preadv64v2::call(fd, parts, count, files::HERE, flags),
        }
    };
    // SAFETY: the caller's.
    let Some(known) = patched(fd).filter(|known| unsafe { may_wait(known, parts, count, flags) })
    else {
        return original();
    };
    if known.kind() == Kind::File {
        // SAFETY: the caller's.
        return unsafe { files::read_at(fd, parts, count, files::HERE, flags) };
    }
    let done = if known.kind().is_socket() && flags == 0 {
        // SAFETY: the caller's.
        unsafe { receive_parts(&known, parts, count) }
    } else {
        // SAFETY: the caller's.
        unsafe { read_parts(&known, parts, count, flags) }
    };
    done.unwrap_or_else(|| {
        originals::readv::ROW.count_blocked();
        original()
    })
}

/// # Safety
///
/// As libc's `readv`.
unsafe fn read_parts(
    known: &Known,
    parts: *const iovec,
    count: c_int,
    flags: c_int,
) -> Option<ssize_t> {
    let _under_way = known.yield_if_due();
    // SAFETY: the caller's.
    let fails = || unsafe { is_too_short(known, parts, count) };
    let is_at_once = known.kind() == Kind::Other
        && known.must_wait(Direction::Read)
        && (fails() || timing(known, known.number()?) != Timing::None);
    let mut attempts = known.attempts(Direction::Read, "read").at_once(is_at_once);
    // SAFETY: the caller's.
    attempts.make(|fd| unsafe { read_now(known, fd, parts, count, flags) }).or_zero()
}

/// How reads of it end beside by bytes.
fn timing(known: &Known, fd: c_int) -> Timing {
    match known.kind() == Kind::Other && known.nature() == Nature::Terminal {
        true => Timing::of(fd),
        false => Timing::None,
    }
}

/// Reads from a FIFO that is not ready. It is not even if nobody has opened its other end yet, of which a
/// read tells: asked by a second opening, which does not block.
///
/// # Safety
///
/// As libc's `readv`.
unsafe fn read_fifo(fd: c_int, parts: *const iovec, count: c_int) -> ssize_t {
    let path = format!("/proc/self/fd/{fd}\0");
    let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_CLOEXEC;
    // SAFETY: a path that ends with a zero.
    let again = unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags) };
    if again < 0 {
        return errno::fail_long(libc::EAGAIN);
    }
    // SAFETY: the caller's.
    let got = unsafe { originals::readv::call(again as c_int, parts, count) };
    let number = errno::get();
    // SAFETY: opened above.
    unsafe { originals::close::call(again as c_int) };
    errno::set(number);
    got
}

/// Whether it has records that are longer than these buffers, so that a read of it fails at once.
///
/// # Safety
///
/// As many parts.
unsafe fn is_too_short(known: &Known, parts: *const iovec, count: c_int) -> bool {
    match known.nature() {
        // SAFETY: the caller's.
        Nature::Records(least) => unsafe { Parts::of(parts, count as usize) }.length() < least,
        // SAFETY: the caller's.
        Nature::EventFd => unsafe { Parts::of(parts, count as usize) }.length() < size_of::<u64>(),
        _ => false,
    }
}

/// Reads what there is.
///
/// # Safety
///
/// As libc's `preadv2`.
unsafe fn read_now(
    known: &Known,
    fd: c_int,
    parts: *const iovec,
    count: c_int,
    flags: c_int,
) -> ssize_t {
    let call = |flags| {
        // SAFETY: the caller's. Without a position: the descriptor's own.
        unsafe { originals::preadv2::call(fd, parts, count, -1, flags) }
    };
    let got = call(flags | libc::RWF_NOWAIT);
    if got >= 0 || !is_unknown(errno::get()) {
        return got;
    }
    // SAFETY: the caller's.
    let fails_at_once = || unsafe { is_too_short(known, parts, count) };
    let timing = timing(known, fd);
    if timing == Timing::ByClock && !known.is_nonblocking() {
        // SAFETY: the caller's, who is suspended until the call is over.
        let lent = unsafe { Lent::new(parts) };
        // SAFETY: the caller's.
        let read = move || unsafe { originals::readv::call(fd, lent.get(), count) };
        return aside_or_interrupted("read", Interrupts::Tell, read).unwrap_or_else(|| {
            originals::read::ROW.count_blocked();
            read()
        });
    }
    let is_answered = known.is_ready(Direction::Read) || timing == Timing::AtOnce;
    if known.is_nonblocking() || is_answered || fails_at_once() {
        return match flags {
            // SAFETY: the caller's.
            0 => unsafe { originals::readv::call(fd, parts, count) },
            _ => call(flags),
        };
    }
    if known.kind() == Kind::Pipe {
        // SAFETY: the caller's.
        return unsafe { read_fifo(fd, parts, count) };
    }
    errno::fail_long(libc::EAGAIN)
}

/// Whether a descriptor cannot be read at all, as an epoll instance: a read says so at once.
#[cold]
pub(super) fn is_unreadable(known: &Known, fd: c_int) -> bool {
    if known.kind() != Kind::Other {
        return known.kind().is_socket() && known.is_listening();
    }
    // SAFETY: no parts.
    let result = unsafe { originals::preadv2::call(fd, ptr::null(), 0, -1, libc::RWF_NOWAIT) };
    result < 0 && errno::get() == libc::EINVAL
}
