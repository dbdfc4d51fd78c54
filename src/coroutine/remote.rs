#![forbid(unsafe_code)]
//! Spawning from other threads.

use crate::hub::RemoteHub;
use std::fmt;

/// A handle for spawning coroutines on a thread from other threads.
///
/// Sending a closure wakes the thread if it sleeps; a closure sent just before the thread goes to sleep is
/// not missed.
///
/// While a `Remote` exists, a wait of main is not treated as a deadlock, since another thread can end it.
/// Closures sent to a thread that has ended are dropped with the last of its `Remote`s.
///
/// # Examples
///
/// ```
/// use switchgrass::coroutine::Remote;
/// use switchgrass::sync::Event;
///
/// let event = std::rc::Rc::new(Event::new());
/// thread_local! { static EVENT: std::cell::RefCell<Option<std::rc::Rc<Event>>> = Default::default(); }
/// EVENT.set(Some(event.clone()));
///
/// let here = Remote::here();
/// std::thread::spawn(move || here.spawn(|| EVENT.take().unwrap().set()));
/// event.wait();
/// ```
#[derive(Clone)]
pub struct Remote(RemoteHub);

impl Remote {
    /// Creates a handle for the current thread.
    ///
    /// # Panics
    ///
    /// Panics if the thread is ending and its hub is gone.
    ///
    /// # Switching
    ///
    /// Never switches.
    #[track_caller]
    pub fn here() -> Self {
        Remote(RemoteHub::here())
    }

    /// Spawns a coroutine on the target thread.
    ///
    /// If the thread is busy switching between coroutines, it looks for requests about once per
    /// millisecond.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn spawn(&self, body: impl FnOnce() + Send + 'static) {
        self.0.call(|| drop(super::spawn(body)));
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").finish_non_exhaustive()
    }
}
