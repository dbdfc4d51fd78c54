//! Waiting for several descriptors at once.

use super::Call;
use crate::fixtures::{ANY, EPOLL};
use crate::memory::Buffer;
use crate::params::Param::{Fd, Flags, One};
use crate::params::{LIMITS, Param, int, timespec, timeval, values};
use crate::world::{Outcome, fd, outcome};
use libc::{c_int, epoll_event, fd_set, nfds_t, pollfd, sigset_t, size_t, timespec};
use std::ptr;
use std::time::{Duration, Instant};

unsafe extern "C" {
    fn __poll_chk(all: *mut pollfd, count: nfds_t, millis: c_int, room: size_t) -> c_int;
    fn __ppoll_chk(
        all: *mut pollfd,
        count: nfds_t,
        time: *const timespec,
        mask: *const sigset_t,
        room: size_t,
    ) -> c_int;
    fn epoll_pwait2(
        fd: c_int,
        events: *mut epoll_event,
        room: c_int,
        time: *const timespec,
        mask: *const sigset_t,
    ) -> c_int;
}

const EVENTS: Param = Flags(values![POLLIN, POLLOUT, POLLPRI, POLLRDHUP, POLLRDNORM, POLLWRNORM]);
const SETS: Param = Flags(&[("read", 1), ("write", 2), ("except", 4)]);
const MASK: Param = One(&[("nomask", 0), ("nomask", 0), ("mask", 1), ("usermask", 2)]);
const ROOM: Param = One(&[("room1", 1), ("room3", 3), ("room0", 0), ("room-1", -1)]);
const POLL: &[Param] = &[Fd, EVENTS, Fd, EVENTS, LIMITS];
const PPOLL: &[Param] = &[Fd, EVENTS, Fd, EVENTS, LIMITS, MASK];
const SELECT: &[Param] = &[Fd, SETS, Fd, SETS, LIMITS];
const PSELECT: &[Param] = &[Fd, SETS, Fd, SETS, LIMITS, MASK];

pub(super) const CALLS: &[Call] = &[
    Call::new("poll", 8, ANY, POLL, |_, a| {
        // SAFETY: two questions.
        polled(a, |all| unsafe { libc::poll(all, 2, int(a[4])) })
    }),
    Call::new("poll_nothing", 1, ANY, &[LIMITS], |_, a| {
        // SAFETY: no questions.
        timed(a[0], || unsafe { libc::poll(ptr::null_mut(), 0, int(a[0])) })
    }),
    Call::new("__poll_chk", 2, ANY, POLL, |_, a| {
        // SAFETY: two questions.
        polled(a, |all| unsafe { __poll_chk(all, 2, int(a[4]), 2 * size_of::<pollfd>()) })
    }),
    Call::new("ppoll", 5, ANY, PPOLL, |_, a| {
        let (time, mask) = (Time::new(a[4]), mask(a[5]));
        // SAFETY: two questions.
        polled(a, |all| unsafe { libc::ppoll(all, 2, time.pointer(), mask.pointer()) })
    }),
    Call::new("__ppoll_chk", 2, ANY, PPOLL, |_, a| {
        let (time, mask) = (Time::new(a[4]), mask(a[5]));
        let room = 2 * size_of::<pollfd>();
        // SAFETY: two questions.
        polled(a, |all| unsafe { __ppoll_chk(all, 2, time.pointer(), mask.pointer(), room) })
    }),
    Call::new("select", 6, ANY, SELECT, |_, a| {
        selected(a, |count, [read, write, except]| {
            let time = Buffer::of(timeval(a[4]));
            let pointer = if a[4] < 0 { ptr::null_mut() } else { time.pointer() };
            // SAFETY: sets that are long enough.
            unsafe { libc::select(count, read, write, except, pointer) }
        })
    }),
    Call::new("pselect", 4, ANY, PSELECT, |_, a| {
        let (time, mask) = (Time::new(a[4]), mask(a[5]));
        selected(a, |count, [read, write, except]| {
            // SAFETY: sets that are long enough.
            unsafe { libc::pselect(count, read, write, except, time.pointer(), mask.pointer()) }
        })
    }),
    Call::new("epoll_wait", 10, EPOLL, &[Fd, ROOM, LIMITS], |_, a| {
        let limit = int(a[2]);
        // SAFETY: room for as many as is said.
        told(a, |fd, events, room| unsafe { libc::epoll_wait(fd, events, room, limit) })
    }),
    Call::new("epoll_pwait", 6, EPOLL, &[Fd, ROOM, LIMITS, MASK], |_, a| {
        let (limit, mask) = (int(a[2]), mask(a[3]));
        // SAFETY: room for as many as is said.
        told(a, |fd, events, room| unsafe {
            libc::epoll_pwait(fd, events, room, limit, mask.pointer())
        })
    }),
    Call::new("epoll_pwait2", 6, EPOLL, &[Fd, ROOM, LIMITS, MASK], |_, a| {
        let (time, mask) = (Time::new(a[2]), mask(a[3]));
        // SAFETY: room for as many as is said.
        told(a, |fd, events, room| unsafe {
            epoll_pwait2(fd, events, room, time.pointer(), mask.pointer())
        })
    }),
    Call::new(
        "epoll_ctl",
        6,
        EPOLL,
        &[
            Fd,
            One(values![EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLL_CTL_DEL]),
            Fd,
            Flags(values![EPOLLIN, EPOLLOUT, EPOLLET, EPOLLONESHOT, EPOLLRDHUP]),
        ],
        |_, a| {
            let mut event = epoll_event { events: a[3] as u32, u64: a[2] as u64 };
            // SAFETY: an event.
            outcome(unsafe { libc::epoll_ctl(fd(a[0]), int(a[1]), fd(a[2]), &mut event) }).text()
        },
    ),
];

