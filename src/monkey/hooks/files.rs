//! Regular files.
//!
//! Data in the page cache is read at once (`RWF_NOWAIT`); other reads, and writes, are made in the blocking
//! pool. A descriptor of a file is never waited for in any other way.

use super::parts::{Parts, is_length, length};
use crate::hub::yield_if_due_nounwind;
use crate::monkey::blocking_pool::{Lent, elsewhere};
use crate::monkey::descriptors::look_up;
use crate::monkey::gate::is_patched;
use crate::monkey::kinds::What;
use crate::monkey::{errno, originals};
use crate::sys::descriptor::Kind;
use libc::{c_int, c_uint, c_void, iovec, off_t, off64_t, size_t, ssize_t};

/// The offset that stands for the descriptor's own position.
pub(super) const HERE: off64_t = -1;

/// A longer write is left to the pool as a whole: between parts of it, another write could come.
const MAX_INLINE_WRITE: usize = 4096;

/// Whether files are patched, and the thread is not panicking.
///
/// A panic hook, which looks up symbols or writes a log, holds locks of `std` meanwhile, so it must not
/// switch.
pub(super) fn are_patched() -> bool {
    is_patched(What::Files) && !std::thread::panicking()
}

/// Whether a descriptor is a file, and files are patched.
pub(super) fn is_patched_file(fd: c_int) -> bool {
    are_patched() && look_up(fd).is_some_and(|known| known.kind() == Kind::File)
}

/// Reads from a file.
///
/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`), as for libc's `preadv2`.
pub(super) unsafe fn read_at(
    fd: c_int,
    parts: *const iovec,
    count: c_int,
    offset: off64_t,
    flags: c_int,
) -> ssize_t {
    yield_if_due_nounwind();
    // SAFETY: contract of a hook: libc's `preadv64v2` gets the caller's pointers.
    let now = |parts, count, offset| unsafe {
        originals::preadv64v2::call(fd, parts, count, offset, flags | libc::RWF_NOWAIT)
    };
    // SAFETY: contract of a hook: `read_elsewhere` has the same contract.
    let in_pool = |parts, count, offset| unsafe { read_elsewhere(fd, parts, count, offset, flags) };
    // SAFETY: contract of a hook; the parts are read only after the kernel has read into them.
    unsafe { all_or_the_end(parts, count, offset, now, in_pool) }
}

/// Writes to a file.
///
/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`), as for libc's `pwritev2`.
pub(super) unsafe fn write_at(
    fd: c_int,
    parts: *const iovec,
    count: c_int,
    offset: off64_t,
    flags: c_int,
) -> ssize_t {
    yield_if_due_nounwind();
    // SAFETY: contract of a hook: `write_elsewhere` has the same contract.
    let in_pool =
        |parts, count, offset| unsafe { write_elsewhere(fd, parts, count, offset, flags) };
    // SAFETY: contract of a hook: if the parts can be read, there are `count` of them.
    if unsafe { length(parts, count) }.is_none_or(|length| length > MAX_INLINE_WRITE) {
        return in_pool(parts, count, offset);
    }
    // SAFETY: contract of a hook: libc's `pwritev64v2` gets the caller's pointers.
    let now = |parts, count, offset| unsafe {
        originals::pwritev64v2::call(fd, parts, count, offset, flags | libc::RWF_NOWAIT)
    };
    // SAFETY: contract of a hook; the parts are read only after the kernel has written them.
    unsafe { all_or_the_end(parts, count, offset, now, in_pool) }
}

/// Calls `now` as long as it moves bytes, and `elsewhere` for the rest.
///
/// A file is read up to its end, and written in full, as by a blocking call.
///
/// # Safety
///
/// There are `count` parts if the first call succeeds.
unsafe fn all_or_the_end(
    parts: *const iovec,
    count: c_int,
    offset: off64_t,
    now: impl Fn(*const iovec, c_int, off64_t) -> ssize_t,
    elsewhere: impl Fn(*const iovec, c_int, off64_t) -> ssize_t,
) -> ssize_t {
    let first = now(parts, count, offset);
    let Ok(mut done) = usize::try_from(first) else {
        // Any other failure has had its effect, and would not repeat in the same way.
        let must_wait = matches!(errno::get(), libc::EAGAIN | libc::EOPNOTSUPP | libc::ENOSYS);
        return if must_wait { elsewhere(parts, count, offset) } else { first };
    };
    // SAFETY: contract of a hook: if the parts can be read, there are `count` of them.
    let length = unsafe { length(parts, count) }.unwrap_or(0);
    if done == 0 || done >= length {
        return first;
    }
    // SAFETY: contract of a hook: there are `count` parts.
    let mut left = unsafe { Parts::of(parts, count as usize) };
    left.advance(done);
    while let Some((parts, count)) = left.rest() {
        let offset = if offset == HERE { HERE } else { offset + done as off64_t };
        let mut more = now(parts, count, offset);
        if more < 0 {
            more = elsewhere(parts, count, offset);
        }
        let Ok(more @ 1..) = usize::try_from(more) else { break };
        left.advance(more);
        done += more;
    }
    done as ssize_t
}

