//! Coroutines: greenlets that the hub schedules.
//!
//! A coroutine is spawned with a closure, runs when it is its turn, and hands over to the next whenever it
//! waits for something. A thread's coroutines take turns on that thread, and nobody interrupts one that
//! computes. No function has to be called first: the hub is made when it is needed, and main takes its turn
//! like everybody else.
//!
//! - `spawn.rs`, `builder.rs`, `join.rs` make them, wait for them, end them; `packet.rs` is what they share;
//! - `timeout.rs` has sleep and time limits; `wait.rs` waits for several; `scope.rs` for all of a scope;
//! - `future.rs` is the bridge to `async` code, `remote.rs` that from other threads.

mod builder;
mod error;
mod future;
mod join;
mod link;
mod packet;
mod remote;
mod scope;
mod spawn;
mod timeout;
mod wait;

pub use crate::greenlet::Local;
pub use builder::Builder;
pub use error::{Elapsed, JoinError};
pub use future::block_on;
pub use join::{Coroutine, JoinHandle, LinkId};
pub use remote::Remote;
pub use scope::{Scope, ScopedJoinHandle, scope};
pub use spawn::{current, run_until_idle, spawn, yield_now};
pub use timeout::{sleep, sleep_until, timeout};
pub(crate) use wait::Raised;
pub use wait::{Iwait, iwait, join_all, kill_all, wait_any};
