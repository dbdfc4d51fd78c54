#![forbid(unsafe_code)]
//! Synchronization between coroutines: locks, events, queues and others.
//!
//! Every type exists in two kinds: `Event` belongs to one thread ([`Local`]), while `Event<Shared>` can be
//! shared by several threads, and coroutines and mains of all of them can wait for it. The first kind is
//! created by `new`, the second by `shared`:
//!
//! ```
//! use switchgrass::sync::{Event, Shared};
//!
//! let here: Event = Event::new();
//! let anywhere: std::sync::Arc<Event<Shared>> = std::sync::Arc::new(Event::shared());
//! ```
//!
//! Objects of the first kind are neither [`Send`] nor [`Sync`]:
//!
//! ```compile_fail,E0277
//! let event = std::sync::Arc::new(switchgrass::sync::Event::new());
//! std::thread::spawn(move || event.set());
//! ```
//!
//! Waiters queue up in order. The operation that ends a wait hands the permit, lock or item directly to the
//! waiter, so nothing is lost or delivered twice when a waiter is killed or times out at that moment.
//!
//! `sharing.rs` contains the difference between the two kinds, `wait_list.rs` and `wait.rs` the waiting
//! that all types share, `heap.rs` the storage of priority queues, `select.rs` the wait for several
//! objects; each other file has one type.

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
