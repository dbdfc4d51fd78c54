//! Reads of any descriptor.
//!
//! A socket is read as in `receiving.rs`, and a file as in `files.rs`. A pipe is read by non-blocking calls
//! (`RWF_NOWAIT`), if the kernel supports them there. Any other descriptor that can be waited for is polled
//! first.

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
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn read(fd: c_int, buffer: *mut c_void, length: size_t) -> ssize_t {
    let Some(known) = patched(fd).filter(|_| is_length(length)) else {
        // SAFETY: contract of a hook: libc's `read` gets the caller's pointers.
        return unsafe { originals::read::call(fd, buffer, length) };
    };
    // An empty read never waits, like an empty receive.
    if length == 0 {
        // SAFETY: contract of a hook: `read_empty` has the same contract.
        return unsafe { read_empty(&known, fd) };
    }
    if known.kind() == Kind::File {
        // SAFETY: contract of a hook: `files::read` has the same contract.
        return unsafe { files::read(fd, buffer, length) };
    }
    let done = if known.kind().is_socket() {
        // SAFETY: contract of a hook: `receive` has the same contract.
        unsafe { receive(&known, buffer, length, 0) }
    } else {
        let part = iovec { iov_base: buffer, iov_len: length };
        // SAFETY: contract of a hook: `read_parts` has the same contract.
        unsafe { read_parts(&known, &part, 1, 0) }
    };
    // SAFETY: contract of a hook: libc's `read` gets the caller's pointers.
    done.unwrap_or_else(|| unsafe { originals::read::call_blocking(fd, buffer, length) })
}

/// Makes a read of no bytes.
///
/// A socket, a pipe, a terminal, and a descriptor with records of a known length return at once. Others,
/// like inotify, report that the next record does not fit, once there is one.
///
/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`), as for libc's `read`.
#[cold]
unsafe fn read_empty(known: &Known, fd: c_int) -> ssize_t {
    // SAFETY: the buffer has no bytes.
    let call = |fd| unsafe { originals::read::call(fd, ptr::null_mut(), 0) };
    let may_wait = known.kind() == Kind::Other && known.nature() == Nature::Unknown;
    if !may_wait || known.is_nonblocking() {
        return call(fd);
    }
    // Starts the call: a handler that ran during an earlier one does not interrupt it.
    let _under_way = known.yield_if_due();
    let outcome = known.attempts(Direction::Read, "read").make(|fd| match is_ready(fd, true) {
        true => call(fd),
        false if is_unreadable(known, fd) => call(fd),
        false => errno::fail_long(libc::EAGAIN),
    });
    outcome.or_zero().unwrap_or_else(|| call(fd))
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn readv(fd: c_int, parts: *const iovec, count: c_int) -> ssize_t {
    // SAFETY: contract of a hook: `readv_with` has the same contract.
    unsafe { readv_with(fd, parts, count, 0) }
}

/// `preadv2` at the descriptor's own position.
///
/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`), as for libc's `preadv2`.
pub(super) unsafe fn readv_with(
    fd: c_int,
    parts: *const iovec,
    count: c_int,
    flags: c_int,
) -> ssize_t {
    // SAFETY: contract of a hook: libc's `readv` gets the caller's pointers.
    let original = || unsafe {
        match flags {
            0 => originals::readv::call(fd, parts, count),
            _ => originals::preadv64v2::call(fd, parts, count, files::HERE, flags),
        }
    };
    // SAFETY: contract of a hook: if the parts can be read, there are `count` of them.
    let Some(known) = patched(fd).filter(|known| unsafe { may_wait(known, parts, count, flags) })
    else {
        return original();
    };
    if known.kind() == Kind::File {
        // SAFETY: contract of a hook: `read_at` has the same contract.
        return unsafe { files::read_at(fd, parts, count, files::HERE, flags) };
    }
    let done = if known.kind().is_socket() && flags == 0 {
        // SAFETY: contract of a hook: `receive_parts` has the same contract.
        unsafe { receive_parts(&known, parts, count) }
    } else {
        // SAFETY: contract of a hook: `read_parts` has the same contract.
        unsafe { read_parts(&known, parts, count, flags) }
    };
    done.unwrap_or_else(|| {
        originals::readv::ROW.count_blocked();
        original()
    })
}

