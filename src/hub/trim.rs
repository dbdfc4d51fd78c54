#![forbid(unsafe_code)]
//! Memory of free stacks that a peak has left behind goes back to the kernel, when the thread would sleep.
//!
//! A hub that is never idle does nothing here. One that sleeps now and then looks every two seconds, at the
//! start of a sleep, for stacks that it has not used since the last look. One that sleeps for longer than
//! that is woken once, and if nothing has run meanwhile no stack was used: after that only a few have
//! memory, and it sleeps on.

use super::state::Hub;
use crate::greenlet::scheduled::{begin_stack_period, may_have_unused_stacks, trim_unused_stacks};
use crate::sys::clock;
use std::io;

/// How long a stack is unused before its memory goes back, in nanoseconds.
const PERIOD: u64 = 2_000_000_000;

/// So many stacks at a time, some hundred microseconds. Then events are looked for.
const AT_ONCE: usize = 128;

impl Hub {
    /// Sleeps until there are events, and notes them. Whether the alarm was among them.
    pub(super) fn sleep_and_trim(&self, limit: Option<u64>) -> io::Result<bool> {
        if !may_have_unused_stacks() {
            return self.look_for_events(limit);
        }
        let start = self.polled.get();
        if start - self.trimmed.get() >= PERIOD
            && let Some(rung) = self.trim(start)?
        {
            return Ok(rung);
        }
        if limit.is_some_and(|limit| limit <= PERIOD) || !may_have_unused_stacks() {
            return self.look_for_events(limit);
        }
        let rung = self.look_for_events(Some(PERIOD))?;
        let now = clock::now();
        if rung || !self.ready.is_empty() || now - start < PERIOD {
            return Ok(rung);
        }
        // Nothing has run.
        begin_stack_period();
        match self.trim(now)? {
            Some(rung) => Ok(rung),
            None => self.look_for_events(limit.map(|limit| limit.saturating_sub(now - start))),
        }
    }

    /// Returns early if there are events: whether the alarm was among them.
    fn trim(&self, now: u64) -> io::Result<Option<bool>> {
        while trim_unused_stacks(AT_ONCE) {
            let rung = self.look_for_events(Some(0))?;
            if rung || !self.ready.is_empty() {
                return Ok(Some(rung));
            }
        }
        self.trimmed.set(now);
        begin_stack_period();
        Ok(None)
    }
}