/// Reads in the blocking pool.
///
/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`), as for libc's `preadv2`.
unsafe fn read_elsewhere(
    fd: c_int,
    parts: *const iovec,
    count: c_int,
    offset: off64_t,
    flags: c_int,
) -> ssize_t {
    // SAFETY: contract of a hook: the pointers are valid on any thread until the suspended caller returns.
    let parts = unsafe { Lent::new(parts) };
    // SAFETY: contract of a hook: the suspended caller lends the parts. A call without flags works also on
    // kernels that do not know any.
    elsewhere("read", move || unsafe {
        match (offset, flags) {
            (HERE, 0) => originals::readv::call(fd, parts.get(), count),
            (_, 0) => originals::preadv64::call(fd, parts.get(), count, offset),
            _ => originals::preadv64v2::call(fd, parts.get(), count, offset, flags),
        }
    })
}

/// Writes in the blocking pool.
///
/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`), as for libc's `pwritev2`.
unsafe fn write_elsewhere(
    fd: c_int,
    parts: *const iovec,
    count: c_int,
    offset: off64_t,
    flags: c_int,
) -> ssize_t {
    // SAFETY: contract of a hook: the pointers are valid on any thread until the suspended caller returns.
    let parts = unsafe { Lent::new(parts) };
    // SAFETY: contract of a hook: libc's `writev` gets the caller's pointers.
    elsewhere("write", move || unsafe {
        match (offset, flags) {
            (HERE, 0) => originals::writev::call(fd, parts.get(), count),
            (_, 0) => originals::pwritev64::call(fd, parts.get(), count, offset),
            _ => originals::pwritev64v2::call(fd, parts.get(), count, offset, flags),
        }
    })
}

/// Calls that take one buffer and an offset.
macro_rules! at {
    ($($name:ident($pointer:ty, $offset:ty) => $by:ident;)*) => {$(
        /// # Safety
        ///
        /// Contract of a hook (`hooks/mod.rs`).
        pub(in crate::monkey) unsafe fn $name(
            fd: c_int,
            buffer: $pointer,
            length: size_t,
            offset: $offset,
        ) -> ssize_t {
            if offset < 0 || length == 0 || !is_length(length) || !is_patched_file(fd) {
                // SAFETY: contract of a hook: libc's function gets the caller's pointers.
                return unsafe { originals::$name::call(fd, buffer, length, offset) };
            }
            let part = iovec { iov_base: buffer as *mut c_void, iov_len: length };
            // SAFETY: contract of a hook: `part` is the caller's buffer.
            unsafe { $by(fd, &part, 1, offset as off64_t, 0) }
        }
    )*};
}

at! {
    pread(*mut c_void, off_t) => read_at;
    pread64(*mut c_void, off64_t) => read_at;
    pwrite(*const c_void, off_t) => write_at;
    pwrite64(*const c_void, off64_t) => write_at;
}

/// Calls that take several buffers and an offset.
macro_rules! at_parts {
    ($($name:ident($offset:ty) => $by:ident;)*) => {$(
        /// # Safety
        ///
        /// Contract of a hook (`hooks/mod.rs`).
        pub(in crate::monkey) unsafe fn $name(
            fd: c_int,
            parts: *const iovec,
            count: c_int,
            offset: $offset,
        ) -> ssize_t {
            if offset < 0 || !is_patched_file(fd) {
                // SAFETY: contract of a hook: libc's function gets the caller's pointers.
                return unsafe { originals::$name::call(fd, parts, count, offset) };
            }
            // SAFETY: contract of a hook: `by` has the same contract.
            unsafe { $by(fd, parts, count, offset as off64_t, 0) }
        }
    )*};
}

at_parts! {
    preadv(off_t) => read_at;
    preadv64(off64_t) => read_at;
    pwritev(off_t) => write_at;
    pwritev64(off64_t) => write_at;
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn fsync(fd: c_int) -> c_int {
    // SAFETY: no pointer is passed.
    let call = || unsafe { originals::fsync::call(fd) };
    if are_patched() { elsewhere("fsync", call) } else { call() }
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn fdatasync(fd: c_int) -> c_int {
    // SAFETY: no pointer is passed.
    let call = || unsafe { originals::fdatasync::call(fd) };
    if are_patched() { elsewhere("fdatasync", call) } else { call() }
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn syncfs(fd: c_int) -> c_int {
    // SAFETY: no pointer is passed.
    let call = || unsafe { originals::syncfs::call(fd) };
    if are_patched() { elsewhere("syncfs", call) } else { call() }
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn sync_file_range(
    fd: c_int,
    offset: off64_t,
    length: off64_t,
    flags: c_uint,
) -> c_int {
    // SAFETY: no pointer is passed.
    let call = || unsafe { originals::sync_file_range::call(fd, offset, length, flags) };
    if are_patched() { elsewhere("sync_file_range", call) } else { call() }
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn msync(place: *mut c_void, length: size_t, flags: c_int) -> c_int {
    // SAFETY: contract of a hook: the pointers are valid on any thread until the suspended caller returns.
    let lent = unsafe { Lent::new(place) };
    // SAFETY: contract of a hook: the suspended caller lends the pointers to libc's `msync`.
    let call = move || unsafe { originals::msync::call(lent.get(), length, flags) };
    if flags & libc::MS_SYNC != 0 && are_patched() { elsewhere("msync", call) } else { call() }
}

/// Reads from a file into one buffer.
///
/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`), as for libc's `read`.
pub(super) unsafe fn read(fd: c_int, buffer: *mut c_void, length: size_t) -> ssize_t {
    let part = iovec { iov_base: buffer, iov_len: length };
    // SAFETY: contract of a hook: `part` is the caller's buffer.
    unsafe { read_at(fd, &part, 1, HERE, 0) }
}

/// Writes one buffer to a file.
///
/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`), as for libc's `write`.
pub(super) unsafe fn write(fd: c_int, buffer: *const c_void, length: size_t) -> ssize_t {
    let part = iovec { iov_base: buffer.cast_mut(), iov_len: length };
    // SAFETY: contract of a hook: `part` is the caller's buffer.
    unsafe { write_at(fd, &part, 1, HERE, 0) }
}
