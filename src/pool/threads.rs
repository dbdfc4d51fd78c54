#![forbid(unsafe_code)]
//! OS threads for work that blocks or computes.
//!
//! A forked child has none of them: each pool starts empty there, and runs only jobs that it is given
//! there. Existing jobs continue in the parent.

use crate::coroutine::JoinError;
use crate::greenlet::dropping::{drop_each, drop_payload};
use crate::hub;
use crate::sync::{Event, Shared};
use crate::sys::fork::{Companion, Fork, Generation, Side, around_fork};
use crate::sys::lock::Lock;
use std::any::Any;
use std::cell::Cell;
use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::hint::spin_loop;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError, Weak};
use std::thread::{self, ThreadId};
use std::time::Duration;

/// A pool of OS threads for jobs that block or compute.
///
/// A thread is started when a job comes and none is idle, up to a maximum, and ends after some idle time.
///
/// The pool can be used from any thread. Waiting for a job lets other coroutines of the waiting thread run.
///
/// Dropping the pool closes it: jobs that are queued still run.
///
/// # Examples
///
/// ```
/// use std::sync::mpsc;
/// use switchgrass::pool::ThreadPool;
///
/// let pool = ThreadPool::new(2);
/// let (sender, receiver) = mpsc::channel();
/// for n in 0..3_u32 {
///     let sender = sender.clone();
///     pool.run(move || 10 / n, move |result| sender.send(result.ok()).unwrap()).unwrap();
/// }
/// pool.close();
/// pool.join().unwrap();
/// let mut results: Vec<Option<u32>> = receiver.try_iter().collect();
/// results.sort();
/// assert_eq!(results, [None, Some(5), Some(10)], "a failing job harms nobody");
/// ```
pub struct ThreadPool {
    inner: Arc<Inner>,
}

/// How long a thread stays idle before it ends.
const KEEP: Duration = Duration::from_secs(5);

/// A job. Returns the promise that its thread announces once it counts as idle again.
type Job = Box<dyn FnOnce() -> Option<Arc<dyn Promise>> + Send>;

struct Inner {
    state: Mutex<State>,
    /// Where idle threads wait.
    work: Condvar,
    /// Set when the pool is closed and its last thread has ended.
    ended: Event<Shared>,
}

/// Invariant: `idle >= jobs.len()`, or `live >= max`.
///
/// So a job that is queued while more threads may be started is about to be taken.
struct State {
    jobs: VecDeque<Job>,
    max: usize,
    live: usize,
    /// Threads that wait for a job or are about to take one, including new threads.
    idle: usize,
    is_closed: bool,
    /// Waits for jobs of this pool by threads of this pool.
    waits: Vec<Wait>,
}

/// A wait for a job by a thread of the same pool.
struct Wait {
    thread: ThreadId,
    job: Arc<dyn Promise>,
}

thread_local! {
    /// The pool that this thread works for; null once it has run its last job.
    static WORKS_FOR: Cell<*const Inner> = const { Cell::new(ptr::null()) };

    /// The outcome of the job that this thread runs; null if the job has none.
    static RUNS: Cell<*const ()> = const { Cell::new(ptr::null()) };
}

/// Why a pool rejects a job.
enum Refusal {
    Closed,
    NoThread(io::Error),
}

impl Refusal {
    fn into_closed(self) -> Closed {
        match self {
            Refusal::Closed => Closed(()),
            Refusal::NoThread(error) => panic!("{error}"),
        }
    }

    fn into_error(self) -> io::Error {
        match self {
            Refusal::Closed => io::Error::other(Closed(())),
            Refusal::NoThread(error) => error,
        }
    }
}

/// The error of a closed pool, which takes no more jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed(());

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the thread pool is closed and takes no more jobs")
    }
}

impl std::error::Error for Closed {}

/// The error of joining a pool that is not closed, whose threads might never end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotClosed(());

impl fmt::Display for NotClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the thread pool is not closed: call close() or terminate() before join()")
    }
}

impl std::error::Error for NotClosed {}

/// The payload of a job's panic.
pub type Panic = Box<dyn Any + Send>;

