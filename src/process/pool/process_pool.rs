#![forbid(unsafe_code)]
//! A pool of processes.
//!
//! ```text
//!                                           ┌─ coroutine ◄── socket ──► worker process
//!   apply, map ──► a queue of orders ──────►├─ coroutine ◄── socket ──► worker process
//!                                           └─ coroutine ◄── socket ──► worker process
//! ```
//!
//! A coroutine a worker takes orders, gives them to its process, and fills in what comes back. If the process
//! ends in between it fails the call that was being made, has another process made, and gives that the rest.

use super::super::fork::{ForkError, Process};
use super::super::function::{Function, Undecodable, encode};
use super::super::server::ForkServer;
use super::super::wire::Wire;
use super::job::{Job, JobError, Outcome, Promise};
use super::worker::{Order, Results};
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

/// A pool of processes that make calls: functions of the program, with an argument and a result that go there
/// and back by `serde` (several arguments are a tuple).
///
/// The workers, and what makes another when one dies, are begun with the pool. From then on the program may
/// have threads. The pool belongs to its thread; who waits for a job lets the other coroutines run. Dropped,
/// it is [terminated](Self::terminate).
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
    /// Those that talk to the workers.
    supervisors: Group,
    size: usize,
    /// A copy in a child has no workers.
    made_in: Generation,
}

/// What the coroutines of a pool share.
struct Shared {
    server: ForkServer,
    batches: Queue<Batch>,
    /// The processes that there are.
    workers: RefCell<Vec<Rc<Process>>>,
    is_terminated: Cell<bool>,
}

/// Calls of one function that one worker is to make, in order.
struct Batch {
    function: Function,
    calls: VecDeque<(Vec<u8>, Promise)>,
}

/// The pool is not closed, so that waiting for its end might last for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotClosed(());

impl fmt::Display for NotClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the process pool is not closed: call close() or terminate() before join()")
    }
}

impl std::error::Error for NotClosed {}

impl ProcessPool {
    /// A pool of so many processes, and a [`ForkServer`] that makes them.
    ///
    /// # Errors
    ///
    /// As [`Process::spawn`]: so before the first thread.
    ///
    /// # Panics
    ///
    /// If `size` is zero. As [`Process::spawn`].
    ///
    /// # Switching
    ///
    /// Never switches.
    #[track_caller]
    pub fn new(size: usize) -> Result<Self, ForkError> {
        Ok(Self::by_server(ForkServer::start()?, size))
    }

    /// A pool of so many processes that `server` makes. So it can be made when there are threads already.
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
    /// If `size` is zero: nothing would ever run.
    ///
    /// # Switching
    ///
    /// Never switches.
    #[track_caller]
    pub fn by_server(server: ForkServer, size: usize) -> Self {
        assert!(size > 0, "a pool of no processes would never run anything: let it be at least 1");
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

    /// Has a worker call `function` with `argument`, and waits for the result.
    ///
    /// # Errors
    ///
    /// See [`JobError`].
    ///
    /// # Panics
    ///
    /// With what is raised in the current coroutine meanwhile.
    ///
    /// # Switching
    ///
    /// Switches. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The job goes on; its result is lost.
    pub fn apply<A, R>(&self, function: fn(A) -> R, argument: A) -> Result<R, JobError>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned,
    {
        self.apply_async(function, argument).join()
    }

    /// Has a worker call `function` with `argument`. The result, or what has gone wrong, is in the job, which
    /// can be [waited for](Job::join) or have [a callback](Job::then) called.
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
        Job::new(outcomes.pop().expect("one for each argument"))
    }

    /// Has the workers call `function` with each of `arguments`, and waits for all results, which come in the
    /// order of the arguments. They are given to the workers in chunks, of which there are four for each of
    /// them.
    ///
    /// # Errors
    ///
    /// The first there is, in the order of the arguments, when all of them are done. See [`JobError`].
    ///
    /// # Panics
    ///
    /// With what is raised in the current coroutine meanwhile.
    ///
    /// # Switching
    ///
    /// Switches. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The jobs go on; their results are lost.
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

    /// Puts calls into the queue, so many together. Where the outcome of each will be.
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
                    "the pool is that of the process that has forked this one: make another".into(),
                )),
                (Err(foreign), _) => promise.fail(JobError::NotEncoded(foreign.to_string())),
                (_, Err(Undecodable(message))) => promise.fail(JobError::NotEncoded(message)),
                (Ok(_), Ok(argument)) => calls.push_back((argument, promise)),
            }
        }
        if let Ok(function) = function {
            while !calls.is_empty() {
                let later = calls.split_off(chunk.min(calls.len()));
                // If the pool is closed it comes back, and its dropped places say so.
                drop(self.shared.batches.put(Batch { function, calls }));
                calls = later;
            }
        }
        outcomes
    }

    /// Takes no more jobs. Those that it has are done; then the workers end.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn close(&self) {
        self.shared.batches.shut_down();
    }

    /// Takes no more jobs, and kills the workers: jobs that are not done never are, and say so.
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
            // If it has ended there is nothing to be done.
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
    /// With what is raised in the current coroutine meanwhile.
    ///
    /// # Switching
    ///
    /// Switches, unless they have. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// Leaves nothing behind: another can wait, still.
    pub fn join(&self) -> Result<(), NotClosed> {
        if !self.shared.batches.is_shut_down() {
            return Err(NotClosed(()));
        }
        if self.is_here() {
            self.supervisors.join();
        }
        Ok(())
    }

    /// How many worker processes there are now.
    pub fn workers(&self) -> usize {
        self.shared.workers.borrow().len()
    }

    /// Whether it was made in this process, and not in one that has forked this one.
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

/// A worker process, and the connection to it.
struct Worker<'a> {
    shared: &'a Shared,
    process: Rc<Process>,
    results: Results,
}

impl Shared {
    /// What the coroutine of a worker does.
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

    /// Has a worker made.
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
        // The socket alone does not tell of its end: a process that it has left behind may have a copy. What
        // has come over it can still be read afterwards.
        let ended = Rc::clone(&process);
        let watching = Builder::new().name("the end of a worker").spawn(move || {
            let _ = ended.join();
            let _ = stream.shutdown(Shutdown::Both);
        });
        let worker = Worker { shared: self, process, results };
        if self.is_terminated.get() || watching.is_err() {
            // Meanwhile.
            worker.process.kill()?;
        }
        watching.map_err(io::Error::other)?;
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
    /// Has it make calls, which are taken out when they are done. How it has ended, if it has: in the middle
    /// of the first that is left.
    fn run(&mut self, batch: &mut Batch) -> Result<(), io::Result<ExitStatus>> {
        let arguments = batch.calls.iter().map(|(argument, _)| Bytes::new(argument)).collect();
        let order = Order { function: batch.function, arguments };
        let mut result = self.results.order(&order);
        while result.is_ok() && !batch.calls.is_empty() {
            result = self.results.next().map(|done| {
                if let Some((_, promise)) = batch.calls.pop_front() {
                    promise.done(done);
                }
            });
        }
        result.map_err(|_| {
            // It may be alive and have said something that is not understood.
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
