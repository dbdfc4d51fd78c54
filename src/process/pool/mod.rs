//! A pool of worker processes.

mod job;
mod process_pool;
mod worker;

pub use job::{Job, JobError};
pub use process_pool::{NotClosed, ProcessPool};
pub(super) use worker::work;