impl ThreadPool {
    /// Makes a pool of at most `max` threads. None is started before the first job.
    ///
    /// # Panics
    ///
    /// If `max` is zero.
    #[track_caller]
    pub fn new(max: usize) -> Self {
        assert!(max > 0, "thread count must be at least 1, got 0");
        let state = State {
            jobs: VecDeque::new(),
            max,
            live: 0,
            idle: 0,
            is_closed: false,
            waits: Vec::new(),
        };
        let inner =
            Inner { state: Mutex::new(state), work: Condvar::new(), ended: Event::shared() };
        let inner = Arc::new(inner);
        around_fork(hold_all_pools);
        let mut all = ALL.lock();
        all.retain(|pool| pool.strong_count() > 0);
        all.push(Arc::downgrade(&inner));
        ThreadPool { inner }
    }

    /// Returns the pool of [`unblock`], which has at most ten threads.
    pub fn global() -> &'static ThreadPool {
        static GLOBAL: OnceLock<ThreadPool> = OnceLock::new();
        GLOBAL.get_or_init(|| ThreadPool::new(10))
    }

    /// Runs `job` on one of the threads, and then `callback` with its result.
    ///
    /// A panic of either ends neither the thread nor the pool: a panic of the job is passed to the
    /// callback, and a panic of the callback is printed like any other.
    ///
    /// # Errors
    ///
    /// If the pool is closed.
    ///
    /// # Panics
    ///
    /// If the pool has no thread and cannot start one.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn run<T>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
        callback: impl FnOnce(Result<T, Panic>) + Send + 'static,
    ) -> Result<(), Closed> {
        let job = move || {
            callback(catch_unwind(AssertUnwindSafe(job)));
            None
        };
        self.push(Box::new(job)).map_err(Refusal::into_closed)
    }

    /// Runs `job` on one of the threads. Unlike [`ThreadPool::run`], it never panics.
    ///
    /// # Errors
    ///
    /// If the pool is closed, or if it has no thread and cannot start one: `job` was dropped.
    #[cfg(feature = "monkey")]
    pub(crate) fn try_run(&self, job: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let job = move || {
            job();
            None
        };
        self.push(Box::new(job)).map_err(Refusal::into_error)
    }

    /// Runs `job` on one of the threads, and returns a handle to its result.
    ///
    /// # Errors
    ///
    /// If the pool is closed.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchgrass::pool::ThreadPool;
    ///
    /// let pool = ThreadPool::new(1);
    /// let job = pool.spawn(|| 1 + 2)?;
    /// assert_eq!(job.join().unwrap(), 3);
    /// # Ok::<(), switchgrass::pool::Closed>(())
    /// ```
    ///
    /// # Panics
    ///
    /// If the pool has no thread and cannot start one.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn spawn<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<JobHandle<T>, Closed> {
        self.try_spawn(job).map_err(Refusal::into_closed)
    }

    fn try_spawn<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<JobHandle<T>, Refusal> {
        let outcome = Arc::new(Outcome::new(Slot::Awaited));
        let handle = JobHandle::new(&self.inner, &outcome);
        let completion = Completion(Some(outcome));
        self.push(Box::new(move || completion.run(job)))?;
        Ok(handle)
    }

    /// Runs `job` on one of the threads, and waits for its result.
    ///
    /// On one of the pool's own threads the job is called directly: if all of them waited here, none would
    /// be left to run it.
    ///
    /// # Errors
    ///
    /// If the pool is closed, or is terminated before the job has started.
    ///
    /// # Panics
    ///
    /// Propagates a panic of the job. Unwinds if a kill, a timeout or another panic is raised in the
    /// current coroutine while it waits. If the pool has no thread and cannot start one.
    ///
    /// # Switching
    ///
    /// May switch: except on one of the pool's own threads, other coroutines run while this one waits.
    ///
    /// # Cancellation
    ///
    /// The job continues; its result is lost.
    pub fn apply<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Closed> {
        hub::refuse_in_callback("ThreadPool::apply");
        if self.inner.is_own_thread() {
            return if self.inner.lock().is_closed { Err(Closed(())) } else { Ok(job()) };
        }
        match self.spawn(job)?.join() {
            Ok(result) => Ok(result),
            Err(JoinError::Panicked(payload)) => resume_unwind(payload),
            Err(_) => Err(Closed(())),
        }
    }

    fn push(&self, job: Job) -> Result<(), Refusal> {
        let mut state = self.inner.lock();
        if state.is_closed {
            return Err(Refusal::Closed);
        }
        state.jobs.push_back(job);
        if state.jobs.len() <= state.idle {
            drop(state);
            self.inner.work.notify_one();
            return Ok(());
        }
        let missing = state.add_threads();
        drop(state);
        (0..missing).try_for_each(|_| self.inner.start_thread()).map_err(Refusal::NoThread)
    }

    /// Sets the maximum number of threads. Excess threads end after their current jobs.
    ///
    /// # Panics
    ///
    /// If `max` is zero.
    #[track_caller]
    pub fn set_max(&self, max: usize) {
        assert!(max > 0, "thread count must be at least 1, got 0");
        let mut state = self.inner.lock();
        state.max = max;
        let missing = state.add_threads();
        drop(state);
        // A failure is ignored: the queued jobs are left to the threads that are busy now.
        (0..missing).for_each(|_| drop(self.inner.start_thread()));
        self.inner.work.notify_all();
    }

    /// Closes the pool: it takes no more jobs, runs the queued ones, and then ends its threads.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn close(&self) {
        self.inner.close(false);
    }

    /// Closes the pool, and drops the queued jobs. Running jobs run to their end; then the threads end.
    ///
    /// # Panics
    ///
    /// Propagates the first panic of a job's destructor, after all were dropped. Further ones are reported
    /// on standard error.
    ///
    /// # Switching
    ///
    /// Never switches, unless the destructor of a job does.
    pub fn terminate(&self) {
        self.inner.close(true);
    }

    /// Waits until the threads have ended.
    ///
    /// # Errors
    ///
    /// If the pool is not closed.
    ///
    /// # Panics
    ///
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits. On
    /// a thread of the pool, which would wait for its own end.
    ///
    /// # Switching
    ///
    /// May switch: unless the threads have ended, other coroutines run meanwhile.
    ///
    /// # Cancellation
    ///
    /// Has no effect.
    #[track_caller]
    pub fn join(&self) -> Result<(), NotClosed> {
        let is_own = self.inner.is_own_thread();
        assert!(
            !is_own,
            "a job that joins its own pool would wait for itself: join it on another thread"
        );
        let state = self.inner.lock();
        if !state.is_closed {
            return Err(NotClosed(()));
        }
        let is_over = state.live == 0;
        drop(state);
        if !is_over {
            self.inner.ended.wait();
        }
        Ok(())
    }

    /// Returns the number of threads.
    pub fn live(&self) -> usize {
        self.inner.lock().live
    }

    /// Returns the number of threads without a job.
    pub fn idle(&self) -> usize {
        self.inner.lock().unused()
    }

    /// Returns the number of jobs that have not started.
    pub fn queued(&self) -> usize {
        self.inner.lock().jobs.len()
    }
}

