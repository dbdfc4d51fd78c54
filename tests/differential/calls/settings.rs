//! What changes descriptors, and what makes and ends them.

use super::Call;
use crate::fixtures::{ANY, LISTENER, OTHER, PIPE, SOCKET, set_int};
use crate::params::Param::{self, Fd, One, Victim};
use crate::params::{SHORT, int, timeval, values};
use crate::worker::result_slot;
use crate::world::{self, fd, name, outcome};
use libc::{c_int, c_uint};

/// The limits that a socket can have; 0 is none.
const SOCKET_LIMIT: Param = One(&[("none", 0), ("short", SHORT), ("long", 60_000)]);
const LINGER: Param = One(&[("off", -1), ("reset", 0), ("long", 60)]);
const RANGE: Param = One(&[("close", 0), ("on_exec", 4), ("odd", 64)]);
const SWITCH: Param = One(&[("off", 0), ("on", 1)]);

pub(super) const CALLS: &[Call] = &[
    Call::new("nonblocking", 4, ANY, &[Fd, SWITCH], |_, a| {
        let fd = fd(a[0]);
        // SAFETY: no memory is involved.
        outcome(unsafe {
            let flags = libc::fcntl(fd, libc::F_GETFL) & !libc::O_NONBLOCK;
            let flag = if a[1] == 1 { libc::O_NONBLOCK } else { 0 };
            libc::fcntl(fd, libc::F_SETFL, flags | flag)
        })
        .text()
    }),
    Call::new("ioctl_nonblocking", 3, ANY, &[Fd, SWITCH], |_, a| {
        let mut value = int(a[1]);
        // SAFETY: a number.
        outcome(unsafe { libc::ioctl(fd(a[0]), libc::FIONBIO, &raw mut value) }).text()
    }),
    Call::new(
        "limit",
        4,
        SOCKET | LISTENER,
        &[Fd, One(values![SO_RCVTIMEO, SO_SNDTIMEO]), SOCKET_LIMIT],
        |_, a| {
            let time = timeval(a[2]);
            let (place, length) = ((&raw const time).cast(), size_of::<libc::timeval>() as u32);
            // SAFETY: a time.
            outcome(unsafe {
                libc::setsockopt(fd(a[0]), libc::SOL_SOCKET, int(a[1]), place, length)
            })
            .text()
        },
    ),
    Call::new("linger", 2, SOCKET | LISTENER, &[Fd, LINGER], |_, a| {
        let linger = libc::linger { l_onoff: (a[1] >= 0).into(), l_linger: int(a[1]) };
        let (place, length) = ((&raw const linger).cast(), size_of::<libc::linger>() as u32);
        // SAFETY: a value of the option's.
        outcome(unsafe {
            libc::setsockopt(fd(a[0]), libc::SOL_SOCKET, libc::SO_LINGER, place, length)
        })
        .text()
    }),
    Call::new(
        "option",
        4,
        SOCKET,
        &[
            Fd,
            One(values![SO_OOBINLINE, SO_RCVLOWAT, SO_PASSCRED, SO_RCVBUF, SO_SNDBUF, SO_PEEK_OFF]),
            One(&[("off", 0), ("on", 1), ("five", 5), ("much", 100_000)]),
        ],
        |_, a| {
            set_int(fd(a[0]), int(a[1]), int(a[2]));
            String::new()
        },
    ),
    Call::new("error", 2, SOCKET | LISTENER, &[Fd], |_, a| {
        let (mut error, mut length): (c_int, _) = (0, 4);
        let place = (&raw mut error).cast();
        // SAFETY: room for a number.
        let got = outcome(unsafe {
            libc::getsockopt(fd(a[0]), libc::SOL_SOCKET, libc::SO_ERROR, place, &mut length)
        });
        got.with(&world::error_name(error))
    }),
    Call::new("close", 4, ANY, &[Victim], |_, a| {
        let fd = gone(a[0]);
        // SAFETY: no call under way uses it.
        outcome(unsafe { libc::close(fd) }).text()
    }),
    Call::new("reset", 2, SOCKET | LISTENER, &[Victim], |_, a| {
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        let (place, length) = ((&raw const linger).cast(), size_of::<libc::linger>() as u32);
        let fd = gone(a[0]);
        // SAFETY: a value of the option's; no call under way uses the descriptor.
        outcome(unsafe {
            libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_LINGER, place, length);
            libc::close(fd)
        })
        .text()
    }),
    Call::new("close_range", 1, ANY, &[Victim, RANGE], |_, a| {
        let number = if a[1] == 0 { gone(a[0]) } else { fd(a[0]) } as c_uint;
        if number == c_uint::MAX {
            return "none".into();
        }
        // SAFETY: no call under way uses it.
        outcome(unsafe { libc::close_range(number, number, int(a[1])) }).text()
    }),
    Call::new("closefrom", 1, ANY, &[Fd], |_, a| {
        const HIGH: c_int = 950;
        unsafe extern "C" {
            fn closefrom(first: c_int);
        }
        // SAFETY: only the copy is of so high a number.
        unsafe {
            let copy = libc::fcntl(fd(a[0]), libc::F_DUPFD, HIGH);
            closefrom(HIGH);
            outcome(libc::fcntl(copy, libc::F_GETFD)).text()
        }
    }),
    Call::new("fclose", 1, ANY, &[Victim], |_, a| {
        // SAFETY: no call under way uses it; a stream is closed once.
        unsafe {
            let file = libc::fdopen(fd(a[0]), c"r".as_ptr());
            if file.is_null() {
                return outcome(-1).text();
            }
            gone(a[0]);
            outcome(libc::fclose(file)).text()
        }
    }),
    Call::new("dup", 3, ANY, &[Fd], |step, a| {
        // SAFETY: no memory is involved.
        made(step, unsafe { libc::dup(fd(a[0])) })
    })
    .making_a_slot(),
    Call::new("dup2", 2, ANY, &[Fd, Victim], |_, a| {
        // SAFETY: no call under way uses the second.
        let got = outcome(unsafe { libc::dup2(fd(a[0]), fd(a[1])) });
        replaced(a[1], got)
    }),
    Call::new("dup3", 2, ANY, &[Fd, Victim, Param::Flags(values![O_CLOEXEC])], |_, a| {
        // SAFETY: no call under way uses the second.
        let got = outcome(unsafe { libc::dup3(fd(a[0]), fd(a[1]), int(a[2])) });
        replaced(a[1], got)
    }),
    Call::new("dup_above64", 1, ANY, &[Fd], |step, a| {
        unsafe extern "C" {
            fn fcntl64(fd: c_int, command: c_int, ...) -> c_int;
        }
        // SAFETY: no memory is involved.
        made(step, unsafe { fcntl64(fd(a[0]), libc::F_DUPFD, 20) })
    })
    .making_a_slot(),
    Call::new("dup_above", 2, ANY, &[Fd, One(values![F_DUPFD, F_DUPFD_CLOEXEC])], |step, a| {
        // SAFETY: no memory is involved.
        made(step, unsafe { libc::fcntl(fd(a[0]), int(a[1]), 20) })
    })
    .making_a_slot(),
    Call::new("available", 1, SOCKET | PIPE | OTHER, &[Fd], |_, a| {
        let mut available: c_int = -1;
        // SAFETY: room for a number.
        let got = outcome(unsafe { libc::ioctl(fd(a[0]), libc::FIONREAD, &raw mut available) });
        got.with(&available.to_string())
    }),
];

/// A new descriptor, or an error.
pub(super) fn made(step: usize, fd: c_int) -> String {
    let got = outcome(fd);
    if got.result < 0 {
        return got.text();
    }
    world::set_fd(result_slot(step), fd);
    name(result_slot(step))
}

/// The number of a slot that is about to be closed. From now on the slot has one that nothing has.
pub(super) fn gone(slot: i64) -> c_int {
    let fd = fd(slot);
    world::set_closed(slot);
    fd
}

/// Its number says nothing.
fn replaced(slot: i64, got: world::Outcome) -> String {
    if got.result >= 0 && got.result == i64::from(fd(slot)) { "ok".into() } else { got.text() }
}
