#![forbid(unsafe_code)]
//! Handles of tasks.

use super::task::Joinable;
use crate::coroutine::JoinError;
use crate::sync::{Selectable, sealed};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A handle to join or kill a task spawned on [`Hubs`](super::Hubs), from any thread.
///
/// Dropping it has no effect on the task. In a [`select`](crate::sync::select()) it is ready when the task
/// has ended.
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
    task: Arc<dyn Joinable<T>>,
}

impl<T> JoinHandle<T> {
    pub(super) fn new(task: Arc<dyn Joinable<T>>) -> Self {
        JoinHandle { task }
    }

    /// Waits until the task has ended, and takes its result.
    ///
    /// # Errors
    ///
    /// The cases of [`JoinError`]. [`JoinError::Panicked`] with a message also if no coroutine could
    /// be created for the task.
    ///
    /// # Panics
    ///
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits. In
    /// the task itself, which would wait indefinitely.
    ///
    /// # Switching
    ///
    /// May switch, unless the task has ended: other coroutines run while this one waits.
    ///
    /// # Cancellation
    ///
    /// The task continues; its result is lost with this handle.
    #[track_caller]
    pub fn join(self) -> Result<T, JoinError> {
        self.refuse_self_join();
        self.task.done().wait();
        self.task.take()
    }

    /// Like [`JoinHandle::join`], but waits for at most `limit`.
    ///
    /// Returns `None` if the task has not ended by then. The result can be taken once; later calls return
    /// [`JoinError::Taken`].
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
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits. In
    /// the task itself, which would wait indefinitely.
    ///
    /// # Switching
    ///
    /// May switch, also with a zero `limit`, unless the task has ended: other coroutines run while this one
    /// waits.
    ///
    /// # Cancellation
    ///
    /// The task continues, and can be joined again.
    #[track_caller]
    pub fn join_timeout(&mut self, limit: Duration) -> Option<Result<T, JoinError>> {
        self.refuse_self_join();
        self.task.done().wait_timeout(limit).then(|| self.task.take())
    }

    #[track_caller]
    fn refuse_self_join(&self) {
        let is_own = !self.is_finished() && self.task.is_current();
        assert!(!is_own, "a task cannot join itself: it would wait indefinitely");
    }

    /// Whether the task has ended, for any reason.
    pub fn is_finished(&self) -> bool {
        self.task.done().is_set()
    }

    /// Kills the task, which then ends with [`JoinError::Killed`].
    ///
    /// If it has not begun, it never does: its body is dropped here. If it runs, a
    /// [`GreenletExit`](crate::GreenletExit) is raised on its hub where it waits, as by
    /// [`Coroutine::kill`](crate::Coroutine::kill). If it has ended, or ends first, nothing happens. To
    /// wait for its end, join it.
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
    /// With the `GreenletExit`, in the task itself. If the task has not begun and the destructor of its
    /// body panics.
    ///
    /// # Switching
    ///
    /// Never switches, unless the task has not begun and the destructor of its body switches.
    pub fn kill(&self) {
        Arc::clone(&self.task).kill();
    }
}

impl<T> sealed::Selectable for JoinHandle<T> {
    fn is_ready(&self) -> bool {
        self.is_finished()
    }

    #[track_caller]
    fn refuse_own(&self) {
        self.refuse_self_join();
    }

    fn watch(&self) -> Box<dyn FnOnce() + '_> {
        self.task.done().watch()
    }
}

/// Ready when the task has ended.
impl<T> Selectable for JoinHandle<T> {}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").field("is_finished", &self.is_finished()).finish()
    }
}