/// A time of C, or none.
struct Time(timespec, bool);

impl Time {
    fn new(millis: i64) -> Self {
        Time(timespec(millis), millis >= 0)
    }

    fn pointer(&self) -> *const timespec {
        if self.1 { &raw const self.0 } else { ptr::null() }
    }
}

struct Mask(sigset_t, bool);

impl Mask {
    fn pointer(&self) -> *const sigset_t {
        if self.1 { &raw const self.0 } else { ptr::null() }
    }
}

/// No mask, the thread's own, or one with the signals of the scripts blocked as well.
fn mask(which: i64) -> Mask {
    let mut set = crate::fixtures::told_signal();
    if which == 2 {
        for signal in [libc::SIGUSR1, libc::SIGUSR2] {
            // SAFETY: a set, and a signal.
            unsafe { libc::sigaddset(&mut set, signal) };
        }
    }
    Mask(set, which != 0)
}

/// The result of a call that may give up after a limit: whether that was too early is said.
pub(super) fn outcome_in(limit: i64, call: impl FnOnce() -> c_int) -> (Outcome, &'static str) {
    let begin = Instant::now();
    let got = outcome(call());
    let is_early =
        got.result == 0 && limit > 0 && begin.elapsed() < Duration::from_millis(limit as u64);
    (got, if is_early { "TOO EARLY" } else { "" })
}

fn timed(limit: i64, call: impl FnOnce() -> c_int) -> String {
    let (got, early) = outcome_in(limit, call);
    got.with(early)
}

fn polled(a: &[i64], call: impl FnOnce(*mut pollfd) -> c_int) -> String {
    let question = |at: usize| pollfd { fd: fd(a[at]), events: a[at + 1] as i16, revents: 0x5555 };
    let all = Buffer::of([question(0), question(2)]);
    let (got, early) = outcome_in(a[4], || call(all.pointer()));
    let [one, other]: [pollfd; 2] = all.get();
    got.with(&format!("{:#x} {:#x} {early}", one.revents, other.revents))
}

fn selected(a: &[i64], call: impl FnOnce(c_int, [*mut fd_set; 3]) -> c_int) -> String {
    let (one, other) = (fd(a[0]).max(0), fd(a[2]).max(0));
    let count = one.max(other) + 1;
    // As long as the number says, in whole words.
    let words = count as usize / 64 + 1;
    let sets = [0, 1, 2].map(|at| {
        let bit = |set: i64, fd: c_int, word: usize| match (set >> at & 1, fd as usize / 64) {
            (1, this) if this == word => 1_u64 << (fd as usize % 64),
            _ => 0,
        };
        let set = Buffer::empty(words as i64 * 8);
        for word in 0..words {
            let bits = bit(a[1], one, word) | bit(a[3], other, word);
            // SAFETY: within the set.
            unsafe { set.pointer::<u64>().add(word).write_unaligned(bits) };
        }
        set
    });
    let (got, early) = outcome_in(a[4], || call(count, sets.each_ref().map(Buffer::pointer)));
    let has = |set: &Buffer, fd: c_int| {
        // SAFETY: within the set.
        let word = unsafe { set.pointer::<u64>().add(fd as usize / 64).read_unaligned() };
        word >> (fd as usize % 64) & 1
    };
    let bits = |fd: c_int| sets.each_ref().map(|set| has(set, fd));
    got.with(&format!("{:?} {:?} {early}", bits(one), bits(other)))
}

fn told(a: &[i64], call: impl FnOnce(c_int, *mut epoll_event, c_int) -> c_int) -> String {
    let size = size_of::<epoll_event>();
    let events = Buffer::empty(a[1].max(0) * size as i64);
    let (got, early) = outcome_in(a[2], || call(fd(a[0]), events.pointer(), int(a[1])));
    let told = (0..got.result.max(0)).map(|at| {
        // SAFETY: as many were written.
        let event = unsafe { events.pointer::<epoll_event>().add(at as usize).read_unaligned() };
        format!("{:#x}/{}", { event.events }, { event.u64 })
    });
    let told: Vec<_> = told.collect();
    got.with(&format!("{} {early}", told.join(" ")))
}
