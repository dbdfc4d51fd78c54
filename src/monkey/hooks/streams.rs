//! Reads and writes of any descriptor.
//!
//! A socket goes the way of `receiving.rs` and `sending.rs`, a file that of `files.rs`. A pipe is read and
//! written by calls that do not block (`RWF_NOWAIT`), where the kernel has these; anything else that can be
//! waited for is asked first whether it is ready.

use super::parts::{Parts, has_bytes, is_length};
use super::receiving::{MOST, receive, receive_parts};
use super::sending::{transmit, transmit_parts};
use super::terminals::Timing;
use super::{files, lingering, locks, output};
use crate::hub::{Direction, Interrupts};
use crate::monkey::aside::{aside_or_interrupted, aside_or_signalled};
use crate::monkey::attempts::Outcome;
use crate::monkey::descriptors::{forget, forget_range, look_up};
use crate::monkey::elsewhere::Lent;
use crate::monkey::gate::{is_cooperative, is_patched};
use crate::monkey::known::{Known, Nature};
use crate::monkey::numbers::{copied, settings_changed};
use crate::monkey::{What, errno, owners, table};
use crate::sys::descriptor::{Kind, is_ready};
use crate::sys::user_memory;
use libc::{FILE, c_int, c_uint, c_ulong, c_void, iovec, size_t, ssize_t};
use std::ptr;
use std::rc::Rc;
use std::sync::OnceLock;

/// What is known of a descriptor, if its calls are patched: those of a file are so for themselves.
fn patched(fd: c_int) -> Option<Rc<Known>> {
    look_up(fd).filter(|known| match known.kind() {
        Kind::File => files::are_patched(),
        _ => is_patched(What::Sockets),
    })
}

