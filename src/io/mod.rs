#![forbid(unsafe_code)]
//! Cooperative I/O on descriptors: waiting for one lets other coroutines run.
//!
//! - [`Descriptor`] (`descriptor.rs`) wraps a non-blocking descriptor and registers it with the hub. Each
//!   operation is tried first, and waits only if it would block. Sockets, pipes and children are built on
//!   it;
//! - [`pipe()`] (`pipe.rs`) makes a pipe of two of them;
//! - [`Readiness`], [`wait_readable`] and [`wait_writable`] (`readiness.rs`) wait for foreign descriptors,
//!   which they leave unchanged. [`select`](crate::sync::select()) waits for several of these together with
//!   queues, events and locks.

mod descriptor;
mod pipe;
mod readiness;

pub use descriptor::{Descriptor, OwnsFd};
pub(crate) use descriptor::{Pauses, check_timeout};
pub use pipe::{PipeReader, PipeWriter, pipe};
pub use readiness::{Readiness, wait_readable, wait_writable};
