//! Copies that the kernel makes from one descriptor to another. There is no way to have one of these not
//! block at either end, so a thread makes them.

use crate::monkey::elsewhere::{Lent, elsewhere};
use crate::monkey::table;
use libc::{c_int, c_uint, off_t, off64_t, size_t, ssize_t};

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn sendfile(
    to: c_int,
    from: c_int,
    offset: *mut off_t,
    count: size_t,
) -> ssize_t {
    // SAFETY: the caller's, who is suspended until the call is over.
    let offset = unsafe { Lent::new(offset) };
    // SAFETY: the caller's.
    elsewhere("sendfile", move || unsafe {
        table::sendfile::original(to, from, offset.get(), count)
    })
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn sendfile64(
    to: c_int,
    from: c_int,
    offset: *mut off64_t,
    count: size_t,
) -> ssize_t {
    // SAFETY: the caller's, who is suspended until the call is over.
    let offset = unsafe { Lent::new(offset) };
    // SAFETY: the caller's.
    elsewhere("sendfile64", move || unsafe {
        table::sendfile64::original(to, from, offset.get(), count)
    })
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn splice(
    from: c_int,
    from_offset: *mut off64_t,
    to: c_int,
    to_offset: *mut off64_t,
    length: size_t,
    flags: c_uint,
) -> ssize_t {
    // SAFETY: the caller's, who is suspended until the call is over.
    let from_offset = unsafe { Lent::new(from_offset) };
    // SAFETY: the caller's, who is suspended until the call is over.
    let to_offset = unsafe { Lent::new(to_offset) };
    // SAFETY: the caller's.
    elsewhere("splice", move || unsafe {
        table::splice::original(from, from_offset.get(), to, to_offset.get(), length, flags)
    })
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn tee(
    from: c_int,
    to: c_int,
    length: size_t,
    flags: c_uint,
) -> ssize_t {
    // SAFETY: the caller's.
    elsewhere("tee", move || unsafe { table::tee::original(from, to, length, flags) })
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn copy_file_range(
    from: c_int,
    from_offset: *mut off64_t,
    to: c_int,
    to_offset: *mut off64_t,
    length: size_t,
    flags: c_uint,
) -> ssize_t {
    // SAFETY: the caller's, who is suspended until the call is over.
    let from_offset = unsafe { Lent::new(from_offset) };
    // SAFETY: the caller's, who is suspended until the call is over.
    let to_offset = unsafe { Lent::new(to_offset) };
    // SAFETY: the caller's.
    elsewhere("copy_file_range", move || unsafe {
        table::copy_file_range::original(
            from,
            from_offset.get(),
            to,
            to_offset.get(),
            length,
            flags,
        )
    })
}
