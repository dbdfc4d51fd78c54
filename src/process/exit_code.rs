#![forbid(unsafe_code)]
//! What a process ends with.

use std::convert::Infallible;
use std::fmt::Debug;

/// What the body of a [`Process`](super::Process) may return, as the number that the process ends with. The
/// counterpart of [`std::process::Termination`], whose number cannot be asked for.
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
    /// The number, of which the kernel keeps the lowest eight bits.
    fn into_exit_code(self) -> i32;
}

/// All is well: 0.
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

/// A body that never returns.
impl IntoExitCode for Infallible {
    fn into_exit_code(self) -> i32 {
        match self {}
    }
}

/// That of the value, or 1 for an error, which is written to standard error as `main` does.
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
