#![forbid(unsafe_code)]
//! Deadlines of waits.

use crate::sys::clock;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// A point in time on the monotonic clock, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Deadline(pub(super) u64);

impl Deadline {
    /// Returns the deadline `timeout` from now; `None` (never) if the clock cannot represent it.
    pub(crate) fn after(timeout: Duration) -> Option<Self> {
        let nanos = u64::try_from(timeout.as_nanos()).ok()?;
        clock::now().checked_add(nanos).map(Deadline)
    }

    /// Whether the deadline has passed.
    pub(crate) fn has_passed(self) -> bool {
        clock::now() >= self.0
    }

    /// Returns the time left, or zero if the deadline has passed.
    #[cfg(feature = "monkey")]
    pub(crate) fn left(self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(clock::now()))
    }

    /// Converts `moment`; `None` (never) if the clock cannot represent it.
    pub(crate) fn at(moment: Instant) -> Option<Self> {
        /// One point in time on both clocks, read once, so that equal moments give equal deadlines.
        static BOTH: OnceLock<(Instant, u64)> = OnceLock::new();
        let (instant, nanos) = BOTH.get_or_init(|| (Instant::now(), clock::now()));
        let later = moment.saturating_duration_since(*instant);
        nanos.checked_add(u64::try_from(later.as_nanos()).ok()?).map(Deadline)
    }
}
