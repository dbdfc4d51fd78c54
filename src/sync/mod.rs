#![forbid(unsafe_code)]
//! What coroutines wait for each other with.
//!
//! Every type exists twice: `Event` belongs to one thread ([`Local`]), `Event<Shared>` can be shared by
//! several, and is waited for by coroutines and mains of all of them. The first are made by `new`, the second
//! by `shared`:
//!
//! ```
//! use switchgrass::sync::{Event, Shared};
//!
//! let here: Event = Event::new();
//! let anywhere: std::sync::Arc<Event<Shared>> = std::sync::Arc::new(Event::shared());
//! ```
//!
//! Those of one thread stay there:
//!
//! ```compile_fail,E0277
//! let event = std::sync::Arc::new(switchgrass::sync::Event::new());
//! std::thread::spawn(move || event.set());
//! ```
//!
//! Who waits does so in order, and is handed what it waits for by the one that lets it go: nothing is lost
//! and nothing given twice, whoever is killed or times out around that.
//!
//! `sharing.rs` is what the two kinds differ in, `wait_list.rs` and `wait.rs` are how all of them wait,
//! `heap.rs` is what a priority queue keeps its items in; the others are a type each.

mod async_result;
mod barrier;
mod channel;
mod condvar;
mod event;
mod heap;
mod mutex;
mod queue;
mod rlock;
mod rwlock;
mod select;
mod semaphore;
mod sharing;
mod wait;
mod wait_list;

pub use async_result::AsyncResult;
pub use barrier::{Barrier, BarrierWaitResult, BrokenBarrier};
pub use channel::Channel;
pub use condvar::{Condvar, WaitTimeoutResult};
pub use event::Event;
pub use mutex::{Mutex, MutexGuard};
pub use queue::{
    DoneTooOften, Fifo, GetError, JoinableQueue, Lifo, LifoQueue, Order, Priority, PriorityQueue,
    PutError, Queue,
};
pub use rlock::{NotOwned, RLock, RLockGuard};
pub use rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
pub(crate) use select::sealed;
pub use select::{Selectable, select, select_timeout};
pub use semaphore::{BoundedSemaphore, ReleasedTooOften, Semaphore};
pub use sharing::{Local, Shared, Sharing};
