#![forbid(unsafe_code)]
//! The handle of a set of hubs.

use super::dispatch::{self, Placement};
use super::join::JoinHandle;
use super::shared_state::SharedState;
use super::task::Packet;
use super::worker;
use crate::greenlet::dropping::drop_reporting;
use crate::sys::lock::Lock;
use crate::thread;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

/// A set of threads with a hub each, which run tasks spawned from any thread.
///
/// Cloning makes another handle.
///
/// When the last handle is dropped, the hubs accept no more tasks: the remaining tasks run to their end,
/// and then the threads end. The same happens when the process ends, by a return from `main` or by `exit`,
/// even if handles are left; the process waits for the threads, as for every [`thread`](crate::thread) that
/// is not a daemon. A task that never ends therefore keeps the process alive: use [`Hubs::shutdown`] with a
/// timeout first.
///
/// # Examples
///
/// ```
/// use switchgrass::multicore::Hubs;
///
/// let hubs = Hubs::new(2)?;
/// let squares: Vec<_> = (0..10_u64).map(|n| hubs.spawn(move || n * n)).collect();
/// let sum: u64 = squares.into_iter().map(|square| square.join().unwrap()).sum();
/// assert_eq!(sum, 285);
/// assert!(hubs.shutdown(None), "nothing had to be killed");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct Hubs {
    handle: Arc<Handle>,
}

/// The state that all handles share. Dropped with the last handle.
struct Handle {
    shared: Arc<SharedState>,
    threads: Lock<Vec<thread::JoinHandle<()>>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.close();
    }
}

/// The error of spawning on hubs that were shut down. It returns the body.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Closed<F>(F);

impl<F> Closed<F> {
    /// Returns the body.
    pub fn into_inner(self) -> F {
        self.0
    }
}

impl<F> fmt::Debug for Closed<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Closed(..)")
    }
}

impl<F> fmt::Display for Closed<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the hubs were shut down and take no more tasks")
    }
}

impl<F> std::error::Error for Closed<F> {}

impl Hubs {
    pub(super) fn with_shared(shared: Arc<SharedState>) -> Self {
        Hubs { handle: Arc::new(Handle { shared, threads: Lock::new(Vec::new()) }) }
    }

    pub(super) fn keep(&self, thread: thread::JoinHandle<()>) {
        self.handle.threads.lock().push(thread);
    }

    pub(super) fn shared(&self) -> &Arc<SharedState> {
        &self.handle.shared
    }

    /// The number of hubs.
    #[expect(clippy::len_without_is_empty, reason = "there is at least one")]
    pub fn len(&self) -> usize {
        self.shared().remotes.len()
    }

    /// The index of the calling thread's hub, starting at 0.
    ///
    /// `None` if the thread is not one of these hubs.
    pub fn current(&self) -> Option<usize> {
        worker::index_in(self.shared())
    }

