#![forbid(unsafe_code)]
//! A call that a worker makes, from outside.

use super::super::function::{Undecodable, decode};
use super::worker::{Done, Failure};
use crate::coroutine::{JoinHandle, spawn};
use crate::sync::AsyncResult;
use serde::de::DeserializeOwned;
use serde_bytes::ByteBuf;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::process::ExitStatus;
use std::rc::Rc;
use std::time::Duration;

/// Why a job has no result.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JobError {
    /// It has panicked, with this message. The worker goes on.
    Panicked(String),
    /// The worker has ended in the middle of it, as this says. Another takes its place.
    Died(ExitStatus),
    /// The pool was closed before the job was given to it, or terminated before it was done.
    Closed,
    /// The argument or the result cannot go from one process to the other.
    NotEncoded(String),
    /// There is no worker, and none could be made.
    NoWorker(String),
}

impl fmt::Display for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JobError::Panicked(message) => write!(f, "the job has panicked: {message}"),
            JobError::Died(status) => {
                write!(f, "the worker process has ended in the middle of the job: {status}")
            }
            JobError::Closed => f.write_str("the process pool is closed"),
            JobError::NotEncoded(message) => f.write_str(message),
            JobError::NoWorker(message) => write!(f, "there is no worker process: {message}"),
        }
    }
}

impl std::error::Error for JobError {}

impl From<JobError> for io::Error {
    fn from(error: JobError) -> Self {
        io::Error::other(error)
    }
}

impl From<Failure> for JobError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Panicked(message) => JobError::Panicked(message),
            Failure::Undecodable(Undecodable(message)) => JobError::NotEncoded(message),
        }
    }
}

/// What has become of a job, its result encoded.
pub(super) type Outcome = Rc<AsyncResult<Result<Vec<u8>, JobError>>>;

/// Where the outcome of a job is put. Dropped, the job is never done.
pub(super) struct Promise(Option<Outcome>);

impl Promise {
    pub(super) fn new() -> (Self, Outcome) {
        let outcome = Rc::new(AsyncResult::new());
        (Promise(Some(Rc::clone(&outcome))), outcome)
    }

    pub(super) fn done(self, done: Done) {
        self.fill(done.map(ByteBuf::into_vec).map_err(JobError::from));
    }

    pub(super) fn fail(self, error: JobError) {
        self.fill(Err(error));
    }

    fn fill(mut self, result: Result<Vec<u8>, JobError>) {
        if let Some(outcome) = self.0.take() {
            // Nobody else has set it: this is used up.
            let _ = outcome.set(result);
        }
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        if let Some(outcome) = self.0.take() {
            let _ = outcome.set(Err(JobError::Closed));
        }
    }
}

/// A job of a [`ProcessPool`](super::ProcessPool). Dropped, it has no effect on the job.
pub struct Job<R> {
    outcome: Outcome,
    _result: PhantomData<fn() -> R>,
}

impl<R: DeserializeOwned> Job<R> {
    pub(super) fn new(outcome: Outcome) -> Self {
        Job { outcome, _result: PhantomData }
    }

    /// Waits for the result.
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
    /// Switches, unless it is there. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The job goes on; its result is lost.
    pub fn join(self) -> Result<R, JobError> {
        self.outcome.wait();
        self.take()
    }

    /// As [`Job::join`], for at most `limit`. `None` if the result is not there by then: it can be waited for
    /// again.
    ///
    /// # Errors
    ///
    /// See [`JobError`].
    ///
    /// # Panics
    ///
    /// As [`Job::join`].
    ///
    /// # Switching
    ///
    /// As [`Job::join`].
    ///
    /// # Cancellation
    ///
    /// Nothing is lost.
    pub fn join_timeout(&self, limit: Duration) -> Option<Result<R, JobError>> {
        self.outcome.wait_timeout(limit).then(|| self.take())
    }

    /// Whether the result is there.
    pub fn is_finished(&self) -> bool {
        self.outcome.is_set()
    }

    /// Has `callback` called with the result, or `error_callback` with what has gone wrong: in a coroutine of
    /// this thread, whose handle is returned. It may wait, and holds up no other job.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchgrass::process::ProcessPool;
    ///
    /// let pool = ProcessPool::new(1)?;
    /// let job = pool.apply_async(|n: u32| 100 / n, 0);
    /// let told = job.then(|n| format!("{n}"), |error| format!("{error}"));
    /// assert!(told.join().unwrap().contains("divide by zero"));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Panics
    ///
    /// If there is no memory for a coroutine.
    ///
    /// # Switching
    ///
    /// Never switches.
    #[track_caller]
    pub fn then<T: 'static>(
        self,
        callback: impl FnOnce(R) -> T + 'static,
        error_callback: impl FnOnce(JobError) -> T + 'static,
    ) -> JoinHandle<T>
    where
        R: 'static,
    {
        spawn(move || self.join().map_or_else(error_callback, callback))
    }

    fn take(&self) -> Result<R, JobError> {
        let result = self.outcome.try_get().expect("it was waited for")?;
        decode(&result).map_err(|Undecodable(message)| JobError::NotEncoded(message))
    }
}

impl<R> fmt::Debug for Job<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("is_finished", &self.outcome.is_set()).finish_non_exhaustive()
    }
}
