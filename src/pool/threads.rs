#![forbid(unsafe_code)]
//! OS threads for work that blocks or computes.
//!
//! A child that is made by fork has none of them: each pool begins anew there, with the jobs that it is given
//! there. Those that it had go on where they are, in the parent.

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

/// OS threads that work off jobs. There are only as many as are needed: one is made when a job comes and none
/// is idle, up to a limit, and ends when it has been idle for a while.
///
/// It can be used from all threads. Who waits for a job lets the other coroutines of its thread run.
///
/// Dropped, it is closed: jobs that it has are still worked off.
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

/// A job. It returns what its thread announces as soon as it counts as idle.
type Job = Box<dyn FnOnce() -> Option<Arc<dyn Promise>> + Send>;

struct Inner {
    state: Mutex<State>,
    /// Idle threads wait here.
    work: Condvar,
    /// Set when the pool is closed and its last thread has ended.
    ended: Event<Shared>,
}

/// There are at least as many idle threads as jobs, or `max` threads: a job that waits although there may be
/// more threads is about to be taken.
struct State {
    jobs: VecDeque<Job>,
    max: usize,
    live: usize,
    /// Threads that take a job before they wait, or wait for one. A new thread is one of them.
    idle: usize,
    is_closed: bool,
    /// Threads of this pool that wait for jobs of this pool.
    waits: Vec<Wait>,
}

/// A wait for a job by a thread of the same pool.
struct Wait {
    thread: ThreadId,
    job: Arc<dyn Promise>,
}

thread_local! {
    /// The pool that this thread works for, until it has taken its last job.
    static WORKS_FOR: Cell<*const Inner> = const { Cell::new(ptr::null()) };

    /// The outcome of the job that this thread runs, if it has one.
    static RUNS: Cell<*const ()> = const { Cell::new(ptr::null()) };
}

/// Why a pool does not take a job.
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

/// The pool is closed: it takes no more jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed(());

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the thread pool is closed and takes no more jobs")
    }
}

impl std::error::Error for Closed {}

/// The pool is not closed, so that waiting for its end might last for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotClosed(());

impl fmt::Display for NotClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the thread pool is not closed: call close() or terminate() before join()")
    }
}

impl std::error::Error for NotClosed {}

/// What a job panicked with.
pub type Panic = Box<dyn Any + Send>;

impl ThreadPool {
    /// A pool of so many threads at most. None is made before the first job.
    ///
    /// # Panics
    ///
    /// If `max` is zero: nothing would ever run.
    #[track_caller]
    pub fn new(max: usize) -> Self {
        assert!(max > 0, "a pool of no threads would never run anything: let it be at least 1");
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

    /// The pool of [`unblock`], of ten threads at most.
    pub fn global() -> &'static ThreadPool {
        static GLOBAL: OnceLock<ThreadPool> = OnceLock::new();
        GLOBAL.get_or_init(|| ThreadPool::new(10))
    }

    /// Has `job` run on one of the threads, and then `callback` with its result there. A panic of either is
    /// the end of neither thread nor pool: that of the job goes to the callback, and that of the callback is
    /// printed like any other.
    ///
    /// # Errors
    ///
    /// If the pool is closed.
    ///
    /// # Panics
    ///
    /// If no thread can be made, and there is none.
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

    /// Runs `job` on one of the threads. Unlike [`ThreadPool::run`] it never panics.
    ///
    /// # Errors
    ///
    /// If the pool is closed, or if it has no thread and none can be made: `job` was dropped.
    #[cfg(feature = "monkey")]
    pub(crate) fn try_run(&self, job: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let job = move || {
            job();
            None
        };
        self.push(Box::new(job)).map_err(Refusal::into_error)
    }

