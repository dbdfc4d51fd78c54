//! Copies by the kernel from one descriptor to another through a pipe.
//!
//! `sendfile` to a pipe does the same; for other targets see `sending_files.rs`.
//!
//! An end that depends on a peer is waited for by readiness, and the call is then made so that it does not
//! wait there. A regular file at the other end is left to the blocking pool, as file operations always are:
//!
//! ```text
//!              from a pipe                 a socket        a file              anything else
//!   to
//!   a pipe     SPLICE_F_NONBLOCK           readiness       room, then pool     dedicated thread
//!   a socket   readiness, page by page     -               -                   -
//!   a file     data, then pool             -               -                   -
//!   any other  dedicated thread            -               -                   -
//! ```

use super::waiting::{unless_blocked, until_ready};
use crate::hub::{Deadline, Direction, Interrupts, yield_if_due_nounwind};
use crate::monkey::blocking_pool::{Lent, elsewhere};
use crate::monkey::dedicated::aside_or_interrupted;
use crate::monkey::descriptors::look_up;
use crate::monkey::known::Known;
use crate::monkey::{errno, originals};
use crate::sys::descriptor::{Kind, option};
use libc::{c_int, c_uint, iovec, off64_t, size_t, ssize_t};
use std::ptr;

/// The number of bytes that a writable socket takes without waiting.
const PAGE: usize = 4096;

