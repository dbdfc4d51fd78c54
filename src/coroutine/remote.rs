#![forbid(unsafe_code)]
//! Spawning from other threads.

use crate::hub::RemoteHub;
use std::fmt;

/// This thread's coroutines, for other threads: what is sent is spawned here. It wakes the thread if that is
/// asleep; nothing is lost if it is not yet.
///
/// While there is one, main may wait without anybody in sight who could wake it. What is sent to a thread
/// that has ended is dropped with the last of its `Remote`s.
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
    /// Of this thread.
    ///
    /// # Panics
    ///
    /// When the thread is ending and has ended its coroutines.
    ///
    /// # Switching
    ///
    /// Never switches.
    #[track_caller]
    pub fn here() -> Self {
        Remote(RemoteHub::here())
    }

    /// Spawns a coroutine on that thread, which calls `body`: within a millisecond or so if it is busy.
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
