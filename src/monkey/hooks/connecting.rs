//! Making and accepting connections. No flag makes a single one of these calls non-blocking.
//!
//! `accept` checks first whether a connection is queued. If other threads or processes accept from the same
//! socket, one of them may be faster, and the call blocks until the next connection: set such a socket to
//! non-blocking mode. `connect` sets the socket to non-blocking mode until the connection is begun: nothing
//! else uses a socket that is not connected.

use crate::hub::{
    Deadline, Direction, Interrupts, Wake, mark_interrupts_reported, park_nounwind,
    yield_if_due_nounwind,
};
use crate::monkey::descriptors::{forget_last, look_up, rouse};
use crate::monkey::known::Known;
use crate::monkey::{errno, originals};
use crate::sys::descriptor::{Kind, is_ready, is_shut_down, option};
use libc::{c_int, sockaddr, socklen_t};
use std::time::Duration;

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn accept(
    fd: c_int,
    address: *mut sockaddr,
    room: *mut socklen_t,
) -> c_int {
    // SAFETY: contract of a hook: `accept4` has the same contract.
    unsafe { accept4(fd, address, room, 0) }
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn accept4(
    fd: c_int,
    address: *mut sockaddr,
    room: *mut socklen_t,
    flags: c_int,
) -> c_int {
    // SAFETY: contract of a hook: libc's `accept4` gets the caller's pointers.
    let call = |fd| unsafe { originals::accept4::call(fd, address, room, flags) };
    let may_wait = flags & !(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK) == 0;
    // On a socket that does not listen the call fails at once.
    let known = if may_wait { look_up(fd).filter(|known| known.is_listening()) } else { None };
    let Some(known) = known else { return call(fd) };
    let _under_way = known.yield_if_due();
    // What was set later is for later calls.
    let is_nonblocking = known.is_nonblocking();
    let outcome = known.attempts(Direction::Read, "accept").in_turn().make(|fd| {
        if !is_nonblocking && !is_ready(fd, true) {
            return errno::fail_long(libc::EAGAIN);
        }
        let accepted = call(fd) as isize;
        let would_block = accepted < 0 && errno::get() == libc::EAGAIN;
        match would_block && !is_nonblocking && is_shut_down(fd) {
            // Only a call that blocks is told so.
            true => errno::fail_long(libc::EINVAL),
            false => accepted,
        }
    });
    match outcome.or_zero() {
        None => {
            originals::accept4::ROW.count_blocked();
            call(fd)
        }
        Some(number) => {
            forget_last(number as c_int);
            number as c_int
        }
    }
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn connect(
    fd: c_int,
    address: *const sockaddr,
    length: socklen_t,
) -> c_int {
    // SAFETY: contract of a hook: libc's `connect` gets the caller's pointers.
    let call = || unsafe { originals::connect::call(fd, address, length) };
    let Some(known) = look_up(fd) else { return call() };
    if !is_connected_by_waiting(known.kind()) || known.is_nonblocking() {
        return call();
    }
    yield_if_due_nounwind();
    let deadline = known.deadline(Direction::Write);
    let interrupts = Interrupts::of_socket(deadline).begun();
    let mut pause = Duration::from_micros(100);
    loop {
        // The descriptor was closed while others ran, and the number may be in use again.
        if !known.is_current() {
            return errno::fail(libc::EBADF);
        }
        let result = without_blocking(fd, call);
        match errno::get() {
            _ if result == 0 => return 0,
            // Also if the connection was begun earlier: the kernel's call waits for that one, too.
            begun @ (libc::EINPROGRESS | libc::EALREADY) => {
                let limits = (deadline, interrupts);
                return wait_until_connected(&known, fd, call, limits, begun);
            }
            // The backlog of a Unix socket is full, and no event reports when there is room.
            libc::EAGAIN if option(fd, libc::SO_DOMAIN) == Some(libc::AF_UNIX) => {
                if deadline.is_some_and(Deadline::has_passed) {
                    return errno::fail(libc::EAGAIN);
                }
                let next = Deadline::after(pause).into_iter().chain(deadline).min();
                match park_nounwind("connect", next, interrupts) {
                    Wake::Signalled => return errno::fail(libc::EINTR),
                    Wake::Interrupted => {
                        mark_interrupts_reported();
                        return errno::fail(libc::ECANCELED);
                    }
                    Wake::Unparked | Wake::TimedOut => {}
                }
                pause = (pause * 2).min(Duration::from_millis(10));
            }
            _ => return result,
        }
    }
}

/// Makes the last step of a connection that a send has begun.
///
/// The result says, like that of `connect`, whether the connection is under way, was made, or has failed.
/// The kernel then regards that as reported.
pub(super) fn finish_connecting(fd: c_int) -> c_int {
    // SAFETY: all-zero bytes are a valid `sockaddr_in`.
    let mut address: libc::sockaddr_in = unsafe { std::mem::zeroed() };
    address.sin_family = libc::AF_INET as _;
    let length = size_of_val(&address) as socklen_t;
    // SAFETY: `address` is valid. Its content is not used, since the connection was begun earlier.
    without_blocking(fd, || unsafe {
        originals::connect::call(fd, (&raw const address).cast(), length)
    })
}

/// Whether `connect` establishes a connection, rather than just setting the peer address.
fn is_connected_by_waiting(kind: Kind) -> bool {
    matches!(kind, Kind::Tcp | Kind::Stream | Kind::SeqPacket)
}

/// Makes a call while the descriptor is in non-blocking mode.
///
/// Errno is as the call leaves it.
fn without_blocking(fd: c_int, call: impl Fn() -> c_int) -> c_int {
    // SAFETY: no pointer is passed.
    let flags = unsafe { originals::fcntl::call(fd, libc::F_GETFL, 0) } as usize;
    let set = |flags: usize| {
        // SAFETY: no pointer is passed.
        unsafe { originals::fcntl::call(fd, libc::F_SETFL, flags) }
    };
    set(flags | libc::O_NONBLOCK as usize);
    let result = call();
    let number = errno::get();
    set(flags);
    errno::set(number);
    result
}

/// The state of a connection that was begun.
enum Progress {
    UnderWay,
    /// It has succeeded, and the next `connect` reports that.
    Established,
    /// It has failed, and the next `connect` reports why. If the error was already reported to another
    /// caller, that `connect` begins a new attempt.
    Failed,
    /// It has succeeded or failed: see the socket's pending error.
    Over,
}

impl Progress {
    fn of(known: &Known, fd: c_int) -> Self {
        // The first byte of `tcp_info`: the state.
        let mut state = 0_u8;
        let mut length = 1;
        let place = (&raw mut state).cast();
        // SAFETY: `place` is valid for a write of `length` bytes.
        let result =
            unsafe { libc::getsockopt(fd, libc::IPPROTO_TCP, libc::TCP_INFO, place, &mut length) };
        match state {
            // Still under way: the event was an earlier one.
            SYN_SENT | SYN_RECV if result == 0 => Progress::UnderWay,
            CLOSE if result == 0 => Progress::Failed,
            _ if result == 0 => Progress::Established,
            _ if known.is_ready(Direction::Write) => Progress::Over,
            _ => Progress::UnderWay,
        }
    }
}

/// TCP states, as in the kernel's `tcp_states.h`.
const SYN_SENT: u8 = 2;
const SYN_RECV: u8 = 3;
const CLOSE: u8 = 7;

/// Waits until a connection that was begun is made or has failed.
fn wait_until_connected(
    known: &Known,
    fd: c_int,
    call: impl Fn() -> c_int,
    (deadline, interrupts): (Option<Deadline>, Interrupts),
    begun: c_int,
) -> c_int {
    loop {
        let waited = known
            .expect_event(Direction::Write)
            .and_then(|()| known.wait(Direction::Write, "connect", deadline, interrupts));
        match waited {
            Ok(()) => {}
            // As the kernel reports an expired timeout.
            Err(Some(libc::EAGAIN)) => return errno::fail(begun),
            Err(Some(error)) => return errno::fail(error),
            // The kernel's call waits for the connection that was begun.
            Err(None) => {
                originals::connect::ROW.count_blocked();
                return call();
            }
        }
        // The kernel's call makes the last step itself, so that the kernel regards the result as reported: a
        // further call begins a new attempt.
        let result = match Progress::of(known, fd) {
            Progress::UnderWay => continue,
            Progress::Established => call(),
            Progress::Failed => without_blocking(fd, &call),
            Progress::Over => match option(fd, libc::SO_ERROR) {
                Some(0) => 0,
                error => errno::fail(error.unwrap_or(libc::EBADF)),
            },
        };
        match errno::get() {
            _ if result == 0 => return 0,
            // Another waiter for the same connection was faster.
            libc::EISCONN => return 0,
            libc::EINPROGRESS | libc::EALREADY => {}
            _ => return result,
        }
    }
}

/// Shuts a socket down and wakes the coroutines that use it.
///
/// The kernel wakes blocked calls on the socket, but does not report that to epoll.
///
/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn shutdown(fd: c_int, how: c_int) -> c_int {
    // SAFETY: no pointer is passed.
    let result = unsafe { originals::shutdown::call(fd, how) };
    let number = errno::get();
    rouse(fd);
    errno::set(number);
    result
}