/// Never waited for: `println!` holds a borrow of std's while it writes, and a sibling that prints meanwhile
/// would find it.
fn is_output(fd: c_int) -> bool {
    matches!(fd, libc::STDOUT_FILENO | libc::STDERR_FILENO)
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn read(fd: c_int, buffer: *mut c_void, length: size_t) -> ssize_t {
    let Some(known) = patched(fd).filter(|_| is_length(length)) else {
        // SAFETY: the caller's.
        return unsafe { table::read::original(fd, buffer, length) };
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
    done.unwrap_or_else(|| unsafe { table::read::blocking(fd, buffer, length) })
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
    let call = |fd| unsafe { table::read::original(fd, ptr::null_mut(), 0) };
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
            0 => table::readv::original(fd, parts, count),
            _ => table::preadv64v2::original(fd, parts, count, files::HERE, flags),
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
        table::readv::ROW.count_blocked();
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
    let _under_way = known.breathe();
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
    let got = unsafe { table::readv::original(again as c_int, parts, count) };
    let number = errno::get();
    // SAFETY: opened above.
    unsafe { table::close::original(again as c_int) };
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
        unsafe { table::preadv2::original(fd, parts, count, -1, flags) }
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
        let read = move || unsafe { table::readv::original(fd, lent.get(), count) };
        return aside_or_interrupted("read", Interrupts::Tell, read).unwrap_or_else(|| {
            table::read::ROW.count_blocked();
            read()
        });
    }
    let is_answered = known.is_ready(Direction::Read) || timing == Timing::AtOnce;
    if known.is_nonblocking() || is_answered || fails_at_once() {
        return match flags {
            // SAFETY: the caller's.
            0 => unsafe { table::readv::original(fd, parts, count) },
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
    let result = unsafe { table::preadv2::original(fd, ptr::null(), 0, -1, libc::RWF_NOWAIT) };
    result < 0 && errno::get() == libc::EINVAL
}

/// Whether a call with parts may wait: not with no bytes, and not with flags that only files have, with which
/// all else fails at once.
///
/// # Safety
///
/// As libc's `preadv2`.
unsafe fn may_wait(known: &Known, parts: *const iovec, count: c_int, flags: c_int) -> bool {
    const OF_FILES: c_int = libc::RWF_ATOMIC | libc::RWF_DONTCACHE;
    // SAFETY: the caller's.
    (flags & OF_FILES == 0 || known.kind() == Kind::File) && unsafe { has_bytes(parts, count) }
}

/// Whether a call failed since this descriptor, or this kernel, has none that does not block.
pub(super) fn is_unknown(errno: c_int) -> bool {
    matches!(errno, libc::EOPNOTSUPP | libc::ENOSYS)
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
        return unsafe { table::write::original(fd, buffer, length) };
    }
    // SAFETY: the caller's.
    let first = match unsafe { write_at_once(fd, buffer, length) } {
        Some(part) if part < 0 || part as size_t >= length => return part,
        Some(part) => part as size_t,
        None => 0,
    };
    let Some(known) = patched(fd) else {
        // SAFETY: the caller's.
        return unsafe { table::write::original(fd, buffer, length) };
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
        None => unsafe { table::write::blocking(fd, buffer, length) },
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
    sent.unwrap_or_else(|| unsafe { table::write::original(fd, buffer, 0) })
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
    let written = unsafe { table::pwritev2::original(fd, &part, 1, -1, libc::RWF_NOWAIT) };
    if written >= 0 {
        return (written > 0).then_some(written);
    }
    match errno::get() {
        libc::EAGAIN => {
            // SAFETY: no memory is involved.
            let flags = unsafe { table::fcntl::original(fd, libc::F_GETFL, 0) };
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
            0 => table::writev::original(fd, parts, count),
            _ => table::pwritev64v2::original(fd, parts, count, files::HERE, flags),
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
        table::writev::ROW.count_blocked();
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
    let _under_way = known.breathe();
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
    let written = unsafe { table::pwritev2::original(fd, parts, count, -1, now) };
    if written >= 0 || !is_unknown(errno::get()) {
        return written;
    }
    if known.is_nonblocking() || count == 0 {
        // SAFETY: the caller's.
        return unsafe { table::writev::original(fd, parts, count) };
    }
    // SAFETY: the caller's.
    let all = unsafe { std::slice::from_raw_parts(parts, count as usize) };
    let Some(part) = all.iter().find(|part| part.iov_len > 0) else {
        // SAFETY: the caller's.
        return unsafe { table::write::original(fd, ptr::null(), 0) };
    };
    match known.nature() {
        // It knows no flags, and says so at once.
        Nature::EventFd if flags & !libc::RWF_HIPRI != 0 => unsafe {
            // SAFETY: the caller's.
            table::pwritev2::original(fd, parts, count, -1, flags)
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
            unsafe { table::writev::original(fd, first.as_ptr(), first.len() as c_int) }
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
    unsafe { table::write::original(fd, part.iov_base, part.iov_len) }
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
            let written = table::write::original(fd, values.as_ptr().cast(), size_of_val(&values));
            table::close::original(fd);
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
    let length = unsafe { table::read::original(file, text.as_mut_ptr().cast(), text.len()) };
    // SAFETY: opened above.
    unsafe { table::close::original(file) };
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
        return unsafe { table::write::original(fd, part.iov_base, 1) };
    }
    let (buffer, length) = (part.iov_base.expose_provenance(), part.iov_len);
    // After any signal it returns what was written, which is some of it.
    let written = aside_or_signalled("write", false, move || {
        let buffer = ptr::with_exposed_provenance(buffer);
        // SAFETY: the caller's, who is suspended until the call is over.
        unsafe { table::write::original(fd, buffer, length) }
    });
    // SAFETY: the caller's.
    written.unwrap_or_else(|| unsafe { table::write::blocking(fd, part.iov_base, length) })
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn close(fd: c_int) -> c_int {
    let _held = lingering::hold(&table::close::ROW, fd);
    forget(fd);
    // SAFETY: the caller's.
    let result = unsafe { table::close::original(fd) };
    output::forget(fd);
    result
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn close_range(first: c_uint, last: c_uint, flags: c_int) -> c_int {
    if flags & libc::CLOSE_RANGE_CLOEXEC as c_int == 0 && first <= last {
        if lingering::may_linger() && is_cooperative(&table::close_range::ROW) {
            table::close_range::ROW.count_blocked();
        }
        forget_range(first, last);
    }
    // SAFETY: the caller's.
    let result = unsafe { table::close_range::original(first, last, flags) };
    output::forget_from(first);
    result
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn closefrom(first: c_int) {
    if lingering::may_linger() && is_cooperative(&table::closefrom::ROW) {
        table::closefrom::ROW.count_blocked();
    }
    forget_range(first.max(0) as c_uint, c_uint::MAX);
    // SAFETY: the caller's.
    unsafe { table::closefrom::original(first) };
    output::forget_from(first.max(0) as c_uint);
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn fclose(file: *mut FILE) -> c_int {
    let _held = lingering::may_linger().then(|| {
        // SAFETY: the caller's.
        lingering::hold(&table::fclose::ROW, unsafe { libc::fileno(file) })
    });
    // SAFETY: the caller's.
    let fd = unsafe { forget_file(file) };
    // SAFETY: the caller's.
    let result = unsafe { table::fclose::original(file) };
    output::forget(fd);
    result
}

/// The number of a file of C's is about to be closed. Returns it.
///
/// # Safety
///
/// An open file.
pub(super) unsafe fn forget_file(file: *mut FILE) -> c_int {
    owners::forget(file.addr());
    // SAFETY: the caller's.
    unsafe { forget_number(file) }
}

/// Like [`forget_file`], of a file that stays what it is: it keeps its lock.
///
/// # Safety
///
/// An open file.
pub(super) unsafe fn forget_number(file: *mut FILE) -> c_int {
    let before = errno::get();
    // SAFETY: the caller's.
    let fd = unsafe { libc::fileno(file) };
    forget(fd);
    errno::set(before);
    fd
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
    let _held = (from != to).then(|| lingering::hold(&table::dup2::ROW, to));
    if from != to {
        forget(to);
    }
    // SAFETY: the caller's.
    let result = unsafe { table::dup2::original(from, to) };
    output::forget(to);
    if result >= 0 && from != to {
        copied(from, to);
    }
    result
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn dup3(from: c_int, to: c_int, flags: c_int) -> c_int {
    let _held = (from != to).then(|| lingering::hold(&table::dup3::ROW, to));
    if from != to {
        forget(to);
    }
    // SAFETY: the caller's.
    let result = unsafe { table::dup3::original(from, to, flags) };
    output::forget(to);
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
