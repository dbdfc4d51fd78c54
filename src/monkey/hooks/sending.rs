//! Sending to sockets, by attempts with `MSG_DONTWAIT`.
//!
//! What the call of the kernel that blocks does more is done here: it sends all of a stream's bytes, unless
//! something fails on the way. What was sent before that counts, and the failure is the next call's, with its
//! `SIGPIPE`.

use super::parts::{Parts, has_bytes, is_message};
use super::receiving::{MOST, of_parts};
use super::{connecting, lingering};
use crate::hub::Direction;
use crate::monkey::attempts::{Attempts, Outcome};
use crate::monkey::descriptors::look_up;
use crate::monkey::known::{Known, low_water_changed};
use crate::monkey::numbers::settings_changed;
use crate::monkey::{errno, originals};
use crate::sys::descriptor::{Kind, option, poll_now};
use libc::{c_int, c_uint, c_void, iovec, mmsghdr, msghdr, size_t, sockaddr, socklen_t, ssize_t};
use std::cell::Cell;
use std::ptr;
use std::rc::Rc;

/// By what 32-bit programs set a timeout in 64 bits. Others may as well.
const SO_RCVTIMEO_NEW: c_int = 66;
const SO_SNDTIMEO_NEW: c_int = 67;

/// What is known of a descriptor, if a call with these flags may wait.
fn waiting(fd: c_int, flags: c_int) -> Option<Rc<Known>> {
    let known = (flags & libc::MSG_DONTWAIT == 0).then(|| look_up(fd)).flatten();
    known.filter(|known| known.kind().is_socket())
}

fn attempts<'a>(known: &'a Known, purpose: &'static str, has_address: bool) -> Attempts<'a> {
    let attempts = known.attempts(Direction::Write, purpose);
    // The kernel says when there is room only of a socket that this one is connected to.
    match has_address && known.kind() == Kind::UnixDatagram {
        true => attempts.with_pauses(),
        false => attempts,
    }
}

/// Sends until nothing is `left` of a stream's bytes. `call` makes an attempt with flags, by a number.
#[inline]
fn transmit_all(
    known: &Known,
    mut attempts: Attempts<'_>,
    flags: c_int,
    mut call: impl FnMut(c_int, c_int) -> isize,
    mut left: impl FnMut(usize) -> usize,
) -> Outcome {
    let mut flags = flags | libc::MSG_DONTWAIT;
    let mut sent = 0;
    loop {
        let is_first = Cell::new(attempts.is_unwaited());
        let outcome = attempts.make(|fd| match before_sending(known, fd, sent, is_first.take()) {
            Next::Call => call(fd, flags),
            Next::CallSilently => call(fd, flags | libc::MSG_NOSIGNAL),
            Next::Stop(result) => result,
        });
        let Outcome::Done(part) = outcome else {
            return if sent > 0 { Outcome::Done(sent as isize) } else { outcome };
        };
        let Ok(count) = usize::try_from(part) else {
            let error = errno::get();
            // A connection is being made, with nothing sent yet.
            if error == libc::EINPROGRESS && flags & libc::MSG_FASTOPEN != 0 {
                flags &= !libc::MSG_FASTOPEN;
                match wait_until_connected(&mut attempts) {
                    Ok(()) => continue,
                    Err(outcome) => return outcome,
                }
            }
            if sent == 0 {
                return outcome;
            }
            // A Unix socket's call takes the error with it.
            if known.kind() == Kind::Tcp {
                known.defer_error(error);
            }
            return Outcome::Done(sent as isize);
        };
        sent += count;
        attempts.moved();
        let has_failed = count == 0;
        if has_failed || !known.kind().is_stream() || left(count) == 0 || attempts.is_nonblocking()
        {
            return Outcome::Done(sent as isize);
        }
        // What fails from now on is the next call's failure, with its signal.
        flags |= libc::MSG_NOSIGNAL;
    }
}

/// What is done next in a call that sends.
enum Next {
    Call,
    /// Without `SIGPIPE`.
    CallSilently,
    Stop(isize),
}