    /// Has `job` run on one of the threads.
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
    /// If no thread can be made, and there is none.
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
        let place = Place(Some(outcome));
        self.push(Box::new(move || place.run(job)))?;
        Ok(handle)
    }

    /// Has `job` run on one of the threads, and waits for its result. On one of the pool's own threads it is
    /// run there and then: with all of them waiting in here nobody would be left to run it.
    ///
    /// # Errors
    ///
    /// If the pool is closed, or terminated before the job has begun.
    ///
    /// # Panics
    ///
    /// With what the job panics, and with what is raised in the current coroutine meanwhile. If the pool has
    /// no thread and none can be made.
    ///
    /// # Switching
    ///
    /// Switches, unless on one of the pool's own threads. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The job goes on; its result is lost.
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

    /// Lets there be so many threads at most. Those that are too many end when they have done their jobs.
    ///
    /// # Panics
    ///
    /// If `max` is zero.
    #[track_caller]
    pub fn set_max(&self, max: usize) {
        assert!(max > 0, "a pool of no threads would never run anything: let it be at least 1");
        let mut state = self.inner.lock();
        state.max = max;
        let missing = state.add_threads();
        drop(state);
        // The jobs that wait are those of threads that are busy: these come to them if there are no others.
        (0..missing).for_each(|_| drop(self.inner.start_thread()));
        self.inner.work.notify_all();
    }

    /// Takes no more jobs. Those that it has are worked off; then the threads end.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn close(&self) {
        self.inner.close(false);
    }

    /// Takes no more jobs, and drops those that have not begun. Those that run go on to their end; then the
    /// threads end.
    ///
    /// # Panics
    ///
    /// With the first panic of a destructor of a job, when all are dropped. Further ones are reported on
    /// standard error.
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
    /// With what is raised in the current coroutine meanwhile. On a thread of the pool, which would wait for
    /// its own end.
    ///
    /// # Switching
    ///
    /// Switches, unless they have. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// Leaves nothing behind.
    #[track_caller]
    pub fn join(&self) -> Result<(), NotClosed> {
        let is_own = self.inner.is_own_thread();
        assert!(!is_own, "a job that joins its own pool would wait for its own end");
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

    /// How many threads there are.
    pub fn live(&self) -> usize {
        self.inner.lock().live
    }

    /// How many of them wait for a job.
    pub fn idle(&self) -> usize {
        self.inner.lock().unused()
    }

    /// How many jobs have not begun.
    pub fn queued(&self) -> usize {
        self.inner.lock().jobs.len()
    }
}

/// The pools that there are.
static ALL: Lock<Vec<Weak<Inner>>> = Lock::new(Vec::new());

