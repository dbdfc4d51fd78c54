//! The variants that C code calls when it is compiled with `_FORTIFY_SOURCE`.
//!
//! They also receive the size of the buffer. If it is too small, libc's function is called, which ends the
//! program.

use super::{files, polling, reading, receiving};
use crate::monkey::originals;
use libc::{
    c_int, c_void, nfds_t, off_t, off64_t, pollfd, sigset_t, size_t, sockaddr, socklen_t, ssize_t,
    timespec,
};

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn recv(
    fd: c_int,
    buffer: *mut c_void,
    length: size_t,
    room: size_t,
    flags: c_int,
) -> ssize_t {
    if length > room {
        // SAFETY: contract of a hook: libc's `__recv_chk` gets the caller's pointers.
        return unsafe { originals::__recv_chk::call(fd, buffer, length, room, flags) };
    }
    // SAFETY: contract of a hook: `recv` has the same contract.
    unsafe { receiving::recv(fd, buffer, length, flags) }
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn recvfrom(
    fd: c_int,
    buffer: *mut c_void,
    length: size_t,
    room: size_t,
    flags: c_int,
    address: *mut sockaddr,
    address_room: *mut socklen_t,
) -> ssize_t {
    if length > room {
        // SAFETY: contract of a hook: libc's `__recvfrom_chk` gets the caller's pointers.
        return unsafe {
            originals::__recvfrom_chk::call(fd, buffer, length, room, flags, address, address_room)
        };
    }
    // SAFETY: contract of a hook: `recvfrom` has the same contract.
    unsafe { receiving::recvfrom(fd, buffer, length, flags, address, address_room) }
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn read(
    fd: c_int,
    buffer: *mut c_void,
    length: size_t,
    room: size_t,
) -> ssize_t {
    if length > room {
        // SAFETY: contract of a hook: libc's `__read_chk` gets the caller's pointers.
        return unsafe { originals::__read_chk::call(fd, buffer, length, room) };
    }
    // SAFETY: contract of a hook: `reading::read` has the same contract.
    unsafe { reading::read(fd, buffer, length) }
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn pread(
    fd: c_int,
    buffer: *mut c_void,
    length: size_t,
    offset: off_t,
    room: size_t,
) -> ssize_t {
    if length > room {
        // SAFETY: contract of a hook: libc's `__pread_chk` gets the caller's pointers.
        return unsafe { originals::__pread_chk::call(fd, buffer, length, offset, room) };
    }
    // SAFETY: contract of a hook: `pread` has the same contract.
    unsafe { files::pread(fd, buffer, length, offset) }
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn pread64(
    fd: c_int,
    buffer: *mut c_void,
    length: size_t,
    offset: off64_t,
    room: size_t,
) -> ssize_t {
    if length > room {
        // SAFETY: contract of a hook: libc's `__pread64_chk` gets the caller's pointers.
        return unsafe { originals::__pread64_chk::call(fd, buffer, length, offset, room) };
    }
    // SAFETY: contract of a hook: `pread64` has the same contract.
    unsafe { files::pread64(fd, buffer, length, offset) }
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn poll(
    all: *mut pollfd,
    count: nfds_t,
    millis: c_int,
    room: size_t,
) -> c_int {
    if room / size_of::<pollfd>() < count as usize {
        // SAFETY: contract of a hook: libc's `__poll_chk` gets the caller's pointers.
        return unsafe { originals::__poll_chk::call(all, count, millis, room) };
    }
    // SAFETY: contract of a hook: `poll` has the same contract.
    unsafe { polling::poll(all, count, millis) }
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn ppoll(
    all: *mut pollfd,
    count: nfds_t,
    time: *const timespec,
    mask: *const sigset_t,
    room: size_t,
) -> c_int {
    if room / size_of::<pollfd>() < count as usize {
        // SAFETY: contract of a hook: libc's `__ppoll_chk` gets the caller's pointers.
        return unsafe { originals::__ppoll_chk::call(all, count, time, mask, room) };
    }
    // SAFETY: contract of a hook: `ppoll` has the same contract.
    unsafe { polling::ppoll(all, count, time, mask) }
}
