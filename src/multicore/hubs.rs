#![forbid(unsafe_code)]
//! The handle of a crew of hubs.

use super::body::Packet;
use super::crew::Crew;
use super::dispatch::{self, Where};
use super::join::JoinHandle;
use super::worker;
use crate::greenlet::dropping::drop_reporting;
use crate::sys::lock::Lock;
use crate::thread;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

/// Threads with a hub each, on which bodies are spawned from anywhere. A further handle is a clone.
///
/// When all handles are dropped, they take no more bodies: what there is is worked off, and then the threads
/// end. The same happens at the end of the process, by a return from `main` or by `exit`, although handles
/// may be left, and the process waits for it, as for every [`thread`](crate::thread) that is not a daemon. A
/// body that never ends keeps the process: use [`Hubs::shutdown`] with a limit before.
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

/// All handles together.
struct Handle {
    crew: Arc<Crew>,
    threads: Lock<Vec<thread::JoinHandle<()>>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.crew.close();
    }
}

/// The hubs were shut down and take no more bodies. The body comes back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Closed<F>(F);

impl<F> Closed<F> {
    /// The body.
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
        f.write_str("the hubs were shut down and take no more bodies")
    }
}

impl<F> std::error::Error for Closed<F> {}

impl Hubs {
    pub(super) fn new_of(crew: Arc<Crew>) -> Self {
        Hubs { handle: Arc::new(Handle { crew, threads: Lock::new(Vec::new()) }) }
    }

    pub(super) fn keep(&self, thread: thread::JoinHandle<()>) {
        self.handle.threads.lock().push(thread);
    }

    pub(super) fn crew(&self) -> &Arc<Crew> {
        &self.handle.crew
    }

    /// How many hubs there are.
    #[expect(clippy::len_without_is_empty, reason = "there is one at least")]
    pub fn len(&self) -> usize {
        self.crew().members.len()
    }

    /// The number of the calling thread's hub, from 0 on, if it is one of these.
    pub fn current(&self) -> Option<usize> {
        worker::index_in(self.crew())
    }

    /// Has `body` run in a coroutine on one of the hubs: on that of the calling thread, if it is one of them,
    /// or otherwise on one that is idle, or on one after the other. As long as it has not begun, another hub
    /// that is idle may take it. Once it has, it stays.
    ///
    /// It begins after those that were spawned on that hub before it. If it panics, that is in the handle,
    /// and is said on standard error.
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
    /// If the hubs were shut down: [`Hubs::try_spawn`] gives the body back instead.
    ///
    /// # Switching
    ///
    /// Never switches.
    #[track_caller]
    pub fn spawn<T: Send + 'static>(
        &self,
        body: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        or_panic(self.push(Location::caller(), body, Where::Anywhere))
    }

    /// As [`Hubs::spawn`].
    ///
    /// # Errors
    ///
    /// If the hubs were shut down.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchgrass::multicore::Hubs;
    ///
    /// let hubs = Hubs::new(1)?;
    /// hubs.shutdown(None);
    /// let refused = hubs.try_spawn(|| 7).unwrap_err();
    /// assert_eq!(refused.to_string(), "the hubs were shut down and take no more bodies");
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
        self.push(Location::caller(), body, Where::Anywhere)
    }

    /// Has `body` run in a coroutine on the hub of this number, and no other.
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
    /// As [`Hubs::spawn`]; if there is no such hub.
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
        or_panic(self.push(Location::caller(), body, Where::On(hub)))
    }

    /// As [`Hubs::spawn_on`].
    ///
    /// # Errors
    ///
    /// If the hubs were shut down.
    ///
    /// # Panics
    ///
    /// If there is no such hub.
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
        self.push(Location::caller(), body, Where::On(hub))
    }

    /// As [`Hubs::spawn_on`], but another hub that is idle may take `body` as long as it has not begun.
    ///
    /// # Panics
    ///
    /// As [`Hubs::spawn_on`].
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
        or_panic(self.push(Location::caller(), body, Where::Rather(hub)))
    }

    /// As [`Hubs::spawn_preferring`].
    ///
    /// # Errors
    ///
    /// If the hubs were shut down.
    ///
    /// # Panics
    ///
    /// If there is no such hub.
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
        self.push(Location::caller(), body, Where::Rather(hub))
    }

    #[track_caller]
    fn check(&self, hub: usize) {
        let hubs = self.len();
        assert!(hub < hubs, "there is no hub {hub}: there are {hubs}, from 0 on");
    }

    fn push<T: Send + 'static, F: FnOnce() -> T + Send + 'static>(
        &self,
        site: &'static Location<'static>,
        body: F,
        place: Where,
    ) -> Result<JoinHandle<T>, Closed<F>> {
        let packet = Arc::new(Packet::new(site, body));
        let body = Arc::clone(&packet);
        if dispatch::push(self.crew(), body, place) {
            Ok(JoinHandle::new(packet))
        } else {
            Err(Closed(packet.into_body()))
        }
    }

    /// Takes no more bodies, and waits until those that there are, begun or not, have ended, for at most
    /// `limit` (`None`: for ever). What is left then is killed, and its clean-up waited for: one that neither
    /// ends nor waits for anything is waited for all the same. Whether nothing had to be killed.
    ///
    /// The threads have ended then. What bodies have spawned by [`spawn`](crate::spawn), and nobody has
    /// joined, was ended with its thread.
    ///
    /// # Panics
    ///
    /// On one of the hubs, which would wait for itself. With what is raised in the current coroutine
    /// meanwhile.
    ///
    /// # Switching
    ///
    /// Switches, unless the threads have ended. All others of this thread may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// They take no more bodies; those that there are go on, unless the limit has passed.
    #[track_caller]
    pub fn shutdown(&self, limit: Option<Duration>) -> bool {
        let is_own = self.current().is_some();
        assert!(!is_own, "a body that shuts down its own hubs would wait for itself, for ever");
        let crew = self.crew();
        crew.close();
        let in_time = match limit {
            Some(limit) => crew.over.wait_timeout(limit),
            None => {
                crew.over.wait();
                true
            }
        };
        if !in_time {
            dispatch::kill(crew);
            crew.over.wait();
        }
        loop {
            let thread = self.handle.threads.lock().pop();
            let Some(thread) = thread else { break };
            // Its panic, if it had one, was printed.
            drop_reporting("the end of a hub's thread", thread.join());
        }
        !crew.has_killed()
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
            .field("is_closed", &self.crew().is_closed())
            .finish_non_exhaustive()
    }
}