/// Around a fork: no pool is in the middle of something, and those of the child have no threads and no jobs.
fn hold_all_pools(fork: Fork<'_>) -> io::Result<Side> {
    let all = ALL.lock();
    let pools: Vec<_> = all.iter().filter_map(Weak::upgrade).collect();
    let states: Vec<_> = pools.iter().map(|pool| pool.lock_at_once()).collect();
    let side = fork();
    if matches!(side, Ok(Side::Child)) {
        for mut state in states {
            // Their destructors are run by the parent.
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
        // Writing may let others run.
        drop(state);
        f.debug_struct("ThreadPool")
            .field("live", &live)
            .field("idle", &idle)
            .field("queued", &queued)
            .finish_non_exhaustive()
    }
}

impl State {
    /// Idle threads for which there is no job.
    fn unused(&self) -> usize {
        self.idle.saturating_sub(self.jobs.len())
    }

    /// Counts the threads that are missing, as far as there may be more. They are to be started.
    fn add_threads(&mut self) -> usize {
        let unserved = self.jobs.len().saturating_sub(self.idle);
        let missing = unserved.min(self.max.saturating_sub(self.live));
        self.live += missing;
        self.idle += missing;
        missing
    }

    /// An idle thread ends, or was never made. Whether it was the last of a closed pool.
    fn remove_thread(&mut self) -> bool {
        self.idle -= 1;
        self.live -= 1;
        self.is_closed && self.live == 0
    }

    /// Whether no thread is left that could take a job: each of them, or each but `me`, waits for a job of
    /// this pool that has no result.
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

    /// Others hold it for some instructions. To wait for it might be to let a coroutine run.
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
    /// If it cannot be made, and there is no other that would come to the jobs: these are dropped.
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

    /// What a thread does.
    fn work(&self) {
        let companion = Companion::new();
        companion.set_busy(true);
        WORKS_FOR.set(self);
        while let Some(job) = self.next(&companion) {
            // A panic was printed by its hook.
            let promise = match catch_unwind(AssertUnwindSafe(job)) {
                Ok(promise) => promise,
                Err(payload) => {
                    drop_payload(payload);
                    None
                }
            };
            // First idle, then the announcement: who gives the next job when it hears of the end of this one
            // finds a thread for it. No value of the job is left here.
            self.lock().idle += 1;
            if let Some(promise) = promise {
                promise.announce();
            }
        }
        WORKS_FOR.set(ptr::null());
    }

    /// The next job of an idle thread, or `None` when the thread is to end: it is not counted any more.
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
            // A fork holds `state`: so it finds one that waits here, or that it has to wait for.
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
    // Not of the kind of that error, which may be "would block": of the call that is not made it is not true.
    io::Error::other(format!("no thread was made for a job: {error}"))
}

/// The outcome of a job, whatever its type.
trait Promise: Send + Sync {
    /// Whether there is a result.
    fn is_settled(&self) -> bool;

    /// Wakes those that wait for it.
    fn announce(&self);
}

/// Where the result of a job is put.
struct Outcome<T> {
    slot: Mutex<Slot<T>>,
    /// Set after that.
    done: Event<Shared>,
}

enum Slot<T> {
    Awaited,
    /// The handle was dropped: the result is dropped by the thread that brings it.
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

    /// Takes the result out, and leaves `rest`.
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

/// The right to fill an outcome. Dropped with a job that has not run, it says so.
struct Place<T>(Option<Arc<Outcome<T>>>);

impl<T: Send + 'static> Place<T> {
    fn run(mut self, job: impl FnOnce() -> T) -> Option<Arc<dyn Promise>> {
        let outcome = self.0.take()?;
        let before = RUNS.replace(Arc::as_ptr(&outcome).cast());
        let result = catch_unwind(AssertUnwindSafe(job));
        RUNS.set(before);
        outcome.fill(result.map_err(JoinError::Panicked));
        Some(outcome)
    }
}

impl<T> Drop for Place<T> {
    fn drop(&mut self) {
        if let Some(outcome) = self.0.take() {
            outcome.fill(Err(JoinError::Killed));
            outcome.done.set();
        }
    }
}

/// The handle of a job of a [`ThreadPool`]. Dropped, it has no effect on the job.
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

    /// Whether this is a child, and the job its parent's.
    pub(crate) fn is_left_behind(&self) -> bool {
        self.made_in != Generation::current()
    }

    /// Whether the result is there.
    pub fn is_finished(&self) -> bool {
        self.is_left_behind() || self.outcome.done.is_set()
    }

    #[track_caller]
    fn refuse_to_wait_for_oneself(&self) {
        let is_own = ptr::eq(RUNS.get(), Arc::as_ptr(&self.outcome).cast());
        assert!(!is_own, "a job that joins itself would wait for ever");
    }
}

