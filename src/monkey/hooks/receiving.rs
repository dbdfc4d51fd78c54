//! Receiving from sockets.
//!
//! Each attempt has `MSG_DONTWAIT`, a flag of the call; the flags of the descriptor belong to the program.
//!
//! What a blocking call does beyond an attempt is done here, following the sources in net/ of Linux:
//!
//! - on a stream it waits for all of the buffer (`MSG_WAITALL`), or for `SO_RCVLOWAT` bytes;
//! - it stops nevertheless where an attempt stops: before urgent data, after descriptors that were passed,
//!   and where the bytes of another sender begin;
//! - with `MSG_ERRQUEUE` or `MSG_OOB` it never waits;
//! - bytes received before an error count, and the next call reports the error.

use super::parts::{Parts, is_message};
use super::sleeping::duration;
use crate::hub::Direction;
use crate::monkey::attempts::{Attempts, Outcome};
use crate::monkey::descriptors::look_up;
use crate::monkey::known::Known;
use crate::monkey::{errno, originals};
use crate::sys::descriptor::Kind;
use crate::sys::{clock, user_memory};
use libc::{
    c_int, c_uint, c_void, iovec, mmsghdr, msghdr, size_t, sockaddr, socklen_t, ssize_t, timespec,
};
use std::ptr;
use std::time::Duration;

/// The most bytes that the kernel moves in one call.
pub(super) const MAX_TRANSFER: usize = 0x7fff_f000;

/// Whether a receive with these flags may wait.
fn may_wait(known: &Known, flags: c_int) -> bool {
    let never = match known.kind() {
        // Unix sockets ignore `MSG_ERRQUEUE`.
        Kind::Tcp => libc::MSG_DONTWAIT | libc::MSG_ERRQUEUE | libc::MSG_OOB,
        Kind::Stream => libc::MSG_DONTWAIT | libc::MSG_OOB,
        Kind::Datagram => libc::MSG_DONTWAIT | libc::MSG_ERRQUEUE,
        Kind::UnixDatagram | Kind::SeqPacket => libc::MSG_DONTWAIT | libc::MSG_OOB,
        // Not a socket: the call fails at once.
        Kind::Pipe | Kind::File | Kind::Other => return false,
    };
    flags & never == 0
}

/// Looks up a descriptor, if a call with these flags may wait.
///
/// A call with `MSG_DONTWAIT` never does, which needs no lookup.
fn waiting(fd: c_int, flags: c_int) -> Option<std::rc::Rc<Known>> {
    if flags & libc::MSG_DONTWAIT != 0 {
        return None;
    }
    look_up(fd).filter(|known| may_wait(known, flags))
}

/// The fewest bytes with which a call returns before an end or an error.
fn goal(known: &Known, length: usize, flags: c_int) -> usize {
    match known.kind().is_stream() {
        // A peek at a Unix socket returns what is queued.
        true if flags & libc::MSG_PEEK != 0 && known.kind() == Kind::Stream => length.min(1),
        true if flags & libc::MSG_WAITALL != 0 => length,
        true => known.low_water().min(length),
        false => 0,
    }
}

/// Receives until there are `goal` bytes.
///
/// `call` makes an attempt with a descriptor number, after a number of bytes that were already received,
/// and says whether it stopped at descriptors that were passed.
#[inline]
fn receive_to(
    known: &Known,
    purpose: &'static str,
    goal: usize,
    flags: c_int,
    mut call: impl FnMut(c_int, usize) -> (isize, bool),
) -> Outcome {
    let mut attempts = known.attempts(Direction::Read, purpose);
    if goal == 0 && known.kind() == Kind::Tcp {
        return receive_empty(&mut attempts, |fd| call(fd, 0).0);
    }
    if goal <= 1 {
        return attempts.make(|fd| call(fd, 0).0);
    }
    receive_all(known, &mut attempts, goal, flags, &mut call)
}

/// Receives no bytes from a TCP connection.
///
/// A call that waits then returns 0 whatever has ended the wait, and leaves an error to the next call.
#[cold]
fn receive_empty(attempts: &mut Attempts<'_>, mut call: impl FnMut(c_int) -> isize) -> Outcome {
    let (mut has_tried, mut has_waited) = (false, false);
    let outcome = attempts.make(|fd| {
        has_waited = std::mem::replace(&mut has_tried, true);
        if has_waited { 0 } else { call(fd) }
    });
    // As at an end, the kernel writes no address.
    if has_waited && outcome == Outcome::Done(0) { Outcome::HiddenEnd } else { outcome }
}

