//! Waiting for descriptors in calls that are retried.
//!
//! Each descriptor is watched, and the call is retried on every event of one of them. Waiters do not take
//! turns, since two that wait for one descriptor may need different other ones.

use crate::hub::{Deadline, Direction, Interrupts, Wake, mark_interrupts_reported};
use crate::monkey::errno;
use crate::monkey::known::{Known, park_among};

/// Calls `attempt` until it returns a result, and waits in between for an event of any of `ends`.
///
/// Fails with `EAGAIN` when `deadline` has passed, with `EBADF` if a descriptor was closed meanwhile, and
/// with `ECANCELED` on a kill or a timeout. `None` if a descriptor cannot be waited for.
///
/// Called after `yield_if_due_nounwind`, which begins the call.
///
/// An attempt that returns `None` must not switch after it has checked the descriptors: an event would be
/// lost.
pub(super) fn until_ready(
    purpose: &'static str,
    ends: &[(&Known, Direction)],
    (deadline, interrupts): (Option<Deadline>, Interrupts),
    mut attempt: impl FnMut() -> Option<isize>,
) -> Option<isize> {
    if let Some(done) = attempt() {
        return Some(done);
    }
    let watches = ends.iter().map(|(known, direction)| known.watch(*direction));
    let _watches: Vec<_> = watches.collect::<Option<_>>()?;
    let interrupts = interrupts.since_call_began();
    loop {
        if !ends.iter().all(|(known, _)| known.is_current()) {
            return Some(errno::fail_long(libc::EBADF));
        }
        // Also before the first wait: a later event wakes.
        if let Some(done) = attempt() {
            return Some(done);
        }
        let known = ends.iter().map(|(known, _)| *known);
        match park_among(known, purpose, deadline, interrupts) {
            Wake::Unparked => {}
            Wake::TimedOut => {
                let last = ends.iter().all(|(known, _)| known.is_current()).then(&mut attempt);
                return Some(last.flatten().unwrap_or_else(|| errno::fail_long(libc::EAGAIN)));
            }
            Wake::Signalled => {
                // An event counts more than a signal, as in the kernel.
                return Some(attempt().unwrap_or_else(|| errno::fail_long(libc::EINTR)));
            }
            Wake::Interrupted => {
                mark_interrupts_reported();
                return Some(errno::fail_long(libc::ECANCELED));
            }
        }
    }
}

/// `None` if a call failed because it would have had to wait.
pub(super) fn unless_blocked(result: isize) -> Option<isize> {
    (result >= 0 || errno::get() != libc::EAGAIN).then_some(result)
}
