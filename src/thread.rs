#![forbid(unsafe_code)]
//! OS threads that coroutines can wait for.
//!
//! Like [`std::thread`], with three differences: [`JoinHandle::join`] lets other coroutines of the thread
//! run, there is a [`JoinHandle::join_timeout`], and at its end the process waits for threads that are not
//! *daemons*.

use crate::greenlet::dropping::drop_reporting;
use crate::sync::{Event, Shared};
use crate::sys::exit::{at_exit, is_held_or_gone, thread_id};
use crate::sys::lineage::Generation;
use std::cell::RefCell;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::Duration;

/// Configures a thread before it is spawned.
///
/// # Examples
///
/// ```
/// use switchgrass::thread::Builder;
///
/// let handle = Builder::new().name("worker").daemon(true).spawn(|| 1 + 2)?;
/// assert_eq!(handle.thread().name(), Some("worker"));
/// assert_eq!(handle.join().unwrap(), 3);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Default)]
#[must_use = "a builder does nothing until it spawns"]
pub struct Builder {
    name: Option<String>,
    stack_size: Option<usize>,
    is_daemon: bool,
}

impl Builder {
    /// Makes a builder with the defaults of [`spawn`].
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the name of the thread, for messages.
    ///
    /// # Panics
    ///
    /// In [`Builder::spawn`], if it contains a zero byte.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets the stack size in bytes.
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.stack_size = Some(bytes);
        self
    }

    /// Sets whether the process may exit while the thread runs.
    ///
    /// By default it may not: a return from `main`, or a call of `exit` on another thread, waits until the
    /// thread has ended, including its coroutines and thread-local destructors.
    ///
    /// A thread that calls [`std::process::exit`] meanwhile counts as ended: std suspends it in `pause(2)`,
    /// and the process exits with the status of the first call, or of `main`. The same holds for a thread
    /// that calls `pause(2)` itself. A thread that calls libc's `exit` meanwhile, bypassing std, may hang
    /// the process.
    pub fn daemon(mut self, is_daemon: bool) -> Self {
        self.is_daemon = is_daemon;
        self
    }

    /// Spawns the thread, which starts immediately.
    ///
    /// # Errors
    ///
    /// If the operating system fails to create a thread.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn spawn<T: Send + 'static>(
        self,
        body: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<JoinHandle<T>> {
        let mut builder = thread::Builder::new();
        if let Some(name) = self.name {
            builder = builder.name(name);
        }
        if let Some(bytes) = self.stack_size {
            builder = builder.stack_size(bytes);
        }
        let outcome = Arc::new(Outcome { result: Mutex::new(None), done: Event::shared() });
        let place = Arc::clone(&outcome);
        let waited_for = (!self.is_daemon).then(WaitedFor::new);
        let handle = builder.spawn(move || {
            if let Some(waited_for) = waited_for {
                waited_for.begin();
            }
            let result = catch_unwind(AssertUnwindSafe(body));
            *place.result.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
            place.done.set();
            // If the handle was dropped, the result is dropped here.
            drop_reporting("the destructor of a thread's result", place);
        })?;
        Ok(JoinHandle { thread: handle.thread().clone(), outcome })
    }
}

/// Spawns a thread that runs `body`. The process waits for it at exit.
///
/// # Examples
///
/// ```
/// let handle = switchgrass::thread::spawn(|| 1 + 2);
/// assert_eq!(handle.join().unwrap(), 3);
/// ```
///
/// # Panics
///
/// If the operating system fails to create a thread.
///
/// # Switching
///
/// Never switches.
pub fn spawn<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    match Builder::new().spawn(body) {
        Ok(handle) => handle,
        Err(error) => panic!("failed to spawn thread: {error}"),
    }
}

struct Outcome<T> {
    result: Mutex<Option<thread::Result<T>>>,
    done: Event<Shared>,
}

/// A handle to a thread's result. Dropping it has no effect on the thread.
pub struct JoinHandle<T> {
    thread: Thread,
    outcome: Arc<Outcome<T>>,
}

impl<T> JoinHandle<T> {
    /// Waits until the thread's body has ended, and returns its result.
    ///
    /// Destructors of the thread's `thread_local!` variables may still be running then.
    ///
    /// # Errors
    ///
    /// The payload of the body's panic.
    ///
    /// # Panics
    ///
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits. In
    /// the thread itself, which would wait for itself.
    ///
    /// # Switching
    ///
    /// May switch: unless the body has ended, other coroutines of this thread run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The thread continues; its result is lost.
    #[track_caller]
    pub fn join(self) -> thread::Result<T> {
        self.refuse_to_wait_for_itself();
        self.outcome.done.wait();
        self.take()
    }