/// Another attempt follows after a part, or a wait: an error that has come meanwhile ends the kernel's call
/// where it waits, not by a further send.
fn before_sending(known: &Known, fd: c_int, sent: usize, is_first: bool) -> Next {
    if is_first && sent == 0 {
        return Next::Call;
    }
    match known.kind() {
        // It keeps the error for the next call.
        Kind::Tcp if sent > 0 => match poll_now(fd, libc::POLLOUT) {
            events if events & (libc::POLLERR | libc::POLLHUP) != 0 => Next::Stop(0),
            events if events & libc::POLLOUT != 0 => Next::Call,
            // A further send would say so.
            _ => Next::Stop(errno::fail_long(libc::EAGAIN)),
        },
        Kind::Stream if known.has_failed(fd) => match option(fd, libc::SO_ERROR) {
            Some(0) | None => Next::CallSilently,
            Some(_) if sent > 0 => Next::Stop(0),
            Some(error) => Next::Stop(errno::fail_long(error)),
        },
        Kind::Stream => Next::CallSilently,
        _ => Next::Call,
    }
}

/// A connection is being made by a send.
fn wait_until_connected(attempts: &mut Attempts<'_>) -> Result<(), Outcome> {
    loop {
        let fd = match attempts.wait_for_more() {
            Ok(fd) => fd,
            // As the kernel says when a timeout has passed.
            Err(Some(libc::EAGAIN)) => return Err(Outcome::fail(libc::EINPROGRESS)),
            Err(refusal) => return Err(refusal.into()),
        };
        match (connecting::settle(fd), errno::get()) {
            (0, _) | (_, libc::EISCONN) => return Ok(()),
            (_, libc::EALREADY | libc::EINPROGRESS) => {}
            (_, error) => return Err(Outcome::fail(error)),
        }
    }
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
    let Some(known) = waiting(fd, flags) else {
        // SAFETY: the caller's.
        return unsafe { originals::sendto::call(fd, buffer, length, flags, address, room) };
    };
    // SAFETY: the caller's.
    let done = unsafe { transmit(&known, buffer, length, flags, address, room) };
    // SAFETY: the caller's.
    done.unwrap_or_else(|| unsafe {
        originals::sendto::call_blocking(fd, buffer, length, flags, address, room)
    })
}

