//! Waiting for several descriptors at once: each is watched, and whenever one of them has an event the kernel
//! is asked again.
//!
//! A call may have signals blocked in another way for as long as it waits. If that differs from how the
//! thread has them, a thread of its own makes the call: whoever does that wants one of those signals to end
//! it, and the kernel gives it to a thread that takes it. The mask of this one is everybody's.

use super::sleeping::duration;
use crate::hub::{
    Deadline, Direction, Interrupts, Wake, breathe_quietly, park_quietly, tell_interrupts,
};
use crate::monkey::descriptors::{Kind, Known, look_up};
use crate::monkey::elsewhere::{Lent, elsewhere};
use crate::monkey::{errno, table};
use libc::{c_int, nfds_t, pollfd, sigset_t, timespec};
use std::mem::MaybeUninit;
use std::ptr;
use std::rc::Rc;
use std::time::Duration;

/// What is waited for.
#[derive(Default)]
pub(super) struct Watched(Vec<(Rc<Known>, Direction)>);

impl Watched {
    /// `None` if it cannot be looked up now.
    pub(super) fn add(&mut self, fd: c_int, to_be_written: bool) -> Option<()> {
        let known = look_up(fd)?;
        if to_be_written {
            self.0.push((Rc::clone(&known), Direction::Write));
        }
        // A hang-up is told to those who read.
        self.0.push((known, Direction::Read));
        Some(())
    }
}

/// Asks until the answer is something else than 0, or `deadline` has passed, and waits in between for one of
/// `all`. `None` if one of them cannot be waited for.
pub(super) fn wait_for_any(
    purpose: &'static str,
    all: &Watched,
    deadline: Option<Deadline>,
    mut ask: impl FnMut() -> c_int,
) -> Option<c_int> {
    let watches = all.0.iter().filter_map(|(known, direction)| {
        let watch = known.watch(*direction);
        // What has no events is always ready, and was asked for nothing that it can be.
        (watch.is_some() || known.kind() != Kind::File).then_some(watch)
    });
    let _watches: Vec<_> = watches.collect::<Option<_>>()?;
    let interrupts = Interrupts::TellAnySignal.begun_by_breathing();
    loop {
        // Also before the first time: an event that comes later wakes.
        let answer = ask();
        if answer != 0 {
            return Some(answer);
        }
        // Closed meanwhile, and the number is another's.
        if !all.0.iter().all(|(known, _)| known.is_current()) {
            return Some(errno::fail(libc::EBADF));
        }
        match park_quietly(purpose, deadline, interrupts) {
            Wake::Unparked => {}
            Wake::TimedOut => return Some(ask()),
            // What has come is told first, as by the kernel.
            Wake::Signalled => {
                return Some(match ask() {
                    0 => errno::fail(libc::EINTR),
                    answer => answer,
                });
            }
            Wake::Interrupted => {
                tell_interrupts();
                return Some(errno::fail(libc::ECANCELED));
            }
        }
    }
}

/// For how long a call may wait.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    Never,
    After(Duration),
}

impl Limit {
    /// In milliseconds; none if it is negative.
    pub(super) fn of_millis(millis: c_int) -> Self {
        match u64::try_from(millis) {
            Ok(millis) => Limit::After(Duration::from_millis(millis)),
            Err(_) => Limit::Never,
        }
    }

    /// `None` for what the kernel would not take.
    ///
    /// # Safety
    ///
    /// A time, or null.
    pub(super) unsafe fn of_time(time: *const timespec) -> Option<Self> {
        // SAFETY: the caller's.
        match unsafe { time.as_ref() } {
            None => Some(Limit::Never),
            Some(time) => duration(time).map(Limit::After),
        }
    }

    pub(super) fn is_zero(self) -> bool {
        self == Limit::After(Duration::ZERO)
    }

    pub(super) fn deadline(self) -> Option<Deadline> {
        match self {
            Limit::Never => None,
            Limit::After(limit) => Deadline::after(limit),
        }
    }
}

/// Whether a call is to have signals blocked in another way than its thread.
///
/// # Safety
///
/// A set of signals, or null.
pub(super) unsafe fn changes_signals(mask: *const sigset_t) -> bool {
    if mask.is_null() {
        return false;
    }
    let mut current = MaybeUninit::<sigset_t>::uninit();
    // SAFETY: room for the answer; nothing is changed.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), current.as_mut_ptr()) };
    // SAFETY: both are sets.
    let differs = |signal| unsafe {
        libc::sigismember(mask, signal) != libc::sigismember(current.as_ptr(), signal)
    };
    (1..=libc::SIGRTMAX()).any(differs)
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn poll(all: *mut pollfd, count: nfds_t, millis: c_int) -> c_int {
    let limit = Limit::of_millis(millis);
    // SAFETY: the caller's.
    let done = unsafe { poll_by("poll", all, count, limit) };
    // SAFETY: the caller's.
    done.unwrap_or_else(|| unsafe { table::poll::blocking(all, count, millis) })
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn ppoll(
    all: *mut pollfd,
    count: nfds_t,
    time: *const timespec,
    mask: *const sigset_t,
) -> c_int {
    // SAFETY: the caller's.
    if unsafe { changes_signals(mask) } {
        // SAFETY: the caller's, who is suspended until the call is over.
        let lent = unsafe { Lent::new((all, time, mask)) };
        return elsewhere("ppoll", move || {
            let (all, time, mask) = lent.get();
            // SAFETY: the caller's.
            unsafe { table::ppoll::original(all, count, time, mask) }
        });
    }
    // SAFETY: the caller's.
    let done = unsafe { Limit::of_time(time) }
        // SAFETY: the caller's.
        .and_then(|limit| unsafe { poll_by("ppoll", all, count, limit) });
    // SAFETY: the caller's.
    done.unwrap_or_else(|| unsafe { table::ppoll::blocking(all, count, time, mask) })
}

/// `None` if there is nothing but to let it block.
///
/// # Safety
///
/// As libc's `poll`.
unsafe fn poll_by(
    purpose: &'static str,
    all: *mut pollfd,
    count: nfds_t,
    limit: Limit,
) -> Option<c_int> {
    breathe_quietly();
    // SAFETY: the caller's.
    let ask = || unsafe { table::poll::original(all, count, 0) };
    let now = ask();
    if now != 0 || limit.is_zero() {
        return Some(now);
    }
    let questions = match count {
        0 => &[],
        // SAFETY: the caller's; the kernel has read them.
        _ => unsafe { std::slice::from_raw_parts(all, count as usize) },
    };
    let mut watched = Watched::default();
    for question in questions.iter().filter(|question| question.fd >= 0) {
        watched.add(question.fd, question.events & libc::POLLOUT != 0)?;
    }
    wait_for_any(purpose, &watched, limit.deadline(), ask)
}
