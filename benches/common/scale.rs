//! What a run of another length took.

use std::time::Duration;

/// Of `did` operations, so much for `wanted`.
pub(crate) fn scale(elapsed: Duration, wanted: u64, did: u64) -> Duration {
    elapsed.mul_f64(wanted as f64 / did as f64)
}
