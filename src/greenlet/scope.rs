#![forbid(unsafe_code)]
//! Greenlets that borrow.

use super::error::BuildError;
use super::raw::{self, Greenlet};

/// Makes a greenlet whose body may borrow what is alive during this call, and calls `inside` with it.
///
/// When `inside` returns or panics, the greenlet is unwound if it has not ended: so it is dead before
/// anything is gone that it borrows. No destructor has to run for that which could be forgotten, and a
/// copy of the handle that was kept is one of a dead greenlet.
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
/// What it borrows cannot be used while it may be:
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
/// As [`Builder::build`](crate::Builder::build); and in a callback that runs in the hub, which cannot wait
/// for the end.
///
/// # Switching
///
/// Switches if the greenlet has begun and not ended when `inside` has: to it, so that it unwinds. A
/// greenlet that catches its exit again and again, and so would never end, ends the process.
///
/// # Cancellation
///
/// A kill that reaches `inside` unwinds the greenlet as well.
pub fn scoped<In: 'static, Out: 'static, R>(
    body: impl FnOnce(In) -> Out,
    inside: impl FnOnce(&Greenlet<In, Out>) -> R,
) -> Result<R, BuildError> {
    raw::scoped(body, inside)
}
