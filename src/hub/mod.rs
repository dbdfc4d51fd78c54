//! The hub: the scheduler of one thread.
//!
//! It owns the ready queue, the timers, the registered descriptors, and **the** blocking primitive. A
//! thread's hub is created when it is first needed, and ends with the thread. The hub's own greenlet, the
//! parent of all coroutines, polls for events and sleeps; all other greenlets hand the thread directly to
//! the next ready one.
//!
//! From the bottom up; each file uses only those above it in this list:
//!
//! - `deadline.rs`, `ready.rs`, `timers.rs`, `slots.rs`, `inbox.rs`: deadlines, the queue of ready
//!   greenlets, timers, tables with generational keys, messages from other threads;
//! - `interrupt.rs`, `task.rs`: what is thrown in a coroutine, and the hub's data about it;
//! - `sources.rs`, `work_source.rs`, `state.rs`: the data of descriptors, of work sources, of a hub;
//! - `here.rs`, `current.rs`: the hub of this thread, and its current task;
//! - `park.rs`: the blocking primitive, and `nounwind.rs` the same for callers that must not unwind;
//! - `io.rs`, `limit.rs`, `spawn.rs`, `remote.rs`, `idle.rs`, `outside.rs`: descriptors, timeouts, new
//!   coroutines, wake-ups by other threads, running until idle, work sources;
//! - `run.rs`: the scheduler's loop, with `deadlock.rs`, `trim.rs`, `report.rs` for its rare cases;
//! - `lifecycle.rs`, `fork.rs`, `progress.rs`: start and end, the child of a fork, what a watchdog
//!   observes.
//!
//! The bits of a greenlet's mark are in `greenlet/raw/marks.rs`.
//!
//! The hub does not know what a coroutine returns, or which greenlets join it.

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
