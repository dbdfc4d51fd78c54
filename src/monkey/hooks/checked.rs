//! The variants that C calls when it is compiled with `_FORTIFY_SOURCE`: they are told of the room as well.
//! It is for libc to end the program if that is too small.

use super::{files, polling, reading, receiving};
use crate::monkey::originals;
use libc::{
    c_int, c_void, nfds_t, off_t, off64_t, pollfd, sigset_t, size_t, sockaddr, socklen_t, ssize_t,
    timespec,
};

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn recv(
    fd: c_int,
    buffer: *mut c_void,
    length: size_t,
    room: size_t,
    flags: c_int,
) -> ssize_t {
    if length > room {
        // SAFETY: the caller's.
        return unsafe { originals::__recv_chk::call(fd, buffer, length, room, flags) };
    }
    // SAFETY: the caller's.
    unsafe { receiving::recv(fd, buffer, length, flags) }
}

/// # Safety
///
/// As libc's.
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
        // SAFETY: the caller's.
        return unsafe {
            originals::__recvfrom_chk::call(fd, buffer, length, room, flags, address, address_room)
        };
    }
    // SAFETY: the caller's.
    unsafe { receiving::recvfrom(fd, buffer, length, flags, address, address_room) }
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn read(
    fd: c_int,
    buffer: *mut c_void,
    length: size_t,
    room: size_t,
) -> ssize_t {
    if length > room {
        // SAFETY: the caller's.
        return unsafe { originals::__read_chk::call(fd, buffer, length, room) };
    }
    // SAFETY: the caller's.
    unsafe { reading::read(fd, buffer, length) }
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn pread(
    fd: c_int,
    buffer: *mut c_void,
    length: size_t,
    offset: off_t,
    room: size_t,
) -> ssize_t {
    if length > room {
        // SAFETY: the caller's.
        return unsafe { originals::__pread_chk::call(fd, buffer, length, offset, room) };
    }
    // SAFETY: the caller's.
    unsafe { files::pread(fd, buffer, length, offset) }
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn pread64(
    fd: c_int,
    buffer: *mut c_void,
    length: size_t,
    offset: off64_t,
    room: size_t,
) -> ssize_t {
    if length > room {
        // SAFETY: the caller's.
        return unsafe { originals::__pread64_chk::call(fd, buffer, length, offset, room) };
    }
    // SAFETY: the caller's.
    unsafe { files::pread64(fd, buffer, length, offset) }
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn poll(
    all: *mut pollfd,
    count: nfds_t,
    millis: c_int,
    room: size_t,
) -> c_int {
    if room / size_of::<pollfd>() < count as usize {
        // SAFETY: the caller's.
        return unsafe { originals::__poll_chk::call(all, count, millis, room) };
    }
    // SAFETY: the caller's.
    unsafe { polling::poll(all, count, millis) }
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn ppoll(
    all: *mut pollfd,
    count: nfds_t,
    time: *const timespec,
    mask: *const sigset_t,
    room: size_t,
) -> c_int {
    if room / size_of::<pollfd>() < count as usize {
        // SAFETY: the caller's.
        return unsafe { originals::__ppoll_chk::call(all, count, time, mask, room) };
    }
    // SAFETY: the caller's.
    unsafe { polling::ppoll(all, count, time, mask) }
}
