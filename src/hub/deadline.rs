#![forbid(unsafe_code)]
//! When a wait ends at the latest.

use crate::sys::clock;
use std::time::{Duration, Instant};

/// A moment on the monotonic clock, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Deadline(pub(super) u64);

impl Deadline {
    /// In `limit` from now. `None` if that is beyond what the clock can say: then it never comes.
    pub(crate) fn after(limit: Duration) -> Option<Self> {
        let nanos = u64::try_from(limit.as_nanos()).ok()?;
        clock::now().checked_add(nanos).map(Deadline)
    }

    /// At `moment`. `None` if that is beyond what the clock can say.
    pub(crate) fn at(moment: Instant) -> Option<Self> {
        Self::after(moment.saturating_duration_since(Instant::now()))
    }
}
