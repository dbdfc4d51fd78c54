#![forbid(unsafe_code)]
//! A call of the blocking kind, made of attempts that cannot block.
//!
//! ```text
//!   attempt ──► a result, an error ────────────────────────────────► the call's
//!      ▲  └──► EAGAIN ──► O_NONBLOCK? ──yes──────────────────────► EAGAIN
//!      │                      │ no
//!      │                  at an end that is hidden? ──yes─────────► the end
//!      │                      │ no
//!      └──── an event ◄── wait ──► timeout: EAGAIN; signal: EINTR; kill: ECANCELED;
//!                                       closed: one more attempt, or EBADF
//! ```
//!
//! Timeouts, and the turn among those that wait, belong to the call: what is moved in several parts has one
//! of each. An attempt is made once for each effect: its error is the call's, and is not asked for again.

use super::errno;
use super::known::{Known, Refusal, wait_a_while};
use super::numbers::Waiting;
use crate::hub::{Deadline, Direction, Interrupts, retract_reports};
use std::os::fd::RawFd;
use std::time::Duration;

/// One call of the program's, on one descriptor.
pub(super) struct Attempts<'a> {
    known: &'a Known,
    direction: Direction,
    purpose: &'static str,
    /// The deadline and the interrupts, known from the first wait on.
    limits: Option<(Option<Deadline>, Interrupts)>,
    /// What `O_NONBLOCK` was when the call first asked: changes are for later calls, as in the kernel.
    is_nonblocking: Option<bool>,
    /// A part was moved: then no signal restarts the call.
    has_some: bool,
    has_waited: bool,
    /// The first attempt is made before others that wait: see [`Attempts::at_once`].
    is_at_once: bool,
    /// Since the first wait: a close keeps the file for as long as this is there.
    waiting: Option<Waiting>,
    /// The next pause, if there is no event to wait for.
    pause: Option<Duration>,
}

/// What has become of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A result of C: if it is negative, errno says why.
    Done(isize),
    /// The end of a socket for messages, of which only a call that blocks is told.
    HiddenEnd,
    /// This descriptor cannot be waited for: the only way is to let the call block.
    Blocks,
}

impl From<Refusal> for Outcome {
    fn from(refusal: Refusal) -> Self {
        refusal.map_or(Outcome::Blocks, Outcome::fail)
    }
}

impl Outcome {
    /// The call fails with this error.
    #[cold]
    pub(super) fn fail(error: libc::c_int) -> Self {
        Outcome::Done(errno::fail_long(error))
    }

    /// Where 0 is the result at a hidden end. `None` if the call has to block.
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
            // Nothing can be read of a listener: that is said at once.
            is_at_once: self.is_known_to_listen(),
            waiting: None,
            pause: None,
        }
    }
}

impl Attempts<'_> {
    /// There is no event for what this call waits for: it is tried again after pauses.
    pub(super) fn with_pauses(mut self) -> Self {
        self.pause = Some(Duration::from_millis(1));
        self
    }

    /// What the kernel says at once, whatever others wait for, is said at once: the first attempt is made
    /// also while they wait. For calls that are rare, and only then have something to say.
    pub(super) fn at_once(mut self, is_at_once: bool) -> Self {
        self.is_at_once |= is_at_once;
        self
    }

    /// The call takes connections: of a listener it waits for its turn.
    pub(super) fn in_turn(mut self) -> Self {
        self.is_at_once = false;
        self
    }

    /// Whether the next attempt is made before any wait of this call.
    pub(super) fn is_unwaited(&mut self) -> bool {
        !self.has_waited
            && (self.is_at_once || !self.known.must_wait(self.direction) || self.is_nonblocking())
    }

    /// Whether the program wants to see `EAGAIN`: the same for all of a call.
    pub(super) fn is_nonblocking(&mut self) -> bool {
        let known = self.known;
        *self.is_nonblocking.get_or_insert_with(|| known.is_nonblocking())
    }

    /// A part was moved, and the call goes on.
    pub(super) fn moved(&mut self) {
        self.has_some = true;
        if let Some((_, interrupts)) = &mut self.limits {
            *interrupts = interrupts.behind_a_part();
        }
    }

    /// Makes `call` on the number that it is given, until it does not fail for having to wait.
    #[inline]
    pub(super) fn make(&mut self, mut call: impl FnMut(RawFd) -> isize) -> Outcome {
        let known = self.known;
        if let Some(error) = known.take_deferred_error() {
            return Outcome::fail(error);
        }
        // Closed since it was looked up: others have run meanwhile. The number may be another's now.
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
            // It is not noted: calls of other kinds have events to wait for.
            return match self.is_nonblocking() {
                true => Err(Outcome::fail(libc::EAGAIN)),
                false => Ok(self.wait_for_turn()?),
            };
        }
        // First, so that it is not noted that a call would block: there is no further event.
        if known.is_at_hidden_end(self.direction) && !self.is_nonblocking() {
            // A message may have come before the end.
            let result = call(fd);
            let is_end = result < 0 && errno::get() == libc::EAGAIN;
            return Err(if is_end { Outcome::HiddenEnd } else { Outcome::Done(result) });
        }
        Ok(self.wait_for_more()?)
    }

    /// Waits for an event, also if there may be something to be had already. Otherwise the error that the
    /// call fails with.
    pub(super) fn wait_for_more(&mut self) -> Result<RawFd, Refusal> {
        if self.is_nonblocking() {
            return Err(Some(libc::EAGAIN));
        }
        self.known.expect_event(self.direction)?;
        self.wait_for_turn()
    }

    /// Returns the number by which to go on.
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
                // Closed just now.
                return known.number_after_close().ok_or(Some(libc::EBADF));
            }
        }
        if self.pause.is_some() {
            return self.wait_a_while(deadline, interrupts);
        }
        let is_again = self.has_waited;
        match known.wait_for_turn(direction, is_again, self.purpose, deadline, interrupts) {
            Ok(()) => {}
            // There may be something that came before it was closed.
            Err(Some(libc::EBADF)) if known.number_after_close().is_some() => {}
            // The call returns what it has: code that goes on with the rest is to be told.
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
