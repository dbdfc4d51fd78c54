//! Helpers for reads and writes of any descriptor.

use super::files;
use super::parts::has_bytes;
use crate::monkey::descriptors::look_up;
use crate::monkey::gate::is_patched;
use crate::monkey::kinds::What;
use crate::monkey::known::Known;
use crate::sys::descriptor::Kind;
use libc::{c_int, iovec};
use std::rc::Rc;

/// Looks up a descriptor, if its calls are patched. Files are patched separately.
pub(super) fn patched(fd: c_int) -> Option<Rc<Known>> {
    look_up(fd).filter(|known| match known.kind() {
        Kind::File => files::are_patched(),
        _ => is_patched(What::Sockets),
    })
}

/// Whether a call with parts may wait.
///
/// It does not without bytes, nor with flags that only files support: on any other descriptor those fail at
/// once.
///
/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`), as for libc's `preadv2`.
pub(super) unsafe fn may_wait(
    known: &Known,
    parts: *const iovec,
    count: c_int,
    flags: c_int,
) -> bool {
    const OF_FILES: c_int = libc::RWF_ATOMIC | libc::RWF_DONTCACHE;
    // SAFETY: contract of a hook: if the parts can be read, there are `count` of them.
    (flags & OF_FILES == 0 || known.kind() == Kind::File) && unsafe { has_bytes(parts, count) }
}

/// Whether a call failed because this descriptor, or this kernel, supports no non-blocking variant.
pub(super) fn is_unknown(errno: c_int) -> bool {
    matches!(errno, libc::EOPNOTSUPP | libc::ENOSYS)
}
