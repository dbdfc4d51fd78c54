//! Coroutines: greenlets that are scheduled by the hub.
//!
//! A coroutine is spawned with a closure. It runs when its turn comes, and hands over to the next ready
//! coroutine whenever it waits. The coroutines of a thread share that thread cooperatively: one that
//! computes is never interrupted. No setup call is needed: the hub is created on first use, and main is
//! scheduled like any coroutine.
//!
//! - `spawn.rs`, `builder.rs`, `join.rs`: spawning, joining and killing; `packet.rs` is the state that a
//!   coroutine shares with its handles;
//! - `timeout.rs`: sleeping and timeouts; `wait.rs`: waiting for several coroutines; `scope.rs`: coroutines
//!   that borrow;
//! - `link.rs`: callbacks at a coroutine's end; `future.rs`: the bridge to `async` code; `remote.rs`:
//!   spawning from other threads.

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
