#![forbid(unsafe_code)]
//! When a wait ends at the latest.

use crate::sys::clock;
use std::sync::OnceLock;
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

    /// Whether it has come.
    pub(crate) fn has_passed(self) -> bool {
        clock::now() >= self.0
    }

    /// What is left until then.
    #[cfg(feature = "monkey")]
    pub(crate) fn left(self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(clock::now()))
    }

    /// At `moment`. `None` if that is beyond what the clock can say.
    pub(crate) fn at(moment: Instant) -> Option<Self> {
        /// One moment on both clocks: so that the same moment is the same deadline, whoever asks when.
        static BOTH: OnceLock<(Instant, u64)> = OnceLock::new();
        let (instant, nanos) = BOTH.get_or_init(|| (Instant::now(), clock::now()));
        let later = moment.saturating_duration_since(*instant);
        nanos.checked_add(u64::try_from(later.as_nanos()).ok()?).map(Deadline)
    }
}