/// All pools of the process.
static ALL: Lock<Vec<Weak<Inner>>> = Lock::new(Vec::new());

/// Holds the locks of all pools across a fork, so that none is in the middle of a change.
///
/// In the child, clears their threads and jobs.
fn hold_all_pools(fork: Fork<'_>) -> io::Result<Side> {
    let all = ALL.lock();
    let pools: Vec<_> = all.iter().filter_map(Weak::upgrade).collect();
    let states: Vec<_> = pools.iter().map(|pool| pool.lock_at_once()).collect();
    let side = fork();
    if matches!(side, Ok(Side::Child)) {
        for mut state in states {
            // The parent runs their destructors.
            std::mem::forget(std::mem::take(&mut state.jobs));
            std::mem::forget(std::mem::take(&mut state.waits));
            (state.live, state.idle) = (0, 0);
        }
    }
    side
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for ThreadPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.inner.lock();
        let (live, idle, queued) = (state.live, state.unused(), state.jobs.len());
        // Writing may switch, so the lock is released first.
        drop(state);
        f.debug_struct("ThreadPool")
            .field("live", &live)
            .field("idle", &idle)
            .field("queued", &queued)
            .finish_non_exhaustive()
    }
}

impl State {
    /// Idle threads that no queued job is meant for.
    fn unused(&self) -> usize {
        self.idle.saturating_sub(self.jobs.len())
    }

    /// Counts in the missing threads, as far as `max` allows. The caller must start them.
    fn add_threads(&mut self) -> usize {
        let unserved = self.jobs.len().saturating_sub(self.idle);
        let missing = unserved.min(self.max.saturating_sub(self.live));
        self.live += missing;
        self.idle += missing;
        missing
    }

    /// Counts out an idle thread that ends or failed to start.
    ///
    /// Returns whether it was the last of a closed pool.
    fn remove_thread(&mut self) -> bool {
        self.idle -= 1;
        self.live -= 1;
        self.is_closed && self.live == 0
    }

