#![forbid(unsafe_code)]
//! Many hubs: a thread each, and bodies that are spawned on them from anywhere.
//!
//! A greenlet never leaves its thread, nor does a coroutine. What can move is a *body* that has not begun,
//! for that is a closure and no more: [`Hubs::spawn`] puts it into the queue of one hub, and if that does not
//! get to it and another hub is idle, the other takes it. Whatever a body spawns by [`spawn`](crate::spawn),
//! makes, or connects to, belongs to the hub that it has begun on; between hubs there are the `shared` types
//! of [`sync`](crate::sync).
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
//! - `hubs.rs` is the handle of them all, `builder.rs` starts them, `join.rs` are the handles of bodies;
//! - `body.rs` is what a body and its handle share, `run_queue.rs` are those of a hub that have not begun;
//! - `crew.rs` is what the hubs share, `worker.rs` what each of them does, `roster.rs` what it has begun;
//! - `dispatch.rs` chooses the hub of a body;
//! - `idle.rs` says which hubs sleep, and who of them is to be woken;
//! - `servers.rs` has servers over all hubs, `listeners.rs` where each of them takes its connections from.

mod body;
mod builder;
mod crew;
mod dispatch;
mod hubs;
mod idle;
mod join;
mod listeners;
mod roster;
mod run_queue;
mod servers;
mod worker;

pub use builder::Builder;
pub use hubs::{Closed, Hubs};
pub use join::JoinHandle;
pub use listeners::HandOver;
pub use servers::StreamServers;
