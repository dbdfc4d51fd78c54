#![forbid(unsafe_code)]
//! Groups of coroutines, and pools of coroutines or threads.
//!
//! - [`Group`] (`group.rs`): coroutines that are joined or killed together;
//! - [`Pool`] (`bounded.rs`): a group of bounded size; `each.rs` implements `map` and its relatives for
//!   both;
//! - [`ThreadPool`] and [`unblock`] (`threads.rs`): OS threads for work that blocks or computes.

mod bounded;
mod each;
mod group;
mod threads;

pub use bounded::Pool;
pub use each::{Imap, ImapUnordered, Spawner};
pub use group::Group;
pub use threads::{Closed, JobHandle, NotClosed, Panic, ThreadPool, unblock};
pub(crate) use threads::{try_begin, try_unblock};
