//! Regular files. What is in the page cache is read at once (`RWF_NOWAIT`), the rest by a thread, which
//! writes as well. A number that is a file's is never waited for otherwise.

use super::parts::{Parts, is_length, length};
use crate::hub::yield_if_due_nounwind;
use crate::monkey::blocking_pool::{Lent, elsewhere};
use crate::monkey::descriptors::look_up;
use crate::monkey::gate::is_patched;
use crate::monkey::kinds::What;
use crate::monkey::{errno, originals};
use crate::sys::descriptor::Kind;
use libc::{c_int, c_uint, c_void, iovec, off_t, off64_t, size_t, ssize_t};

/// The descriptor's own position.
pub(super) const HERE: off64_t = -1;

/// A write that is longer is left to a thread as a whole: one that is taken apart could have another's
/// between its parts.
const SMALL: usize = 4096;

/// Whether files are patched. Not for one that panics: a hook of panics, which looks for symbols or writes
/// a log, must not switch, and holds locks of std's meanwhile.
pub(super) fn are_patched() -> bool {
    is_patched(What::Files) && !std::thread::panicking()
}

/// Whether a descriptor is a file, and files are patched.
pub(super) fn is_ours(fd: c_int) -> bool {
    are_patched() && look_up(fd).is_some_and(|known| known.kind() == Kind::File)
}

/// Reads from a file.
///
/// # Safety
///
/// As libc's `preadv2`.
pub(super) unsafe fn read_at(
    fd: c_int,
    parts: *const iovec,
    count: c_int,
    offset: off64_t,
    flags: c_int,
) -> ssize_t {
    yield_if_due_nounwind();
    // SAFETY: the caller's.
    let now = |parts, count, offset| unsafe {
        originals::preadv64v2::call(fd, parts, count, offset, flags | libc::RWF_NOWAIT)
    };
    // SAFETY: the caller's.
    let by_a_thread =
        |parts, count, offset| unsafe { read_elsewhere(fd, parts, count, offset, flags) };
    // SAFETY: the caller's; the kernel looks at them afterwards, if it has read into them.
    unsafe { all_or_the_end(parts, count, offset, now, by_a_thread) }
}

/// Writes to a file.
///
/// # Safety
///
/// As libc's `pwritev2`.
pub(super) unsafe fn write_at(
    fd: c_int,
    parts: *const iovec,
    count: c_int,
    offset: off64_t,
    flags: c_int,
) -> ssize_t {
    yield_if_due_nounwind();
    // SAFETY: the caller's.
    let by_a_thread =
        |parts, count, offset| unsafe { write_elsewhere(fd, parts, count, offset, flags) };
    // SAFETY: the caller's.
    if unsafe { length(parts, count) }.is_none_or(|length| length > SMALL) {
        return by_a_thread(parts, count, offset);
    }
    // SAFETY: the caller's.
    let now = |parts, count, offset| unsafe {
        originals::pwritev64v2::call(fd, parts, count, offset, flags | libc::RWF_NOWAIT)
    };
    // SAFETY: the caller's; the kernel has looked at them.
    unsafe { all_or_the_end(parts, count, offset, now, by_a_thread) }
}

