#![forbid(unsafe_code)]
//! A pool of worker processes.
//!
//! ```text
//!                                           ┌─ coroutine ◄── socket ──► worker process
//!   apply, map ──► a queue of batches ─────►├─ coroutine ◄── socket ──► worker process
//!                                           └─ coroutine ◄── socket ──► worker process
//! ```
//!
//! One coroutine per worker takes batches, sends them to its process, and stores the results. If the
//! process ends in the middle of a batch, the coroutine fails the current call, starts another process, and
//! sends it the remaining calls.

use super::super::fork::{ForkError, Process};
use super::super::function::{Function, Undecodable, encode};
use super::super::server::ForkServer;
use super::super::wire::Wire;
use super::job::{Job, JobError, Outcome, Promise};
use super::worker::{Results, WorkRequest};
use crate::coroutine::Builder;
use crate::net::UnixStream;
use crate::pool::Group;
use crate::sync::Queue;
use crate::sys::fork::Generation;
use crate::sys::shared_log::Reader;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_bytes::Bytes;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::Shutdown;
use std::os::unix::net;
use std::process::ExitStatus;
use std::rc::Rc;

/// A pool of processes that call functions of the program.
///
/// Arguments and results are sent by `serde`; several arguments are passed as a tuple.
///
/// The workers, and the server that replaces workers, are started with the pool. After that, the program
/// may start threads. The pool belongs to its thread; waiting for a job lets other coroutines run. When
/// dropped, the pool is [terminated](Self::terminate).
///
/// # Examples
///
/// ```
/// use switchgrass::process::ProcessPool;
///
/// fn area((width, height): (u32, u32)) -> u32 {
///     width * height
/// }
///
/// let pool = ProcessPool::new(2)?;
/// assert_eq!(pool.apply(area, (3, 4))?, 12);
/// assert_eq!(pool.map(area, (1..5).map(|n| (n, n)))?, [1, 4, 9, 16]);
/// let jobs: Vec<_> = (1..4).map(|n| pool.apply_async(area, (n, 10))).collect();
/// pool.close();
/// pool.join().unwrap();
/// let areas: Result<Vec<u32>, _> = jobs.into_iter().map(|job| job.join()).collect();
/// assert_eq!(areas?, [10, 20, 30]);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct ProcessPool {
    shared: Rc<Shared>,
    /// The coroutines that communicate with the workers.
    supervisors: Group,
    size: usize,
    /// A copy of the pool in a child has no workers.
    made_in: Generation,
}

/// The state that the coroutines of a pool share.
struct Shared {
    server: ForkServer,
    batches: Queue<Batch>,
    /// The running processes.
    workers: RefCell<Vec<Rc<Process>>>,
    is_terminated: Cell<bool>,
}

/// Calls of one function that one worker makes in order.
struct Batch {
    function: Function,
    calls: VecDeque<(Vec<u8>, Promise)>,
}

/// The error of joining a pool that was not closed, whose workers would never end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotClosed(());

impl fmt::Display for NotClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the process pool is not closed: call close() or terminate() before join()")
    }
}

impl std::error::Error for NotClosed {}

impl ProcessPool {
    /// Makes a pool of `size` processes, with a [`ForkServer`] of its own.
    ///
    /// # Errors
    ///
    /// Those of [`Process::spawn`]. So make the pool before the first thread.
    ///
    /// # Panics
    ///
    /// If `size` is zero. Those of [`Process::spawn`].
    ///
    /// # Switching
    ///
    /// Never switches.
    #[track_caller]
    pub fn new(size: usize) -> Result<Self, ForkError> {
        Ok(Self::by_server(ForkServer::start()?, size))
    }

    /// Makes a pool of `size` processes that `server` makes.
    ///
    /// That is possible even when there are other threads.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchgrass::process::{ForkServer, ProcessPool};
    ///
    /// let server = ForkServer::start()?;
    /// let thread = std::thread::spawn(move || {
    ///     let pool = ProcessPool::by_server(server, 2);
    ///     pool.apply(|n: i32| n + 1, 1)
    /// });
    /// assert_eq!(thread.join().unwrap()?, 2);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Panics
    ///
    /// If `size` is zero.
    ///
    /// # Switching
    ///
    /// Never switches.
    #[track_caller]
    pub fn by_server(server: ForkServer, size: usize) -> Self {
        assert!(size > 0, "process count must be at least 1, got 0");
        let shared = Rc::new(Shared {
            server,
            batches: Queue::new(),
            workers: RefCell::default(),
            is_terminated: Cell::new(false),
        });
        let supervisors = Group::new();
        for _ in 0..size {
            let shared = Rc::clone(&shared);
            supervisors.spawn(move || shared.supervise());
        }
        ProcessPool { shared, supervisors, size, made_in: Generation::current() }
    }

