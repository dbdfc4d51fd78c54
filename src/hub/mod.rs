//! The hub: who runs when, on a thread. Ready queue, timers, events, and **the** blocking primitive.
//!
//! A thread's hub is made when it is first needed, and ends with the thread. Its own greenlet, the parent
//! of all coroutines, looks for events and sleeps; everybody else hands over directly.
//!
//! - `state.rs` is what a thread's hub keeps, and `here.rs` where it is found;
//! - `park.rs` is the blocking primitive, `quiet.rs` the same for callers that must not unwind, and `run.rs`
//!   what the hub's greenlet does;
//! - `spawn.rs` makes coroutines, `limit.rs` time limits of them, `deadline.rs` moments;
//! - `io.rs` waits for descriptors, `fork.rs` begins anew in a child;
//! - `ready.rs`, `timers.rs`, `inbox.rs` hold what is ready, what is to happen at a time, and what comes
//!   from other threads; `remote.rs` who can be woken by these, `slots.rs` by which keys;
//! - `watch.rs` is about a word in memory by which others wake the thread, and know nothing of a hub;
//! - `feed.rs` is where a hub finds work that is not its own yet;
//! - `progress.rs` is what a watchdog sees, `trim.rs` what an idle hub does about memory;
//! - `idle.rs` runs all that is ready until nothing is;
//! - `task.rs` is what the hub knows about a coroutine, `deadlock.rs` what it says when all are stuck, and
//!   `farewell.rs` when main is killed.
//!
//! The hub does not know what a coroutine returns, nor who joins it.

mod deadline;
mod deadlock;
mod farewell;
mod feed;
mod fork;
mod here;
mod idle;
mod inbox;
mod io;
mod limit;
mod park;
mod progress;
#[cfg(feature = "monkey")]
mod quiet;
mod ready;
mod remote;
mod run;
mod slots;
mod spawn;
mod state;
mod task;
mod timers;
mod trim;
#[cfg(feature = "monkey")]
mod watch;

pub(crate) use deadline::Deadline;
pub(crate) use deadlock::is_message as is_deadlock;
pub(crate) use farewell::tell_of_kill;
pub(crate) use feed::{Feed, feed};
pub(crate) use fork::fork;
pub(crate) use here::{CopyEnd, end_copy, has_ended};
pub(crate) use idle::run_until_idle;
#[cfg(feature = "monkey")]
pub(crate) use io::Ended;
pub(crate) use io::{Direction, Source};
pub(crate) use limit::{Limit, LimitPassed};
pub(crate) use park::{Wake, breathe, park, refuse_in_callback, unpark, without_waits, yield_now};
pub(crate) use progress::{Moment, Progress, WatchedHub, holder, moment};
#[cfg(feature = "monkey")]
pub(crate) use quiet::{
    Interrupts, Place, breathe_quietly, breathe_quietly_with, park_quietly, place, tell_interrupts,
    yield_quietly,
};
#[cfg(feature = "monkey")]
pub(crate) use remote::QuietHub;
pub(crate) use remote::{Registration, RemoteHub, Unparker};
pub(crate) use run::prepare_to_sleep;
pub(crate) use spawn::{Start, begin, forget_start, spawn};
#[cfg(feature = "monkey")]
pub(crate) use state::at_end;
pub(crate) use state::{
    call, current_greenlet, current_task, current_task_id, interrupt, next_id, raise_later,
};
pub(crate) use task::{Task, TaskRef, raise_here, refuse_own};
#[cfg(feature = "monkey")]
pub(crate) use watch::{Watch, watch};