/// Receives until there are `goal` bytes, by several attempts.
#[cold]
fn receive_all(
    known: &Known,
    attempts: &mut Attempts<'_>,
    goal: usize,
    flags: c_int,
    call: &mut dyn FnMut(c_int, usize) -> (isize, bool),
) -> Outcome {
    let is_peek = flags & libc::MSG_PEEK != 0;
    let mut got = 0;
    loop {
        let (mut is_seam, mut number) = (false, -1);
        let outcome = attempts.make(|fd| {
            number = fd;
            if got > 0 && !is_peek && known.has_failed(fd) && queued(fd) == 0 {
                return 0;
            }
            let queued = queued(fd);
            let (part, has_rights) = call(fd, if is_peek { 0 } else { got });
            let count = usize::try_from(part).unwrap_or(0);
            let room = if is_peek { goal } else { goal - got };
            is_seam = has_rights || (count < queued && count < room);
            part
        });
        let part = match outcome {
            Outcome::Done(part) => part,
            _ if got > 0 => return Outcome::Done(got as isize),
            other => return other,
        };
        let Ok(count) = usize::try_from(part) else {
            if got == 0 {
                return outcome;
            }
            known.defer_error(errno::get());
            return Outcome::Done(got as isize);
        };
        attempts.moved();
        let before = got;
        got = if is_peek { count } else { got + count };
        let is_end = count == 0 || (is_peek && got == before && known.is_exceptional());
        if got >= goal
            || is_end
            || is_seam
            || is_at_mark(known, number)
            || attempts.is_nonblocking()
        {
            return Outcome::Done(got as isize);
        }
        // The peeked bytes are still queued, and would be found again.
        if is_peek && (is_ended(known, number) || attempts.wait_for_more().is_err()) {
            return Outcome::Done(got as isize);
        }
    }
}

/// The number of bytes queued up to the next mark. 0 if unknown.
fn queued(fd: c_int) -> usize {
    query(fd, libc::FIONREAD)
}

/// Whether urgent data comes next: a call that has received any bytes stops before it.
fn is_at_mark(known: &Known, fd: c_int) -> bool {
    const SIOCATMARK: libc::c_ulong = 0x8905;
    known.kind() == Kind::Tcp && query(fd, SIOCATMARK) != 0
}

/// The result of a request that reports a number. 0 if it fails.
fn query(fd: c_int, request: libc::c_ulong) -> usize {
    let mut answer: c_int = 0;
    let place = &raw mut answer;
    // SAFETY: these requests write one `c_int`, and `place` is valid for that.
    let result = unsafe { originals::ioctl::call(fd, request as _, place.expose_provenance()) };
    if result == 0 { usize::try_from(answer).unwrap_or(0) } else { 0 }
}