    /// Whether no thread is left to take a job: each of them, `me` included, waits for an unfinished job of
    /// this pool.
    fn is_stuck(&self, me: Option<ThreadId>) -> bool {
        let waits = self.waits.iter().filter(|wait| !wait.job.is_settled());
        let threads: HashSet<_> = waits.map(|wait| wait.thread).chain(me).collect();
        self.idle == 0 && threads.len() >= self.live
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks without blocking.
    ///
    /// The lock is held for a few instructions only, and a blocking wait might run another coroutine.
    fn lock_at_once(&self) -> MutexGuard<'_, State> {
        loop {
            match self.state.try_lock() {
                Ok(state) => return state,
                Err(TryLockError::Poisoned(state)) => return state.into_inner(),
                Err(TryLockError::WouldBlock) => spin_loop(),
            }
        }
    }

    fn is_own_thread(&self) -> bool {
        ptr::eq(WORKS_FOR.get(), self)
    }

    fn close(&self, now: bool) {
        let mut state = self.lock();
        state.is_closed = true;
        let dropped = if now { std::mem::take(&mut state.jobs) } else { VecDeque::new() };
        let is_over = state.live == 0;
        drop(state);
        self.work.notify_all();
        if is_over {
            self.ended.set();
        }
        drop_each("the destructor of a job", dropped);
    }

    /// Starts a thread that is counted already.
    ///
    /// # Errors
    ///
    /// If it cannot be started and no other thread would get to the queued jobs: these are dropped.
    fn start_thread(self: &Arc<Self>) -> io::Result<()> {
        let inner = Arc::clone(self);
        let thread = thread::Builder::new().name("switchgrass-pool".into());
        let Err(error) = thread.spawn(move || inner.work()) else { return Ok(()) };
        let mut state = self.lock();
        let is_over = state.remove_thread();
        let is_stuck = state.is_stuck(None);
        let lost = if is_stuck { std::mem::take(&mut state.jobs) } else { VecDeque::new() };
        drop(state);
        drop_each("the destructor of a job", lost);
        if is_over {
            self.ended.set();
        }
        if is_stuck { Err(no_thread(&error)) } else { Ok(()) }
    }

    /// The body of a thread.
    fn work(&self) {
        let companion = Companion::new();
        companion.set_busy(true);
        WORKS_FOR.set(self);
        while let Some(job) = self.next(&companion) {
            // The panic hook has printed the panic.
            let promise = match catch_unwind(AssertUnwindSafe(job)) {
                Ok(promise) => promise,
                Err(payload) => {
                    drop_payload(payload);
                    None
                }
            };
            // Count as idle before the announcement: a job that is submitted in response then finds a
            // thread. All values of the finished job are dropped by now.
            self.lock().idle += 1;
            if let Some(promise) = promise {
                promise.announce();
            }
        }
        WORKS_FOR.set(ptr::null());
    }

    /// Waits for the next job. `None` if the thread must end: it is counted out already.
    fn next(&self, companion: &Companion) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if state.live <= state.max
                && let Some(job) = state.jobs.pop_front()
            {
                state.idle -= 1;
                return Some(job);
            }
            if state.is_closed || state.live > state.max {
                break;
            }
            // A fork holds `state`, so it sees this thread either waiting here or busy, and waits for it if
            // busy.
            companion.set_busy(false);
            let (woken, waited) =
                self.work.wait_timeout(state, KEEP).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            companion.set_busy(true);
            if waited.timed_out() && state.jobs.is_empty() {
                break;
            }
        }
        let is_over = state.remove_thread();
        drop(state);
        if is_over {
            self.ended.set();
        }
        None
    }
}

fn no_thread(error: &io::Error) -> io::Error {
    // The kind of `error` may be `WouldBlock`, which callers would mistake for the result of the job's
    // call.
    io::Error::other(format!("no thread could be started for a job: {error}"))
}

/// The outcome of a job, with its type erased.
trait Promise: Send + Sync {
    /// Whether there is a result.
    fn is_settled(&self) -> bool;

    /// Wakes those that wait for the result.
    fn announce(&self);
}

/// Where a job stores its result.
struct Outcome<T> {
    slot: Mutex<Slot<T>>,
    /// Set after `slot` is filled.
    done: Event<Shared>,
}

enum Slot<T> {
    Awaited,
    /// The handle was dropped: the pool thread drops the result.
    Unwanted,
    Filled(Result<T, JoinError>),
    Taken,
}

impl<T> Outcome<T> {
    fn new(slot: Slot<T>) -> Self {
        Outcome { slot: Mutex::new(slot), done: Event::shared() }
    }

