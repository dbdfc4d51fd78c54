#![forbid(unsafe_code)]
//! A call made by a worker, as its caller sees it.

use super::super::function::{Undecodable, decode};
use super::worker::{CallResult, Failure};
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

/// The reason why a job has no result.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JobError {
    /// The call panicked, with this message. The worker continues.
    Panicked(String),
    /// The worker ended in the middle of the call, with this status. Another worker replaces it.
    Died(ExitStatus),
    /// The pool was closed before the job was submitted, or terminated before the job was finished.
    Closed,
    /// The argument or the result cannot be sent between the processes.
    NotEncoded(String),
    /// No worker is running, and none could be started.
    NoWorker(String),
}

impl fmt::Display for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JobError::Panicked(message) => write!(f, "the job panicked: {message}"),
            JobError::Died(status) => {
                write!(f, "the worker process ended in the middle of the job: {status}")
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

/// The outcome of a job, with its result encoded.
pub(super) type Outcome = Rc<AsyncResult<Result<Vec<u8>, JobError>>>;

/// The place for the outcome of a job.
///
/// If dropped, the job fails with [`JobError::Closed`].
pub(super) struct Promise(Option<Outcome>);

impl Promise {
    pub(super) fn new() -> (Self, Outcome) {
        let outcome = Rc::new(AsyncResult::new());
        (Promise(Some(Rc::clone(&outcome))), outcome)
    }

    pub(super) fn complete(self, done: CallResult) {
        self.fill(done.map(ByteBuf::into_vec).map_err(JobError::from));
    }

    pub(super) fn fail(self, error: JobError) {
        self.fill(Err(error));
    }

    fn fill(mut self, result: Result<Vec<u8>, JobError>) {
        if let Some(outcome) = self.0.take() {
            // This was the only promise, so no other value was set.
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

/// A job of a [`ProcessPool`](super::ProcessPool).
///
/// Dropping it has no effect on the job.
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
    /// Those of [`JobError`].
    ///
    /// # Panics
    ///
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits.
    ///
    /// # Switching
    ///
    /// May switch, unless the job is finished: other coroutines run while this one waits.
    ///
    /// # Cancellation
    ///
    /// The job continues; its result is lost.
    pub fn join(self) -> Result<R, JobError> {
        self.outcome.wait();
        self.take()
    }

    /// Like [`Job::join`], but waits for at most `limit`.
    ///
    /// Returns `None` if the job is not finished by then.
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
    /// May switch, unless the job is finished: other coroutines run while this one waits.
    ///
    /// # Cancellation
    ///
    /// The job continues, and can be waited for again.
    pub fn join_timeout(&self, limit: Duration) -> Option<Result<R, JobError>> {
        self.outcome.wait_timeout(limit).then(|| self.take())
    }

    /// Whether the job is finished.
    pub fn is_finished(&self) -> bool {
        self.outcome.is_set()
    }

    /// Spawns a coroutine that passes the result to a callback.
    ///
    /// It calls `callback` with the result, or `error_callback` with the error.
    ///
    /// The coroutine runs on this thread, and its handle is returned. The callback may wait, and does not
    /// delay other jobs.
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
        let result = self.outcome.try_get().expect("the outcome was waited for")?;
        decode(&result).map_err(|Undecodable(message)| JobError::NotEncoded(message))
    }
}

impl<R> fmt::Debug for Job<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("is_finished", &self.outcome.is_set()).finish_non_exhaustive()
    }
}