/// Whether the receiving direction was shut down.
fn is_ended(known: &Known, fd: c_int) -> bool {
    known.is_exceptional() && crate::sys::descriptor::is_shut_down(fd)
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn recv(
    fd: c_int,
    buffer: *mut c_void,
    length: size_t,
    flags: c_int,
) -> ssize_t {
    let Some(known) = waiting(fd, flags) else {
        // SAFETY: contract of a hook: libc's `recv` gets the caller's pointers.
        return unsafe { originals::recv::call(fd, buffer, length, flags) };
    };
    // SAFETY: contract of a hook: `receive` has the same contract.
    let done = unsafe { receive(&known, buffer, length, flags) };
    // SAFETY: contract of a hook: libc's `recv` gets the caller's pointers.
    done.unwrap_or_else(|| unsafe { originals::recv::call_blocking(fd, buffer, length, flags) })
}

/// Like `recv`. `None` if the call has to block.
///
/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`), as for libc's `recv`.
pub(super) unsafe fn receive(
    known: &Known,
    buffer: *mut c_void,
    length: size_t,
    flags: c_int,
) -> Option<ssize_t> {
    let _under_way = known.yield_if_due();
    let length = length.min(MAX_TRANSFER);
    let goal = goal(known, length, flags);
    let outcome = receive_to(known, "recv", goal, flags, |fd, got| {
        let flags = flags | libc::MSG_DONTWAIT;
        // SAFETY: contract of a hook: the rest of the memory, after what was received.
        let part = unsafe { originals::recv::call(fd, buffer.byte_add(got), length - got, flags) };
        (part, false)
    });
    if let Outcome::Done(count @ 1..) = outcome
        && flags == 0
        && (count as usize) < length
        && known.kind().short_read_drains()
    {
        known.mark_drained();
    }
    outcome.or_zero()
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn recvfrom(
    fd: c_int,
    buffer: *mut c_void,
    length: size_t,
    flags: c_int,
    address: *mut sockaddr,
    room: *mut socklen_t,
) -> ssize_t {
    if address.is_null() {
        // SAFETY: contract of a hook: `recv` has the same contract.
        return unsafe { recv(fd, buffer, length, flags) };
    }
    let Some(known) = waiting(fd, flags) else {
        // SAFETY: contract of a hook: libc's `recvfrom` gets the caller's pointers.
        return unsafe { originals::recvfrom::call(fd, buffer, length, flags, address, room) };
    };
    let _under_way = known.yield_if_due();
    let most = length.min(MAX_TRANSFER);
    let goal = goal(&known, most, flags);
    let outcome = receive_to(&known, "recvfrom", goal, flags, |fd, got| {
        let flags = flags | libc::MSG_DONTWAIT;
        // SAFETY: contract of a hook: the rest of the memory, after what was received.
        let part = unsafe {
            let place = buffer.byte_add(got);
            originals::recvfrom::call(fd, place, most - got, flags, address, room)
        };
        (part, false)
    });
    match outcome {
        Outcome::Done(count) => count,
        Outcome::HiddenEnd => {
            // SAFETY: contract of a hook: an address was requested, so `room` may be overwritten.
            match unsafe { user_memory::write(room, 0) } {
                true => 0,
                false => errno::fail_long(libc::EFAULT),
            }
        }
        // SAFETY: contract of a hook: libc's `recvfrom` gets the caller's pointers.
        Outcome::Blocks => unsafe {
            originals::recvfrom::call_blocking(fd, buffer, length, flags, address, room)
        },
    }
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn recvmsg(fd: c_int, message: *mut msghdr, flags: c_int) -> ssize_t {
    let Some(known) = waiting(fd, flags) else {
        // SAFETY: contract of a hook: libc's `recvmsg` gets the caller's pointers.
        return unsafe { originals::recvmsg::call(fd, message, flags) };
    };
    // SAFETY: contract of a hook: `receive_message` has the same contract.
    let done = unsafe { receive_message(&known, message, flags) };
    // SAFETY: contract of a hook: libc's `recvmsg` gets the caller's pointers.
    done.unwrap_or_else(|| unsafe { originals::recvmsg::call_blocking(fd, message, flags) })
}

/// Like `recvmsg`. `None` if the call has to block.
///
/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`), as for libc's `recvmsg`.
unsafe fn receive_message(known: &Known, message: *mut msghdr, flags: c_int) -> Option<ssize_t> {
    // SAFETY: contract of a hook: if the memory can be read, it holds a message.
    if !unsafe { is_message(message) } {
        let fd = known.number()?;
        // SAFETY: contract of a hook: libc's `recvmsg` gets the caller's pointers. It fails at once.
        return Some(unsafe { originals::recvmsg::call(fd, message, flags) });
    }
    let _under_way = known.yield_if_due();
    let may_take_parts =
        known.kind().is_stream() && (flags & libc::MSG_WAITALL != 0 || known.low_water() > 1);
    let outcome = if may_take_parts {
        // SAFETY: contract of a hook: `receive_message_to` has the same contract.
        unsafe { receive_message_to(known, message, flags) }
    } else {
        let mut is_empty = false;
        let outcome = known.attempts(Direction::Read, "recvmsg").make(|fd| {
            if is_empty {
                return 0;
            }
            // SAFETY: contract of a hook: libc's `recvmsg` gets the caller's pointers.
            let got = unsafe { originals::recvmsg::call(fd, message, flags | libc::MSG_DONTWAIT) };
            // As in `receive_empty`.
            // SAFETY: contract of a hook: `EAGAIN`, which is checked first, says that the kernel has read the
            // message and its parts.
            is_empty = got < 0
                && known.kind() == Kind::Tcp
                && errno::get() == libc::EAGAIN
                && unsafe { Parts::of((*message).msg_iov, (*message).msg_iovlen) }.length() == 0;
            got
        });
        if is_empty && outcome == Outcome::Done(0) { Outcome::HiddenEnd } else { outcome }
    };
    if outcome == Outcome::HiddenEnd {
        // SAFETY: contract of a hook: the kernel has read the message in an attempt.
        unsafe {
            (*message).msg_namelen = 0;
            (*message).msg_controllen = 0;
            (*message).msg_flags = flags & libc::MSG_CMSG_CLOEXEC;
        }
    }
    outcome.or_zero()
}