/// A call of `splice`, with what is known of its ends.
pub(super) struct Splice<'a> {
    pub(super) from: (c_int, &'a Known, *mut off64_t),
    pub(super) to: (c_int, &'a Known, *mut off64_t),
    pub(super) length: size_t,
    pub(super) flags: c_uint,
}

impl Splice<'_> {
    /// Moves up to `length` bytes, and does not wait for a pipe.
    ///
    /// # Safety
    ///
    /// Each offset is null or valid, and stays valid while the caller is suspended.
    unsafe fn now(&self, length: size_t) -> ssize_t {
        let flags = self.flags | libc::SPLICE_F_NONBLOCK;
        // SAFETY: the offsets are null or valid: the contract of this function.
        unsafe {
            originals::splice::call(self.from.0, self.from.2, self.to.0, self.to.2, length, flags)
        }
    }

    /// Makes the kernel's blocking call on a dedicated thread.
    ///
    /// `None`: no thread can be created.
    ///
    /// # Safety
    ///
    /// The contract of [`Splice::now`].
    unsafe fn on_dedicated_thread(&self) -> Option<ssize_t> {
        let (from, to, length, flags) = (self.from.0, self.to.0, self.length, self.flags);
        // SAFETY: the pointers may be used on any thread, and the caller is suspended until the call ends.
        let lent = unsafe { Lent::new((self.from.2, self.to.2)) };
        aside_or_interrupted("splice", Interrupts::Tell, move || {
            let (from_offset, to_offset) = lent.get();
            // SAFETY: contract of a hook: the suspended caller lends the pointers to libc's `splice`.
            unsafe { originals::splice::call(from, from_offset, to, to_offset, length, flags) }
        })
    }

    /// Whether the kernel refuses the call before it waits.
    ///
    /// A pipe or a socket has no offset, each end must be open in its direction, and the target must not be
    /// in append mode.
    fn is_refused(&self) -> bool {
        let has_offset =
            |known: &Known, offset: *mut off64_t| !offset.is_null() && known.kind() != Kind::File;
        has_offset(self.from.1, self.from.2)
            || has_offset(self.to.1, self.to.2)
            || mode(self.from.0) & libc::O_ACCMODE == libc::O_WRONLY
            || mode(self.to.0) & libc::O_ACCMODE == libc::O_RDONLY
            || mode(self.to.0) & libc::O_APPEND != 0
    }

    /// Whether the call may wait for its pipes.
    fn waits(&self) -> bool {
        let is_pipe = |known: &Known| known.kind() == Kind::Pipe;
        let is_nonblocking = |known: &Known| is_pipe(known) && known.is_nonblocking();
        self.flags & libc::SPLICE_F_NONBLOCK == 0
            && !is_nonblocking(self.from.1)
            && !is_nonblocking(self.to.1)
    }

    /// Makes the call. `None` if it needs a dedicated thread.
    ///
    /// # Safety
    ///
    /// The contract of [`Splice::now`].
    pub(super) unsafe fn make(&self) -> Option<ssize_t> {
        let (input, output) = (self.from.1, self.to.1);
        match (input.kind(), output.kind()) {
            (Kind::Pipe, Kind::Pipe) => {
                let ends = [(input, Direction::Read), (output, Direction::Write)];
                // SAFETY: the offsets meet the contract of [`Splice::now`].
                let now = || unsafe { self.now(self.length) };
                if !self.waits() {
                    return Some(now());
                }
                until_ready("splice", &ends, (None, Interrupts::Tell), || unless_blocked(now()))
            }
            // SAFETY: the offsets meet the contract of [`Splice::now`].
            (Kind::Pipe, Kind::Tcp | Kind::Stream) => unsafe { self.splice_to_socket() },
            // SAFETY: the offsets meet the contract of [`Splice::now`].
            (input, Kind::Pipe) if input.is_socket() => unsafe { self.splice_from_socket() },
            // SAFETY: the offsets meet the contract of [`Splice::now`].
            (Kind::Pipe, Kind::File) => unsafe { self.with_file(input, Direction::Read) },
            // SAFETY: the offsets meet the contract of [`Splice::now`].
            (Kind::File, Kind::Pipe) => unsafe { self.with_file(output, Direction::Write) },
            (Kind::Pipe, _) | (_, Kind::Pipe) => None,
            // SAFETY: the offsets meet the contract of [`Splice::now`]. The call fails, since neither end is
            // a pipe.
            _ => Some(unsafe { self.now(self.length) }),
        }
    }

    /// Makes the call in the blocking pool once the pipe is ready: the other end is a file.
    ///
    /// # Safety
    ///
    /// The contract of [`Splice::now`].
    unsafe fn with_file(&self, pipe: &Known, direction: Direction) -> Option<ssize_t> {
        // SAFETY: the pointers may be used on any thread, and the caller is suspended until the call ends.
        let lent = unsafe { Lent::new(ptr::from_ref(self)) };
        let in_pool = || {
            elsewhere("splice", move || {
                let this = lent.get();
                // SAFETY: `self` outlives the call; only the plain data of the call is read, not what it
                // refers to. The offsets meet the contract of [`Splice::now`].
                unsafe { (*this).now((*this).length) }
            })
        };
        if !self.waits() || self.is_refused() {
            return Some(in_pool());
        }
        until_ready("splice", &[(pipe, direction)], (None, Interrupts::Tell), || {
            loop {
                if !pipe.is_ready(direction) {
                    return None;
                }
                // If another reader or writer was faster, the pipe is checked again.
                if let Some(done) = unless_blocked(in_pool()) {
                    return Some(done);
                }
            }
        })
    }

    /// Whether the socket's family is one whose blocking behaviour is known.
    fn is_known(socket: c_int) -> bool {
        matches!(
            option(socket, libc::SO_DOMAIN),
            Some(libc::AF_INET | libc::AF_INET6 | libc::AF_UNIX)
        )
    }

    /// Moves bytes from a socket to a pipe.
    ///
    /// # Safety
    ///
    /// The contract of [`Splice::now`].
    unsafe fn splice_from_socket(&self) -> Option<ssize_t> {
        let (socket, pipe) = (self.from.1, self.to.1);
        // SAFETY: the offsets meet the contract of [`Splice::now`].
        let now = || unsafe { self.now(self.length) };
        // With `SPLICE_F_NONBLOCK` a call does not wait for a Unix socket either.
        let is_unix = || option(self.from.0, libc::SO_DOMAIN) == Some(libc::AF_UNIX);
        let for_pipe = self.waits();
        let for_socket =
            !socket.is_nonblocking() && (self.flags & libc::SPLICE_F_NONBLOCK == 0 || !is_unix());
        if self.is_refused() || !(for_pipe || for_socket) {
            return Some(now());
        }
        let is_ready = || {
            (!for_pipe || pipe.is_ready(Direction::Write))
                && (!for_socket || socket.is_ready(Direction::Read))
        };
        let ends = [(socket, Direction::Read), (pipe, Direction::Write)];
        until_ready("splice", &ends, limits(socket, Direction::Read), || {
            if !for_pipe && !pipe.is_ready(Direction::Write) {
                return Some(now());
            }
            if !is_ready() {
                return None;
            }
            let done = now();
            let must_wait = done < 0 && errno::get() == libc::EAGAIN && !is_ready();
            (!must_wait).then_some(done)
        })
    }

    /// Moves bytes to a socket.
    ///
    /// Like the kernel, stops when the pipe is empty, if any bytes were moved.
    ///
    /// # Safety
    ///
    /// The contract of [`Splice::now`].
    unsafe fn splice_to_socket(&self) -> Option<ssize_t> {
        let (pipe, socket) = (self.from.1, self.to.1);
        if self.is_refused() || socket.is_nonblocking() && !self.waits() {
            // SAFETY: the offsets meet the contract of [`Splice::now`].
            return Some(unsafe { self.now(self.length) });
        }
        if !Self::is_known(self.to.0) {
            return None;
        }
        let mut moved = 0;
        let ends = [(pipe, Direction::Read), (socket, Direction::Write)];
        let done = until_ready("splice", &ends, limits(socket, Direction::Write), || {
            loop {
                if !pipe.is_ready(Direction::Read) {
                    return match moved {
                        0 if self.waits() => None,
                        0 => Some(errno::fail_long(libc::EAGAIN)),
                        _ => Some(moved as ssize_t),
                    };
                }
                let part = match socket.is_nonblocking() {
                    true => self.length - moved,
                    false if socket.is_ready(Direction::Write) => PAGE.min(self.length - moved),
                    false => return None,
                };
                // SAFETY: the offsets meet the contract of [`Splice::now`].
                let Ok(part) = usize::try_from(unsafe { self.now(part) }) else {
                    if errno::get() == libc::EAGAIN && !socket.is_nonblocking() {
                        // Another was faster: check the pipe again.
                        continue;
                    }
                    return Some(-1);
                };
                moved += part;
                if part == 0 || moved >= self.length || socket.is_nonblocking() {
                    return Some(moved as ssize_t);
                }
            }
        })?;
        Some(if moved > 0 { moved as ssize_t } else { done })
    }
}

