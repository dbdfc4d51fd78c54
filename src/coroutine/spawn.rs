#![forbid(unsafe_code)]
//! Spawning coroutines and yielding to others.

use super::builder::spawn_as;
use super::join::{Coroutine, JoinHandle};
use crate::greenlet::scheduled::DetachedSpec;
use crate::hub::{self, Start};
use std::panic::Location;

/// Spawns a coroutine that calls `body`.
///
/// It is appended to the queue of ready coroutines, and does not start before the caller gives up control.
///
/// Dropping the handle does not end the coroutine, which runs until its body ends or its thread does;
/// waiting for it is up to the program. When the body has ended, the coroutine's [`Local`](crate::Local)s
/// are dropped, then its joiners are woken and its links are called.
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
/// Panics if there is no stack for the coroutine, or the thread is ending.
/// [`Builder::spawn`](crate::coroutine::Builder::spawn) returns an error instead of the first.
///
/// # Switching
///
/// Never switches.
#[inline]
#[track_caller]
pub fn spawn<T: 'static>(body: impl FnOnce() -> T + 'static) -> JoinHandle<T> {
    spawn_at(Location::caller(), body)
}

/// Like [`spawn`], but records `site` as the place of the spawn.
#[inline]
#[track_caller]
pub(super) fn spawn_at<T: 'static>(
    site: &'static Location<'static>,
    body: impl FnOnce() -> T + 'static,
) -> JoinHandle<T> {
    match spawn_as(site, None, DetachedSpec::default(), Start::Now, body) {
        Ok(handle) => handle,
        Err(error) => panic!("failed to spawn a coroutine: {error}"),
    }
}

/// Lets all other ready coroutines run once, in their order, then returns.
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
/// Unwinds with any kill or timeout delivered to the current coroutine meanwhile. Panics in a callback that
/// runs in the hub.
///
/// # Switching
///
/// May switch: if another coroutine is ready. The ready ones run meanwhile.
///
/// # Cancellation
///
/// No effect other than the unwind.
#[inline]
#[track_caller]
pub fn yield_now() {
    hub::yield_now();
}

/// Runs the other coroutines until none of them is ready.
///
/// Each has then ended or is waiting.
///
/// Expired timers, descriptors with pending events, and messages of other threads count as ready; later
/// ones are not waited for. Other callers of this function are not waited for either. It does not return
/// while some coroutine is always ready, such as one that calls [`yield_now`] in a loop.
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
/// Unwinds with any kill or timeout delivered to the current coroutine meanwhile. Panics in a callback that
/// runs in the hub.
///
/// # Switching
///
/// Always switches: any other coroutine may run meanwhile.
///
/// # Cancellation
///
/// No effect other than the unwind.
#[track_caller]
pub fn run_until_idle() {
    hub::run_until_idle();
}

/// Returns the running coroutine.
///
/// In main, and in greenlets that main has created directly, this is main.
///
/// # Panics
///
/// Panics if the thread is ending and its hub is gone.
///
/// # Switching
///
/// Never switches.
#[track_caller]
pub fn current() -> Coroutine {
    Coroutine(hub::current_task())
}
