//! Writes to any descriptor.
//!
//! A socket is written to as in `sending.rs`, a file as in `files.rs`, and descriptors 1 and 2 as in
//! `output.rs`. A pipe is written to by non-blocking calls (`RWF_NOWAIT`), if the kernel supports them there.
//! Any other descriptor that can be waited for is polled first.

use super::parts::{Parts, is_length};
use super::receiving::MAX_TRANSFER;
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

/// Whether a descriptor is standard output or standard error.
///
/// A write there never switches: see `output.rs`.
fn is_output(fd: c_int) -> bool {
    matches!(fd, libc::STDOUT_FILENO | libc::STDERR_FILENO)
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn write(fd: c_int, buffer: *const c_void, length: size_t) -> ssize_t {
    if is_output(fd) {
        // SAFETY: contract of a hook: `output::write` has the same contract.
        return unsafe { output::write(fd, buffer, length) };
    }
    if length == 0 {
        // SAFETY: the buffer has no bytes.
        return unsafe { write_empty(fd, buffer) };
    }
    if !is_length(length) {
        // SAFETY: contract of a hook: libc's `write` gets the caller's pointers. It fails at once.
        return unsafe { originals::write::call(fd, buffer, length) };
    }
    // SAFETY: contract of a hook: `write_at_once` has the same contract.
    let first = match unsafe { write_at_once(fd, buffer, length) } {
        Some(part) if part < 0 || part as size_t >= length => return part,
        Some(part) => part as size_t,
        None => 0,
    };
    let Some(known) = patched(fd) else {
        // SAFETY: contract of a hook: libc's `write` gets the caller's pointers.
        return unsafe { originals::write::call(fd, buffer, length) };
    };
    // SAFETY: contract of a hook: `first` is within the caller's buffer.
    let (rest, left) = unsafe { (buffer.byte_add(first), length - first) };
    let done = if known.kind() == Kind::File {
        // SAFETY: contract of a hook: `files::write` has the same contract.
        Some(unsafe { files::write(fd, rest, left) })
    } else if known.kind().is_socket() {
        let flags = if first > 0 { libc::MSG_NOSIGNAL } else { 0 };
        match known.kind().is_stream() || first == 0 {
            // SAFETY: contract of a hook: the rest of the caller's buffer, and no address.
            true => unsafe { transmit(&known, rest, left, flags, ptr::null(), 0) },
            false => return first as ssize_t,
        }
    } else {
        let part = iovec { iov_base: rest.cast_mut(), iov_len: left.min(MAX_TRANSFER) };
        // SAFETY: contract of a hook: `write_parts` has the same contract.
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
        // SAFETY: contract of a hook: libc's `write` gets the caller's pointers.
        None => unsafe { originals::write::call_blocking(fd, buffer, length) },
    }
}

/// Makes a write of no bytes. A socket gets it as a send.
///
/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`), as for libc's `write`.
#[cold]
unsafe fn write_empty(fd: c_int, buffer: *const c_void) -> ssize_t {
    let socket = patched(fd).filter(|known| known.kind().is_socket());
    // SAFETY: no bytes and no address are passed.
    let sent = socket.and_then(|known| unsafe { transmit(&known, buffer, 0, 0, ptr::null(), 0) });
    // SAFETY: the buffer has no bytes.
    sent.unwrap_or_else(|| unsafe { originals::write::call(fd, buffer, 0) })
}

/// Writes bytes that a pipe takes in one piece, or a part of them, if that is possible at once.
///
/// `None` if nothing was written, and the caller has to find out how to wait.
///
/// Uses no state of this crate: the call may be in a signal handler that has interrupted other code of it.
///
/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`), as for libc's `write`.
unsafe fn write_at_once(fd: c_int, buffer: *const c_void, length: size_t) -> Option<ssize_t> {
    if length > libc::PIPE_BUF {
        return None;
    }
    let part = iovec { iov_base: buffer.cast_mut(), iov_len: length };
    // SAFETY: contract of a hook: libc's `pwritev2` gets the caller's pointers. The position -1 means the
    // descriptor's own.
    let written = unsafe { originals::pwritev2::call(fd, &part, 1, -1, libc::RWF_NOWAIT) };
    if written >= 0 {
        return (written > 0).then_some(written);
    }
    match errno::get() {
        libc::EAGAIN => {
            // SAFETY: no pointer is passed.
            let flags = unsafe { originals::fcntl::call(fd, libc::F_GETFL, 0) };
            // A file ignores `O_NONBLOCK`.
            let is_final = flags & libc::O_NONBLOCK != 0 && Kind::of(fd) != Some(Kind::File);
            is_final.then(|| errno::fail_long(libc::EAGAIN))
        }
        error if is_unknown(error) => None,
        // The failure has had its effect, and a second call would not fail in the same way.
        _ => Some(-1),
    }
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn writev(fd: c_int, parts: *const iovec, count: c_int) -> ssize_t {
    if is_output(fd) {
        // SAFETY: contract of a hook: `writev` has the same contract.
        return unsafe { output::writev(fd, parts, count) };
    }
    // SAFETY: contract of a hook: `writev_with` has the same contract.
    unsafe { writev_with(fd, parts, count, 0) }
}

/// `pwritev2` at the descriptor's own position.
///
/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`), as for libc's `pwritev2`.
pub(super) unsafe fn writev_with(
    fd: c_int,
    parts: *const iovec,
    count: c_int,
    flags: c_int,
) -> ssize_t {
    // SAFETY: contract of a hook: libc's `writev` gets the caller's pointers.
    let original = || unsafe {
        match flags {
            0 => originals::writev::call(fd, parts, count),
            _ => originals::pwritev64v2::call(fd, parts, count, files::HERE, flags),
        }
    };
    // SAFETY: contract of a hook: if the parts can be read, there are `count` of them.
    let Some(known) = patched(fd).filter(|known| unsafe { may_wait(known, parts, count, flags) })
    else {
        return original();
    };
    let done = if known.kind() == Kind::File {
        // SAFETY: contract of a hook: `write_at` has the same contract.
        Some(unsafe { files::write_at(fd, parts, count, files::HERE, flags) })
    } else if known.kind().is_socket() && flags == 0 {
        // SAFETY: contract of a hook: `transmit_parts` has the same contract.
        unsafe { transmit_parts(&known, parts, count) }
    } else {
        // SAFETY: contract of a hook: `write_parts` has the same contract.
        unsafe { write_parts(&known, parts, count, flags) }
    };
    done.unwrap_or_else(|| {
        originals::writev::ROW.count_blocked();
        original()
    })
}

/// Writes all bytes, like a blocking write to a pipe, unless something fails on the way.
///
/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`), as for libc's `writev`.
unsafe fn write_parts(
    known: &Known,
    parts: *const iovec,
    count: c_int,
    flags: c_int,
) -> Option<ssize_t> {
    let _under_way = known.yield_if_due();
    // A value that fits, or that is invalid, does not wait behind one that does not fit.
    let is_event = known.kind() == Kind::Other && known.nature() == Nature::EventFd;
    let mut attempts = known.attempts(Direction::Write, "write").at_once(is_event);
    // SAFETY: contract of a hook: the caller's parts, or the rest of them.
    let write = |fd, parts, count| unsafe { write_now(known, fd, parts, count, flags) };
    let first = match attempts.make(|fd| write(fd, parts, count)) {
        Outcome::Done(first @ 0..) => first as usize,
        other => return other.or_zero(),
    };
    if attempts.is_nonblocking() {
        return Some(first as ssize_t);
    }
    // SAFETY: contract of a hook: the kernel has just read the `count` parts.
    let mut parts = unsafe { Parts::of(parts, count as usize) };
    parts.advance(first);
    let mut written = first;
    // A signal cuts a write to a terminal short.
    let is_terminal = || known.kind() == Kind::Other && known.nature() == Nature::Terminal;
    while let Some((rest, count)) = parts.rest() {
        if parts.is_mid_buffer() && is_terminal() {
            break;
        }
        attempts.moved();
        let Outcome::Done(more @ 1..) = attempts.make(|fd| write(fd, rest, count)) else { break };
        parts.advance(more as usize);
        written += more as usize;
    }
    Some(written as ssize_t)
}

