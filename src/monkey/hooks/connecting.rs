//! Connections that are made and taken. There is no flag to have one call not block.
//!
//! `accept` looks first. Where other threads or processes take connections from the same socket, one may
//! have been faster, and the call blocks until the next comes: set such a socket so that it does not block.
//! `connect` has the socket not block for as long as the call takes to begin: nobody else uses one that is
//! not connected.

use crate::hub::{Deadline, Direction, Interrupts, breathe_quietly, park_quietly};
use crate::monkey::descriptors::{Kind, Known, forget, interrupts, look_up, option};
use crate::monkey::{errno, table};
use libc::{c_int, sockaddr, socklen_t};
use std::time::Duration;

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn accept(
    fd: c_int,
    address: *mut sockaddr,
    room: *mut socklen_t,
) -> c_int {
    // SAFETY: the caller's.
    unsafe { accept4(fd, address, room, 0) }
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn accept4(
    fd: c_int,
    address: *mut sockaddr,
    room: *mut socklen_t,
    flags: c_int,
) -> c_int {
    // SAFETY: the caller's.
    let call = || unsafe { table::accept4::original(fd, address, room, flags) };
    let done = look_up(fd).and_then(|known| {
        breathe_quietly();
        known.attempt(Direction::Read, "accept", || {
            if known.is_nonblocking() || known.is_ready(Direction::Read) {
                call() as isize
            } else {
                errno::fail_long(libc::EAGAIN)
            }
        })
    });
    match done {
        None => {
            table::accept4::ROW.count_blocked();
            call()
        }
        Some(number) => {
            // Somebody may have closed the number behind our back.
            forget(number as c_int);
            number as c_int
        }
    }
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn connect(
    fd: c_int,
    address: *const sockaddr,
    length: socklen_t,
) -> c_int {
    // SAFETY: the caller's.
    let call = || unsafe { table::connect::original(fd, address, length) };
    let Some(known) = look_up(fd) else { return call() };
    if known.kind() != Kind::Stream || known.is_nonblocking() {
        return call();
    }
    let deadline = known.deadline(Direction::Write);
    let interrupts = interrupts(deadline).begun();
    let mut pause = Duration::from_micros(100);
    loop {
        let result = without_blocking(fd, call);
        match errno::get() {
            _ if result == 0 => return 0,
            libc::EINPROGRESS => return wait_until_connected(&known, fd, deadline, interrupts),
            // The queue of a Unix socket is full: nothing tells when there is room.
            libc::EAGAIN => {
                use crate::hub::Wake::*;
                match park_quietly("connect", Deadline::after(pause), interrupts) {
                    Signalled => return errno::fail(libc::EINTR),
                    Interrupted => {
                        crate::hub::tell_interrupts();
                        return errno::fail(libc::ECANCELED);
                    }
                    Unparked | TimedOut => pause = (pause * 2).min(Duration::from_millis(10)),
                }
                if deadline
                    .is_some_and(|deadline| Deadline::after(Duration::ZERO) >= Some(deadline))
                {
                    return errno::fail(libc::EAGAIN);
                }
            }
            _ => return result,
        }
    }
}

/// Makes a call for as long as the descriptor does not block. It fails as the call does.
fn without_blocking(fd: c_int, call: impl Fn() -> c_int) -> c_int {
    // SAFETY: no memory is involved.
    let flags = unsafe { table::fcntl::original(fd, libc::F_GETFL, 0) } as usize;
    let set = |flags: usize| {
        // SAFETY: no memory is involved.
        unsafe { table::fcntl::original(fd, libc::F_SETFL, flags) }
    };
    set(flags | libc::O_NONBLOCK as usize);
    let result = call();
    let number = errno::get();
    set(flags);
    errno::set(number);
    result
}

fn wait_until_connected(
    known: &Known,
    fd: c_int,
    deadline: Option<Deadline>,
    interrupts: Interrupts,
) -> c_int {
    loop {
        let waited = known
            .would_block(Direction::Write)
            .and_then(|()| known.wait(Direction::Write, "connect", deadline, interrupts));
        match waited {
            // An event may be left over from before.
            Ok(()) if !known.is_ready(Direction::Write) => {}
            Ok(()) => {
                return match option(fd, libc::SO_ERROR) {
                    Some(0) => 0,
                    error => errno::fail(error.unwrap_or(libc::EBADF)),
                };
            }
            // As the kernel says when a limit has passed.
            Err(Some(libc::EAGAIN)) => return errno::fail(libc::EINPROGRESS),
            Err(refusal) => return errno::fail(refusal.unwrap_or(libc::EINPROGRESS)),
        }
    }
}