/// Like `receive_message`, for the bytes of several attempts.
///
/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`), as for libc's `recvmsg`.
#[cold]
unsafe fn receive_message_to(known: &Known, message: *mut msghdr, flags: c_int) -> Outcome {
    // The kernel checks the message first, in a call that takes nothing.
    // SAFETY: contract of a hook: `is_message` has read the message; the call takes nothing out of the queue.
    let checked = unsafe {
        let peek = libc::MSG_PEEK | libc::MSG_DONTWAIT;
        let mut copy = match message.is_null() {
            true => return Outcome::fail(libc::EFAULT),
            false => *message,
        };
        // Neither an address nor control data is written.
        (copy.msg_name, copy.msg_namelen) = (ptr::null_mut(), 0);
        (copy.msg_control, copy.msg_controllen) = (ptr::null_mut(), 0);
        match known.number() {
            Some(fd) => originals::recvmsg::call(fd, &mut copy, peek),
            None => return Outcome::fail(libc::EBADF),
        }
    };
    if checked < 0 && errno::get() != libc::EAGAIN {
        return Outcome::Done(checked);
    }
    // SAFETY: contract of a hook: the kernel has read the message and its parts.
    let (asked, all) = unsafe { (*message, Parts::of((*message).msg_iov, (*message).msg_iovlen)) };
    let goal = goal(known, all.length().min(MAX_TRANSFER), flags);
    if goal <= 1 {
        return known.attempts(Direction::Read, "recvmsg").make(|fd| {
            // SAFETY: contract of a hook: libc's `recvmsg` gets the caller's pointers.
            unsafe { originals::recvmsg::call(fd, message, flags | libc::MSG_DONTWAIT) }
        });
    }
    receive_to(known, "recvmsg", goal, flags, |fd, got| {
        let mut left = all.clone();
        left.advance(got);
        let Some((parts, count)) = left.rest() else { return (0, true) };
        let mut part = msghdr { msg_iov: parts.cast_mut(), msg_iovlen: count as _, ..asked };
        // SAFETY: contract of a hook: the caller's message, with the rest of its parts.
        let result = unsafe { originals::recvmsg::call(fd, &mut part, flags | libc::MSG_DONTWAIT) };
        if result >= 0 {
            // SAFETY: contract of a hook: the kernel has read the message, and may write to it.
            unsafe {
                (*message).msg_namelen = part.msg_namelen;
                (*message).msg_controllen = part.msg_controllen;
                (*message).msg_flags = part.msg_flags;
            }
        }
        // SAFETY: the kernel has filled in the message.
        (result, result >= 0 && unsafe { has_rights(&part) })
    })
}

/// Whether descriptors were passed with a message.
///
/// # Safety
///
/// The kernel has filled in the message.
unsafe fn has_rights(message: &msghdr) -> bool {
    // SAFETY: the contract of this function: the control data is complete.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(message) };
    while let Some(header) = {
        // SAFETY: `next` is null, or a header in the control data.
        unsafe { next.as_ref() }
    } {
        if header.cmsg_level == libc::SOL_SOCKET && header.cmsg_type == libc::SCM_RIGHTS {
            return true;
        }
        // SAFETY: `next` is a header of this message.
        next = unsafe { libc::CMSG_NXTHDR(message, next) };
    }
    false
}

/// `readv` of a socket. `None` if the call has to block.
///
/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`), as for libc's `readv`.
pub(super) unsafe fn receive_parts(
    known: &Known,
    parts: *const iovec,
    count: c_int,
) -> Option<ssize_t> {
    let mut message = of_parts(parts, count);
    // SAFETY: contract of a hook: the message consists of the caller's parts.
    unsafe { receive_message(known, &mut message, 0) }
}

/// A message with these parts, and nothing else.
pub(super) fn of_parts(parts: *const iovec, count: c_int) -> msghdr {
    // SAFETY: all-zero bytes are a valid empty `msghdr`.
    let mut message: msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = parts.cast_mut();
    message.msg_iovlen = count as _;
    message
}

