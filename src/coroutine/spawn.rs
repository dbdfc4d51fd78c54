#![forbid(unsafe_code)]
//! Making coroutines, and taking turns.

use super::builder::spawn_as;
use super::join::{Coroutine, JoinHandle};
use crate::greenlet::scheduled::DetachedSpec;
use crate::hub::{self, Start};
use std::panic::Location;

/// Makes a coroutine that will call `body`, at the end of the queue of those that are ready. It does not
/// begin before the caller gives up control.
///
/// It goes on whatever becomes of the handle, until its thread ends: to wait for it is up to the program.
/// When its body has ended, its [`Local`](crate::Local)s are dropped, then its joiners are woken and its
/// links are called.
///
/// # Examples
///
/// ```
/// use switchgrass::{spawn, yield_now};
///
/// let a = spawn(|| {
///     println!("a 1");
///     yield_now();
///     println!("a 2");
/// });
/// let b = spawn(|| println!("b 1"));
/// a.join().unwrap(); // a 1, b 1, a 2
/// b.join().unwrap();
/// ```
///
/// # Panics
///
/// When there is no stack for it, or the thread is ending.
/// [`Builder::spawn`](crate::coroutine::Builder::spawn) returns an error instead.
///
/// # Switching
///
/// Never switches.
#[inline]
#[track_caller]
pub fn spawn<T: 'static>(body: impl FnOnce() -> T + 'static) -> JoinHandle<T> {
    spawn_at(Location::caller(), body)
}

/// As [`spawn`], and says that it was elsewhere.
#[inline]
#[track_caller]
pub(super) fn spawn_at<T: 'static>(
    site: &'static Location<'static>,
    body: impl FnOnce() -> T + 'static,
) -> JoinHandle<T> {
    match spawn_as(site, None, DetachedSpec::default(), Start::Now, body) {
        Ok(handle) => handle,
        Err(error) => panic!("no coroutine was made: {error}"),
    }
}

/// Lets all others run that are ready, in their order, and comes back after them.
///
/// # Examples
///
/// ```
/// use std::cell::RefCell;
/// use std::rc::Rc;
/// use switchgrass::{spawn, yield_now};
///
/// let log = Rc::new(RefCell::new(String::new()));
/// let all: Vec<_> = ["1", "2"]
///     .map(|number| {
///         let log = Rc::clone(&log);
///         spawn(move || {
///             for letter in ["a", "b"] {
///                 log.borrow_mut().extend([number, letter, " "]);
///                 yield_now();
///             }
///         })
///     })
///     .into();
/// all.into_iter().for_each(|handle| handle.join().unwrap());
/// assert_eq!(*log.borrow(), "1a 2a 1b 2b ");
/// ```
///
/// # Panics
///
/// With what is raised in the current coroutine meanwhile. In a callback that runs in the hub.
///
/// # Switching
///
/// Switches if anybody else is ready. These run meanwhile.
///
/// # Cancellation
///
/// Leaves nothing behind.
#[inline]
#[track_caller]
pub fn yield_now() {
    hub::yield_now();
}

/// Lets all others run until none of them is ready: each has ended, or waits for something.
///
/// What is due by then counts as ready: timers whose time has come, descriptors that have something, messages
/// of other threads. What comes later is not waited for. Others that call this as well are not waited for
/// either. It does not return while some coroutine only takes turns, as by [`yield_now`] in a loop.
///
/// # Examples
///
/// ```
/// use std::{cell::Cell, rc::Rc, time::Duration};
/// use switchgrass::coroutine::{run_until_idle, sleep, spawn, yield_now};
///
/// let steps = Rc::new(Cell::new(0));
/// let counter = Rc::clone(&steps);
/// let walker = spawn(move || {
///     for _ in 0..10 {
///         counter.set(counter.get() + 1);
///         yield_now();
///     }
///     sleep(Duration::from_secs(60));
/// });
/// run_until_idle();
/// assert_eq!(steps.get(), 10);
/// assert_eq!(walker.waits_for(), Some("sleep"));
/// ```
///
/// # Panics
///
/// With what is raised in the current coroutine meanwhile. In a callback that runs in the hub.
///
/// # Switching
///
/// Switches. All others may run meanwhile.
///
/// # Cancellation
///
/// Leaves nothing behind.
#[track_caller]
pub fn run_until_idle() {
    hub::run_until_idle();
}

/// The coroutine that runs. In main, and in greenlets that it has made by hand, this is main.
///
/// # Panics
///
/// When the thread is ending and has ended its coroutines.
///
/// # Switching
///
/// Never switches.
#[track_caller]
pub fn current() -> Coroutine {
    Coroutine(hub::current_task())
}
