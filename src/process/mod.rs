//! Child processes. Waiting for one lets other coroutines run.
//!
//! - [`Command`] (`command.rs`) configures and runs a program, like std's; [`Child`] (`child.rs`) is the
//!   running program: its pipes, its exit status, signals to it;
//! - [`Process`] (`fork.rs`) is a fork of this process that runs a closure, named as in Python's
//!   `multiprocessing`; `exit_code.rs` converts the closure's result into an exit status;
//! - with the feature `process`, a `ForkServer` (`server.rs`, `remote_child.rs`) is a process that forks
//!   others, for programs with threads: functions are sent as offsets (`function.rs`), values by `postcard`
//!   (`wire.rs`); `close_on_fork.rs` closes sockets that forked children must not keep open;
//! - a `ProcessPool` (`pool/`) makes calls in worker processes;
//! - a `SharedArray` (`shared_array.rs`) is memory shared by forked processes, with a lock that survives
//!   the death of its holder; `shared_lock.rs` waits for that lock;
//! - a `Manager` (`manager/`) is a process that holds dictionaries: any number of processes can use a
//!   `Dict`.
//!
//! `exit_wait.rs` waits for the end of a child by a descriptor that the kernel makes readable, registered
//! with the hub like any other. So no `SIGCHLD` handler is needed or disturbed, and children that end at
//! the same moment are told apart.
//!
//! # Forks by other means
//!
//! A child that was forked by other means than [`Process::spawn`] has copies of the coroutines, too. Such
//! means are `libc::fork` or a system call, a C library, `vfork`, and the fork in [`std::process::Command`]
//! in which `pre_exec` closures run. The coroutines belong to the parent: in the child none of them runs,
//! nothing that they wait for is consumed, and none is unwound at the end. In such a child,
//!
//! - patched calls (`monkey`) block, like the kernel's;
//! - operations that need not wait succeed: locking a free lock, a read that finds data, a generator;
//! - operations that would wait, spawn, or register a descriptor panic, and so does [`Process::spawn`]. In
//!   a child of `vfork`, where a panic would unwind frames of the parent, they end the process with status
//!   127;
//! - a coroutine whose body returns ends the process with status 0, as the last thread of a process does,
//!   and one that panics with status 1;
//! - functions registered by [`signal::on`](crate::signal::on()) are not called: each signal has its
//!   previous action;
//! - `exit` waits for no thread, hub, or process of the parent.
//!
//! A child that is forked on a thread without coroutines, as by `daemon(3)`, can have its own: it then
//! starts like a child of [`Process::spawn`].

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