/// Receives one of several messages, with the bytes of several attempts.
///
/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`), as for libc's `recvmmsg` of one message.
#[cold]
unsafe fn receive_one(known: &Known, message: *mut mmsghdr, flags: c_int) -> Outcome {
    let flags = flags & !libc::MSG_WAITFORONE;
    // SAFETY: contract of a hook: `receive_message` has the same contract.
    match unsafe { receive_message(known, &raw mut (*message).msg_hdr, flags) } {
        None => Outcome::Blocks,
        Some(length @ 0..) => {
            // SAFETY: contract of a hook: the kernel has written to the message.
            unsafe { (*message).msg_len = length as c_uint };
            Outcome::Done(1)
        }
        Some(error) => Outcome::Done(error),
    }
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`). The timeout is checked after each message, as in Linux, and the
/// rest of it is written back.
pub(in crate::monkey) unsafe fn recvmmsg(
    fd: c_int,
    messages: *mut mmsghdr,
    count: c_uint,
    flags: c_int,
    time: *mut timespec,
) -> c_int {
    // SAFETY: contract of a hook: a time if the memory is accessible.
    let timeout = unsafe { user_memory::read(time) }.map(|time| duration(&time));
    let is_valid = timeout != Some(None) && (timeout.is_some() || time.is_null());
    let known = if count > 0 && is_valid { waiting(fd, flags) } else { None };
    let Some(known) = known else {
        // SAFETY: contract of a hook: libc's `recvmmsg` gets the caller's pointers.
        return unsafe { originals::recvmmsg::call(fd, messages, count, flags, time) };
    };
    let timeout = timeout.flatten();
    let _under_way = known.yield_if_due();
    let begin = clock::now();
    let mut attempts = known.attempts(Direction::Read, "recvmmsg");
    let (mut got, mut left) = (0, timeout);
    let waits_for_one = flags & libc::MSG_WAITFORONE != 0;
    let takes_parts =
        known.kind().is_stream() && (flags & libc::MSG_WAITALL != 0 || known.low_water() > 1);
    let most = |got| if timeout.is_some() || takes_parts { 1 } else { count - got };
    loop {
        let call = |fd| {
            let flags = flags | libc::MSG_DONTWAIT;
            // SAFETY: contract of a hook: the rest of the memory, after what was received.
            let part = unsafe {
                let rest = messages.add(got as usize);
                originals::recvmmsg::call(fd, rest, most(got), flags, ptr::null_mut())
            };
            part as isize
        };
        let outcome = match known.number() {
            Some(_) if takes_parts && (got == 0 || !waits_for_one) => {
                // SAFETY: contract of a hook: `receive_one` has the same contract.
                unsafe { receive_one(&known, messages.add(got as usize), flags) }
            }
            // The second message and later ones are not waited for.
            Some(fd) if got > 0 && waits_for_one => Outcome::Done(call(fd)),
            _ => attempts.make(call),
        };
        match outcome {
            Outcome::Blocks if got == 0 => {
                // SAFETY: contract of a hook: libc's `recvmmsg` gets the caller's pointers.
                return unsafe {
                    originals::recvmmsg::call_blocking(fd, messages, count, flags, time)
                };
            }
            Outcome::Blocks => break,
            Outcome::Done(part @ 0..) => {
                got += part as c_uint;
                attempts.moved();
            }
            Outcome::Done(part) if got == 0 => return part as c_int,
            Outcome::Done(_) => {
                known.defer_error(errno::get());
                break;
            }
            Outcome::HiddenEnd => {
                // As in the kernel: each message is empty.
                let end = if waits_for_one { got + 1 } else { got + most(got) };
                for number in got..end {
                    // SAFETY: contract of a hook: `number` is less than the number of messages.
                    unsafe {
                        let message = messages.add(number as usize);
                        (*message).msg_len = 0;
                        (*message).msg_hdr.msg_namelen = 0;
                        (*message).msg_hdr.msg_controllen = 0;
                        (*message).msg_hdr.msg_flags = flags & libc::MSG_CMSG_CLOEXEC;
                    }
                }
                got = end;
            }
        }
        left = timeout.map(|time| time.saturating_sub(Duration::from_nanos(clock::now() - begin)));
        // Without a timeout, the kernel was asked for all messages.
        let is_enough = got >= count || (waits_for_one && timeout.is_none() && !takes_parts);
        if is_enough || left.is_some_and(|left| left.is_zero()) || attempts.is_nonblocking() {
            break;
        }
    }
    if let Some(left) = left {
        let left = timespec { tv_sec: left.as_secs() as _, tv_nsec: left.subsec_nanos().into() };
        // SAFETY: contract of a hook: not null, so it may be overwritten by a time.
        if !unsafe { user_memory::write(time, left) } {
            return errno::fail(libc::EFAULT);
        }
    }
    got as c_int
}
