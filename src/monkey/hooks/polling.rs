//! Waiting for several descriptors at once: each is watched, and whenever one of them has an event the kernel
//! is asked again.

use crate::hub::{
    Deadline, Direction, Interrupts, Wake, breathe_quietly, park_quietly, tell_interrupts,
};
use crate::monkey::descriptors::{Known, look_up};
use crate::monkey::{errno, table};
use libc::{c_int, nfds_t, pollfd};
use std::rc::Rc;
use std::time::Duration;

/// Asks until the answer is something else than 0, or `deadline` has passed, and waits in between for one of
/// `all`. `None` if one of them cannot be waited for.
pub(super) fn wait_for_any(
    purpose: &'static str,
    all: &[(Rc<Known>, Direction)],
    deadline: Option<Deadline>,
    mut ask: impl FnMut() -> c_int,
) -> Option<c_int> {
    let watches = all.iter().map(|(known, direction)| known.watch(*direction));
    let _watches: Vec<_> = watches.collect::<Option<_>>()?;
    loop {
        // Also before the first time: an event that comes later wakes.
        let answer = ask();
        if answer != 0 {
            return Some(answer);
        }
        match park_quietly(purpose, deadline, Interrupts::Tell) {
            Wake::Unparked => {}
            Wake::TimedOut => return Some(ask()),
            Wake::Interrupted => {
                tell_interrupts();
                return Some(errno::fail(libc::ECANCELED));
            }
        }
    }
}

/// A time limit in milliseconds; for ever if it is negative.
pub(super) fn deadline_after(millis: c_int) -> Option<Deadline> {
    u64::try_from(millis).ok().and_then(|millis| Deadline::after(Duration::from_millis(millis)))
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn poll(all: *mut pollfd, count: nfds_t, millis: c_int) -> c_int {
    breathe_quietly();
    // SAFETY: the caller's.
    let ask = || unsafe { table::poll::original(all, count, 0) };
    let now = ask();
    if now != 0 || millis == 0 {
        return now;
    }
    let questions = match count {
        0 => &[],
        // SAFETY: the caller's; the kernel has read them.
        _ => unsafe { std::slice::from_raw_parts(all, count as usize) },
    };
    let mut known = Vec::new();
    for question in questions.iter().filter(|question| question.fd >= 0) {
        let Some(one) = look_up(question.fd) else { break };
        // A hang-up is told to those who read.
        known.push((Rc::clone(&one), Direction::Read));
        if question.events & libc::POLLOUT != 0 {
            known.push((one, Direction::Write));
        }
    }
    wait_for_any("poll", &known, deadline_after(millis), ask).unwrap_or_else(|| {
        // SAFETY: the caller's.
        unsafe { table::poll::blocking(all, count, millis) }
    })
}
