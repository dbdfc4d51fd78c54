//! Stands in for a processor's counter: the monotonic clock.

/// Returns a counter that grows with time, at the rate that [`per_look`] tells.
pub(crate) fn counter() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` has room for the result, and this clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Returns by how much [`counter`] grows in half a millisecond.
pub(crate) fn per_look() -> u64 {
    500_000
}
