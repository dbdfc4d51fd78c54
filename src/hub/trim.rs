#![forbid(unsafe_code)]
//! Returns the memory of unused stacks to the kernel, when the thread would sleep.
//!
//! A hub that is never idle does nothing here. A hub that sleeps now and then checks every two seconds, at
//! the start of a sleep, for stacks that it has not used since the last check. A hub that sleeps longer
//! than that is woken once; if nothing has run meanwhile, no stack was used. After that, only a few stacks
//! have memory, and it sleeps on.

use super::state::Hub;
use crate::greenlet::scheduled::{begin_stack_period, may_have_unused_stacks, trim_unused_stacks};
use crate::sys::clock;
use std::io;

/// How long a stack is unused before its memory is returned, in nanoseconds.
const PERIOD: u64 = 2_000_000_000;

/// Stacks trimmed between two polls for events, which takes some hundred microseconds.
const AT_ONCE: usize = 128;

impl Hub {
    /// Sleeps until there are events, and handles them. Returns whether the waker was among them.
    pub(super) fn sleep_and_trim(&self, timeout: Option<u64>) -> io::Result<bool> {
        if !may_have_unused_stacks() {
            return self.poll_events(timeout);
        }
        let start = self.polled.get();
        if start - self.trimmed.get() >= PERIOD
            && let Some(is_woken) = self.trim(start)?
        {
            return Ok(is_woken);
        }
        if timeout.is_some_and(|timeout| timeout <= PERIOD) || !may_have_unused_stacks() {
            return self.poll_events(timeout);
        }
        let is_woken = self.poll_events(Some(PERIOD))?;
        let now = clock::now();
        if is_woken || !self.ready.is_empty() || now - start < PERIOD {
            return Ok(is_woken);
        }
        // No greenlet has run.
        begin_stack_period();
        match self.trim(now)? {
            Some(is_woken) => Ok(is_woken),
            None => self.poll_events(timeout.map(|timeout| timeout.saturating_sub(now - start))),
        }
    }

    /// Trims unused stacks. Returns early if there are events: whether the waker was among them.
    fn trim(&self, now: u64) -> io::Result<Option<bool>> {
        while trim_unused_stacks(AT_ONCE) {
            let is_woken = self.poll_events(Some(0))?;
            if is_woken || !self.ready.is_empty() {
                return Ok(Some(is_woken));
            }
        }
        self.trimmed.set(now);
        begin_stack_period();
        Ok(None)
    }
}
