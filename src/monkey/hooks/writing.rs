//! Writes to any descriptor.
//!
//! A socket is written to as in `sending.rs`, a file as in `files.rs`, and descriptors 1 and 2 as in
//! `output.rs`. A pipe is written to by calls that do not block (`RWF_NOWAIT`), where the kernel has these;
//! anything else that can be waited for is polled first.

use super::parts::{Parts, is_length};
use super::receiving::MOST;
use super::sending::{transmit, transmit_parts};
use super::transfers::{is_unknown, may_wait, patched};
use super::{files, output};
use crate::hub::Direction;
use crate::monkey::attempts::Outcome;
use crate::monkey::dedicated::aside_or_signalled;
use crate::monkey::known::{Known, Nature};
use crate::monkey::{errno, originals};
use crate::sys::descriptor::Kind;
use crate::sys::user_memory;
use libc::{c_int, c_void, iovec, size_t, ssize_t};
use std::ptr;
use std::sync::OnceLock;

/// Never waited for: `println!` holds a borrow of std's while it writes, and a sibling that prints meanwhile
/// would find it.
fn is_output(fd: c_int) -> bool {
    matches!(fd, libc::STDOUT_FILENO | libc::STDERR_FILENO)
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn write(fd: c_int, buffer: *const c_void, length: size_t) -> ssize_t {
    if is_output(fd) {
        // SAFETY: the caller's.
        return unsafe { output::write(fd, buffer, length) };
    }
    if length == 0 {
        // SAFETY: no bytes.
        return unsafe { write_nothing(fd, buffer) };
    }
    if !is_length(length) {
        // SAFETY: the caller's. It fails at once.
        return unsafe { originals::write::call(fd, buffer, length) };
    }
    // SAFETY: the caller's.
    let first = match unsafe { write_at_once(fd, buffer, length) } {
        Some(part) if part < 0 || part as size_t >= length => return part,
        Some(part) => part as size_t,
        None => 0,
    };
    let Some(known) = patched(fd) else {
        // SAFETY: the caller's.
        return unsafe { originals::write::call(fd, buffer, length) };
    };
    // SAFETY: the caller's: what is left of it.
    let (rest, left) = unsafe { (buffer.byte_add(first), length - first) };
    let done = if known.kind() == Kind::File {
        // SAFETY: the caller's.
        Some(unsafe { files::write(fd, rest, left) })
    } else if known.kind().is_socket() {
        let flags = if first > 0 { libc::MSG_NOSIGNAL } else { 0 };
        match known.kind().is_stream() || first == 0 {
            // SAFETY: the caller's; no address.
            true => unsafe { transmit(&known, rest, left, flags, ptr::null(), 0) },
            false => return first as ssize_t,
        }
    } else {
        let part = iovec { iov_base: rest.cast_mut(), iov_len: left.min(MOST) };
        // SAFETY: the caller's.
        unsafe { write_parts(&known, &part, 1, 0) }
    };
    match done {
        Some(more) if first == 0 => more,
        Some(more @ 0..) => first as ssize_t + more,
        Some(_) => {
            known.defer_error(errno::get());
            first as ssize_t
        }
        None if first > 0 => first as ssize_t,
        // SAFETY: the caller's.
        None => unsafe { originals::write::call_blocking(fd, buffer, length) },
    }
}

/// A socket is asked also to send nothing.
///
/// # Safety
///
/// As libc's `write`.
#[cold]
unsafe fn write_nothing(fd: c_int, buffer: *const c_void) -> ssize_t {
    let socket = patched(fd).filter(|known| known.kind().is_socket());
    // SAFETY: no bytes, no address.
    let sent = socket.and_then(|known| unsafe { transmit(&known, buffer, 0, 0, ptr::null(), 0) });
    // SAFETY: no bytes.
    sent.unwrap_or_else(|| unsafe { originals::write::call(fd, buffer, 0) })
}

/// Writes what a pipe takes in one piece, or a part of it, if that can be done at once. `None` if nothing was
/// done, so that there is to be found out how to wait.
///
/// Nothing of this library is touched: a signal handler that writes may have come in the middle of something.
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
    let written = unsafe { originals::pwritev2::call(fd, &part, 1, -1, libc::RWF_NOWAIT) };
    if written >= 0 {
        return (written > 0).then_some(written);
    }
    match errno::get() {
        libc::EAGAIN => {
            // SAFETY: no memory is involved.
            let flags = unsafe { originals::fcntl::call(fd, libc::F_GETFL, 0) };
            // A file is never asked not to block, whatever its flags say.
            let is_final = flags & libc::O_NONBLOCK != 0 && Kind::of(fd) != Some(Kind::File);
            is_final.then(|| errno::fail_long(libc::EAGAIN))
        }
        error if is_unknown(error) => None,
        // It has had its effect: a second call would not fail in the same way.
        _ => Some(-1),
    }
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn writev(fd: c_int, parts: *const iovec, count: c_int) -> ssize_t {
    if is_output(fd) {
        // SAFETY: the caller's.
        return unsafe { output::writev(fd, parts, count) };
    }
    // SAFETY: the caller's.
    unsafe { writev_with(fd, parts, count, 0) }
}

/// `pwritev2` without a position.
///
/// # Safety
///
/// As libc's `pwritev2`.
pub(super) unsafe fn writev_with(
    fd: c_int,
    parts: *const iovec,
    count: c_int,
    flags: c_int,
) -> ssize_t {
    // SAFETY: the caller's.
    let original = || unsafe {
        match flags {
            0 => originals::writev::call(fd, parts, count),
            _ => originals::pwritev64v2::call(fd, parts, count, files::HERE, flags),
        }
    };
    // SAFETY: the caller's.
    let Some(known) = patched(fd).filter(|known| unsafe { may_wait(known, parts, count, flags) })
    else {
        return original();
    };
    let done = if known.kind() == Kind::File {
        // SAFETY: the caller's.
        Some(unsafe { files::write_at(fd, parts, count, files::HERE, flags) })
    } else if known.kind().is_socket() && flags == 0 {
        // SAFETY: the caller's.
        unsafe { transmit_parts(&known, parts, count) }
    } else {
        // SAFETY: the caller's.
        unsafe { write_parts(&known, parts, count, flags) }
    };
    done.unwrap_or_else(|| {
        originals::writev::ROW.count_blocked();
        original()
    })
}

/// Writes all, as a pipe takes all where it blocks, unless something fails on the way.
///
/// # Safety
///
/// As libc's `writev`.
unsafe fn write_parts(
    known: &Known,
    parts: *const iovec,
    count: c_int,
    flags: c_int,
) -> Option<ssize_t> {
    let _under_way = known.yield_if_due();
    let mut attempts = known.attempts(Direction::Write, "write");
    // SAFETY: the caller's parts, or what is left of them.
    let write = |fd, parts, count| unsafe { write_now(known, fd, parts, count, flags) };
    let first = match attempts.make(|fd| write(fd, parts, count)) {
        Outcome::Done(first @ 0..) => first as usize,
        other => return other.or_zero(),
    };
    if attempts.is_nonblocking() {
        return Some(first as ssize_t);
    }
    // SAFETY: the caller's; the kernel has read them just now.
    let mut parts = unsafe { Parts::of(parts, count as usize) };
    parts.advance(first);
    let mut written = first;
    // A terminal's write is cut short by a signal.
    let is_terminal = || known.kind() == Kind::Other && known.nature() == Nature::Terminal;
    while let Some((rest, count)) = parts.rest() {
        if parts.is_amid() && is_terminal() {
            break;
        }
        attempts.moved();
        let Outcome::Done(more @ 1..) = attempts.make(|fd| write(fd, rest, count)) else { break };
        parts.advance(more as usize);
        written += more as usize;
    }
    Some(written as ssize_t)
}

/// Writes what there is room for.
///
/// # Safety
///
/// As libc's `writev`.
unsafe fn write_now(
    known: &Known,
    fd: c_int,
    parts: *const iovec,
    count: c_int,
    flags: c_int,
) -> ssize_t {
    let now = flags | libc::RWF_NOWAIT;
    // SAFETY: the caller's. Without a position: the descriptor's own.
    let written = unsafe { originals::pwritev2::call(fd, parts, count, -1, now) };
    if written >= 0 || !is_unknown(errno::get()) {
        return written;
    }
    if known.is_nonblocking() || count == 0 {
        // SAFETY: the caller's.
        return unsafe { originals::writev::call(fd, parts, count) };
    }
    // SAFETY: the caller's.
    let all = unsafe { std::slice::from_raw_parts(parts, count as usize) };
    let Some(part) = all.iter().find(|part| part.iov_len > 0) else {
        // SAFETY: the caller's.
        return unsafe { originals::write::call(fd, ptr::null(), 0) };
    };
    match known.nature() {
        // It knows no flags, and says so at once.
        Nature::EventFd if flags & !libc::RWF_HIPRI != 0 => unsafe {
            // SAFETY: the caller's.
            originals::pwritev2::call(fd, parts, count, -1, flags)
        },
        // SAFETY: the caller's.
        Nature::EventFd => unsafe { add_to_event(fd, part) },
        // There is room for a byte, if it says that it is ready, and a longer write waits for the other end.
        // SAFETY: the caller's.
        Nature::Terminal => unsafe { write_to_terminal(known, fd, part) },
        _ if !known.is_ready(Direction::Write) && !fails_at_once(known) => {
            errno::fail_long(libc::EAGAIN)
        }
        // Bytes of several parts share a page, as where all of them are written at once.
        _ => {
            // SAFETY: the caller's.
            let first = unsafe { Parts::of(parts, count as usize) }.first(libc::PIPE_BUF);
            // SAFETY: the caller's, or less of it.
            unsafe { originals::writev::call(fd, first.as_ptr(), first.len() as c_int) }
        }
    }
}

/// Whether it cannot be written to, and so is never ready.
fn fails_at_once(known: &Known) -> bool {
    matches!(known.nature(), Nature::Records(_))
}

/// A write to an eventfd waits until the sum of what it has and what is added fits.
///
/// # Safety
///
/// A readable buffer.
unsafe fn add_to_event(fd: c_int, part: &iovec) -> ssize_t {
    const VALUE: usize = size_of::<u64>();
    if part.iov_len == VALUE || (part.iov_len > VALUE && takes_more_than_a_value()) {
        // SAFETY: the caller's, and long enough.
        let Some(value) = (unsafe { user_memory::read(part.iov_base.cast::<u64>()) }) else {
            return errno::fail_long(libc::EFAULT);
        };
        if value < u64::MAX && count_of_event(fd).is_none_or(|count| u64::MAX - count <= value) {
            return errno::fail_long(libc::EAGAIN);
        }
    }
    // SAFETY: the caller's.
    unsafe { originals::write::call(fd, part.iov_base, part.iov_len) }
}

/// Whether this kernel ignores what is behind a value, as it did before Linux 6.10 or so. Later ones refuse
/// it.
fn takes_more_than_a_value() -> bool {
    static TAKES: OnceLock<bool> = OnceLock::new();
    *TAKES.get_or_init(|| {
        let values = [0_u64; 2];
        // SAFETY: a new eventfd, which is closed again, and as many bytes as is said.
        unsafe {
            let fd = libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC);
            let written = originals::write::call(fd, values.as_ptr().cast(), size_of_val(&values));
            originals::close::call(fd);
            written > 0
        }
    })
}

