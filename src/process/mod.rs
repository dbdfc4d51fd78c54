//! Other processes: whoever waits for one lets the other coroutines run.
//!
//! - [`Command`] (`command.rs`) says what program is to be run, and runs it, with std's names; [`Child`]
//!   (`child.rs`) is what runs: its pipes, its end, signals to it;
//! - [`Process`] (`fork.rs`) is a copy of this process that runs a closure, with the names of Python's
//!   `multiprocessing`; `exit_code.rs` is what it ends with.
//!
//! `ended.rs` is how the end of either is waited for: by a descriptor that the kernel makes readable,
//! registered with the hub as any other. So no handler of `SIGCHLD` is needed, none is disturbed, and those
//! that end at the same moment are told apart.

mod child;
mod command;
mod ended;
mod exit_code;
mod fork;
#[cfg(feature = "process")]
mod function;
#[cfg(feature = "process")]
mod pool;
#[cfg(feature = "process")]
mod served;
#[cfg(feature = "process")]
mod server;
#[cfg(feature = "process")]
mod wire;

pub use child::Child;
pub use command::Command;
pub use exit_code::IntoExitCode;
pub use fork::{Builder, ForkError, Process};
#[cfg(feature = "process")]
pub use pool::{Job, JobError, NotClosed, ProcessPool};
#[cfg(feature = "process")]
pub use server::ForkServer;
pub use std::process::{ExitStatus, Output, Stdio};
