#![forbid(unsafe_code)]
//! Sleeping and timeouts.

use super::error::Elapsed;
use crate::greenlet::GreenletExit;
use crate::greenlet::dropping::drop_payload;
use crate::hub::{self, Deadline, Limit, TimeoutExit, Wake};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

/// Suspends the current coroutine for `duration`.
///
/// Coroutines whose sleeps end at the same moment resume in the order in which they began to sleep. A
/// duration of zero is the same as [`yield_now`](crate::yield_now).
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
/// Unwinds with any kill or timeout delivered to the current coroutine during the sleep. Panics in main if
/// `duration` exceeds the range of the clock (some 500 years) and nothing is left that can wake it.
///
/// # Switching
///
/// May switch: if `duration` is not zero or another coroutine is ready. Any other coroutine may run
/// meanwhile.
///
/// # Cancellation
///
/// No effect other than the unwind.
#[track_caller]
pub fn sleep(duration: Duration) {
    if duration.is_zero() {
        return hub::yield_now();
    }
    sleep_to(Deadline::after(duration));
}

/// Suspends the current coroutine until `moment`, like [`sleep`].
///
/// # Panics
///
/// Panics like [`sleep`].
///
/// # Switching
///
/// Always switches: any other coroutine may run meanwhile.
///
/// # Cancellation
///
/// No effect other than the unwind.
#[track_caller]
pub fn sleep_until(moment: Instant) {
    sleep_to(Deadline::at(moment));
}

#[track_caller]
fn sleep_to(deadline: Option<Deadline>) {
    while hub::park("sleep", deadline) != Wake::TimedOut {}
}

/// Calls `f`, and unwinds it if it is still running when `timeout` has passed.
///
/// The unwind starts where the current coroutine waits at that time.
///
/// Timeouts nest, and each has its own identity. The first to pass ends its own `timeout` call and those
/// inside it; the outer ones are unaffected. A timeout takes effect only in a wait: a coroutine that
/// computes is unwound when it next waits, and a timeout of zero takes effect at the first wait. If `f`
/// returns without having been unwound, its value is returned, however late; but if a patched call in it
/// was cut short (feature `monkey`), the value is dropped, and the result is [`Elapsed`]. Code that catches
/// panics has to pass this one on, for instance with [`resume_unwind`](std::panic::resume_unwind).
///
/// The return can be delayed beyond the timeout by a destructor that waits, and by a
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
/// Returns [`Elapsed`] if the timeout has passed and `f` was unwound, or a patched call in it was cut short.
///
/// # Panics
///
/// Propagates panics of `f`, and unwinds with any other kill or timeout delivered to the current coroutine.
/// Under `panic = "abort"`, a timeout that passes ends the process.
///
/// # Switching
///
/// May switch: if `f` does.
///
/// # Cancellation
///
/// `f` is unwound; see the operation that it was performing. The timeout is removed on every exit path.
pub fn timeout<T>(timeout: Duration, f: impl FnOnce() -> T) -> Result<T, Elapsed> {
    let Some(deadline) = Deadline::after(timeout) else { return Ok(f()) };
    let guard = Limit::new(deadline);
    let result = catch_unwind(AssertUnwindSafe(f));
    let (id, is_reported) = (guard.id(), guard.is_reported());
    drop(guard);
    match result {
        // The timeout ended an operation that reported it by its return value, without unwinding.
        Ok(_) if is_reported => Err(Elapsed(timeout)),
        Ok(value) => Ok(value),
        Err(payload) => match payload.downcast_ref() {
            Some(TimeoutExit(passed)) if *passed == id => Err(Elapsed(timeout)),
            // A panic on the error by which the timeout was reported.
            None if is_reported && !payload.is::<GreenletExit>() => {
                drop_payload(payload);
                Err(Elapsed(timeout))
            }
            _ => resume_unwind(payload),
        },
    }
}
