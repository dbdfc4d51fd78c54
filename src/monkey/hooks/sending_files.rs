//! Copies that the kernel makes from a file. To a pipe it is a `splice`, to a file the pool makes the
//! call, and to a stream the file is read here and sent as the stream takes it: the kernel has no call
//! that does not wait for one that blocks.

use super::copying::Splice;
use super::files;
use crate::hub::{Direction, Interrupts, yield_if_due_nounwind};
use crate::monkey::blocking_pool::{Lent, elsewhere};
use crate::monkey::dedicated::aside_or_interrupted;
use crate::monkey::descriptors::look_up;
use crate::monkey::known::Known;
use crate::monkey::{errno, originals};
use crate::sys::descriptor::Kind;
use crate::sys::user_memory;
use libc::{c_int, c_uint, iovec, off_t, off64_t, size_t, ssize_t};
use std::ptr;

/// Bytes of a file that are read before they are sent.
const CHUNK: usize = 64 << 10;

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn sendfile(
    to: c_int,
    from: c_int,
    offset: *mut off_t,
    count: size_t,
) -> ssize_t {
    const { assert!(size_of::<off_t>() == size_of::<off64_t>()) };
    // SAFETY: the caller's: both kinds of offsets are the same.
    let sent = unsafe { send_by(to, from, offset.cast(), count) };
    // SAFETY: the caller's.
    sent.unwrap_or_else(|| unsafe { originals::sendfile::call_blocking(to, from, offset, count) })
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
    // SAFETY: the caller's.
    let sent = unsafe { send_by(to, from, offset, count) };
    // SAFETY: the caller's.
    sent.unwrap_or_else(|| unsafe { originals::sendfile64::call_blocking(to, from, offset, count) })
}

/// As `sendfile64`. `None` if there is nothing but to let it block.
///
/// # Safety
///
/// As libc's `sendfile64`.
unsafe fn send_by(to: c_int, from: c_int, offset: *mut off64_t, count: size_t) -> Option<ssize_t> {
    yield_if_due_nounwind();
    let (Some(input), Some(output), true) =
        (look_up(from), look_up(to), count > 0 && count <= isize::MAX as usize)
    else {
        // SAFETY: the caller's. It is refused, or has nothing to do.
        return Some(unsafe { originals::sendfile64::call(to, from, offset, count) });
    };
    // SAFETY: the caller's, who is suspended until the call is over.
    let lent = unsafe { Lent::new(offset) };
    // SAFETY: the caller's.
    let call = move || unsafe { originals::sendfile64::call(to, from, lent.get(), count) };
    match (input.kind(), output.kind()) {
        (Kind::File, Kind::Tcp | Kind::Stream) if !output.is_nonblocking() => {
            // SAFETY: the caller's.
            let sent = unsafe { read_and_send(&output, from, offset, count) };
            if sent.is_some() {
                return sent;
            }
        }
        // Neither end waits for a peer.
        (Kind::File, Kind::Tcp | Kind::Stream | Kind::File) => {
            return Some(elsewhere("sendfile", call));
        }
        (Kind::File, Kind::Pipe) => {
            // To a pipe both calls do the same.
            let splice = Splice {
                from: (from, &input, offset),
                to: (to, &output, ptr::null_mut()),
                length: count,
                flags: 0,
            };
            // SAFETY: the caller's.
            return unsafe { splice.make() };
        }
        _ => {}
    }
    aside_or_interrupted("sendfile", Interrupts::Tell, call)
}

/// Sends a file to a stream that blocks. `None` if nothing was sent, and it is for the kernel to say why.
///
/// # Safety
///
/// As libc's `sendfile64`.
unsafe fn read_and_send(
    output: &Known,
    from: c_int,
    offset: *mut off64_t,
    count: size_t,
) -> Option<ssize_t> {
    let begin = match offset.is_null() {
        // SAFETY: no memory is involved.
        true => unsafe { libc::lseek64(from, 0, libc::SEEK_CUR) },
        // SAFETY: the caller's.
        false => unsafe { user_memory::read(offset) }?,
    };
    if begin < 0 {
        return None;
    }
    let mut buffer = Vec::<u8>::with_capacity(count.min(CHUNK));
    let mut attempts = output.attempts(Direction::Write, "sendfile");
    let mut sent = 0;
    let mut error = None;
    'all: while sent < count {
        let room = (count - sent).min(buffer.capacity());
        let part = iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: room };
        let position = begin.saturating_add(sent as off64_t);
        // SAFETY: a buffer with so much room.
        let got = unsafe { files::read_at(from, &part, 1, position, 0) };
        let Ok(got) = usize::try_from(got) else {
            if sent == 0 {
                return None;
            }
            break;
        };
        if got == 0 {
            break;
        }
        let mut done = 0;
        while done < got {
            // What fails behind a part is the next call's failure, with its signal.
            let quiet = if sent > 0 { libc::MSG_NOSIGNAL } else { 0 };
            let outcome = attempts.make(|to| {
                // SAFETY: as many bytes were read.
                unsafe {
                    let rest = buffer.as_ptr().add(done).cast();
                    originals::send::call(to, rest, got - done, libc::MSG_DONTWAIT | quiet)
                }
            });
            let Some(Ok(part)) = outcome.or_zero().map(usize::try_from) else {
                if sent == 0 {
                    outcome.or_zero()?;
                    error = Some(errno::get());
                } else {
                    output.defer_error(errno::get());
                }
                break 'all;
            };
            done += part;
            sent += part;
        }
    }
    drop(buffer);
    let end = begin.saturating_add(sent as off64_t);
    if sent > 0 {
        match offset.is_null() {
            // SAFETY: no memory is involved.
            true => drop(unsafe { libc::lseek64(from, end, libc::SEEK_SET) }),
            // SAFETY: the caller's.
            false if unsafe { user_memory::write(offset, end) } => {}
            false => error = Some(libc::EFAULT),
        }
    }
    Some(error.map_or(sent as ssize_t, errno::fail_long))
}

/// Both ends are files, or it is refused.
///
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
    let lent = unsafe { Lent::new((from_offset, to_offset)) };
    elsewhere("copy_file_range", move || {
        let (from_offset, to_offset) = lent.get();
        // SAFETY: the caller's.
        unsafe { originals::copy_file_range::call(from, from_offset, to, to_offset, length, flags) }
    })
}
