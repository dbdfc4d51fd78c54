//! What any descriptor can be asked for: reads, writes, copies, an end.
//!
//! A socket goes the way of `sockets.rs`. A pipe is read and written by a call that does not block
//! (`RWF_NOWAIT`), where the kernel has that; what else can be waited for is looked at first. A file goes
//! the way of `files.rs`.

use super::parts::Parts;
use super::{files, locks, sockets};
use crate::hub::{Direction, breathe_quietly};
use crate::monkey::descriptors::{
    Kind, Known, copied, forget, forget_range, kind, look_up, settings_changed,
};
use crate::monkey::gate::{is_cooperative, is_patched};
use crate::monkey::{What, errno, table};
use libc::{FILE, c_int, c_uint, c_ulong, c_void, iovec, size_t, ssize_t};
use std::ptr;
use std::rc::Rc;

/// What is known of a descriptor, if its calls are patched: those of a file are so for themselves.
fn patched(fd: c_int) -> Option<Rc<Known>> {
    look_up(fd).filter(|known| match known.kind() {
        Kind::File => files::are_patched(),
        _ => is_patched(What::Sockets),
    })
}

/// Never waited for: `println!` holds a borrow of std's while it writes, and whoever prints meanwhile would
/// find it.
fn is_output(fd: c_int) -> bool {
    matches!(fd, libc::STDOUT_FILENO | libc::STDERR_FILENO)
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn read(fd: c_int, buffer: *mut c_void, length: size_t) -> ssize_t {
    let Some(known) = patched(fd) else {
        // SAFETY: the caller's.
        return unsafe { table::read::original(fd, buffer, length) };
    };
    let done = match known.kind() {
        // SAFETY: the caller's.
        Kind::Stream | Kind::Datagram => unsafe { sockets::receive(&known, fd, buffer, length, 0) },
        Kind::Pipe | Kind::Other => {
            let part = iovec { iov_base: buffer, iov_len: length };
            // SAFETY: the caller's.
            read_parts(&known, &|| unsafe { read_now(&known, fd, &part, 1) })
        }
        // SAFETY: the caller's.
        Kind::File => Some(unsafe { files::read(fd, buffer, length) }),
    };
    // SAFETY: the caller's.
    done.unwrap_or_else(|| unsafe { table::read::blocking(fd, buffer, length) })
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn readv(fd: c_int, parts: *const iovec, count: c_int) -> ssize_t {
    let Some(known) = patched(fd) else {
        // SAFETY: the caller's.
        return unsafe { table::readv::original(fd, parts, count) };
    };
    let done = match known.kind() {
        // SAFETY: the caller's.
        Kind::Stream | Kind::Datagram => unsafe {
            sockets::receive_parts(&known, fd, parts, count)
        },
        Kind::Pipe | Kind::Other => {
            // SAFETY: the caller's.
            read_parts(&known, &|| unsafe { read_now(&known, fd, parts, count) })
        }
        // SAFETY: the caller's.
        Kind::File => Some(unsafe { files::read_at(fd, parts, count, files::HERE, 0) }),
    };
    // SAFETY: the caller's.
    done.unwrap_or_else(|| unsafe { table::readv::blocking(fd, parts, count) })
}

fn read_parts(known: &Known, call: &dyn Fn() -> isize) -> Option<ssize_t> {
    breathe_quietly();
    known.attempt(Direction::Read, "read", call)
}

/// Reads what there is.
///
/// # Safety
///
/// As libc's `readv`.
unsafe fn read_now(known: &Known, fd: c_int, parts: *const iovec, count: c_int) -> ssize_t {
    // SAFETY: the caller's. Without a position: the descriptor's own.
    let got = unsafe { table::preadv2::original(fd, parts, count, -1, libc::RWF_NOWAIT) };
    if got >= 0 || !is_unknown(errno::get()) {
        return got;
    }
    if known.is_nonblocking() || known.is_ready(Direction::Read) {
        // SAFETY: the caller's.
        return unsafe { table::readv::original(fd, parts, count) };
    }
    errno::fail_long(libc::EAGAIN)
}

/// Whether a call failed since this descriptor cannot be asked so.
fn is_unknown(errno: c_int) -> bool {
    matches!(errno, libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL | libc::ESPIPE)
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn write(fd: c_int, buffer: *const c_void, length: size_t) -> ssize_t {
    if is_output(fd) {
        // SAFETY: the caller's.
        return unsafe { table::write::original(fd, buffer, length) };
    }
    // SAFETY: the caller's.
    match unsafe { write_at_once(fd, buffer, length) } {
        Some(part @ 0..) if (part as size_t) < length => {
            // SAFETY: the caller's: what is left of it.
            let rest =
                unsafe { write(fd, buffer.byte_add(part as size_t), length - part as size_t) };
            return part + rest.max(0);
        }
        Some(done) => return done,
        None => {}
    }
    let Some(known) = patched(fd) else {
        // SAFETY: the caller's.
        return unsafe { table::write::original(fd, buffer, length) };
    };
    let done = match known.kind() {
        Kind::Stream | Kind::Datagram => {
            // SAFETY: the caller's; no address.
            unsafe { sockets::transmit(&known, fd, buffer, length, 0, ptr::null(), 0) }
        }
        Kind::Pipe | Kind::Other => {
            let part = iovec { iov_base: buffer.cast_mut(), iov_len: length };
            // SAFETY: the caller's.
            unsafe { write_parts(&known, fd, &part, 1) }
        }
        // SAFETY: the caller's.
        Kind::File => Some(unsafe { files::write(fd, buffer, length) }),
    };
    // SAFETY: the caller's.
    done.unwrap_or_else(|| unsafe { table::write::blocking(fd, buffer, length) })
}

/// Writes what a pipe takes in one piece, or a part of it, if that can be done at once. `None` if it is to be
/// found out how to wait for it.
///
/// Nothing of ours is touched: a signal handler, which may write, may have come in the middle of something.
///
/// # Safety
///
/// As libc's `write`.
unsafe fn write_at_once(fd: c_int, buffer: *const c_void, length: size_t) -> Option<ssize_t> {
    if length > libc::PIPE_BUF {
        return None;
    }
    let part = iovec { iov_base: buffer.cast_mut(), iov_len: length };
    // SAFETY: the caller's. Without a position: the descriptor's own.
    let written = unsafe { table::pwritev2::original(fd, &part, 1, -1, libc::RWF_NOWAIT) };
    // SAFETY: no memory is involved.
    let flags = || unsafe { table::fcntl::original(fd, libc::F_GETFL, 0) };
    if written > 0 || written == length as ssize_t {
        return Some(written);
    }
    // A file is never asked not to block, whatever its flags say.
    let would_block = errno::get() == libc::EAGAIN
        && flags() & libc::O_NONBLOCK != 0
        && kind(fd) != Some(Kind::File);
    would_block.then(|| errno::fail_long(libc::EAGAIN))
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn writev(fd: c_int, parts: *const iovec, count: c_int) -> ssize_t {
    if is_output(fd) {
        // SAFETY: the caller's.
        return unsafe { table::writev::original(fd, parts, count) };
    }
    let Some(known) = patched(fd) else {
        // SAFETY: the caller's.
        return unsafe { table::writev::original(fd, parts, count) };
    };
    let done = match known.kind() {
        // SAFETY: the caller's.
        Kind::Stream | Kind::Datagram => unsafe {
            sockets::transmit_parts(&known, fd, parts, count)
        },
        // SAFETY: the caller's.
        Kind::Pipe | Kind::Other => unsafe { write_parts(&known, fd, parts, count) },
        // SAFETY: the caller's.
        Kind::File => Some(unsafe { files::write_at(fd, parts, count, files::HERE, 0) }),
    };
    // SAFETY: the caller's.
    done.unwrap_or_else(|| unsafe { table::writev::blocking(fd, parts, count) })
}

/// Writes all, as a pipe takes all where it blocks, unless something fails on the way.
///
/// # Safety
///
/// As libc's `writev`.
unsafe fn write_parts(
    known: &Known,
    fd: c_int,
    parts: *const iovec,
    count: c_int,
) -> Option<ssize_t> {
    breathe_quietly();
    let attempt = |parts: *const iovec, count: c_int, has_some| {
        // SAFETY: the caller's parts, or what is left of them.
        let call = || unsafe { write_now(known, fd, parts, count) };
        known.attempt_part(Direction::Write, "write", has_some, call)
    };
    let first = attempt(parts, count, false)?;
    let Ok(mut written) = usize::try_from(first) else { return Some(first) };
    if known.is_nonblocking() {
        return Some(first);
    }
    // SAFETY: the caller's; the kernel has read them just now.
    let mut parts = unsafe { Parts::of(parts, count as usize) };
    parts.advance(written);
    while let Some((rest, count)) = parts.rest() {
        let Ok(more) = usize::try_from(attempt(rest, count, true)?) else { break };
        parts.advance(more);
        written += more;
    }
    Some(written as ssize_t)
}

/// Writes what there is room for.
///
/// # Safety
///
/// As libc's `writev`.
unsafe fn write_now(known: &Known, fd: c_int, parts: *const iovec, count: c_int) -> ssize_t {
    // SAFETY: the caller's. Without a position: the descriptor's own.
    let written = unsafe { table::pwritev2::original(fd, parts, count, -1, libc::RWF_NOWAIT) };
    if written >= 0 || !is_unknown(errno::get()) {
        return written;
    }
    if known.is_nonblocking() || count <= 0 {
        // SAFETY: the caller's.
        return unsafe { table::writev::original(fd, parts, count) };
    }
    if !known.is_ready(Direction::Write) {
        return errno::fail_long(libc::EAGAIN);
    }
    // There is room for so much at least, of the first that is not empty.
    // SAFETY: the caller's.
    let parts = unsafe { std::slice::from_raw_parts(parts, count as usize) };
    let Some(part) = parts.iter().find(|part| part.iov_len > 0) else { return 0 };
    // SAFETY: the caller's, or less of it.
    unsafe { table::write::original(fd, part.iov_base, part.iov_len.min(libc::PIPE_BUF)) }
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn close(fd: c_int) -> c_int {
    forget(fd);
    // SAFETY: the caller's.
    unsafe { table::close::original(fd) }
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn close_range(first: c_uint, last: c_uint, flags: c_int) -> c_int {
    if flags & libc::CLOSE_RANGE_CLOEXEC as c_int == 0 && first <= last {
        forget_range(first, last);
    }
    // SAFETY: the caller's.
    unsafe { table::close_range::original(first, last, flags) }
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn closefrom(first: c_int) {
    forget_range(first.max(0) as c_uint, c_uint::MAX);
    // SAFETY: the caller's.
    unsafe { table::closefrom::original(first) }
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn fclose(file: *mut FILE) -> c_int {
    // SAFETY: the caller's.
    unsafe { forget_file(file) };
    // SAFETY: the caller's.
    unsafe { table::fclose::original(file) }
}

/// The number of a file of C's is about to be closed.
///
/// # Safety
///
/// An open file.
pub(super) unsafe fn forget_file(file: *mut FILE) {
    let before = errno::get();
    // SAFETY: the caller's.
    forget(unsafe { libc::fileno(file) });
    errno::set(before);
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn dup(fd: c_int) -> c_int {
    // SAFETY: the caller's.
    let to = unsafe { table::dup::original(fd) };
    if to >= 0 {
        copied(fd, to);
    }
    to
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn dup2(from: c_int, to: c_int) -> c_int {
    if from != to {
        forget(to);
    }
    // SAFETY: the caller's.
    let result = unsafe { table::dup2::original(from, to) };
    if result >= 0 && from != to {
        copied(from, to);
    }
    result
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn dup3(from: c_int, to: c_int, flags: c_int) -> c_int {
    if from != to {
        forget(to);
    }
    // SAFETY: the caller's.
    let result = unsafe { table::dup3::original(from, to, flags) };
    if result >= 0 {
        copied(from, to);
    }
    result
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn fcntl(fd: c_int, command: c_int, argument: usize) -> c_int {
    if let Some(trying) = locks::without_waiting(command)
        && files::are_patched()
        && is_cooperative(&table::fcntl::ROW)
    {
        // SAFETY: the caller's.
        return unsafe { locks::lock(fd, command, trying, argument) };
    }
    // SAFETY: the caller's.
    let result = unsafe { table::fcntl::original(fd, command, argument) };
    match command {
        libc::F_SETFL => settings_changed(fd),
        libc::F_DUPFD | libc::F_DUPFD_CLOEXEC if result >= 0 => copied(fd, result),
        _ => {}
    }
    result
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn ioctl(fd: c_int, request: c_ulong, argument: usize) -> c_int {
    // SAFETY: the caller's.
    let result = unsafe { table::ioctl::original(fd, request, argument) };
    if request == libc::FIONBIO as c_ulong {
        settings_changed(fd);
    }
    result
}
