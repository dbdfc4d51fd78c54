#![forbid(unsafe_code)]
//! Greenlets that borrow.

use super::error::BuildError;
use super::raw::{self, Greenlet};

/// Calls `inside` with a greenlet whose body may borrow local variables.
///
/// The body may borrow what outlives this call.
///
/// When `inside` returns or panics, the greenlet is unwound if it has not ended. So it is dead before
/// anything that it borrows is gone. This does not depend on a destructor that could be skipped with
/// `mem::forget`, and a copy of the handle that was kept refers to a dead greenlet.
///
/// # Examples
///
/// ```
/// use switchgrass::{current, greenlet};
///
/// let words = ["a", "bc", "def"];
/// let mut lengths = Vec::new();
/// greenlet::scoped(
///     |()| {
///         for word in &words {
///             lengths.push(word.len());
///             current().parent().unwrap().switch_any::<(), ()>(());
///         }
///     },
///     |greenlet| {
///         greenlet.switch(());
///         greenlet.switch(());
///         std::mem::forget(greenlet.clone()); // changes nothing
///     },
/// ).unwrap();
/// assert_eq!(lengths, [1, 2]);
/// ```
///
/// What it borrows cannot be used in the meantime:
///
/// ```compile_fail,E0502
/// let mut lengths = Vec::new();
/// switchgrass::greenlet::scoped(|()| lengths.push(1), |greenlet| {
///     greenlet.switch(());
///     println!("{lengths:?}");
/// });
/// ```
///
/// # Errors
///
/// Those of [`Builder::build`](crate::Builder::build), and [`BuildError::Scheduler`] in a callback that
/// runs in the hub, which cannot wait for the end of the greenlet.
///
/// # Switching
///
/// May switch: if the greenlet has started and not ended when `inside` returns, switches to it so that it
/// unwinds. A greenlet that catches its exit each time, and so would never end, aborts the process.
///
/// # Cancellation
///
/// A kill that unwinds `inside` unwinds the greenlet as well.
pub fn scoped<In: 'static, Out: 'static, R>(
    body: impl FnOnce(In) -> Out,
    inside: impl FnOnce(&Greenlet<In, Out>) -> R,
) -> Result<R, BuildError> {
    raw::scoped(body, inside)
}
