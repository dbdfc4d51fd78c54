//! Copies by the kernel from a file.
//!
//! To a pipe the call is a `splice`, and to a file the pool makes it. For a stream in blocking mode the file
//! is read here, and sent as the stream accepts it: the kernel has no such call that does not wait.

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

/// The number of bytes that are read before they are sent.
const CHUNK: usize = 64 << 10;

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn sendfile(
    to: c_int,
    from: c_int,
    offset: *mut off_t,
    count: size_t,
) -> ssize_t {
    const { assert!(size_of::<off_t>() == size_of::<off64_t>()) };
    // SAFETY: contract of a hook: both types of offsets are the same.
    let sent = unsafe { send_by(to, from, offset.cast(), count) };
    // SAFETY: contract of a hook: libc's `sendfile` gets the caller's pointers.
    sent.unwrap_or_else(|| unsafe { originals::sendfile::call_blocking(to, from, offset, count) })
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn sendfile64(
    to: c_int,
    from: c_int,
    offset: *mut off64_t,
    count: size_t,
) -> ssize_t {
    // SAFETY: contract of a hook: `send_by` has the same contract.
    let sent = unsafe { send_by(to, from, offset, count) };
    // SAFETY: contract of a hook: libc's `sendfile64` gets the caller's pointers.
    sent.unwrap_or_else(|| unsafe { originals::sendfile64::call_blocking(to, from, offset, count) })
}

/// Like `sendfile64`. `None` if the only way is to let the call block.
///
/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`), as for libc's `sendfile64`.
unsafe fn send_by(to: c_int, from: c_int, offset: *mut off64_t, count: size_t) -> Option<ssize_t> {
    yield_if_due_nounwind();
    let (Some(input), Some(output), true) =
        (look_up(from), look_up(to), count > 0 && count <= isize::MAX as usize)
    else {
        // SAFETY: contract of a hook: libc's function gets the caller's pointers. It refuses them, or has
        // nothing to send.
        return Some(unsafe { originals::sendfile64::call(to, from, offset, count) });
    };
    // SAFETY: contract of a hook: the pointers are valid on any thread until the suspended caller returns.
    let lent = unsafe { Lent::new(offset) };
    // SAFETY: contract of a hook: the suspended caller lends the pointers to libc's `sendfile64`.
    let call = move || unsafe { originals::sendfile64::call(to, from, lent.get(), count) };
    match (input.kind(), output.kind()) {
        (Kind::File, Kind::Tcp | Kind::Stream) if !output.is_nonblocking() => {
            // SAFETY: contract of a hook: `read_and_send` has the same contract.
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
            // Both calls do the same to a pipe.
            let splice = Splice {
                from: (from, &input, offset),
                to: (to, &output, ptr::null_mut()),
                length: count,
                flags: 0,
            };
            // SAFETY: contract of a hook: `make` has the same contract.
            return unsafe { splice.make() };
        }
        _ => {}
    }
    aside_or_interrupted("sendfile", Interrupts::Tell, call)
}

/// Sends a file to a stream in blocking mode.
///
/// `None` if nothing was sent, and the kernel has to report why.
///
/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`), as for libc's `sendfile64`.
unsafe fn read_and_send(
    output: &Known,
    from: c_int,
    offset: *mut off64_t,
    count: size_t,
) -> Option<ssize_t> {
    let begin = match offset.is_null() {
        // SAFETY: no pointer is passed.
        true => unsafe { libc::lseek64(from, 0, libc::SEEK_CUR) },
        // SAFETY: contract of a hook: not null, so it is an offset if the memory is accessible.
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
        // SAFETY: `part` is `buffer`, which has `room` bytes of capacity.
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
            // After a part was sent, a failure is the next call's, with its signal.
            let quiet = if sent > 0 { libc::MSG_NOSIGNAL } else { 0 };
            let outcome = attempts.make(|to| {
                // SAFETY: `got` bytes of `buffer` were read.
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
            // SAFETY: no pointer is passed.
            true => drop(unsafe { libc::lseek64(from, end, libc::SEEK_SET) }),
            // SAFETY: contract of a hook: not null, so it is an offset if the memory is accessible.
            false if unsafe { user_memory::write(offset, end) } => {}
            false => error = Some(libc::EFAULT),
        }
    }
    Some(error.map_or(sent as ssize_t, errno::fail_long))
}

/// Copies in the pool: both ends are files, or the kernel refuses them.
///
/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn copy_file_range(
    from: c_int,
    from_offset: *mut off64_t,
    to: c_int,
    to_offset: *mut off64_t,
    length: size_t,
    flags: c_uint,
) -> ssize_t {
    // SAFETY: contract of a hook: the pointers are valid on any thread until the suspended caller returns.
    let lent = unsafe { Lent::new((from_offset, to_offset)) };
    elsewhere("copy_file_range", move || {
        let (from_offset, to_offset) = lent.get();
        // SAFETY: contract of a hook: the suspended caller lends the pointers to libc's `copy_file_range`.
        unsafe { originals::copy_file_range::call(from, from_offset, to, to_offset, length, flags) }
    })
}
