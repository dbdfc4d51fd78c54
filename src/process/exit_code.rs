#![forbid(unsafe_code)]
//! Conversion of a result into an exit status.

use std::convert::Infallible;
use std::fmt::Debug;

/// A result of a [`Process`](super::Process), converted into its exit status.
///
/// The counterpart of [`std::process::Termination`], whose number cannot be read.
///
/// # Examples
///
/// ```
/// use switchgrass::process::IntoExitCode;
///
/// assert_eq!(().into_exit_code(), 0);
/// assert_eq!(7.into_exit_code(), 7);
/// assert_eq!("seven".parse::<i32>().into_exit_code(), 1);
/// ```
pub trait IntoExitCode {
    /// Returns the exit status. The kernel keeps its lowest eight bits.
    fn into_exit_code(self) -> i32;
}

/// Success: 0.
impl IntoExitCode for () {
    fn into_exit_code(self) -> i32 {
        0
    }
}

/// The number itself.
impl IntoExitCode for i32 {
    fn into_exit_code(self) -> i32 {
        self
    }
}

/// For a body that never returns.
impl IntoExitCode for Infallible {
    fn into_exit_code(self) -> i32 {
        match self {}
    }
}

/// The status of the value.
///
/// For an error 1, after printing the error to standard error, as `main` does.
impl<T: IntoExitCode, E: Debug> IntoExitCode for Result<T, E> {
    fn into_exit_code(self) -> i32 {
        self.map_or_else(
            |error| {
                eprintln!("Error: {error:?}");
                1
            },
            T::into_exit_code,
        )
    }
}
