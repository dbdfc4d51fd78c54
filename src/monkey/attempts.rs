#![forbid(unsafe_code)]
//! A blocking call, made of attempts that cannot block.
//!
//! ```text
//!   attempt ──► result or error ────────────────────────────────► returned
//!      ▲  └──► EAGAIN ──► O_NONBLOCK? ──yes────────────────────► EAGAIN
//!      │                      │ no
//!      │                  at a hidden end? ──yes───────────────► end of file
//!      │                      │ no
//!      └─────── event ◄── wait ──► timeout: EAGAIN; signal: EINTR; kill: ECANCELED;
//!                                  closed: one more attempt, or EBADF
//! ```
//!
//! The timeout and the place in the queue of waiters belong to the call: a transfer in several parts has one
//! of each. An attempt is not repeated once it has had an effect: its error becomes the call's error.

use super::errno;
use super::known::{Known, Refusal, wait_a_while};
use super::numbers::Waiting;
use crate::hub::{Deadline, Direction, Interrupts, retract_reports};
use std::os::fd::RawFd;
use std::time::Duration;

/// One call of the program on one descriptor.
pub(super) struct Attempts<'a> {
    known: &'a Known,
    direction: Direction,
    purpose: &'static str,
    /// The deadline and the interrupts, from the first wait on.
    limits: Option<(Option<Deadline>, Interrupts)>,
    /// `O_NONBLOCK` when the call first read it: changes apply to later calls, as in the kernel.
    is_nonblocking: Option<bool>,
    /// Whether a part was moved: after a signal the call is then not restarted.
    has_some: bool,
    has_waited: bool,
    /// Whether the first attempt is made even while others wait: see [`Attempts::at_once`].
    is_at_once: bool,
    /// Set by the first wait. While it exists, a close keeps the open file for this call.
    waiting: Option<Waiting>,
    /// The next pause, if the call has no event to wait for.
    pause: Option<Duration>,
}

/// The outcome of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The result of the C function. If it is negative, errno is set.
    Done(isize),
    /// The end of a message socket, which the kernel reports only to blocking calls.
    HiddenEnd,
    /// The descriptor cannot be waited for, so the call has to block.
    Blocks,
}

impl From<Refusal> for Outcome {
    fn from(refusal: Refusal) -> Self {
        refusal.map_or(Outcome::Blocks, Outcome::fail)
    }
}

impl Outcome {
    /// Sets errno, and returns the result of a failed call.
    #[cold]
    pub(super) fn fail(error: libc::c_int) -> Self {
        Outcome::Done(errno::fail_long(error))
    }

    /// Returns the result, which is 0 at a hidden end. `None` if the call has to block.
    #[inline]
    pub(super) fn or_zero(self) -> Option<isize> {
        match self {
            Outcome::Done(result) => Some(result),
            Outcome::HiddenEnd => Some(0),
            Outcome::Blocks => None,
        }
    }
}

impl Known {
    /// Begins a call.
    #[inline]
    pub(super) fn attempts(&self, direction: Direction, purpose: &'static str) -> Attempts<'_> {
        Attempts {
            known: self,
            direction,
            purpose,
            limits: None,
            is_nonblocking: None,
            has_some: false,
            has_waited: false,
            // A read of a listener fails at once.
            is_at_once: self.is_known_to_listen(),
            waiting: None,
            pause: None,
        }
    }
}

impl Attempts<'_> {
    /// Retries after pauses: there is no event for what this call waits for.
    pub(super) fn with_pauses(mut self) -> Self {
        self.pause = Some(Duration::from_millis(1));
        self
    }

    /// Makes the first attempt even while others wait.
    ///
    /// For rare calls that the kernel may fail at once, regardless of waiters.
    pub(super) fn at_once(mut self, is_at_once: bool) -> Self {
        self.is_at_once |= is_at_once;
        self
    }

    /// Waits for its turn even on a listener, since the call accepts connections.
    pub(super) fn in_turn(mut self) -> Self {
        self.is_at_once = false;
        self
    }

    /// Whether the next attempt is made before this call has waited.
    pub(super) fn is_unwaited(&mut self) -> bool {
        !self.has_waited
            && (self.is_at_once || !self.known.must_wait(self.direction) || self.is_nonblocking())
    }

    /// Whether the program expects `EAGAIN`. Does not change during a call.
    pub(super) fn is_nonblocking(&mut self) -> bool {
        let known = self.known;
        *self.is_nonblocking.get_or_insert_with(|| known.is_nonblocking())
    }

