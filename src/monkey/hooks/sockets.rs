//! Sockets. Each call is made so that it cannot block, by a flag of its own: the descriptor's are the
//! program's. A kill or a limit has a call that waits fail with `ECANCELED`; what it has sent by then counts.

use super::parts::Parts;
use super::sleeping::duration;
use crate::hub::{Direction, breathe_quietly};
use crate::monkey::descriptors::{Kind, Known, look_up, settings_changed};
use crate::monkey::table;
use crate::sys::clock;
use libc::{
    c_int, c_uint, c_void, iovec, mmsghdr, msghdr, size_t, sockaddr, socklen_t, ssize_t, timespec,
};
use std::ptr;
use std::time::Duration;

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn recv(
    fd: c_int,
    buffer: *mut c_void,
    length: size_t,
    flags: c_int,
) -> ssize_t {
    if !waits(flags) {
        // SAFETY: the caller's.
        return unsafe { table::recv::original(fd, buffer, length, flags) };
    }
    let done = look_up(fd).and_then(|known| {
        // SAFETY: the caller's.
        unsafe { receive(&known, fd, buffer, length, flags) }
    });
    // SAFETY: the caller's.
    done.unwrap_or_else(|| unsafe { table::recv::blocking(fd, buffer, length, flags) })
}

/// Whether a call with these flags may wait.
fn waits(flags: c_int) -> bool {
    flags & libc::MSG_DONTWAIT == 0
}