/// Writes as many bytes as there is room for.
///
/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`), as for libc's `writev`.
unsafe fn write_now(
    known: &Known,
    fd: c_int,
    parts: *const iovec,
    count: c_int,
    flags: c_int,
) -> ssize_t {
    let now = flags | libc::RWF_NOWAIT;
    // SAFETY: contract of a hook: libc's `pwritev2` gets the caller's pointers. The position -1 means the
    // descriptor's own.
    let written = unsafe { originals::pwritev2::call(fd, parts, count, -1, now) };
    if written >= 0 || !is_unknown(errno::get()) {
        return written;
    }
    if known.is_nonblocking() || count == 0 {
        // SAFETY: contract of a hook: libc's `writev` gets the caller's pointers.
        return unsafe { originals::writev::call(fd, parts, count) };
    }
    // SAFETY: contract of a hook: there are `count` parts, which can be read, as `may_wait` has checked.
    let all = unsafe { std::slice::from_raw_parts(parts, count as usize) };
    let Some(part) = all.iter().find(|part| part.iov_len > 0) else {
        // SAFETY: contract of a hook: libc's `write` gets the caller's pointers.
        return unsafe { originals::write::call(fd, ptr::null(), 0) };
    };
    match known.nature() {
        // An eventfd supports no flags, and fails at once.
        Nature::EventFd if flags & !libc::RWF_HIPRI != 0 => unsafe {
            // SAFETY: contract of a hook: libc's `pwritev2` gets the caller's pointers.
            originals::pwritev2::call(fd, parts, count, -1, flags)
        },
        // SAFETY: contract of a hook: `add_to_event` has the same contract.
        Nature::EventFd => unsafe { add_to_event(fd, part) },
        // A terminal that is ready has room for one byte; a longer write waits for the other end.
        // SAFETY: contract of a hook: `write_to_terminal` has the same contract.
        Nature::Terminal => unsafe { write_to_terminal(known, fd, part) },
        _ if !known.is_ready(Direction::Write) && !fails_at_once(known) => {
            errno::fail_long(libc::EAGAIN)
        }
        // Bytes of several parts share a page, as when all of them are written at once.
        _ => {
            // SAFETY: contract of a hook: there are `count` parts.
            let first = unsafe { Parts::of(parts, count as usize) }.first(libc::PIPE_BUF);
            // SAFETY: contract of a hook: `first` is the beginning of the caller's parts.
            unsafe { originals::writev::call(fd, first.as_ptr(), first.len() as c_int) }
        }
    }
}

/// Whether a descriptor cannot be written to, and so is never ready.
fn fails_at_once(known: &Known) -> bool {
    matches!(known.nature(), Nature::Records(_))
}

/// Writes to an eventfd, unless the call would wait: until the sum of its count and the added value fits.
///
/// # Safety
///
/// `part` is a buffer, which is valid if it can be read.
unsafe fn add_to_event(fd: c_int, part: &iovec) -> ssize_t {
    const VALUE: usize = size_of::<u64>();
    if part.iov_len == VALUE || (part.iov_len > VALUE && takes_more_than_a_value()) {
        // SAFETY: the buffer is long enough for a `u64`, and valid if it can be read.
        let Some(value) = (unsafe { user_memory::read(part.iov_base.cast::<u64>()) }) else {
            return errno::fail_long(libc::EFAULT);
        };
        if value < u64::MAX && count_of_event(fd).is_none_or(|count| u64::MAX - count <= value) {
            return errno::fail_long(libc::EAGAIN);
        }
    }
    // SAFETY: contract of a hook: libc's `write` gets the caller's pointers.
    unsafe { originals::write::call(fd, part.iov_base, part.iov_len) }
}

/// Whether this kernel ignores bytes after the value. Linux did before 6.10 or so, and refuses them since.
fn takes_more_than_a_value() -> bool {
    static TAKES: OnceLock<bool> = OnceLock::new();
    *TAKES.get_or_init(|| {
        let values = [0_u64; 2];
        // SAFETY: the eventfd is used only here, and `values` has as many bytes as are passed.
        unsafe {
            let fd = libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC);
            let written = originals::write::call(fd, values.as_ptr().cast(), size_of_val(&values));
            originals::close::call(fd);
            written > 0
        }
    })
}

/// The count of an eventfd. `None` if it cannot be found out.
fn count_of_event(fd: c_int) -> Option<u64> {
    let path = format!("/proc/self/fdinfo/{fd}\0");
    let mut text = [0_u8; 512];
    // SAFETY: the path ends with a zero byte.
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
    // SAFETY: `text` has as many bytes as are passed.
    let length = unsafe { originals::read::call(file, text.as_mut_ptr().cast(), text.len()) };
    // SAFETY: the descriptor was opened above, and is used only here.
    unsafe { originals::close::call(file) };
    let text = std::str::from_utf8(text.get(..usize::try_from(length).ok()?)?).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("eventfd-count:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// Writes to a terminal.
///
/// A terminal that is ready takes at least one byte. A dedicated thread writes more.
///
/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`), as for libc's `write`.
unsafe fn write_to_terminal(known: &Known, fd: c_int, part: &iovec) -> ssize_t {
    if !known.is_ready(Direction::Write) {
        return errno::fail_long(libc::EAGAIN);
    }
    if part.iov_len == 1 {
        // SAFETY: contract of a hook: libc's `write` gets the caller's pointers.
        return unsafe { originals::write::call(fd, part.iov_base, 1) };
    }
    let (buffer, length) = (part.iov_base.expose_provenance(), part.iov_len);
    // After any signal the call returns the number of bytes written, which may be part of them.
    let written = aside_or_signalled("write", false, move || {
        let buffer = ptr::with_exposed_provenance(buffer);
        // SAFETY: contract of a hook: the pointers are valid on any thread until the suspended caller
        // returns.
        unsafe { originals::write::call(fd, buffer, length) }
    });
    // SAFETY: contract of a hook: libc's `write` gets the caller's pointers.
    written.unwrap_or_else(|| unsafe { originals::write::call_blocking(fd, part.iov_base, length) })
}