    fn slot(&self) -> MutexGuard<'_, Slot<T>> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fill(&self, result: Result<T, JoinError>) {
        let mut slot = self.slot();
        if !matches!(*slot, Slot::Unwanted) {
            *slot = Slot::Filled(result);
            return;
        }
        drop(slot);
        drop(result);
    }

    /// Takes the result, and leaves `rest`.
    fn take(&self, rest: Slot<T>) -> Result<T, JoinError> {
        match std::mem::replace(&mut *self.slot(), rest) {
            Slot::Filled(result) => result,
            _ => Err(JoinError::Taken),
        }
    }
}

impl<T: Send> Promise for Outcome<T> {
    fn is_settled(&self) -> bool {
        matches!(*self.slot(), Slot::Filled(_) | Slot::Taken)
    }

    fn announce(&self) {
        self.done.set();
    }
}

/// The right to fill an outcome.
///
/// If it is dropped with a job that has not run, the outcome becomes `Killed`.
struct Completion<T>(Option<Arc<Outcome<T>>>);

impl<T: Send + 'static> Completion<T> {
    fn run(mut self, job: impl FnOnce() -> T) -> Option<Arc<dyn Promise>> {
        let outcome = self.0.take()?;
        let before = RUNS.replace(Arc::as_ptr(&outcome).cast());
        let result = catch_unwind(AssertUnwindSafe(job));
        RUNS.set(before);
        outcome.fill(result.map_err(JoinError::Panicked));
        Some(outcome)
    }
}

impl<T> Drop for Completion<T> {
    fn drop(&mut self) {
        if let Some(outcome) = self.0.take() {
            outcome.fill(Err(JoinError::Killed));
            outcome.done.set();
        }
    }
}

/// A handle to a job of a [`ThreadPool`]. Dropping it has no effect on the job.
pub struct JobHandle<T> {
    outcome: Arc<Outcome<T>>,
    pool: Arc<Inner>,
    made_in: Generation,
}

impl<T> JobHandle<T> {
    fn new(pool: &Arc<Inner>, outcome: &Arc<Outcome<T>>) -> Self {
        let (pool, outcome) = (Arc::clone(pool), Arc::clone(outcome));
        JobHandle { outcome, pool, made_in: Generation::current() }
    }

    /// Whether the job belongs to the parent of this forked process.
    pub(crate) fn is_left_behind(&self) -> bool {
        self.made_in != Generation::current()
    }

    /// Returns whether the job has ended.
    pub fn is_finished(&self) -> bool {
        self.is_left_behind() || self.outcome.done.is_set()
    }

    #[track_caller]
    fn refuse_to_wait_for_oneself(&self) {
        let is_own = ptr::eq(RUNS.get(), Arc::as_ptr(&self.outcome).cast());
        assert!(!is_own, "a job that joins itself would wait indefinitely");
    }
}

impl<T: Send + 'static> JobHandle<T> {
    /// Waits for the job's result.
    ///
    /// # Errors
    ///
    /// [`JoinError::Panicked`] if the job panicked. [`JoinError::Killed`] if the pool was terminated before
    /// the job started, if no thread could be started for it, or if the job belongs to the parent of this
    /// forked process.
    ///
    /// # Panics
    ///
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits. In
    /// the job itself. On a thread of the pool, if every other thread of the pool waits for one of its jobs
    /// as well: none would be left to run them. ([`apply`](ThreadPool::apply) calls its job directly there,
    /// and always works.)
    ///
    /// # Switching
    ///
    /// May switch: unless the job has ended, other coroutines run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The job continues; its result is lost.
    #[track_caller]
    pub fn join(self) -> Result<T, JoinError> {
        if self.is_left_behind() {
            return Err(JoinError::Killed);
        }
        self.wait();
        self.outcome.take(Slot::Taken)
    }

    /// Waits for the job's result, for at most `timeout`. Returns `None` on timeout.
    ///
    /// # Panics
    ///
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits. In
    /// the job itself.
    ///
    /// # Switching
    ///
    /// May switch: unless the job has ended, other coroutines run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The result is kept.
    #[track_caller]
    pub fn join_timeout(&mut self, timeout: Duration) -> Option<Result<T, JoinError>> {
        if self.is_left_behind() {
            return Some(Err(JoinError::Killed));
        }
        self.refuse_to_wait_for_oneself();
        self.outcome.done.wait_timeout(timeout).then(|| self.outcome.take(Slot::Taken))
    }

    /// Waits for the result without taking it.
    #[track_caller]
    pub(crate) fn wait(&self) {
        if self.is_finished() {
            return;
        }
        self.refuse_to_wait_for_oneself();
        let _entered = self.pool.is_own_thread().then(|| self.pool.enter_wait(&self.outcome));
        self.outcome.done.wait();
    }

    /// Returns the result of a job of the global pool. Propagates a panic of the job.
    ///
    /// # Errors
    ///
    /// If no thread could be started for it, or if the job belongs to the parent of this forked process.
    pub(crate) fn try_finish(self) -> io::Result<T> {
        let is_left_behind = self.is_left_behind();
        match self.join() {
            Ok(result) => Ok(result),
            Err(JoinError::Panicked(payload)) => resume_unwind(payload),
            Err(_) if is_left_behind => Err(io::Error::other(
                "the job belongs to the process that forked this one: start it again here",
            )),
            Err(_) => Err(io::Error::other("no thread could be started for a job")),
        }
    }
}