    /// Calls `function` with `argument` in a worker, and waits for the result.
    ///
    /// # Errors
    ///
    /// Those of [`JobError`].
    ///
    /// # Panics
    ///
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits.
    ///
    /// # Switching
    ///
    /// May switch: other coroutines run while this one waits.
    ///
    /// # Cancellation
    ///
    /// The job continues; its result is lost.
    pub fn apply<A, R>(&self, function: fn(A) -> R, argument: A) -> Result<R, JobError>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        self.apply_async(function, argument).join()
    }

    /// Submits a call of `function` with `argument`.
    ///
    /// The returned job can be [waited for](Job::join), or given [a callback](Job::then).
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn apply_async<A, R>(&self, function: fn(A) -> R, argument: A) -> Job<R>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        let mut outcomes = self.submit(function, [argument], 1);
        Job::new(outcomes.pop().expect("one outcome per argument"))
    }

    /// Calls `function` with each of `arguments` in the workers.
    ///
    /// Returns the results in the order of the arguments.
    ///
    /// The arguments are split into chunks, four per worker.
    ///
    /// # Errors
    ///
    /// The first error in the order of the arguments, after all calls have ended. See [`JobError`].
    ///
    /// # Panics
    ///
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits.
    ///
    /// # Switching
    ///
    /// May switch: other coroutines run while this one waits for the results.
    ///
    /// # Cancellation
    ///
    /// The jobs continue; their results are lost.
    pub fn map<A, R>(
        &self,
        function: fn(A) -> R,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Vec<R>, JobError>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        let arguments: Vec<A> = arguments.into_iter().collect();
        let chunk = arguments.len().div_ceil(self.size * 4).max(1);
        let outcomes = self.submit(function, arguments, chunk);
        outcomes.iter().for_each(|outcome| outcome.wait());
        outcomes.into_iter().map(|outcome| Job::new(outcome).join()).collect()
    }

    /// Queues calls in batches of `chunk`, and returns their future outcomes.
    fn submit<A, R>(
        &self,
        function: fn(A) -> R,
        arguments: impl IntoIterator<Item = A>,
        chunk: usize,
    ) -> Vec<Outcome>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        let function = Function::new(function);
        let mut outcomes = Vec::new();
        let mut calls = VecDeque::new();
        for argument in arguments {
            let (promise, outcome) = Promise::new();
            outcomes.push(outcome);
            match (&function, encode(&argument)) {
                _ if !self.is_here() => promise.fail(JobError::NoWorker(
                    "the pool belongs to the process that forked this one: make another".into(),
                )),
                (Err(foreign), _) => promise.fail(JobError::NotEncoded(foreign.to_string())),
                (_, Err(Undecodable(message))) => promise.fail(JobError::NotEncoded(message)),
                (Ok(_), Ok(argument)) => calls.push_back((argument, promise)),
            }
        }
        if let Ok(function) = function {
            while !calls.is_empty() {
                let later = calls.split_off(chunk.min(calls.len()));
                // If the pool is closed, the batch is returned, and dropping its promises fails the jobs.
                drop(self.shared.batches.put(Batch { function, calls }));
                calls = later;
            }
        }
        outcomes
    }

    /// Accepts no more jobs. The workers end when the submitted jobs are done.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn close(&self) {
        self.shared.batches.shut_down();
    }

    /// Accepts no more jobs, and kills the workers.
    ///
    /// Unfinished jobs fail with [`JobError::Closed`].
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn terminate(&self) {
        if !self.is_here() {
            return;
        }
        self.shared.is_terminated.set(true);
        self.close();
        while let Ok(batch) = self.shared.batches.try_get() {
            drop(batch);
        }
        for worker in self.shared.workers.borrow().iter() {
            // The worker may have ended already.
            let _ = worker.kill();
        }
    }

    /// Waits until all jobs are done and the workers have ended.
    ///
    /// # Errors
    ///
    /// If the pool is neither closed nor terminated.
    ///
    /// # Panics
    ///
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits.
    ///
    /// # Switching
    ///
    /// May switch, unless the workers have ended: other coroutines run while this one waits.
    ///
    /// # Cancellation
    ///
    /// Has no effect: the pool can be joined again.
    pub fn join(&self) -> Result<(), NotClosed> {
        if !self.shared.batches.is_shut_down() {
            return Err(NotClosed(()));
        }
        if self.is_here() {
            self.supervisors.join();
        }
        Ok(())
    }

    /// The number of running worker processes.
    pub fn workers(&self) -> usize {
        self.shared.workers.borrow().len()
    }

    /// Whether the pool was made in this process, and not inherited by a fork.
    fn is_here(&self) -> bool {
        self.made_in == Generation::current()
    }
}

