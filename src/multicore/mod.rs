#![forbid(unsafe_code)]
//! Several threads, each with a hub, and tasks that run on them.
//!
//! A greenlet never leaves its thread, and neither does a coroutine. A *task* that has not begun can move,
//! because it is only a closure: [`Hubs::spawn`] puts it into the queue of one hub, and an idle hub may
//! take it from there. What a task spawns by [`spawn`](crate::spawn), creates, or connects to belongs to
//! the hub on which the task began. Tasks on different hubs communicate through the `shared` types of
//! [`sync`](crate::sync).
//!
//! ```
//! use std::sync::Arc;
//! use switchgrass::multicore::Hubs;
//! use switchgrass::sync::Queue;
//!
//! let hubs = Hubs::new(2)?;
//! let queue = Arc::new(Queue::shared_bounded(10));
//! let sender = Arc::clone(&queue);
//! let sending = hubs.spawn_on(0, move || {
//!     (1..=100_u64).for_each(|number| sender.put(number).unwrap());
//!     sender.shut_down();
//! });
//! let sum = hubs.spawn_on(1, move || queue.into_iter().sum::<u64>());
//! assert_eq!(sum.join().unwrap(), 5050);
//! # sending.join().unwrap();
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! - `hubs.rs` is the handle of all hubs, `builder.rs` starts them, `join.rs` has the handles of tasks;
//! - `task.rs` is the state that a task and its handle share, `run_queue.rs` the queue of tasks that have
//!   not begun;
//! - `shared_state.rs` is what the hubs share, `worker.rs` what each hub does, `slab.rs` the tasks that it
//!   has begun;
//! - `dispatch.rs` chooses the hub of a task;
//! - `idle.rs` records which hubs sleep, and decides which one to wake;
//! - `servers.rs` has servers that span all hubs, `listeners.rs` the sources of their connections.

mod builder;
mod dispatch;
mod hubs;
mod idle;
mod join;
mod listeners;
mod run_queue;
mod servers;
mod shared_state;
mod slab;
mod task;
mod worker;

pub use builder::Builder;
pub use hubs::{Closed, Hubs};
pub use join::JoinHandle;
pub use listeners::HandOver;
pub use servers::StreamServers;
