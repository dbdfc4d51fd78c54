//! Sending to sockets, by attempts with `MSG_DONTWAIT`.
//!
//! What a blocking call does beyond an attempt is done here: it sends all bytes to a stream, unless something
//! fails on the way. Bytes sent before a failure count, and the next call reports the failure, with its
//! `SIGPIPE`.

use super::parts::{Parts, has_bytes, is_message};
use super::receiving::{MAX_TRANSFER, of_parts};
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

/// The options by which 32-bit programs set a 64-bit timeout. Other programs may use them as well.
const SO_RCVTIMEO_NEW: c_int = 66;
const SO_SNDTIMEO_NEW: c_int = 67;

/// Looks up a socket, if a call with these flags may wait.
fn waiting(fd: c_int, flags: c_int) -> Option<Rc<Known>> {
    let known = (flags & libc::MSG_DONTWAIT == 0).then(|| look_up(fd)).flatten();
    known.filter(|known| known.kind().is_socket())
}

/// Begins the attempts of a call that sends.
fn attempts<'a>(known: &'a Known, purpose: &'static str, has_address: bool) -> Attempts<'a> {
    let attempts = known.attempts(Direction::Write, purpose);
    // The kernel reports room only for the socket that this one is connected to.
    match has_address && known.kind() == Kind::UnixDatagram {
        true => attempts.with_pauses(),
        false => attempts,
    }
}

/// Sends until no bytes are `left` for a stream.
///
/// `call` makes an attempt with a descriptor number and flags.
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
            // A connection was begun, and no byte has been sent.
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
            // A failed call on a Unix socket has cleared the error.
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
        // From now on a failure is the next call's, with its signal.
        flags |= libc::MSG_NOSIGNAL;
    }
}

/// The next step of a call that sends.
enum Next {
    Call,
    /// An attempt without `SIGPIPE`.
    CallSilently,
    Stop(isize),
}