impl<T> Drop for JobHandle<T> {
    fn drop(&mut self) {
        // In a child, the lock may be held by a thread that does not exist there.
        if !self.is_left_behind() {
            let result = self.outcome.take(Slot::Unwanted);
            drop(result);
        }
    }
}

impl Inner {
    /// Records that this thread, one of the pool's, waits for one of the pool's jobs, until the return
    /// value is dropped.
    #[track_caller]
    fn enter_wait<T: Send + 'static>(&self, job: &Arc<Outcome<T>>) -> EnteredWait<'_> {
        let thread = thread::current().id();
        let job: Arc<dyn Promise> = Arc::<Outcome<T>>::clone(job);
        let mut state = self.lock();
        let is_stuck = !job.is_settled() && state.is_stuck(Some(thread));
        if !is_stuck {
            state.waits.push(Wait { thread, job: Arc::clone(&job) });
        }
        let live = state.live;
        drop(state);
        assert!(
            !is_stuck,
            "a job that waits for another job of its pool would wait indefinitely: no thread is left to run \
             it, since all {live} threads wait like this; use `apply` or a larger pool",
        );
        EnteredWait { pool: self, job }
    }
}

/// Removes the recorded wait on drop.
struct EnteredWait<'a> {
    pool: &'a Inner,
    job: Arc<dyn Promise>,
}

impl Drop for EnteredWait<'_> {
    fn drop(&mut self) {
        let mut state = self.pool.lock();
        let at = state.waits.iter().position(|wait| Arc::ptr_eq(&wait.job, &self.job));
        let wait = at.map(|at| state.waits.swap_remove(at));
        drop(state);
        drop(wait);
    }
}

impl<T> fmt::Debug for JobHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobHandle").field("is_finished", &self.is_finished()).finish()
    }
}

/// Runs a blocking call on a thread of [`ThreadPool::global`], and waits for it.
///
/// Other coroutines of this thread run meanwhile. On a thread of that pool the call is made directly.
///
/// # Examples
///
/// ```
/// let text = switchgrass::pool::unblock(|| std::fs::read_to_string("Cargo.toml")).unwrap();
/// assert!(text.contains("switchgrass"));
/// ```
///
/// # Panics
///
/// Propagates a panic of `f`. Unwinds if a kill, a timeout or another panic is raised in the current
/// coroutine while it waits. If the pool has no thread and cannot start one: then `f` is not called.
///
/// # Switching
///
/// May switch: except on a thread of that pool, other coroutines run while this one waits.
///
/// # Cancellation
///
/// The call continues on its thread; its result is lost.
pub fn unblock<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    try_unblock(f).unwrap_or_else(|error| panic!("{error}"))
}

/// Like [`unblock`], but returns an error if there is no thread.
///
/// # Errors
///
/// If the pool has no thread and cannot start one: `f` was not called.
pub(crate) fn try_unblock<T: Send + 'static>(
    f: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    try_begin(f)?.try_finish()
}

/// Starts a blocking call on a thread of [`ThreadPool::global`], and does not wait for it.
///
/// On a thread of that pool the call is made directly.
///
/// # Errors
///
/// If the pool has no thread and cannot start one: `f` was not called.
pub(crate) fn try_begin<T: Send + 'static>(
    f: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JobHandle<T>> {
    hub::refuse_in_callback("a call on the thread pool");
    let pool = ThreadPool::global();
    if pool.inner.is_own_thread() {
        let outcome = Outcome::new(Slot::Filled(Ok(f())));
        outcome.done.set();
        return Ok(JobHandle::new(&pool.inner, &Arc::new(outcome)));
    }
    pool.try_spawn(f).map_err(Refusal::into_error)
}