impl<T: Send + 'static> JobHandle<T> {
    /// Waits for the result.
    ///
    /// # Errors
    ///
    /// [`JoinError::Panicked`]; or [`JoinError::Killed`], if the pool was terminated before the job began,
    /// no thread could be made for it, or the job is that of the process that has forked this one.
    ///
    /// # Panics
    ///
    /// With what is raised in the current coroutine meanwhile. In the job itself. On a thread of the pool,
    /// when every other thread of the pool waits for one of its jobs as well: none would be left to run them.
    /// (An [`apply`](ThreadPool::apply) runs its job there and then, and can always be used instead.)
    ///
    /// # Switching
    ///
    /// Switches, unless it is there. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The job goes on; its result is lost.
    #[track_caller]
    pub fn join(self) -> Result<T, JoinError> {
        if self.is_left_behind() {
            return Err(JoinError::Killed);
        }
        self.wait();
        self.outcome.take(Slot::Taken)
    }

    /// As [`JobHandle::join`], for at most `limit`. `None` if the result is not there by then.
    ///
    /// # Panics
    ///
    /// With what is raised in the current coroutine meanwhile. In the job itself.
    ///
    /// # Switching
    ///
    /// As [`JobHandle::join`].
    ///
    /// # Cancellation
    ///
    /// Nothing is lost.
    #[track_caller]
    pub fn join_timeout(&mut self, limit: Duration) -> Option<Result<T, JoinError>> {
        if self.is_left_behind() {
            return Some(Err(JoinError::Killed));
        }
        self.refuse_to_wait_for_oneself();
        self.outcome.done.wait_timeout(limit).then(|| self.outcome.take(Slot::Taken))
    }

    /// Waits until the result is there, and leaves it there.
    #[track_caller]
    pub(crate) fn wait(&self) {
        if self.is_finished() {
            return;
        }
        self.refuse_to_wait_for_oneself();
        let _entered = self.pool.is_own_thread().then(|| self.pool.enter_wait(&self.outcome));
        self.outcome.done.wait();
    }

    /// The result of a job of the global pool. What the job panicked with is raised.
    ///
    /// # Errors
    ///
    /// If no thread could be made for it, or it is a job of the process that has forked this one.
    pub(crate) fn try_finish(self) -> io::Result<T> {
        let is_left_behind = self.is_left_behind();
        match self.join() {
            Ok(result) => Ok(result),
            Err(JoinError::Panicked(payload)) => resume_unwind(payload),
            Err(_) if is_left_behind => Err(io::Error::other(
                "the job goes on in the process that has forked this one: begin it anew",
            )),
            Err(_) => Err(io::Error::other("no thread was made for a job")),
        }
    }
}

impl<T> Drop for JobHandle<T> {
    fn drop(&mut self) {
        // In a child, a thread that is not there may have it locked.
        if !self.is_left_behind() {
            let result = self.outcome.take(Slot::Unwanted);
            drop(result);
        }
    }
}

impl Inner {
    /// Notes that this thread, which is one of the pool's, waits for one of the pool's jobs until what this
    /// returns is dropped.
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
            "a job that waits for another job of its pool would wait for ever: no thread is left to run it, \
             since each of the {live} that there are waits in this way (use `apply`, or a larger pool)",
        );
        EnteredWait { pool: self, job }
    }
}

/// Dropped, it is a wait no more.
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

/// Runs a call that blocks on a thread of [`ThreadPool::global`], and waits for it: the other coroutines of
/// this thread run meanwhile. On one of those threads it is run there and then.
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
/// With what `f` panics, and with what is raised in the current coroutine meanwhile. If there is no such
/// thread and none can be made: then `f` is not called.
///
/// # Switching
///
/// Switches, unless on one of those threads. All others may run meanwhile.
///
/// # Cancellation
///
/// The call goes on on its thread; its result is lost.
pub fn unblock<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    try_unblock(f).unwrap_or_else(|error| panic!("{error}"))
}

/// As [`unblock`].
///
/// # Errors
///
/// If no thread can be made, and there is none: `f` was not called.
pub(crate) fn try_unblock<T: Send + 'static>(
    f: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    try_begin(f)?.try_finish()
}

/// Has a call that blocks run on a thread of [`ThreadPool::global`], and does not wait for it. On one of
/// those threads it is run there and then.
///
/// # Errors
///
/// If no thread can be made, and there is none: `f` was not called.
pub(crate) fn try_begin<T: Send + 'static>(
    f: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JobHandle<T>> {
    hub::refuse_in_callback("a call on a thread of the pool");
    let pool = ThreadPool::global();
    if pool.inner.is_own_thread() {
        let outcome = Outcome::new(Slot::Filled(Ok(f())));
        outcome.done.set();
        return Ok(JobHandle::new(&pool.inner, &Arc::new(outcome)));
    }
    pool.try_spawn(f).map_err(Refusal::into_error)
}