    /// Records that a part was moved, and that the call continues.
    pub(super) fn moved(&mut self) {
        self.has_some = true;
        if let Some((_, interrupts)) = &mut self.limits {
            *interrupts = interrupts.behind_a_part();
        }
    }

    /// Repeats `call` on the number that it is given, until it no longer fails with `EAGAIN`.
    #[inline]
    pub(super) fn make(&mut self, mut call: impl FnMut(RawFd) -> isize) -> Outcome {
        let known = self.known;
        if let Some(error) = known.take_deferred_error() {
            return Outcome::fail(error);
        }
        // Others have run since the look-up, and may have closed the number: it may be another file's now.
        let Some(mut fd) = known.number() else { return Outcome::fail(libc::EBADF) };
        let must_wait = self.pause.is_none() && known.must_wait(self.direction);
        if must_wait && !self.is_at_once && !self.is_nonblocking() {
            match self.wait_for_turn() {
                Ok(next) => fd = next,
                Err(refusal) => return refusal.into(),
            }
        }
        loop {
            let result = call(fd);
            if result >= 0 || errno::get() != libc::EAGAIN {
                return Outcome::Done(result);
            }
            match self.would_block(fd, &mut call) {
                Ok(next) => fd = next,
                Err(outcome) => return outcome,
            }
        }
    }

    #[cold]
    fn would_block(
        &mut self,
        fd: RawFd,
        call: &mut dyn FnMut(RawFd) -> isize,
    ) -> Result<RawFd, Outcome> {
        let known = self.known;
        if !known.is_current() {
            return Err(Outcome::fail(libc::EBADF));
        }
        if self.pause.is_some() {
            // The direction is not marked as blocked: other calls on it have events to wait for.
            return match self.is_nonblocking() {
                true => Err(Outcome::fail(libc::EAGAIN)),
                false => Ok(self.wait_for_turn()?),
            };
        }
        // Checked before the direction is marked as blocked: no further event would clear that.
        if known.is_at_hidden_end(self.direction) && !self.is_nonblocking() {
            // A message may have arrived before the end.
            let result = call(fd);
            let is_end = result < 0 && errno::get() == libc::EAGAIN;
            return Err(if is_end { Outcome::HiddenEnd } else { Outcome::Done(result) });
        }
        Ok(self.wait_for_more()?)
    }

    /// Waits for an event, even if the descriptor may be ready already.
    ///
    /// Returns the number for the next attempt, or the error that the call fails with.
    pub(super) fn wait_for_more(&mut self) -> Result<RawFd, Refusal> {
        if self.is_nonblocking() {
            return Err(Some(libc::EAGAIN));
        }
        self.known.expect_event(self.direction)?;
        self.wait_for_turn()
    }

    /// Waits for this call's turn, and returns the number for the next attempt.
    fn wait_for_turn(&mut self) -> Result<RawFd, Refusal> {
        let (known, direction) = (self.known, self.direction);
        let has_some = self.has_some;
        let (deadline, interrupts) = *self.limits.get_or_insert_with(|| {
            let deadline = known.deadline(direction);
            let interrupts = match has_some {
                true => Interrupts::ReportAnySignal,
                false => Interrupts::of_socket(deadline),
            };
            (deadline, interrupts.since_call_began())
        });
        if self.waiting.is_none() {
            self.waiting = known.begin_waiting();
            if self.waiting.is_none() {
                // The number was closed just now.
                return known.number_after_close().ok_or(Some(libc::EBADF));
            }
        }
        if self.pause.is_some() {
            return self.wait_a_while(deadline, interrupts);
        }
        let is_again = self.has_waited;
        match known.wait_for_turn(direction, is_again, self.purpose, deadline, interrupts) {
            Ok(()) => {}
            // Data may have arrived before the close.
            Err(Some(libc::EBADF)) if known.number_after_close().is_some() => {}
            // The call returns the part that it has. The kill is reported again to the call for the rest.
            Err(Some(libc::ECANCELED)) if has_some => {
                retract_reports();
                return Err(Some(libc::ECANCELED));
            }
            Err(refusal) => return Err(refusal),
        }
        self.has_waited = true;
        known.number().ok_or(Some(libc::EBADF))
    }

    #[cold]
    fn wait_a_while(
        &mut self,
        deadline: Option<Deadline>,
        interrupts: Interrupts,
    ) -> Result<RawFd, Refusal> {
        const LONGEST: Duration = Duration::from_millis(50);
        let pause = self.pause.unwrap_or(LONGEST);
        self.pause = Some((pause * 2).min(LONGEST));
        wait_a_while(pause, self.purpose, deadline, interrupts)?;
        self.known.number().ok_or(Some(libc::EBADF))
    }
}