/// A call is made `now` for as long as that brings something, and what is left is done `elsewhere`: a file
/// is read up to its end, and written in full, as where it blocks.
///
/// # Safety
///
/// So many parts.
unsafe fn all_or_the_end(
    parts: *const iovec,
    count: c_int,
    offset: off64_t,
    now: impl Fn(*const iovec, c_int, off64_t) -> ssize_t,
    elsewhere: impl Fn(*const iovec, c_int, off64_t) -> ssize_t,
) -> ssize_t {
    let first = now(parts, count, offset);
    let Ok(mut done) = usize::try_from(first) else {
        // What has failed otherwise has had its effect, and would not fail again in the same way.
        let is_to_be_waited_for =
            matches!(errno::get(), libc::EAGAIN | libc::EOPNOTSUPP | libc::ENOSYS);
        return if is_to_be_waited_for { elsewhere(parts, count, offset) } else { first };
    };
    // SAFETY: the caller's.
    let length = unsafe { length(parts, count) }.unwrap_or(0);
    if done == 0 || done >= length {
        return first;
    }
    // SAFETY: the caller's.
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

/// # Safety
///
/// As libc's `preadv2`.
unsafe fn read_elsewhere(
    fd: c_int,
    parts: *const iovec,
    count: c_int,
    offset: off64_t,
    flags: c_int,
) -> ssize_t {
    // SAFETY: the caller's, who is suspended until the call is over.
    let parts = unsafe { Lent::new(parts) };
    // SAFETY: the caller's. Without flags, so that it does without a kernel that knows them.
    elsewhere("read", move || unsafe {
        match (offset, flags) {
            (HERE, 0) => originals::readv::call(fd, parts.get(), count),
            (_, 0) => originals::preadv64::call(fd, parts.get(), count, offset),
            _ => originals::preadv64v2::call(fd, parts.get(), count, offset, flags),
        }
    })
}

/// # Safety
///
/// As libc's `pwritev2`.
unsafe fn write_elsewhere(
    fd: c_int,
    parts: *const iovec,
    count: c_int,
    offset: off64_t,
    flags: c_int,
) -> ssize_t {
    // SAFETY: the caller's, who is suspended until the call is over.
    let parts = unsafe { Lent::new(parts) };
    // SAFETY: the caller's.
    elsewhere("write", move || unsafe {
        match (offset, flags) {
            (HERE, 0) => originals::writev::call(fd, parts.get(), count),
            (_, 0) => originals::pwritev64::call(fd, parts.get(), count, offset),
            _ => originals::pwritev64v2::call(fd, parts.get(), count, offset, flags),
        }
    })
}

/// The calls that take one buffer, and a position.
macro_rules! at {
    ($($name:ident($pointer:ty, $offset:ty) => $by:ident;)*) => {$(
        /// # Safety
        ///
        /// As libc's.
        pub(in crate::monkey) unsafe fn $name(
            fd: c_int,
            buffer: $pointer,
            length: size_t,
            offset: $offset,
        ) -> ssize_t {
            if offset < 0 || length == 0 || !is_length(length) || !is_ours(fd) {
                // SAFETY: the caller's.
                return unsafe { originals::$name::call(fd, buffer, length, offset) };
            }
            let part = iovec { iov_base: buffer as *mut c_void, iov_len: length };
            // SAFETY: the caller's buffer.
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

/// Those that take several.
macro_rules! at_parts {
    ($($name:ident($offset:ty) => $by:ident;)*) => {$(
        /// # Safety
        ///
        /// As libc's.
        pub(in crate::monkey) unsafe fn $name(
            fd: c_int,
            parts: *const iovec,
            count: c_int,
            offset: $offset,
        ) -> ssize_t {
            if offset < 0 || !is_ours(fd) {
                // SAFETY: the caller's.
                return unsafe { originals::$name::call(fd, parts, count, offset) };
            }
            // SAFETY: the caller's.
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
/// As libc's.
pub(in crate::monkey) unsafe fn fsync(fd: c_int) -> c_int {
    // SAFETY: no memory is involved.
    let call = || unsafe { originals::fsync::call(fd) };
    if are_patched() { elsewhere("fsync", call) } else { call() }
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn fdatasync(fd: c_int) -> c_int {
    // SAFETY: no memory is involved.
    let call = || unsafe { originals::fdatasync::call(fd) };
    if are_patched() { elsewhere("fdatasync", call) } else { call() }
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn syncfs(fd: c_int) -> c_int {
    // SAFETY: no memory is involved.
    let call = || unsafe { originals::syncfs::call(fd) };
    if are_patched() { elsewhere("syncfs", call) } else { call() }
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn sync_file_range(
    fd: c_int,
    offset: off64_t,
    length: off64_t,
    flags: c_uint,
) -> c_int {
    // SAFETY: no memory is involved.
    let call = || unsafe { originals::sync_file_range::call(fd, offset, length, flags) };
    if are_patched() { elsewhere("sync_file_range", call) } else { call() }
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn msync(place: *mut c_void, length: size_t, flags: c_int) -> c_int {
    // SAFETY: the caller's, who is suspended until the call is over.
    let lent = unsafe { Lent::new(place) };
    // SAFETY: the caller's.
    let call = move || unsafe { originals::msync::call(lent.get(), length, flags) };
    if flags & libc::MS_SYNC != 0 && are_patched() { elsewhere("msync", call) } else { call() }
}

/// A file is read by one buffer.
///
/// # Safety
///
/// As libc's `read`.
pub(super) unsafe fn read(fd: c_int, buffer: *mut c_void, length: size_t) -> ssize_t {
    let part = iovec { iov_base: buffer, iov_len: length };
    // SAFETY: the caller's buffer.
    unsafe { read_at(fd, &part, 1, HERE, 0) }
}

/// A file is written by one buffer.
///
/// # Safety
///
/// As libc's `write`.
pub(super) unsafe fn write(fd: c_int, buffer: *const c_void, length: size_t) -> ssize_t {
    let part = iovec { iov_base: buffer.cast_mut(), iov_len: length };
    // SAFETY: the caller's buffer.
    unsafe { write_at(fd, &part, 1, HERE, 0) }
}