/// Reads by non-blocking calls, or after polling the descriptor.
///
/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`), as for libc's `readv`.
unsafe fn read_parts(
    known: &Known,
    parts: *const iovec,
    count: c_int,
    flags: c_int,
) -> Option<ssize_t> {
    let _under_way = known.yield_if_due();
    // SAFETY: contract of a hook: `is_too_short` has the same contract.
    let fails = || unsafe { is_too_short(known, parts, count) };
    let is_at_once = known.kind() == Kind::Other
        && known.must_wait(Direction::Read)
        && (fails() || timing(known, known.number()?) != Timing::None);
    let mut attempts = known.attempts(Direction::Read, "read").at_once(is_at_once);
    // SAFETY: contract of a hook: `read_now` has the same contract.
    attempts.make(|fd| unsafe { read_now(known, fd, parts, count, flags) }).or_zero()
}

/// How a read may end without receiving a byte.
fn timing(known: &Known, fd: c_int) -> Timing {
    match known.kind() == Kind::Other && known.nature() == Nature::Terminal {
        true => Timing::of(fd),
        false => Timing::None,
    }
}

/// Reads from a FIFO that is not ready.
///
/// That may be because its other end was never opened: then a read reports the end. A second opening, which
/// does not block, is read to find out.
///
/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`), as for libc's `readv`.
unsafe fn read_fifo(fd: c_int, parts: *const iovec, count: c_int) -> ssize_t {
    let path = format!("/proc/self/fd/{fd}\0");
    let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_CLOEXEC;
    // SAFETY: the path ends with a zero byte.
    let again = unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags) };
    if again < 0 {
        return errno::fail_long(libc::EAGAIN);
    }
    // SAFETY: contract of a hook: libc's `readv` gets the caller's pointers.
    let got = unsafe { originals::readv::call(again as c_int, parts, count) };
    let number = errno::get();
    // SAFETY: the descriptor was opened above, and is used only here.
    unsafe { originals::close::call(again as c_int) };
    errno::set(number);
    got
}

/// Whether the descriptor's records are longer than these buffers, so that a read fails at once.
///
/// # Safety
///
/// There are `count` parts.
unsafe fn is_too_short(known: &Known, parts: *const iovec, count: c_int) -> bool {
    match known.nature() {
        // SAFETY: there are `count` parts: the contract of this function.
        Nature::Records(least) => unsafe { Parts::of(parts, count as usize) }.length() < least,
        // SAFETY: there are `count` parts: the contract of this function.
        Nature::EventFd => unsafe { Parts::of(parts, count as usize) }.length() < size_of::<u64>(),
        _ => false,
    }
}

/// Reads the bytes that are available.
///
/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`), as for libc's `preadv2`.
unsafe fn read_now(
    known: &Known,
    fd: c_int,
    parts: *const iovec,
    count: c_int,
    flags: c_int,
) -> ssize_t {
    let call = |flags| {
        // SAFETY: contract of a hook: libc's `preadv2` gets the caller's pointers. The position -1 means the
        // descriptor's own.
        unsafe { originals::preadv2::call(fd, parts, count, -1, flags) }
    };
    let got = call(flags | libc::RWF_NOWAIT);
    if got >= 0 || !is_unknown(errno::get()) {
        return got;
    }
    // SAFETY: contract of a hook: `is_too_short` has the same contract.
    let fails_at_once = || unsafe { is_too_short(known, parts, count) };
    let timing = timing(known, fd);
    if timing == Timing::ByClock && !known.is_nonblocking() {
        // SAFETY: contract of a hook: the pointers are valid on any thread until the suspended caller
        // returns.
        let lent = unsafe { Lent::new(parts) };
        // SAFETY: contract of a hook: the suspended caller lends the pointers to libc's `readv`.
        let read = move || unsafe { originals::readv::call(fd, lent.get(), count) };
        return aside_or_interrupted("read", Interrupts::Tell, read).unwrap_or_else(|| {
            originals::read::ROW.count_blocked();
            read()
        });
    }
    let is_answered = known.is_ready(Direction::Read) || timing == Timing::AtOnce;
    if known.is_nonblocking() || is_answered || fails_at_once() {
        return match flags {
            // SAFETY: contract of a hook: libc's `readv` gets the caller's pointers.
            0 => unsafe { originals::readv::call(fd, parts, count) },
            _ => call(flags),
        };
    }
    if known.kind() == Kind::Pipe {
        // SAFETY: contract of a hook: `read_fifo` has the same contract.
        return unsafe { read_fifo(fd, parts, count) };
    }
    errno::fail_long(libc::EAGAIN)
}

/// Whether a descriptor cannot be read at all, like an epoll instance: a read fails at once.
#[cold]
pub(super) fn is_unreadable(known: &Known, fd: c_int) -> bool {
    if known.kind() != Kind::Other {
        return known.kind().is_socket() && known.is_listening();
    }
    // SAFETY: no parts are passed.
    let result = unsafe { originals::preadv2::call(fd, ptr::null(), 0, -1, libc::RWF_NOWAIT) };
    result < 0 && errno::get() == libc::EINVAL
}
