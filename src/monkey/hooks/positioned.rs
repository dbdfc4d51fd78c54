//! Reads and writes with flags, at a position or at the descriptor's own.

use super::{files, reading, writing};
use crate::monkey::originals;
use libc::{c_int, iovec, off_t, off64_t, ssize_t};

/// The position -1 is the descriptor's own.
macro_rules! with_flags {
    ($($name:ident($offset:ty) => $by:path, $plain:path;)*) => {$(
        /// # Safety
        ///
        /// As libc's.
        pub(in crate::monkey) unsafe fn $name(
            fd: c_int,
            parts: *const iovec,
            count: c_int,
            offset: $offset,
            flags: c_int,
        ) -> ssize_t {
            if flags & libc::RWF_NOWAIT == 0 && offset >= -1 && files::is_ours(fd) {
                // SAFETY: the caller's.
                return unsafe { $by(fd, parts, count, offset as off64_t, flags) };
            }
            if flags & libc::RWF_NOWAIT == 0 && offset == -1 {
                // SAFETY: the caller's.
                return unsafe { $plain(fd, parts, count, flags) };
            }
            // SAFETY: the caller's.
            unsafe { originals::$name::call(fd, parts, count, offset, flags) }
        }
    )*};
}

with_flags! {
    preadv2(off_t) => files::read_at, reading::readv_with;
    preadv64v2(off64_t) => files::read_at, reading::readv_with;
    pwritev2(off_t) => files::write_at, writing::writev_with;
    pwritev64v2(off64_t) => files::write_at, writing::writev_with;
}
