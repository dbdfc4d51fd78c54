#![forbid(unsafe_code)]
//! OS threads for work that blocks or computes.
//!
//! A child that is made by fork has none of them: each pool begins anew there, with the jobs that it is given
//! there. Those that it had go on where they are, in the parent.

use crate::coroutine::JoinError;
use crate::sync::{Event, Shared};
use crate::sys::fork::{Companion, Fork, Generation, Side, around_fork};
use crate::sys::lock::Lock;
use std::any::Any;
use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::hint::spin_loop;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError, Weak};
use std::thread;
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

/// A thread that has been idle for so long ends.
const KEEP: Duration = Duration::from_secs(5);

type Job = Box<dyn FnOnce() + Send>;

struct Inner {
    state: Mutex<State>,
    /// Idle threads wait here.
    work: Condvar,
    /// Set when the pool is closed and its last thread has ended.
    ended: Event<Shared>,
}

struct State {
    jobs: VecDeque<Job>,
    max: usize,
    live: usize,
    idle: usize,
    is_closed: bool,
}

thread_local! {
    /// The pool whose thread this is: one for all of its life.
    static WORKS_FOR: Cell<*const Inner> = const { Cell::new(std::ptr::null()) };
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
        let state = State { jobs: VecDeque::new(), max, live: 0, idle: 0, is_closed: false };
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
        self.push(Box::new(move || callback(catch_unwind(AssertUnwindSafe(job)))))
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
        let outcome = Arc::new(Outcome { result: Mutex::new(None), done: Event::shared() });
        // Dropped without having run, it says so.
        let place = Place(Some(Arc::clone(&outcome)));
        self.push(Box::new(move || place.fill(catch_unwind(AssertUnwindSafe(job)))))?;
        Ok(JobHandle::new(outcome))
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
    /// With what the job panics, and with what is raised in the current coroutine meanwhile.
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
        if WORKS_FOR.get() == Arc::as_ptr(&self.inner) {
            return if self.inner.lock().is_closed { Err(Closed(())) } else { Ok(job()) };
        }
        match self.spawn(job)?.join() {
            Ok(result) => Ok(result),
            Err(JoinError::Panicked(payload)) => resume_unwind(payload),
            Err(_) => Err(Closed(())),
        }
    }

    fn push(&self, job: Job) -> Result<(), Closed> {
        let mut state = self.inner.lock();
        if state.is_closed {
            return Err(Closed(()));
        }
        state.jobs.push_back(job);
        if state.jobs.len() <= state.idle {
            drop(state);
            self.inner.work.notify_one();
        } else if state.live < state.max {
            // Counted here: a second job that comes at once must know of it.
            state.live += 1;
            drop(state);
            self.inner.start_thread();
        }
        Ok(())
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
        // Those that are idle were told of theirs.
        let waiting = state.jobs.len().saturating_sub(state.idle);
        let missing = waiting.min(max.saturating_sub(state.live));
        state.live += missing;
        drop(state);
        (0..missing).for_each(|_| self.inner.start_thread());
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
    /// With what is raised in the current coroutine meanwhile.
    ///
    /// # Switching
    ///
    /// Switches, unless they have. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// Leaves nothing behind.
    pub fn join(&self) -> Result<(), NotClosed> {
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
        self.inner.lock().idle
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
        let (live, idle, queued) = (state.live, state.idle, state.jobs.len());
        // Writing may let others run.
        drop(state);
        f.debug_struct("ThreadPool")
            .field("live", &live)
            .field("idle", &idle)
            .field("queued", &queued)
            .finish_non_exhaustive()
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
        drop(dropped);
    }

    /// Starts a thread that is counted already.
    fn start_thread(self: &Arc<Self>) {
        let inner = Arc::clone(self);
        let thread = thread::Builder::new().name("switchgrass-pool".into());
        if let Err(error) = thread.spawn(move || inner.work()) {
            let mut state = self.lock();
            state.live -= 1;
            // The others will come to the job, if there are any.
            let is_lost = state.live == 0;
            let lost = if is_lost { std::mem::take(&mut state.jobs) } else { VecDeque::new() };
            drop(state);
            drop(lost);
            assert!(!is_lost, "no thread was made for a job: {error}");
        }
    }

    /// What a thread does.
    fn work(&self) {
        let companion = Companion::new();
        companion.set_busy(true);
        WORKS_FOR.set(self);
        loop {
            let Some(job) = self.next(&companion) else { return };
            // A panic was printed by its hook.
            let result = catch_unwind(AssertUnwindSafe(job));
            drop(catch_unwind(AssertUnwindSafe(|| drop(result))));
        }
    }

    /// The next job, or `None` when the thread is to end: it is not counted any more.
    fn next(&self, companion: &Companion) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if state.live <= state.max
                && let Some(job) = state.jobs.pop_front()
            {
                return Some(job);
            }
            if state.is_closed || state.live > state.max {
                break;
            }
            state.idle += 1;
            // A fork holds `state`: so it finds one that waits here, or that it has to wait for.
            companion.set_busy(false);
            let (woken, waited) =
                self.work.wait_timeout(state, KEEP).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            companion.set_busy(true);
            state.idle -= 1;
            if waited.timed_out() && state.jobs.is_empty() {
                break;
            }
        }
        state.live -= 1;
        let is_over = state.is_closed && state.live == 0;
        drop(state);
        if is_over {
            self.ended.set();
        }
        None
    }
}

