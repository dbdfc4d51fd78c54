#![forbid(unsafe_code)]
//! Two greenlets with handles of each other.

use super::raw::{Greenlet, WeakGreenlet};
use std::cell::RefCell;
use std::rc::Rc;

/// Creates two greenlets, each with a handle of the other.
///
/// Returns the first, which keeps the second alive.
///
/// The first receives an `A`, the second a `B`, and each sends the other what it receives. Neither has
/// started: the first switch to the returned greenlet starts it.
///
/// The current greenlet is the parent of both, so it receives both results.
///
/// # Examples
///
/// ```
/// use switchgrass::pair;
///
/// let ping = pair(
///     |pong, ()| {
///         println!("12");
///         pong.switch(());
///         println!("34");
///         pong.switch(());
///     },
///     |ping, ()| {
///         println!("56");
///         ping.switch(());
///         println!("78");
///     },
/// );
/// ping.switch(()); // 12 56 34 78
/// ```
///
/// # Order of the ends
///
/// The first returns a `B` to the parent, the second an `A`. The parent has switched to the first, and
/// awaits a `B`. If the second ends before the first, and `A` and `B` differ, the parent's pending switch
/// receives a result of the wrong type. Then [`switch`](crate::WeakGreenlet::switch) panics, and
/// [`try_switch`](crate::WeakGreenlet::try_switch) returns
/// [`SwitchError::WrongResult`](crate::SwitchError::WrongResult):
///
/// ```
/// use switchgrass::{SwitchError, pair};
///
/// let ping = pair(
///     |pong, number: u32| {
///         pong.switch(number.to_string());
///         unreachable!("pong ends instead of switching back");
///     },
///     |_ping, text: String| text.len() as u32,
/// );
/// assert!(matches!(ping.try_switch(123), Err(SwitchError::WrongResult(_))));
/// ```
///
/// To avoid that, let the second body switch back as its last act instead of returning; it is unwound when
/// the first has ended. Or use the same type for both.
///
/// # Panics
///
/// If a greenlet cannot be created, like [`Greenlet::new`]. If the second ends before the first and `A` is
/// not `B`, the parent's `switch` panics later.
///
/// # Switching
///
/// Never switches.
#[track_caller]
pub fn pair<A: 'static, B: 'static>(
    first: impl FnOnce(Greenlet<B, A>, A) -> B + 'static,
    second: impl FnOnce(WeakGreenlet<A, B>, B) -> A + 'static,
) -> Greenlet<A, B> {
    let back = Rc::new(RefCell::new(None));
    let forth = Rc::clone(&back);
    let pong = Greenlet::new(move |value| {
        let ping = forth.take().expect("set before the first switch to this greenlet");
        second(ping, value)
    });
    let ping = Greenlet::new(move |value| first(pong, value));
    back.replace(Some(ping.downgrade()));
    ping
}