    /// Spawns a task that runs `body` in a coroutine on one of the hubs.
    ///
    /// The task is queued on the calling thread's hub, if it is one of these; otherwise on an idle hub, or
    /// on the next in turn. Until it has begun, another idle hub may take it; after that it stays.
    ///
    /// Tasks queued on one hub begin in the order in which they were spawned. If `body` panics, the panic
    /// is reported on standard error and returned by the handle.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchgrass::multicore::Hubs;
    ///
    /// let hubs = Hubs::new(2)?;
    /// let also = hubs.clone();
    /// let sum = hubs.spawn(move || {
    ///     let halves = [1..=50_u64, 51..=100].map(|half| also.spawn(move || half.sum::<u64>()));
    ///     halves.into_iter().map(|half| half.join().unwrap()).sum::<u64>()
    /// });
    /// assert_eq!(sum.join().unwrap(), 5050);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Panics
    ///
    /// If the hubs were shut down: [`Hubs::try_spawn`] returns the body instead.
    ///
    /// # Switching
    ///
    /// Never switches.
    #[track_caller]
    pub fn spawn<T: Send + 'static>(
        &self,
        body: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        or_panic(self.push(Location::caller(), body, Placement::Anywhere))
    }

    /// Like [`Hubs::spawn`], but returns an error if the hubs were shut down.
    ///
    /// # Errors
    ///
    /// If the hubs were shut down. The error contains `body`.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchgrass::multicore::Hubs;
    ///
    /// let hubs = Hubs::new(1)?;
    /// hubs.shutdown(None);
    /// let refused = hubs.try_spawn(|| 7).unwrap_err();
    /// assert_eq!(refused.to_string(), "the hubs were shut down and take no more tasks");
    /// assert_eq!(refused.into_inner()(), 7);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Switching
    ///
    /// Never switches.
    #[track_caller]
    pub fn try_spawn<T: Send + 'static, F: FnOnce() -> T + Send + 'static>(
        &self,
        body: F,
    ) -> Result<JoinHandle<T>, Closed<F>> {
        self.push(Location::caller(), body, Placement::Anywhere)
    }

    /// Spawns a task that runs `body` in a coroutine on the given hub and no other.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchgrass::multicore::Hubs;
    ///
    /// let hubs = Hubs::new(2)?;
    /// let also = hubs.clone();
    /// assert_eq!(hubs.spawn_on(1, move || also.current()).join().unwrap(), Some(1));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Panics
    ///
    /// If `hub` is not less than [`Hubs::len`], or if the hubs were shut down.
    ///
    /// # Switching
    ///
    /// Never switches.
    #[track_caller]
    pub fn spawn_on<T: Send + 'static>(
        &self,
        hub: usize,
        body: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        self.check(hub);
        or_panic(self.push(Location::caller(), body, Placement::On(hub)))
    }

    /// Like [`Hubs::spawn_on`], but returns an error if the hubs were shut down.
    ///
    /// # Errors
    ///
    /// If the hubs were shut down. The error contains `body`.
    ///
    /// # Panics
    ///
    /// If `hub` is not less than [`Hubs::len`].
    ///
    /// # Switching
    ///
    /// Never switches.
    #[track_caller]
    pub fn try_spawn_on<T: Send + 'static, F: FnOnce() -> T + Send + 'static>(
        &self,
        hub: usize,
        body: F,
    ) -> Result<JoinHandle<T>, Closed<F>> {
        self.check(hub);
        self.push(Location::caller(), body, Placement::On(hub))
    }

    /// Like [`Hubs::spawn_on`], but another idle hub may take the task until it has begun.
    ///
    /// # Panics
    ///
    /// If `hub` is not less than [`Hubs::len`], or if the hubs were shut down.
    ///
    /// # Switching
    ///
    /// Never switches.
    #[track_caller]
    pub fn spawn_preferring<T: Send + 'static>(
        &self,
        hub: usize,
        body: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        self.check(hub);
        or_panic(self.push(Location::caller(), body, Placement::Prefer(hub)))
    }

    /// Like [`Hubs::spawn_preferring`], but returns an error if the hubs were shut down.
    ///
    /// # Errors
    ///
    /// If the hubs were shut down. The error contains `body`.
    ///
    /// # Panics
    ///
    /// If `hub` is not less than [`Hubs::len`].
    ///
    /// # Switching
    ///
    /// Never switches.
    #[track_caller]
    pub fn try_spawn_preferring<T: Send + 'static, F: FnOnce() -> T + Send + 'static>(
        &self,
        hub: usize,
        body: F,
    ) -> Result<JoinHandle<T>, Closed<F>> {
        self.check(hub);
        self.push(Location::caller(), body, Placement::Prefer(hub))
    }

    #[track_caller]
    fn check(&self, hub: usize) {
        let hubs = self.len();
        assert!(hub < hubs, "hub index must be less than {hubs}, got {hub}");
    }

    fn push<T: Send + 'static, F: FnOnce() -> T + Send + 'static>(
        &self,
        site: &'static Location<'static>,
        body: F,
        placement: Placement,
    ) -> Result<JoinHandle<T>, Closed<F>> {
        let packet = Arc::new(Packet::new(site, body));
        let body = Arc::clone(&packet);
        if dispatch::push(self.shared(), body, placement) {
            Ok(JoinHandle::new(packet))
        } else {
            Err(Closed(packet.into_body()))
        }
    }

    /// Accepts no more tasks, and waits until all tasks and threads have ended.
    ///
    /// After `limit` (`None`: no timeout), the remaining tasks are killed. The end of their destructors is
    /// then awaited without a timeout, and so is a task that neither ends nor waits for anything. Returns
    /// `true` if no task had to be killed.
    ///
    /// Coroutines that tasks have spawned by [`spawn`](crate::spawn) without joining them are killed when
    /// their thread ends.
    ///
    /// # Panics
    ///
    /// On one of the hubs, which would wait for itself. Unwinds if a kill, a timeout or another panic is
    /// raised in the current coroutine while it waits.
    ///
    /// # Switching
    ///
    /// May switch, unless the threads have ended: other coroutines run while this one waits.
    ///
    /// # Cancellation
    ///
    /// The hubs accept no more tasks. Existing tasks continue, unless they were already being killed.
    #[track_caller]
    pub fn shutdown(&self, limit: Option<Duration>) -> bool {
        let is_own = self.current().is_some();
        assert!(!is_own, "a task cannot shut down its own hubs: it would wait for itself");
        let shared = self.shared();
        shared.close();
        let in_time = match limit {
            Some(limit) => shared.over.wait_timeout(limit),
            None => {
                shared.over.wait();
                true
            }
        };
        if !in_time {
            dispatch::kill(shared);
            shared.over.wait();
        }
        loop {
            let thread = self.handle.threads.lock().pop();
            let Some(thread) = thread else { break };
            // A panic of the thread has already been reported.
            drop_reporting("the end of a hub's thread", thread.join());
        }
        !shared.has_killed()
    }
}

#[track_caller]
fn or_panic<T, F>(spawned: Result<JoinHandle<T>, Closed<F>>) -> JoinHandle<T> {
    match spawned {
        Ok(handle) => handle,
        Err(closed) => panic!("{closed}"),
    }
}

impl fmt::Debug for Hubs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hubs")
            .field("len", &self.len())
            .field("is_closed", &self.shared().is_closed())
            .finish_non_exhaustive()
    }
}
