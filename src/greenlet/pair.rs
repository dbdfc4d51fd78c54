#![forbid(unsafe_code)]
//! Two greenlets that know each other.

use super::raw::{Greenlet, WeakGreenlet};
use std::cell::RefCell;
use std::rc::Rc;

/// Makes two greenlets, each of whose bodies is given the other. Returns the first, which keeps the
/// second alive.
///
/// The first accepts an `A`, the second a `B`, and each sends the other what it accepts. Neither has
/// begun: the first switch to the one returned begins it.
///
/// The current greenlet is the parent of both, so both results go to it. It awaits a `B`, the result of the
/// first, while the second returns an `A`. If the types differ, the first must end before the second, which
/// is then unwound.
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
/// # Who ends first
///
/// A body's result goes to the parent, for both the greenlet that has made the pair. That one has switched
/// to the first and awaits a `B`, which the first returns. The second returns an `A`: if it ends before the
/// first, and `A` and `B` differ, the pending switch gets a result that it does not await. Then
/// [`switch`](crate::WeakGreenlet::switch) panics, and [`try_switch`](crate::WeakGreenlet::try_switch)
/// returns [`SwitchError::WrongResult`](crate::SwitchError::WrongResult):
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
/// So the second switches back as its last act, and does not end; or the bodies agree on one type.
///
/// # Panics
///
/// As [`Greenlet::new`]. If the second ends before the first and `A` is not `B`, the parent's switch panics:
/// it awaits a `B` and was sent an `A`.
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
        let ping = forth.take().expect("set before anybody can switch here");
        second(ping, value)
    });
    let ping = Greenlet::new(move |value| first(pong, value));
    back.replace(Some(ping.downgrade()));
    ping
}