/// The status flags of a descriptor.
fn mode(fd: c_int) -> c_int {
    // SAFETY: no pointer is passed.
    unsafe { originals::fcntl::call(fd, libc::F_GETFL, 0) }
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn splice(
    from: c_int,
    from_offset: *mut off64_t,
    to: c_int,
    to_offset: *mut off64_t,
    length: size_t,
    flags: c_uint,
) -> ssize_t {
    yield_if_due_nounwind();
    // The kernel refuses the call, or it has nothing to move.
    let (Some(input), Some(output), true) =
        (look_up(from), look_up(to), length > 0 && flags & !ALL_FLAGS == 0)
    else {
        // SAFETY: contract of a hook: libc's `splice` gets the caller's pointers.
        return unsafe { originals::splice::call(from, from_offset, to, to_offset, length, flags) };
    };
    let call =
        Splice { from: (from, &input, from_offset), to: (to, &output, to_offset), length, flags };
    // SAFETY: contract of a hook: the offsets are null or valid.
    let done = unsafe { call.make() };
    // SAFETY: contract of a hook: the offsets are null or valid.
    done.or_else(|| unsafe { call.on_dedicated_thread() }).unwrap_or_else(|| unsafe {
        originals::splice::call_blocking(from, from_offset, to, to_offset, length, flags)
    })
}

const ALL_FLAGS: c_uint =
    libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK | libc::SPLICE_F_MORE | libc::SPLICE_F_GIFT;

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn tee(
    from: c_int,
    to: c_int,
    length: size_t,
    flags: c_uint,
) -> ssize_t {
    yield_if_due_nounwind();
    let (Some(input), Some(output)) = (look_up(from), look_up(to)) else {
        // SAFETY: no pointer is passed.
        return unsafe { originals::tee::call(from, to, length, flags) };
    };
    let may_wait =
        flags & libc::SPLICE_F_NONBLOCK == 0 && !input.is_nonblocking() && !output.is_nonblocking();
    // SAFETY: no pointer is passed. The kernel refuses ends that are not pipes.
    let now = || unsafe { originals::tee::call(from, to, length, flags | libc::SPLICE_F_NONBLOCK) };
    if !may_wait {
        return now();
    }
    let ends = [(&*input, Direction::Read), (&*output, Direction::Write)];
    until_ready("tee", &ends, (None, Interrupts::Tell), || unless_blocked(now()))
        // SAFETY: no pointer is passed.
        .unwrap_or_else(|| unsafe { originals::tee::call_blocking(from, to, length, flags) })
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn vmsplice(
    fd: c_int,
    parts: *const iovec,
    count: size_t,
    flags: c_uint,
) -> ssize_t {
    yield_if_due_nounwind();
    // SAFETY: contract of a hook: libc's `vmsplice` gets the caller's pointers.
    let with = |flags| unsafe { originals::vmsplice::call(fd, parts, count, flags) };
    let known = look_up(fd).filter(|known| known.kind() == Kind::Pipe);
    let Some(known) = known.filter(|_| flags & libc::SPLICE_F_NONBLOCK == 0) else {
        return with(flags);
    };
    let direction = match mode(fd) & libc::O_ACCMODE {
        libc::O_RDONLY => Direction::Read,
        _ => Direction::Write,
    };
    // Only this flag decides, not the descriptor's mode.
    let attempt = || unless_blocked(with(flags | libc::SPLICE_F_NONBLOCK));
    until_ready("vmsplice", &[(&known, direction)], (None, Interrupts::Tell), attempt)
        // SAFETY: contract of a hook: libc's `vmsplice` gets the caller's pointers.
        .unwrap_or_else(|| unsafe { originals::vmsplice::call_blocking(fd, parts, count, flags) })
}

/// The deadline of a call on a socket, and what interrupts the call.
fn limits(socket: &Known, direction: Direction) -> (Option<Deadline>, Interrupts) {
    let deadline = socket.deadline(direction);
    (deadline, Interrupts::of_socket(deadline))
}