impl Drop for ProcessPool {
    fn drop(&mut self) {
        self.terminate();
    }
}

impl fmt::Debug for ProcessPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessPool")
            .field("size", &self.size)
            .field("workers", &self.workers())
            .finish_non_exhaustive()
    }
}

/// A worker process and the connection to it.
struct Worker<'a> {
    shared: &'a Shared,
    process: Rc<Process>,
    results: Results,
}

impl Shared {
    /// The coroutine of one worker.
    fn supervise(&self) {
        let mut worker = self.begin();
        while let Ok(mut batch) = self.batches.get() {
            while !batch.calls.is_empty() && !self.is_terminated.get() {
                match &mut worker {
                    Ok(process) => {
                        if let Err(status) = process.run(&mut batch) {
                            if let Some((_, promise)) = batch.calls.pop_front() {
                                promise.fail(self.death(status));
                            }
                            worker = self.begin();
                        }
                    }
                    Err(error) => {
                        let message = error.to_string();
                        for (_, promise) in batch.calls.drain(..) {
                            promise.fail(JobError::NoWorker(message.clone()));
                        }
                        worker = self.begin();
                    }
                }
            }
        }
        if let Ok(Worker { process, results, .. }) = &worker {
            results.end();
            let _ = process.join();
        }
    }

    /// Starts a worker process.
    fn begin(&self) -> io::Result<Worker<'_>> {
        if self.is_terminated.get() {
            return Err(io::Error::other("the pool is terminated"));
        }
        let (here, there) = net::UnixStream::pair()?;
        let (log, file) = Reader::new()?;
        let process = Rc::new(self.server.spawn_worker(there, file)?);
        self.workers.borrow_mut().push(Rc::clone(&process));
        let stream = Rc::new(UnixStream::from_std(here)?);
        let results = Results::new(Wire::new(Rc::clone(&stream)), log);
        // The end of the socket is not enough to detect the end of the worker, since a process that it
        // left behind may have a copy. Data already received can still be read after the shutdown.
        let ended = Rc::clone(&process);
        let watcher = Builder::new().name("the end of a worker").spawn(move || {
            let _ = ended.join();
            let _ = stream.shutdown(Shutdown::Both);
        });
        let worker = Worker { shared: self, process, results };
        if self.is_terminated.get() || watcher.is_err() {
            // The pool was terminated in the meantime, or no coroutine could be created.
            worker.process.kill()?;
        }
        watcher.map_err(io::Error::other)?;
        Ok(worker)
    }

    fn death(&self, status: io::Result<ExitStatus>) -> JobError {
        match status {
            _ if self.is_terminated.get() => JobError::Closed,
            Ok(status) => JobError::Died(status),
            Err(error) => JobError::NoWorker(error.to_string()),
        }
    }
}

impl Worker<'_> {
    /// Makes the calls of a batch, and removes each when it is done.
    ///
    /// Returns the status of the worker if it ended, in the middle of the first remaining call.
    fn run(&mut self, batch: &mut Batch) -> Result<(), io::Result<ExitStatus>> {
        let arguments = batch.calls.iter().map(|(argument, _)| Bytes::new(argument)).collect();
        let request = WorkRequest { function: batch.function, arguments };
        let mut result = self.results.send(&request);
        while result.is_ok() && !batch.calls.is_empty() {
            result = self.results.next().map(|done| {
                if let Some((_, promise)) = batch.calls.pop_front() {
                    promise.complete(done);
                }
            });
        }
        result.map_err(|_| {
            // The worker may be alive and have sent invalid data.
            let _ = self.process.kill();
            self.process.join()
        })
    }
}

impl Drop for Worker<'_> {
    fn drop(&mut self) {
        self.shared.workers.borrow_mut().retain(|process| !Rc::ptr_eq(process, &self.process));
    }
}
