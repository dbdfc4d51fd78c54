//! Waiting for several descriptors at once: each is watched, and whenever one of them has an event the kernel
//! is asked again.
//!
//! A call may have signals blocked in another way for as long as it waits. If that differs from how the
//! thread has them, a thread of its own makes the call: whoever does that wants one of those signals to end
//! it, and the kernel gives it to a thread that takes it. The mask of this one is everybody's.

use super::sleeping::duration;
use crate::hub::{
    Deadline, Direction, Interrupts, Wake, mark_interrupts_reported, yield_if_due_nounwind,
};
use crate::monkey::blocking_pool::Lent;
use crate::monkey::dedicated::aside_or_ended;
use crate::monkey::descriptors::look_up;
use crate::monkey::known::{Known, park_among};
use crate::monkey::{errno, originals};
use crate::sys::descriptor::Kind;
use crate::sys::{interrupt, user_memory};
use libc::{c_int, nfds_t, pollfd, sigset_t, timespec};
use std::mem::MaybeUninit;
use std::ptr;
use std::rc::Rc;
use std::time::Duration;

/// What a descriptor says about being written to: each comes with an event of its write side.
const WRITE_SIDE: libc::c_short = libc::POLLOUT | libc::POLLWRNORM | libc::POLLWRBAND;

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

    /// Whether this is what std waits for to read a child's standard output and error at once, as in
    /// `Command::output`. It takes an error for impossible, and panics: so a kill does not end that wait.
    fn is_output_of_a_child(&self) -> bool {
        let is_end = |(known, direction): &(Rc<Known>, Direction)| {
            *direction == Direction::Read && known.kind() == Kind::Pipe && known.is_nonblocking()
        };
        self.0.len() == 2 && self.0.iter().all(is_end)
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
        // It was asked for nothing that it can be.
        (watch.is_some() || !known.is_always_ready()).then_some(watch)
    });
    let _watches: Vec<_> = watches.collect::<Option<_>>()?;
    let mut is_over = false;
    let interrupts = match deadline.is_none() && all.is_output_of_a_child() {
        true => Interrupts::any_signal_since_call_began(),
        false => Interrupts::ReportAnySignal.since_call_began(),
    };
    loop {
        // What another file has to say is not asked for.
        if all.0.iter().any(|(known, _)| known.is_replaced()) {
            return Some(errno::fail(libc::EBADF));
        }
        // Also before the first time: an event that comes later wakes.
        let answer = ask();
        if answer != 0 || is_over {
            return Some(answer);
        }
        let known = all.0.iter().map(|(known, _)| &**known);
        match park_among(known, purpose, deadline, interrupts) {
            Wake::Unparked => {}
            Wake::TimedOut => is_over = true,
            // What has come is told first, as by the kernel.
            Wake::Signalled => {
                return Some(match ask() {
                    0 => errno::fail(libc::EINTR),
                    answer => answer,
                });
            }
            Wake::Interrupted => {
                mark_interrupts_reported();
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
        match unsafe { user_memory::read(time) } {
            None if time.is_null() => Some(Limit::Never),
            time => time.and_then(|time| duration(&time)).map(Limit::After),
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

/// Whether a call that is given a mask fails at once, since that cannot be read.
pub(super) fn is_bad_mask(mask: *const sigset_t) -> bool {
    // As much as the kernel reads.
    !mask.is_null() && !user_memory::is_readable(mask, size_of::<u64>())
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

/// A copy of a mask, for a call that another thread makes: the signal that ends the call is let through.
///
/// # Safety
///
/// A set of signals.
pub(super) unsafe fn interruptible(mask: *const sigset_t) -> sigset_t {
    // SAFETY: the caller's.
    let mut mask = unsafe { mask.read() };
    if let Some(signal) = interrupt::signal() {
        // SAFETY: a set, and a signal.
        unsafe { libc::sigdelset(&mut mask, signal) };
    }
    mask
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn poll(all: *mut pollfd, count: nfds_t, millis: c_int) -> c_int {
    let limit = Limit::of_millis(millis);
    // SAFETY: the caller's.
    let done = unsafe { poll_by("poll", all, count, limit) };
    // SAFETY: the caller's.
    done.unwrap_or_else(|| unsafe { originals::poll::call_blocking(all, count, millis) })
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
    if is_bad_mask(mask) {
        // SAFETY: the caller's. It fails at once.
        return unsafe { originals::ppoll::call(all, count, time, mask) };
    }
    // SAFETY: the caller's.
    if unsafe { changes_signals(mask) } {
        yield_if_due_nounwind();
        // SAFETY: the caller's, who is suspended until the call is over.
        let lent = unsafe { Lent::new((all, time)) };
        // SAFETY: the caller's; it is a set.
        let mask = unsafe { interruptible(mask) };
        let done = aside_or_ended("ppoll", move || {
            let (all, time) = lent.get();
            // SAFETY: the caller's.
            unsafe { originals::ppoll::call(all, count, time, &mask) }
        });
        // SAFETY: the caller's.
        return done.unwrap_or_else(|| unsafe {
            originals::ppoll::call_blocking(all, count, time, &mask)
        });
    }
    // SAFETY: the caller's.
    let done = unsafe { Limit::of_time(time) }
        // SAFETY: the caller's.
        .and_then(|limit| unsafe { poll_by("ppoll", all, count, limit) });
    // SAFETY: the caller's.
    done.unwrap_or_else(|| unsafe { originals::ppoll::call_blocking(all, count, time, mask) })
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
    yield_if_due_nounwind();
    // SAFETY: the caller's.
    let ask = || unsafe { originals::poll::call(all, count, 0) };
    let now = ask();
    if now != 0 || limit.is_zero() {
        return Some(now);
    }
    let questions = (0..count as usize).map(|index| {
        // SAFETY: the caller's; the kernel has read them.
        unsafe { all.add(index) }
    });
    let mut watched = Watched::default();
    for question in questions {
        // SAFETY: as above.
        let pollfd { fd, events, .. } = unsafe { *question };
        if fd >= 0 {
            watched.add(fd, events & WRITE_SIDE != 0)?;
        }
    }
    wait_for_any(purpose, &watched, limit.deadline(), ask)
}
