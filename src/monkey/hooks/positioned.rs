//! Reads and writes with flags, at an offset or at the descriptor's own position.

use super::{files, reading, writing};
use crate::monkey::originals;
use libc::{c_int, iovec, off_t, off64_t, ssize_t};

/// The offset -1 stands for the descriptor's own position.
macro_rules! with_flags {
    ($($name:ident($offset:ty) => $by:path, $plain:path;)*) => {$(
        /// # Safety
        ///
        /// Contract of a hook (`hooks/mod.rs`).
        pub(in crate::monkey) unsafe fn $name(
            fd: c_int,
            parts: *const iovec,
            count: c_int,
            offset: $offset,
            flags: c_int,
        ) -> ssize_t {
            if flags & libc::RWF_NOWAIT == 0 && offset >= -1 && files::is_patched_file(fd) {
                // SAFETY: contract of a hook: `by` has the same contract.
                return unsafe { $by(fd, parts, count, offset as off64_t, flags) };
            }
            if flags & libc::RWF_NOWAIT == 0 && offset == -1 {
                // SAFETY: contract of a hook: `plain` has the same contract.
                return unsafe { $plain(fd, parts, count, flags) };
            }
            // SAFETY: contract of a hook: libc's function gets the caller's pointers.
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
