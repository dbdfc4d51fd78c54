#![forbid(unsafe_code)]
//! Errors of coroutines.

use crate::greenlet::scheduled::{Payload, describe};
use std::error::Error;
use std::fmt;
use std::time::Duration;

/// Why a join returned no result.
///
/// # Examples
///
/// ```
/// use switchgrass::{JoinError, spawn};
///
/// let failing = spawn(|| -> u32 { panic!("out of luck") });
/// match failing.join() {
///     Err(JoinError::Panicked(payload)) => {
///         assert_eq!(payload.downcast_ref(), Some(&"out of luck"));
///     }
///     other => unreachable!("{other:?}"),
/// }
/// ```
#[non_exhaustive]
pub enum JoinError {
    /// The coroutine was killed, or raised a [`GreenletExit`](crate::GreenletExit) itself.
    Killed,
    /// The coroutine panicked with this payload.
    Panicked(Payload),
    /// The result was already taken.
    Taken,
}

impl JoinError {
    /// Resumes the coroutine's panic in the caller.
    ///
    /// For the other variants, panics with their message.
    ///
    /// # Panics
    ///
    /// Always.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn resume(self) -> ! {
        match self {
            JoinError::Panicked(payload) => std::panic::resume_unwind(payload),
            other => panic!("{other}"),
        }
    }
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JoinError::Killed => f.write_str("Killed"),
            JoinError::Panicked(payload) => {
                f.debug_tuple("Panicked").field(&describe(payload)).finish()
            }
            JoinError::Taken => f.write_str("Taken"),
        }
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JoinError::Killed => f.write_str("the coroutine was killed"),
            JoinError::Panicked(payload) => {
                write!(f, "the coroutine has panicked: {}", describe(payload))
            }
            JoinError::Taken => f.write_str("the coroutine's result was taken before"),
        }
    }
}

impl Error for JoinError {}

/// The error of an operation whose timeout has passed.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use switchgrass::{sleep, timeout};
///
/// let limit = Duration::from_millis(1);
/// let error = timeout(limit, || sleep(Duration::from_secs(60))).unwrap_err();
/// assert_eq!(error.to_string(), "the time limit of 1ms has passed");
/// assert_eq!(error.limit(), limit);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed(pub(super) Duration);

impl Elapsed {
    /// Returns the timeout that has passed.
    pub fn limit(&self) -> Duration {
        self.0
    }
}

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the time limit of {:?} has passed", self.0)
    }
}

impl Error for Elapsed {}
