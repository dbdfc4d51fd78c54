#![forbid(unsafe_code)]
//! Whatever has a descriptor: whoever waits for it lets the other coroutines run.
//!
//! - [`Descriptor`] (`descriptor.rs`) is something that does not block, and its place in the hub: it is tried
//!   first, and waited for only if it would block. Sockets, pipes and children are built on it;
//! - [`pipe()`] (`pipe.rs`) makes a pipe of them;
//! - [`Readiness`], [`wait_readable`] and [`wait_writable`] (`readiness.rs`) are for descriptors of others,
//!   which stay as they are. [`select`](crate::sync::select()) waits for several, and for queues, events and
//!   locks beside them.

mod descriptor;
mod pipe;
mod readiness;

pub use descriptor::{Descriptor, OwnsFd};
pub(crate) use descriptor::{Pauses, check_limit};
pub use pipe::{PipeReader, PipeWriter, pipe};
pub use readiness::{Readiness, wait_readable, wait_writable};