/// As `recv`. `None` if there is nothing but to let it block.
///
/// # Safety
///
/// As libc's `recv`.
pub(super) unsafe fn receive(
    known: &Known,
    fd: c_int,
    buffer: *mut c_void,
    length: size_t,
    flags: c_int,
) -> Option<ssize_t> {
    breathe_quietly();
    let to_the_end = flags & libc::MSG_WAITALL != 0 && flags & libc::MSG_PEEK == 0;
    let mut got = 0;
    loop {
        let part = known.attempt_part(Direction::Read, "recv", got > 0, || {
            // SAFETY: the caller's; what was got lies before.
            unsafe {
                table::recv::original(
                    fd,
                    buffer.byte_add(got),
                    length - got,
                    flags | libc::MSG_DONTWAIT,
                )
            }
        })?;
        let Ok(count) = usize::try_from(part) else {
            return Some(if got > 0 { got as ssize_t } else { part });
        };
        got += count;
        if flags == 0 && known.kind() == Kind::Stream && (1..length).contains(&count) {
            known.is_drained();
        }
        if !to_the_end || count == 0 || got == length {
            return Some(got as ssize_t);
        }
    }
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn recvfrom(
    fd: c_int,
    buffer: *mut c_void,
    length: size_t,
    flags: c_int,
    address: *mut sockaddr,
    room: *mut socklen_t,
) -> ssize_t {
    if address.is_null() {
        // SAFETY: the caller's.
        return unsafe { recv(fd, buffer, length, flags) };
    }
    if !waits(flags) {
        // SAFETY: the caller's.
        return unsafe { table::recvfrom::original(fd, buffer, length, flags, address, room) };
    }
    let done = look_up(fd).and_then(|known| {
        breathe_quietly();
        known.attempt(Direction::Read, "recvfrom", || {
            let flags = flags | libc::MSG_DONTWAIT;
            // SAFETY: the caller's.
            unsafe { table::recvfrom::original(fd, buffer, length, flags, address, room) }
        })
    });
    done.unwrap_or_else(|| {
        // SAFETY: the caller's.
        unsafe { table::recvfrom::blocking(fd, buffer, length, flags, address, room) }
    })
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn recvmsg(fd: c_int, message: *mut msghdr, flags: c_int) -> ssize_t {
    if !waits(flags) {
        // SAFETY: the caller's.
        return unsafe { table::recvmsg::original(fd, message, flags) };
    }
    let done = look_up(fd).and_then(|known| {
        // SAFETY: the caller's.
        unsafe { receive_message(&known, fd, message, flags) }
    });
    // SAFETY: the caller's.
    done.unwrap_or_else(|| unsafe { table::recvmsg::blocking(fd, message, flags) })
}

/// As `recvmsg`. `None` if there is nothing but to let it block.
///
/// # Safety
///
/// As libc's `recvmsg`.
unsafe fn receive_message(
    known: &Known,
    fd: c_int,
    message: *mut msghdr,
    flags: c_int,
) -> Option<ssize_t> {
    breathe_quietly();
    known.attempt(Direction::Read, "recvmsg", || {
        // SAFETY: the caller's.
        unsafe { table::recvmsg::original(fd, message, flags | libc::MSG_DONTWAIT) }
    })
}

/// # Safety
///
/// As libc's. The time is looked at after each message, as Linux does, and what is left of it written back.
pub(in crate::monkey) unsafe fn recvmmsg(
    fd: c_int,
    messages: *mut mmsghdr,
    count: c_uint,
    flags: c_int,
    time: *mut timespec,
) -> c_int {
    // SAFETY: the caller's.
    let limit = unsafe { time.as_ref() }.map(duration);
    let known = waits(flags).then(|| look_up(fd)).flatten();
    let (Some(known), true) = (known, count > 0 && limit != Some(None)) else {
        // SAFETY: the caller's.
        return unsafe { table::recvmmsg::original(fd, messages, count, flags, time) };
    };
    let limit = limit.flatten();
    breathe_quietly();
    let begin = clock::now();
    let (mut got, mut left) = (0, limit);
    loop {
        let part = known.attempt_part(Direction::Read, "recvmmsg", got > 0, || {
            let flags = flags | libc::MSG_DONTWAIT;
            // SAFETY: the caller's; what was got lies before.
            let part = unsafe {
                let rest = messages.add(got as usize);
                table::recvmmsg::original(fd, rest, count - got, flags, ptr::null_mut())
            };
            part as isize
        });
        let Some(part) = part else {
            // SAFETY: the caller's.
            return unsafe { table::recvmmsg::blocking(fd, messages, count, flags, time) };
        };
        let Ok(part) = c_uint::try_from(part) else {
            if got == 0 {
                return part as c_int;
            }
            break;
        };
        got += part;
        left = limit.map(|limit| limit.saturating_sub(Duration::from_nanos(clock::now() - begin)));
        let is_enough = got >= count || flags & libc::MSG_WAITFORONE != 0;
        if is_enough || left.is_some_and(|left| left.is_zero()) || known.is_nonblocking() {
            break;
        }
    }
    if let Some(left) = left {
        let left = timespec { tv_sec: left.as_secs() as _, tv_nsec: left.subsec_nanos().into() };
        // SAFETY: the caller's; not null.
        unsafe { time.write(left) };
    }
    got as c_int
}

/// `readv` of a socket. `None` if there is nothing but to let it block.
///
/// # Safety
///
/// As libc's `readv`.
pub(super) unsafe fn receive_parts(
    known: &Known,
    fd: c_int,
    parts: *const iovec,
    count: c_int,
) -> Option<ssize_t> {
    let mut message = of_parts(parts, count);
    // SAFETY: a message of the caller's parts.
    unsafe { receive_message(known, fd, &mut message, 0) }
}

fn of_parts(parts: *const iovec, count: c_int) -> msghdr {
    // SAFETY: all-zero is a message of nothing.
    let mut message: msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = parts.cast_mut();
    message.msg_iovlen = count as usize;
    message
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn send(
    fd: c_int,
    buffer: *const c_void,
    length: size_t,
    flags: c_int,
) -> ssize_t {
    // SAFETY: the caller's.
    unsafe { sendto(fd, buffer, length, flags, ptr::null(), 0) }
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn sendto(
    fd: c_int,
    buffer: *const c_void,
    length: size_t,
    flags: c_int,
    address: *const sockaddr,
    room: socklen_t,
) -> ssize_t {
    if !waits(flags) {
        // SAFETY: the caller's.
        return unsafe { table::sendto::original(fd, buffer, length, flags, address, room) };
    }
    let done = look_up(fd).and_then(|known| {
        // SAFETY: the caller's.
        unsafe { transmit(&known, fd, buffer, length, flags, address, room) }
    });
    // SAFETY: the caller's.
    done.unwrap_or_else(|| unsafe {
        table::sendto::blocking(fd, buffer, length, flags, address, room)
    })
}

/// As `sendto`. A stream takes all, as it does where it blocks, unless something fails on the way. `None` if
/// there is nothing but to let it block.
///
/// # Safety
///
/// As libc's `sendto`.
pub(super) unsafe fn transmit(
    known: &Known,
    fd: c_int,
    buffer: *const c_void,
    length: size_t,
    flags: c_int,
    address: *const sockaddr,
    room: socklen_t,
) -> Option<ssize_t> {
    breathe_quietly();
    let mut sent = 0;
    loop {
        let part = known.attempt_part(Direction::Write, "send", sent > 0, || {
            let flags = flags | libc::MSG_DONTWAIT;
            // SAFETY: the caller's; what was sent lies before.
            unsafe {
                let rest = buffer.byte_add(sent);
                table::sendto::original(fd, rest, length - sent, flags, address, room)
            }
        })?;
        let Ok(count) = usize::try_from(part) else {
            return Some(if sent > 0 { sent as ssize_t } else { part });
        };
        sent += count;
        if sent >= length || known.kind() != Kind::Stream || known.is_nonblocking() {
            return Some(sent as ssize_t);
        }
    }
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn sendmsg(
    fd: c_int,
    message: *const msghdr,
    flags: c_int,
) -> ssize_t {
    if !waits(flags) {
        // SAFETY: the caller's.
        return unsafe { table::sendmsg::original(fd, message, flags) };
    }
    let done = look_up(fd).and_then(|known| {
        // SAFETY: the caller's.
        unsafe { transmit_message(&known, fd, message, flags) }
    });
    // SAFETY: the caller's.
    done.unwrap_or_else(|| unsafe { table::sendmsg::blocking(fd, message, flags) })
}

/// As `sendmsg`, and as [`transmit`] of a stream.
///
/// # Safety
///
/// As libc's `sendmsg`.
unsafe fn transmit_message(
    known: &Known,
    fd: c_int,
    message: *const msghdr,
    flags: c_int,
) -> Option<ssize_t> {
    breathe_quietly();
    let attempt = |message: *const msghdr, has_some| {
        known.attempt_part(Direction::Write, "sendmsg", has_some, || {
            // SAFETY: the caller's message, or what is left of it.
            unsafe { table::sendmsg::original(fd, message, flags | libc::MSG_DONTWAIT) }
        })
    };
    let first = attempt(message, false)?;
    let Ok(mut sent) = usize::try_from(first) else { return Some(first) };
    if known.kind() != Kind::Stream || known.is_nonblocking() {
        return Some(first);
    }
    // SAFETY: the caller's; it was read by the kernel just now.
    let mut parts = unsafe { Parts::of((*message).msg_iov, (*message).msg_iovlen) };
    parts.advance(sent);
    while let Some((rest, count)) = parts.rest() {
        // What goes along with the first byte has gone.
        let Ok(count) = usize::try_from(attempt(&of_parts(rest, count), true)?) else { break };
        parts.advance(count);
        sent += count;
    }
    Some(sent as ssize_t)
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn sendmmsg(
    fd: c_int,
    messages: *mut mmsghdr,
    count: c_uint,
    flags: c_int,
) -> c_int {
    let Some(known) = waits(flags).then(|| look_up(fd)).flatten() else {
        // SAFETY: the caller's.
        return unsafe { table::sendmmsg::original(fd, messages, count, flags) };
    };
    // As many as the kernel takes.
    let count = count.min(libc::UIO_MAXIOV as c_uint);
    for number in 0..count {
        // SAFETY: the caller's.
        let message = unsafe { messages.add(number as usize) };
        // SAFETY: the caller's.
        let sent = unsafe { transmit_message(&known, fd, &raw const (*message).msg_hdr, flags) };
        match sent {
            // SAFETY: the caller's.
            Some(sent @ 0..) => unsafe { (*message).msg_len = sent as c_uint },
            _ if number > 0 => return number as c_int,
            Some(error) => return error as c_int,
            // SAFETY: the caller's.
            None => return unsafe { table::sendmmsg::blocking(fd, messages, count, flags) },
        }
    }
    count as c_int
}

/// `writev` to a socket. `None` if there is nothing but to let it block.
///
/// # Safety
///
/// As libc's `writev`.
pub(super) unsafe fn transmit_parts(
    known: &Known,
    fd: c_int,
    parts: *const iovec,
    count: c_int,
) -> Option<ssize_t> {
    // SAFETY: a message of the caller's parts.
    unsafe { transmit_message(known, fd, &of_parts(parts, count), 0) }
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn setsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *const c_void,
    length: socklen_t,
) -> c_int {
    // SAFETY: the caller's.
    let result = unsafe { table::setsockopt::original(fd, level, name, value, length) };
    if level == libc::SOL_SOCKET && matches!(name, libc::SO_RCVTIMEO | libc::SO_SNDTIMEO) {
        settings_changed(fd);
    }
    result
}
