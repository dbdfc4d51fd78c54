#![forbid(unsafe_code)]
//! Handles of bodies.

use super::body::Joinable;
use crate::coroutine::JoinError;
use crate::sync::{Selectable, sealed};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Waits for what a body returns that was spawned on [`Hubs`](super::Hubs), or ends it: from whichever
/// thread.
///
/// Dropping it has no effect on the body. [`select`](crate::sync::select()) waits for it as well; it is ready
/// when the body has ended.
///
/// # Examples
///
/// ```
/// use switchgrass::multicore::Hubs;
///
/// let hubs = Hubs::new(2)?;
/// let sum = hubs.spawn(|| (1..=100).sum::<u64>());
/// let thread = std::thread::spawn(move || sum.join().unwrap());
/// assert_eq!(thread.join().unwrap(), 5050);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct JoinHandle<T> {
    body: Arc<dyn Joinable<T>>,
}

impl<T> JoinHandle<T> {
    pub(super) fn new(body: Arc<dyn Joinable<T>>) -> Self {
        JoinHandle { body }
    }

    /// Waits until the body has ended, and takes its result.
    ///
    /// # Errors
    ///
    /// The cases of [`JoinError`]; [`JoinError::Panicked`] with a message also if there was no stack for it.
    ///
    /// # Panics
    ///
    /// With what is raised in the current coroutine meanwhile. In the body itself, which would wait for ever.
    ///
    /// # Switching
    ///
    /// Switches, unless it has ended. All others of this thread may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The body goes on; its result is lost with this handle.
    #[track_caller]
    pub fn join(self) -> Result<T, JoinError> {
        self.refuse_to_wait_for_oneself();
        self.body.done().wait();
        self.body.take()
    }

    /// As [`JoinHandle::join`], for at most `limit`. `None` if it has not ended by then; once it has, the
    /// result is there once, and then [`JoinError::Taken`].
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use switchgrass::{multicore::Hubs, sleep};
    ///
    /// let hubs = Hubs::new(1)?;
    /// let mut slow = hubs.spawn(|| sleep(Duration::from_millis(20)));
    /// assert!(slow.join_timeout(Duration::from_millis(1)).is_none());
    /// slow.join_timeout(Duration::from_secs(60)).expect("in time").unwrap();
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Panics
    ///
    /// As [`JoinHandle::join`].
    ///
    /// # Switching
    ///
    /// As [`JoinHandle::join`], also for a limit of zero.
    ///
    /// # Cancellation
    ///
    /// Nothing is lost.
    #[track_caller]
    pub fn join_timeout(&mut self, limit: Duration) -> Option<Result<T, JoinError>> {
        self.refuse_to_wait_for_oneself();
        self.body.done().wait_timeout(limit).then(|| self.body.take())
    }

    #[track_caller]
    fn refuse_to_wait_for_oneself(&self) {
        let is_own = !self.is_finished() && self.body.is_current();
        assert!(!is_own, "a body that joins itself would wait for ever");
    }

    /// Whether the body has ended, in whichever way.
    pub fn is_finished(&self) -> bool {
        self.body.done().is_set()
    }

    /// Ends the body by [`JoinError::Killed`]. One that has not begun never does, and is dropped here; in one
    /// that has, a [`GreenletExit`](crate::GreenletExit) is raised on its own hub, as by
    /// [`Coroutine::kill`](crate::Coroutine::kill), where it waits. One that has ended stays so, and may have
    /// been faster. To wait for its end, join it.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use switchgrass::{JoinError, multicore::Hubs, sleep};
    ///
    /// let hubs = Hubs::new(2)?;
    /// let endless = hubs.spawn(|| sleep(Duration::MAX));
    /// endless.kill();
    /// assert!(matches!(endless.join(), Err(JoinError::Killed)));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Panics
    ///
    /// With the `GreenletExit`, in the body itself. With what the destructor panics of one that has not
    /// begun.
    ///
    /// # Switching
    ///
    /// Never switches, unless the destructor of one that has not begun does.
    pub fn kill(&self) {
        Arc::clone(&self.body).kill();
    }
}

impl<T> sealed::Selectable for JoinHandle<T> {
    fn is_ready(&self) -> bool {
        self.is_finished()
    }

    #[track_caller]
    fn refuse_own(&self) {
        self.refuse_to_wait_for_oneself();
    }

    fn watch(&self) -> Box<dyn FnOnce() + '_> {
        self.body.done().watch()
    }
}

/// Ready when the body has ended.
impl<T> Selectable for JoinHandle<T> {}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").field("is_finished", &self.is_finished()).finish()
    }
}
