//! Other processes: whoever waits for one lets the other coroutines run.
//!
//! - [`Command`] (`command.rs`) says what program is to be run, and runs it, with std's names; [`Child`]
//!   (`child.rs`) is what runs: its pipes, its end, signals to it;
//! - [`Process`] (`fork.rs`) is a copy of this process that runs a closure, with the names of Python's
//!   `multiprocessing`; `exit_code.rs` is what it ends with;
//! - with the feature `process`, a `ForkServer` (`server.rs`, `served.rs`) is one that makes others, for
//!   programs with threads: functions go there by name (`function.rs`), values by `postcard` (`wire.rs`);
//!   `kept.rs` is about sockets that the children of such a process are not to have;
//! - a `ProcessPool` (`pool/`) has processes make calls;
//! - a `SharedArray` (`shared_array.rs`) is memory that forked processes share, with a lock that outlives
//!   whoever is killed with it; `shared_lock.rs` is how it is waited for;
//! - a `Manager` (`manager/`) is a process that keeps dictionaries for others: a `Dict` is used from any
//!   number of them.
//!
//! `ended.rs` is how the end of either is waited for: by a descriptor that the kernel makes readable,
//! registered with the hub as any other. So no handler of `SIGCHLD` is needed, none is disturbed, and those
//! that end at the same moment are told apart.
//!
//! # Forks by something else
//!
//! A child that is forked without [`Process::spawn`] has a copy of the coroutines, too: one by `libc::fork`
//! or a system call, by a library of C, by `vfork`, or the one of [`std::process::Command`] in which its
//! `pre_exec` closures run. They stay its parent's: in the child none of them runs, nothing of what they wait
//! for is taken, and none is unwound at its end. There
//!
//! - calls that are patched (`monkey`) block, as the kernel's do;
//! - what need not wait works: a lock that is free, a read that finds something, a generator;
//! - what would wait in this library, spawn, or register a descriptor panics, and so does [`Process::spawn`].
//!   In a child of `vfork`, where a panic would unwind its parent's frames, it ends the process with 127;
//! - a coroutine whose body returns ends the process with 0, as the last thread of a process does, and one
//!   that panics with 1;
//! - functions of [`signal::on`](crate::signal::on()) are not called: a signal does what it did before them;
//! - `exit` waits for no thread, hub, or process of the parent.
//!
//! A child that is forked on a thread without coroutines, as one that becomes a daemon, can have its own: it
//! then begins as a child of [`Process::spawn`] does.

mod child;
#[cfg(feature = "process")]
mod close_on_fork;
mod command;
mod exit_code;
mod exit_wait;
mod fork;
#[cfg(feature = "process")]
mod function;
#[cfg(feature = "process")]
mod manager;
#[cfg(feature = "process")]
mod pool;
#[cfg(feature = "process")]
mod remote_child;
#[cfg(feature = "process")]
mod server;
#[cfg(feature = "process")]
mod shared_array;
#[cfg(feature = "process")]
mod shared_lock;
#[cfg(feature = "process")]
mod wire;

pub use child::Child;
pub use command::Command;
pub use exit_code::IntoExitCode;
pub use fork::{Builder, ForkError, Process};
#[cfg(feature = "process")]
pub use manager::{Dict, Manager};
#[cfg(feature = "process")]
pub use pool::{Job, JobError, NotClosed, ProcessPool};
#[cfg(feature = "process")]
pub use server::ForkServer;
#[cfg(feature = "process")]
pub use shared_array::{SharedArray, SharedCell, SharedGuard};
pub use std::process::{ExitStatus, Output, Stdio};