/// Where the result of a job is put.
struct Outcome<T> {
    result: Mutex<Option<Result<T, JoinError>>>,
    done: Event<Shared>,
}

/// What fills an outcome: also if the job is dropped.
struct Place<T>(Option<Arc<Outcome<T>>>);

impl<T> Place<T> {
    fn fill(mut self, result: Result<T, Panic>) {
        if let Some(outcome) = self.0.take() {
            outcome.fill(result.map_err(JoinError::Panicked));
        }
    }
}

impl<T> Outcome<T> {
    fn fill(&self, result: Result<T, JoinError>) {
        *self.result.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        self.done.set();
    }

    fn take(&self) -> Result<T, JoinError> {
        let result = self.result.lock().unwrap_or_else(PoisonError::into_inner).take();
        result.unwrap_or(Err(JoinError::Taken))
    }
}

impl<T> Drop for Place<T> {
    fn drop(&mut self) {
        if let Some(outcome) = self.0.take() {
            outcome.fill(Err(JoinError::Killed));
        }
    }
}

/// The handle of a job of a [`ThreadPool`]. Dropped, it has no effect on the job.
pub struct JobHandle<T> {
    outcome: Arc<Outcome<T>>,
    made_in: Generation,
}

impl<T> JobHandle<T> {
    fn new(outcome: Arc<Outcome<T>>) -> Self {
        JobHandle { outcome, made_in: Generation::current() }
    }

    /// Waits for the result.
    ///
    /// # Errors
    ///
    /// [`JoinError::Panicked`]; or [`JoinError::Killed`], if the pool was terminated before the job began,
    /// or the job is that of the process that has forked this one.
    ///
    /// # Panics
    ///
    /// With what is raised in the current coroutine meanwhile.
    ///
    /// # Switching
    ///
    /// Switches, unless it is there. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The job goes on; its result is lost.
    pub fn join(self) -> Result<T, JoinError> {
        if self.is_left_behind() {
            return Err(JoinError::Killed);
        }
        self.outcome.done.wait();
        self.outcome.take()
    }

    /// Whether this is a child, and the job its parent's.
    pub(crate) fn is_left_behind(&self) -> bool {
        self.made_in != Generation::current()
    }

    /// As [`JobHandle::join`], for at most `limit`. `None` if the result is not there by then.
    ///
    /// # Panics
    ///
    /// As [`JobHandle::join`].
    ///
    /// # Switching
    ///
    /// As [`JobHandle::join`].
    ///
    /// # Cancellation
    ///
    /// Nothing is lost.
    pub fn join_timeout(&mut self, limit: Duration) -> Option<Result<T, JoinError>> {
        if self.is_left_behind() {
            return Some(Err(JoinError::Killed));
        }
        self.outcome.done.wait_timeout(limit).then(|| self.outcome.take())
    }

    /// Waits until the result is there, and leaves it there.
    pub(crate) fn wait(&self) {
        if !self.is_left_behind() {
            self.outcome.done.wait();
        }
    }

    /// The result of a job of the global pool. What the job panicked with is raised.
    pub(crate) fn finish(self) -> T {
        match self.join() {
            Ok(result) => result,
            Err(JoinError::Panicked(payload)) => resume_unwind(payload),
            Err(_) => {
                panic!("the job goes on in the process that has forked this one: begin it anew")
            }
        }
    }

    /// Whether the result is there.
    pub fn is_finished(&self) -> bool {
        self.is_left_behind() || self.outcome.done.is_set()
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
/// With what `f` panics, and with what is raised in the current coroutine meanwhile.
///
/// # Switching
///
/// Switches, unless on one of those threads. All others may run meanwhile.
///
/// # Cancellation
///
/// The call goes on on its thread; its result is lost.
pub fn unblock<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    ThreadPool::global().apply(f).expect("nobody closes the global pool")
}

/// Has a call that blocks run on a thread of [`ThreadPool::global`], and does not wait for it. On one of
/// those threads it is run there and then.
pub(crate) fn begin<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> JobHandle<T> {
    let pool = ThreadPool::global();
    if WORKS_FOR.get() != Arc::as_ptr(&pool.inner) {
        return pool.spawn(f).expect("nobody closes the global pool");
    }
    let outcome = Outcome { result: Mutex::new(Some(Ok(f()))), done: Event::shared() };
    outcome.done.set();
    JobHandle::new(Arc::new(outcome))
}