/// Decides how to continue after a part or a wait.
///
/// An error that has come meanwhile ends the kernel's call where it waits, not in a further send.
fn before_sending(known: &Known, fd: c_int, sent: usize, is_first: bool) -> Next {
    if is_first && sent == 0 {
        return Next::Call;
    }
    match known.kind() {
        // A TCP socket keeps the error for the next call.
        Kind::Tcp if sent > 0 => match poll_now(fd, libc::POLLOUT) {
            events if events & (libc::POLLERR | libc::POLLHUP) != 0 => Next::Stop(0),
            events if events & libc::POLLOUT != 0 => Next::Call,
            // A further send would fail with this.
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

/// Waits for a connection that a send has begun.
fn wait_until_connected(attempts: &mut Attempts<'_>) -> Result<(), Outcome> {
    loop {
        let fd = match attempts.wait_for_more() {
            Ok(fd) => fd,
            // As the kernel reports an expired timeout.
            Err(Some(libc::EAGAIN)) => return Err(Outcome::fail(libc::EINPROGRESS)),
            Err(refusal) => return Err(refusal.into()),
        };
        match (connecting::finish_connecting(fd), errno::get()) {
            (0, _) | (_, libc::EISCONN) => return Ok(()),
            (_, libc::EALREADY | libc::EINPROGRESS) => {}
            (_, error) => return Err(Outcome::fail(error)),
        }
    }
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn send(
    fd: c_int,
    buffer: *const c_void,
    length: size_t,
    flags: c_int,
) -> ssize_t {
    // SAFETY: contract of a hook: `sendto` has the same contract.
    unsafe { sendto(fd, buffer, length, flags, ptr::null(), 0) }
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn sendto(
    fd: c_int,
    buffer: *const c_void,
    length: size_t,
    flags: c_int,
    address: *const sockaddr,
    room: socklen_t,
) -> ssize_t {
    let Some(known) = waiting(fd, flags) else {
        // SAFETY: contract of a hook: libc's `sendto` gets the caller's pointers.
        return unsafe { originals::sendto::call(fd, buffer, length, flags, address, room) };
    };
    // SAFETY: contract of a hook: `transmit` has the same contract.
    let done = unsafe { transmit(&known, buffer, length, flags, address, room) };
    // SAFETY: contract of a hook: libc's `sendto` gets the caller's pointers.
    done.unwrap_or_else(|| unsafe {
        originals::sendto::call_blocking(fd, buffer, length, flags, address, room)
    })
}

/// Like `sendto`. `None` if the call has to block.
///
/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`), as for libc's `sendto`.
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
    let length = length.min(MAX_TRANSFER);
    let sent = Cell::new(0);
    let call = |fd, flags: c_int| {
        // SAFETY: contract of a hook: the rest of the buffer, after what was sent.
        unsafe {
            let rest = buffer.byte_add(sent.get());
            originals::sendto::call(fd, rest, length - sent.get(), flags, address, room)
        }
    };
    let left = |count| {
        sent.set(sent.get() + count);
        length - sent.get()
    };
    // An empty send to a stream returns at once, and a connection is not begun twice.
    let is_at_once = flags & libc::MSG_FASTOPEN != 0 || (length == 0 && known.kind().is_stream());
    let attempts = attempts(known, "send", !address.is_null()).at_once(is_at_once);
    transmit_all(known, attempts, flags, call, left).or_zero()
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn sendmsg(
    fd: c_int,
    message: *const msghdr,
    flags: c_int,
) -> ssize_t {
    let Some(known) = waiting(fd, flags) else {
        // SAFETY: contract of a hook: libc's `sendmsg` gets the caller's pointers.
        return unsafe { originals::sendmsg::call(fd, message, flags) };
    };
    // SAFETY: contract of a hook: `transmit_message` has the same contract.
    let done = unsafe { transmit_message(&known, message, flags) };
    // SAFETY: contract of a hook: libc's `sendmsg` gets the caller's pointers.
    done.unwrap_or_else(|| unsafe { originals::sendmsg::call_blocking(fd, message, flags) })
}

/// Like `sendmsg`. `None` if the call has to block.
///
/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`), as for libc's `sendmsg`.
unsafe fn transmit_message(known: &Known, message: *const msghdr, flags: c_int) -> Option<ssize_t> {
    // SAFETY: contract of a hook: if the memory can be read, it holds a message; that is checked first.
    let is_refused = unsafe {
        !is_message(message)
            || known.kind() == Kind::Stream
                && !(*message).msg_name.is_null()
                && (*message).msg_namelen > 0
    };
    if is_refused {
        let fd = known.number()?;
        // SAFETY: contract of a hook: libc's `sendmsg` gets the caller's pointers. It fails at once.
        return Some(unsafe { originals::sendmsg::call(fd, message, flags) });
    }
    let _under_way = known.yield_if_due();
    // An addressed Unix datagram is retried after pauses: see `attempts`.
    let is_addressed = known.kind() == Kind::UnixDatagram
        // SAFETY: contract of a hook: null, or a message that `is_message` has read.
        && unsafe { message.as_ref() }.is_some_and(|message| !message.msg_name.is_null());
    let rest = std::cell::RefCell::new(None::<Parts>);
    let call = |fd, flags| {
        let rest = rest.borrow();
        // What goes along with the first byte, like control data, was already sent.
        let part = rest.as_ref().and_then(Parts::rest).map(|(parts, count)| of_parts(parts, count));
        let message = part.as_ref().map_or(message, ptr::from_ref);
        // SAFETY: contract of a hook: the caller's message, or the rest of its parts.
        unsafe { originals::sendmsg::call(fd, message, flags) }
    };
    let left = |count| {
        let mut rest = rest.borrow_mut();
        let parts = rest.get_or_insert_with(|| {
            // SAFETY: contract of a hook: the kernel has just read the message and its parts.
            unsafe { Parts::of((*message).msg_iov, (*message).msg_iovlen) }
        });
        parts.advance(count);
        parts.length()
    };
    // Control data may be refused at once, and an empty send to a stream returns at once.
    // SAFETY: contract of a hook: null, or a message that `is_message` has read.
    let says_more = unsafe { message.as_ref() }.is_none_or(|message| {
        // The parts are read only if that matters: the kernel checks them.
        let is_nothing = known.kind().is_stream() && known.must_wait(Direction::Write) && {
            let count = c_int::try_from(message.msg_iovlen).unwrap_or(c_int::MAX);
            // SAFETY: contract of a hook: if the parts can be read, there are `count` of them.
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
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn sendmmsg(
    fd: c_int,
    messages: *mut mmsghdr,
    count: c_uint,
    flags: c_int,
) -> c_int {
    let Some(known) = waiting(fd, flags).filter(|_| count > 0) else {
        // SAFETY: contract of a hook: libc's `sendmmsg` gets the caller's pointers.
        return unsafe { originals::sendmmsg::call(fd, messages, count, flags) };
    };
    // The kernel takes no more.
    let count = count.min(libc::UIO_MAXIOV as c_uint);
    for number in 0..count {
        // SAFETY: contract of a hook: `number` is less than the number of messages.
        let message = unsafe { messages.add(number as usize) };
        // SAFETY: contract of a hook: `transmit_message` has the same contract.
        let sent = unsafe { transmit_message(&known, &raw const (*message).msg_hdr, flags) };
        match sent {
            // SAFETY: contract of a hook: the kernel has read this message, and may write to it.
            Some(sent @ 0..) => unsafe { (*message).msg_len = sent as c_uint },
            _ if number > 0 => return number as c_int,
            Some(error) => return error as c_int,
            None => {
                // SAFETY: contract of a hook: libc's `sendmmsg` gets the caller's pointers.
                return unsafe { originals::sendmmsg::call_blocking(fd, messages, count, flags) };
            }
        }
    }
    count as c_int
}

/// `writev` to a socket. `None` if the call has to block.
///
/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`), as for libc's `writev`.
pub(super) unsafe fn transmit_parts(
    known: &Known,
    parts: *const iovec,
    count: c_int,
) -> Option<ssize_t> {
    // SAFETY: contract of a hook: the message consists of the caller's parts.
    unsafe { transmit_message(known, &of_parts(parts, count), 0) }
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn setsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *const c_void,
    length: socklen_t,
) -> c_int {
    // SAFETY: contract of a hook: libc's `setsockopt` gets the caller's pointers.
    let result = unsafe { originals::setsockopt::call(fd, level, name, value, length) };
    if result == 0 {
        // SAFETY: contract of a hook: the call has succeeded with these arguments.
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
