//! The hub: who runs when, on a thread. Ready queue, timers, events, and **the** blocking primitive.
//!
//! A thread's hub is made when it is first needed, and ends with the thread. Its own greenlet, the parent
//! of all coroutines, looks for events and sleeps; everybody else hands over directly.
//!
//! From the bottom up; each file knows only those above it in this list:
//!
//! - `deadline.rs`, `ready.rs`, `timers.rs`, `slots.rs`, `inbox.rs`: moments, and the queues of what is
//!   ready, of what is due at a time, and of what other threads send;
//! - `interrupt.rs`, `task.rs`: what is raised in a coroutine, and what the hub knows about it;
//! - `sources.rs`, `work_source.rs`, `state.rs`: the data of descriptors, of work sources, of a hub;
//! - `here.rs`, `current.rs`: the hub of this thread, and its current task;
//! - `park.rs`: the blocking primitive, and `nounwind.rs` the same for callers that must not unwind;
//! - `io.rs`, `limit.rs`, `spawn.rs`, `remote.rs`, `idle.rs`, `outside.rs`: descriptors, time limits, births,
//!   wake-ups by other threads, running until idle, work sources;
//! - `run.rs`: the scheduler's loop, with `deadlock.rs`, `trim.rs`, `report.rs` for its rare cases;
//! - `lifecycle.rs`, `fork.rs`, `progress.rs`: begin and end, a child of a fork, what a watchdog sees.
//!
//! The bits of a greenlet's mark are in `greenlet/raw/marks.rs`.
//!
//! The hub does not know what a coroutine returns, nor who joins it.

mod current;
mod deadline;
mod deadlock;
mod fork;
mod here;
mod idle;
mod inbox;
mod interrupt;
mod io;
mod lifecycle;
mod limit;
#[cfg(feature = "monkey")]
mod nounwind;
mod outside;
mod park;
mod progress;
mod ready;
mod remote;
mod report;
mod run;
mod slots;
mod sources;
mod spawn;
mod state;
mod task;
mod timers;
mod trim;
mod work_source;

#[cfg(feature = "monkey")]
pub(crate) use current::at_end;
pub(crate) use current::{
    call, current_greenlet, current_task, current_task_id, defer_unwind, interrupt, next_id,
};
pub(crate) use deadline::Deadline;
pub(crate) use fork::fork;
pub(crate) use here::{CopyEnd, end_copy, has_ended};
pub(crate) use idle::run_until_idle;
pub(crate) use interrupt::{TimeoutExit, is_message as is_deadlock};
#[cfg(feature = "monkey")]
pub(crate) use io::Ended;
pub(crate) use io::{Direction, Source};
pub(crate) use limit::Limit;
#[cfg(feature = "monkey")]
pub(crate) use nounwind::{
    Interrupts, Place, mark_interrupts_reported, park_nounwind, place, retract_reports,
    yield_if_due_nounwind, yield_if_due_nounwind_with, yield_nounwind,
};
pub(crate) use outside::set_work_source;
#[cfg(feature = "monkey")]
pub(crate) use outside::watch;
pub(crate) use park::{
    Wake, park, refuse_in_callback, unpark, without_waits, yield_if_due, yield_now,
};
pub(crate) use progress::{Moment, Progress, WatchedHub, holder, moment};
#[cfg(feature = "monkey")]
pub(crate) use remote::NounwindHub;
pub(crate) use remote::{Registration, RemoteHub, Unparker};
pub(crate) use report::report_kill;
pub(crate) use run::prepare_to_sleep;
pub(crate) use spawn::{Start, begin, forget_start, spawn};
pub(crate) use task::{Task, TaskRef, refuse_own, unwind_current};
#[cfg(feature = "monkey")]
pub(crate) use work_source::Watch;
pub(crate) use work_source::WorkSource;