/// `None` if there is no telling.
fn count_of_event(fd: c_int) -> Option<u64> {
    let path = format!("/proc/self/fdinfo/{fd}\0");
    let mut text = [0_u8; 512];
    // SAFETY: a path that ends with a zero.
    let file = unsafe {
        libc::syscall(
            libc::SYS_openat,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::O_RDONLY | libc::O_CLOEXEC,
        )
    } as c_int;
    if file < 0 {
        return None;
    }
    // SAFETY: room for as many bytes as is said.
    let length = unsafe { originals::read::call(file, text.as_mut_ptr().cast(), text.len()) };
    // SAFETY: opened above.
    unsafe { originals::close::call(file) };
    let text = std::str::from_utf8(text.get(..usize::try_from(length).ok()?)?).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("eventfd-count:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// A terminal that is ready takes one byte at least. More of it is written by a thread.
///
/// # Safety
///
/// As libc's `write`.
unsafe fn write_to_terminal(known: &Known, fd: c_int, part: &iovec) -> ssize_t {
    if !known.is_ready(Direction::Write) {
        return errno::fail_long(libc::EAGAIN);
    }
    if part.iov_len == 1 {
        // SAFETY: the caller's.
        return unsafe { originals::write::call(fd, part.iov_base, 1) };
    }
    let (buffer, length) = (part.iov_base.expose_provenance(), part.iov_len);
    // After any signal it returns what was written, which is some of it.
    let written = aside_or_signalled("write", false, move || {
        let buffer = ptr::with_exposed_provenance(buffer);
        // SAFETY: the caller's, who is suspended until the call is over.
        unsafe { originals::write::call(fd, buffer, length) }
    });
    // SAFETY: the caller's.
    written.unwrap_or_else(|| unsafe { originals::write::call_blocking(fd, part.iov_base, length) })
}