    /// Waits for the thread's result, for at most `timeout`. Returns `None` on timeout.
    ///
    /// See [`JoinHandle::join`].
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use switchgrass::thread;
    ///
    /// let mut slow = thread::spawn(|| std::thread::sleep(Duration::from_millis(20)));
    /// assert!(slow.join_timeout(Duration::from_millis(1)).is_none());
    /// assert!(slow.join_timeout(Duration::from_secs(60)).is_some());
    /// ```
    ///
    /// # Panics
    ///
    /// Those of [`JoinHandle::join`]; if the result was taken already.
    ///
    /// # Switching
    ///
    /// May switch: unless the body has ended, other coroutines of this thread run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The result is kept.
    #[track_caller]
    pub fn join_timeout(&mut self, timeout: Duration) -> Option<thread::Result<T>> {
        self.refuse_to_wait_for_itself();
        self.outcome.done.wait_timeout(timeout).then(|| self.take())
    }

    #[track_caller]
    fn refuse_to_wait_for_itself(&self) {
        // Once its body has ended, thread-local destructors of the thread may join it.
        let is_own = !self.is_finished() && self.thread.id() == thread::current().id();
        assert!(
            !is_own,
            "a thread that joins itself would wait for itself: join it on another thread"
        );
    }

    fn take(&self) -> thread::Result<T> {
        let result = self.outcome.result.lock().unwrap_or_else(PoisonError::into_inner).take();
        result.expect("the thread's result was taken already")
    }

    /// Returns whether the thread's body has ended.
    pub fn is_finished(&self) -> bool {
        self.outcome.done.is_set()
    }

    /// Returns the underlying std thread.
    pub fn thread(&self) -> &Thread {
        &self.thread
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").field("thread", &self.thread).finish_non_exhaustive()
    }
}

/// The threads that the process waits for at exit.
static RUNNING: Mutex<Running> = Mutex::new(Running { count: 0, begun: Vec::new(), made_in: None });
static LESS: Condvar = Condvar::new();

struct Running {
    /// Includes threads that have not started.
    count: usize,
    /// The ids of threads that have started.
    begun: Vec<u32>,
    /// The process that they belong to: they do not exist in a forked child.
    made_in: Option<Generation>,
}

impl Running {
    fn lock() -> MutexGuard<'static, Self> {
        let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        let here = Some(Generation::current());
        if running.made_in != here {
            *running = Running { count: 0, begun: Vec::new(), made_in: here };
        }
        running
    }

    /// Whether a thread other than this one is still running.
    fn is_left(&self) -> bool {
        let me = thread_id();
        let over = self.begun.iter().filter(|id| **id == me || is_held_or_gone(**id)).count();
        self.count > over
    }
}

thread_local! {
    /// This thread's entry, if it is waited for.
    ///
    /// Initialized before the body's thread-locals and the hub, so dropped after them.
    static OWN: RefCell<Option<WaitedFor>> = const { RefCell::new(None) };
}

/// The entry of a thread that is waited for.
struct WaitedFor {
    begun: Option<u32>,
}

impl WaitedFor {
    fn new() -> Self {
        at_exit(wait_for_the_others);
        Running::lock().count += 1;
        WaitedFor { begun: None }
    }

    /// Called first on the thread itself: from here on the entry lives until the thread ends.
    fn begin(mut self) {
        let id = thread_id();
        Running::lock().begun.push(id);
        self.begun = Some(id);
        OWN.set(Some(self));
    }
}

impl Drop for WaitedFor {
    fn drop(&mut self) {
        let mut running = Running::lock();
        // The count is 0 if the thread was counted in the parent of this forked process.
        running.count = running.count.saturating_sub(1);
        if let Some(at) = running.begun.iter().position(|id| Some(*id) == self.begun) {
            running.begun.swap_remove(at);
        }
        drop(running);
        LESS.notify_all();
    }
}

/// Exit handler: waits for the other threads.
fn wait_for_the_others() {
    /// A thread that calls `exit` sends no notification, so it is polled for.
    const LOOK: Duration = Duration::from_millis(20);
    let mut running = Running::lock();
    while running.is_left() {
        (running, _) = LESS.wait_timeout(running, LOOK).unwrap_or_else(PoisonError::into_inner);
    }
}
