#![forbid(unsafe_code)]
//! Many coroutines, or threads, that are handled together.
//!
//! - [`Group`] (`group.rs`): coroutines that are waited for, or ended, together;
//! - [`Pool`] (`bounded.rs`): so many of them at a time; `each.rs` is `map` and its like for both;
//! - [`ThreadPool`] and [`unblock`] (`threads.rs`): OS threads for what blocks or computes.

mod bounded;
mod each;
mod group;
mod threads;

pub use bounded::Pool;
pub use each::{Imap, ImapUnordered, Spawner};
pub use group::Group;
pub use threads::{Closed, JobHandle, NotClosed, Panic, ThreadPool, unblock};
pub(crate) use threads::{try_begin, try_unblock};
