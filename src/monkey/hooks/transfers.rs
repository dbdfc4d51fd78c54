//! What reads and writes of any descriptor share.

use super::files;
use super::parts::has_bytes;
use crate::monkey::descriptors::look_up;
use crate::monkey::gate::is_patched;
use crate::monkey::kinds::What;
use crate::monkey::known::Known;
use crate::sys::descriptor::Kind;
use libc::{c_int, iovec};
use std::rc::Rc;

/// What is known of a descriptor, if its calls are patched: those of a file are so for themselves.
pub(super) fn patched(fd: c_int) -> Option<Rc<Known>> {
    look_up(fd).filter(|known| match known.kind() {
        Kind::File => files::are_patched(),
        _ => is_patched(What::Sockets),
    })
}

/// Whether a call with parts may wait: not with no bytes, and not with flags that only files have, with which
/// all else fails at once.
///
/// # Safety
///
/// As libc's `preadv2`.
pub(super) unsafe fn may_wait(
    known: &Known,
    parts: *const iovec,
    count: c_int,
    flags: c_int,
) -> bool {
    const OF_FILES: c_int = libc::RWF_ATOMIC | libc::RWF_DONTCACHE;
    // SAFETY: the caller's.
    (flags & OF_FILES == 0 || known.kind() == Kind::File) && unsafe { has_bytes(parts, count) }
}

/// Whether a call failed since this descriptor, or this kernel, has none that does not block.
pub(super) fn is_unknown(errno: c_int) -> bool {
    matches!(errno, libc::EOPNOTSUPP | libc::ENOSYS)
}
