#![forbid(unsafe_code)]
//! Sleeping, and time limits.

use super::error::Elapsed;
use crate::hub::{self, Deadline, Limit, TimeoutExit, Wake};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

/// Lets the others run for `duration`: those who have the same moment to wait for go on in the order in
/// which they began. Zero is [`yield_now`](crate::yield_now).
///
/// # Examples
///
/// ```
/// use std::time::{Duration, Instant};
///
/// let start = Instant::now();
/// switchgrass::sleep(Duration::from_millis(2));
/// assert!(start.elapsed() >= Duration::from_millis(2));
/// ```
///
/// # Panics
///
/// With what is raised in the current coroutine meanwhile. In main, when `duration` is beyond what the
/// clock can say (some 500 years) and nobody is left who could wake it.
///
/// # Switching
///
/// Switches, if anybody else is ready or `duration` is not zero. All others may run meanwhile.
///
/// # Cancellation
///
/// Leaves nothing behind.
#[track_caller]
pub fn sleep(duration: Duration) {
    if duration.is_zero() {
        return hub::yield_now();
    }
    sleep_to(Deadline::after(duration));
}

/// As [`sleep`], until `moment`.
///
/// # Panics
///
/// As [`sleep`].
///
/// # Switching
///
/// As [`sleep`].
///
/// # Cancellation
///
/// Leaves nothing behind.
#[track_caller]
pub fn sleep_until(moment: Instant) {
    sleep_to(Deadline::at(moment));
}

#[track_caller]
fn sleep_to(deadline: Option<Deadline>) {
    while hub::park("sleep", deadline) != Wake::TimedOut {}
}

/// Calls `f`, and gives up on it when `limit` has passed: then something is raised in the current coroutine,
/// at whatever it waits for, and `f` is unwound.
///
/// Limits nest by identity. Whichever passes first ends its own `timeout`, and what is inside of that; the
/// others are as they were. A limit passes only while the coroutine waits: if it computes, then when it
/// next waits. A limit of zero passes at the first wait. If `f` returns without having been unwound, its
/// value is returned, however late; but if a patched call in it was cut short (feature `monkey`), it is
/// dropped, and the result is [`Elapsed`]. Code that catches panics has to let this one through, as in
/// [`resume_unwind`](std::panic::resume_unwind).
///
/// Two things can delay the return beyond the limit: a destructor that waits, and a
/// [`scope`](super::scope()), which kills its coroutines and waits for their ends.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use switchgrass::{sleep, timeout};
///
/// let short = Duration::from_millis(1);
/// let long = Duration::from_secs(60);
/// // The outer limit is the shorter one: the inner `timeout` is unwound with the rest.
/// let result = timeout(short, || timeout(long, || sleep(long)));
/// assert!(result.is_err());
///
/// assert_eq!(timeout(long, || 5), Ok(5));
/// ```
///
/// # Errors
///
/// [`Elapsed`], if the limit has passed and `f` was unwound, or a patched call in it was cut short.
///
/// # Panics
///
/// With what `f` panics, and with what else is raised in the current coroutine meanwhile. Under
/// `panic = "abort"` a limit that passes ends the process.
///
/// # Switching
///
/// Switches if `f` does.
///
/// # Cancellation
///
/// Whatever `f` was doing is unwound: see there. The limit is gone on every way out.
pub fn timeout<T>(limit: Duration, f: impl FnOnce() -> T) -> Result<T, Elapsed> {
    let Some(deadline) = Deadline::after(limit) else { return Ok(f()) };
    let guard = Limit::new(deadline);
    let result = catch_unwind(AssertUnwindSafe(f));
    let (id, is_reported) = (guard.id(), guard.is_reported());
    drop(guard);
    match result {
        // It has cut something short, which has said so in its own way.
        Ok(_) if is_reported => Err(Elapsed(limit)),
        Ok(value) => Ok(value),
        Err(payload) => match payload.downcast_ref() {
            Some(TimeoutExit(passed)) if *passed == id => Err(Elapsed(limit)),
            _ => resume_unwind(payload),
        },
    }
}