/// As `sendto`. `None` if it has to block.
///
/// # Safety
///
/// As libc's `sendto`.
pub(super) unsafe fn transmit(
    known: &Known,
    buffer: *const c_void,
    length: size_t,
    flags: c_int,
    address: *const sockaddr,
    room: socklen_t,
) -> Option<ssize_t> {
    if known.kind() == Kind::Stream && !address.is_null() && room > 0 {
        // A connected socket takes no address: it fails at once.
        let fd = known.number()?;
        // SAFETY: the caller's.
        return Some(unsafe { originals::sendto::call(fd, buffer, length, flags, address, room) });
    }
    let _under_way = known.yield_if_due();
    let length = length.min(MOST);
    let sent = Cell::new(0);
    let call = |fd, flags: c_int| {
        // SAFETY: the caller's; what was sent lies before.
        unsafe {
            let rest = buffer.byte_add(sent.get());
            originals::sendto::call(fd, rest, length - sent.get(), flags, address, room)
        }
    };
    let left = |count| {
        sent.set(sent.get() + count);
        length - sent.get()
    };
    // A stream takes nothing at once, and a connection is not made twice.
    let is_at_once = flags & libc::MSG_FASTOPEN != 0 || (length == 0 && known.kind().is_stream());
    let attempts = attempts(known, "send", !address.is_null()).at_once(is_at_once);
    transmit_all(known, attempts, flags, call, left).or_zero()
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn sendmsg(
    fd: c_int,
    message: *const msghdr,
    flags: c_int,
) -> ssize_t {
    let Some(known) = waiting(fd, flags) else {
        // SAFETY: the caller's.
        return unsafe { originals::sendmsg::call(fd, message, flags) };
    };
    // SAFETY: the caller's.
    let done = unsafe { transmit_message(&known, message, flags) };
    // SAFETY: the caller's.
    done.unwrap_or_else(|| unsafe { originals::sendmsg::call_blocking(fd, message, flags) })
}

/// As `sendmsg`. `None` if it has to block.
///
/// # Safety
///
/// As libc's `sendmsg`.
unsafe fn transmit_message(known: &Known, message: *const msghdr, flags: c_int) -> Option<ssize_t> {
    // SAFETY: the caller's.
    let is_refused = unsafe {
        !is_message(message)
            || known.kind() == Kind::Stream
                && !(*message).msg_name.is_null()
                && (*message).msg_namelen > 0
    };
    if is_refused {
        let fd = known.number()?;
        // SAFETY: the caller's. It fails at once.
        return Some(unsafe { originals::sendmsg::call(fd, message, flags) });
    }
    let _under_way = known.yield_if_due();
    // Only what addresses a Unix datagram is looked at before the kernel has said that the message is one.
    let is_addressed = known.kind() == Kind::UnixDatagram
        // SAFETY: the caller's, or null.
        && unsafe { message.as_ref() }.is_some_and(|message| !message.msg_name.is_null());
    let rest = std::cell::RefCell::new(None::<Parts>);
    let call = |fd, flags| {
        let rest = rest.borrow();
        // What goes along with the first byte has gone.
        let part = rest.as_ref().and_then(Parts::rest).map(|(parts, count)| of_parts(parts, count));
        let message = part.as_ref().map_or(message, ptr::from_ref);
        // SAFETY: the caller's message, or what is left of it.
        unsafe { originals::sendmsg::call(fd, message, flags) }
    };
    let left = |count| {
        let mut rest = rest.borrow_mut();
        let parts = rest.get_or_insert_with(|| {
            // SAFETY: the caller's; the kernel has read it just now.
            unsafe { Parts::of((*message).msg_iov, (*message).msg_iovlen) }
        });
        parts.advance(count);
        parts.length()
    };
    // What goes along may be refused, and a stream takes nothing at once.
    // SAFETY: the caller's, or null.
    let says_more = unsafe { message.as_ref() }.is_none_or(|message| {
        // The parts are looked at only if that matters: they are for the kernel to refuse.
        let is_nothing = known.kind().is_stream() && known.must_wait(Direction::Write) && {
            let count = c_int::try_from(message.msg_iovlen).unwrap_or(c_int::MAX);
            // SAFETY: the caller's.
            !unsafe { has_bytes(message.msg_iov, count) }
        };
        message.msg_controllen > 0 || is_nothing
    });
    let is_at_once = says_more || flags & libc::MSG_FASTOPEN != 0;
    let attempts = attempts(known, "sendmsg", is_addressed).at_once(is_at_once);
    transmit_all(known, attempts, flags, call, left).or_zero()
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
    let Some(known) = waiting(fd, flags).filter(|_| count > 0) else {
        // SAFETY: the caller's.
        return unsafe { originals::sendmmsg::call(fd, messages, count, flags) };
    };
    // As many as the kernel takes.
    let count = count.min(libc::UIO_MAXIOV as c_uint);
    for number in 0..count {
        // SAFETY: the caller's.
        let message = unsafe { messages.add(number as usize) };
        // SAFETY: the caller's.
        let sent = unsafe { transmit_message(&known, &raw const (*message).msg_hdr, flags) };
        match sent {
            // SAFETY: the caller's.
            Some(sent @ 0..) => unsafe { (*message).msg_len = sent as c_uint },
            _ if number > 0 => return number as c_int,
            Some(error) => return error as c_int,
            None => {
                // SAFETY: the caller's.
                return unsafe { originals::sendmmsg::call_blocking(fd, messages, count, flags) };
            }
        }
    }
    count as c_int
}

/// `writev` to a socket. `None` if it has to block.
///
/// # Safety
///
/// As libc's `writev`.
pub(super) unsafe fn transmit_parts(
    known: &Known,
    parts: *const iovec,
    count: c_int,
) -> Option<ssize_t> {
    // SAFETY: a message of the caller's parts.
    unsafe { transmit_message(known, &of_parts(parts, count), 0) }
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
    let result = unsafe { originals::setsockopt::call(fd, level, name, value, length) };
    if result == 0 {
        // SAFETY: the caller's; it has succeeded.
        unsafe { lingering::option_set(level, name, value, length) };
    }
    if level == libc::SOL_SOCKET {
        if name == libc::SO_RCVLOWAT {
            low_water_changed();
        }
        let is_timeout = matches!(
            name,
            libc::SO_RCVTIMEO | libc::SO_SNDTIMEO | SO_RCVTIMEO_NEW | SO_SNDTIMEO_NEW
        );
        if is_timeout || name == libc::SO_RCVLOWAT {
            settings_changed(fd);
        }
    }
    result
}
