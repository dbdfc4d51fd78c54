#![forbid(unsafe_code)]
//! OS threads that coroutines can wait for.
//!
//! As [`std::thread`], but that [`JoinHandle::join`] lets the other coroutines of the thread run, that there
//! is a [`JoinHandle::join_timeout`], and that the process waits at its end for threads that are not
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

/// Makes a thread that is not like others.
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
    /// One that makes threads as [`spawn`] does.
    pub fn new() -> Self {
        Self::default()
    }

    /// A name, for messages.
    ///
    /// # Panics
    ///
    /// In [`Builder::spawn`], if it contains a zero byte.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The size of its stack in bytes.
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.stack_size = Some(bytes);
        self
    }

    /// Whether the process may end while it runs. By default it may not: a return from `main`, or a call of
    /// `exit` on another thread, waits until it has ended, its coroutines and its thread-local variables
    /// included.
    ///
    /// If it calls [`std::process::exit`] meanwhile, it counts as ended: std suspends it in `pause(2)`, and
    /// the process ends with the status of the first call, or of `main`. The same holds for a thread that
    /// calls `pause(2)` itself. A thread that calls libc's `exit` meanwhile, which std knows nothing of, may
    /// hang the process.
    pub fn daemon(mut self, is_daemon: bool) -> Self {
        self.is_daemon = is_daemon;
        self
    }

    /// Makes the thread, which runs at once.
    ///
    /// # Errors
    ///
    /// If the operating system makes no thread.
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
            // Perhaps nobody wants the result: then it is dropped here.
            drop_reporting("the destructor of a thread's result", place);
        })?;
        Ok(JoinHandle { thread: handle.thread().clone(), outcome })
    }
}

/// Makes a thread that runs `body` at once. The process waits for it at its end.
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
/// If the operating system makes no thread.
///
/// # Switching
///
/// Never switches.
pub fn spawn<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    match Builder::new().spawn(body) {
        Ok(handle) => handle,
        Err(error) => panic!("no thread was made: {error}"),
    }
}

struct Outcome<T> {
    result: Mutex<Option<thread::Result<T>>>,
    done: Event<Shared>,
}

/// Waits for a thread's result. Dropped, it has no effect on the thread.
pub struct JoinHandle<T> {
    thread: Thread,
    outcome: Arc<Outcome<T>>,
}

impl<T> JoinHandle<T> {
    /// Waits until the thread's body has ended, and takes its result. Destructors of the thread's
    /// `thread_local!` variables may still be running then.
    ///
    /// # Errors
    ///
    /// What the body has panicked with.
    ///
    /// # Panics
    ///
    /// With what is raised in the current coroutine meanwhile. In the thread itself, which would wait for
    /// itself.
    ///
    /// # Switching
    ///
    /// Switches, unless it has ended. All others of this thread may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The thread goes on; its result is lost.
    #[track_caller]
    pub fn join(self) -> thread::Result<T> {
        self.refuse_to_wait_for_itself();
        self.outcome.done.wait();
        self.take()
    }

    /// As [`JoinHandle::join`], for at most `limit`. `None` if it has not ended by then.
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
    /// As [`JoinHandle::join`]; when the result was taken before.
    ///
    /// # Switching
    ///
    /// As [`JoinHandle::join`].
    ///
    /// # Cancellation
    ///
    /// Nothing is lost.
    #[track_caller]
    pub fn join_timeout(&mut self, limit: Duration) -> Option<thread::Result<T>> {
        self.refuse_to_wait_for_itself();
        self.outcome.done.wait_timeout(limit).then(|| self.take())
    }

    #[track_caller]
    fn refuse_to_wait_for_itself(&self) {
        // Destructors of its thread-local variables run when its body has ended.
        let is_own = !self.is_finished() && self.thread.id() == thread::current().id();
        assert!(
            !is_own,
            "a thread that joins itself would wait for itself: join it on another thread"
        );
    }

    fn take(&self) -> thread::Result<T> {
        let result = self.outcome.result.lock().unwrap_or_else(PoisonError::into_inner).take();
        result.expect("the thread's result was taken before")
    }

    /// Whether its body has ended.
    pub fn is_finished(&self) -> bool {
        self.outcome.done.is_set()
    }

    /// The thread.
    pub fn thread(&self) -> &Thread {
        &self.thread
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").field("thread", &self.thread).finish_non_exhaustive()
    }
}

/// The threads that the process waits for at its end.
static RUNNING: Mutex<Running> = Mutex::new(Running { count: 0, begun: Vec::new(), made_in: None });
static LESS: Condvar = Condvar::new();

struct Running {
    /// Also of those that have not begun.
    count: usize,
    /// The numbers of those that have.
    begun: Vec<u32>,
    /// The process that they are threads of: in a child they are not there.
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

    /// Whether one goes on that is not this thread.
    fn is_left(&self) -> bool {
        let me = thread_id();
        let over = self.begun.iter().filter(|id| **id == me || is_held_or_gone(**id)).count();
        self.count > over
    }
}

thread_local! {
    /// Of this thread, if it is one of them. Made before every other thread-local variable of its body and
    /// its hub, so dropped after them.
    static OWN: RefCell<Option<WaitedFor>> = const { RefCell::new(None) };
}

/// Stands for one of them.
struct WaitedFor {
    begun: Option<u32>,
}

impl WaitedFor {
    fn new() -> Self {
        at_exit(wait_for_the_others);
        Running::lock().count += 1;
        WaitedFor { begun: None }
    }

    /// On the thread itself, before all else: from here on it is kept until the thread ends.
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
        // None: it was counted in a parent.
        running.count = running.count.saturating_sub(1);
        if let Some(at) = running.begun.iter().position(|id| Some(*id) == self.begun) {
            running.begun.swap_remove(at);
        }
        drop(running);
        LESS.notify_all();
    }
}

/// At the end of the process.
fn wait_for_the_others() {
    /// Nobody tells of a thread that calls `exit`: it is looked for.
    const LOOK: Duration = Duration::from_millis(20);
    let mut running = Running::lock();
    while running.is_left() {
        (running, _) = LESS.wait_timeout(running, LOOK).unwrap_or_else(PoisonError::into_inner);
    }
}
