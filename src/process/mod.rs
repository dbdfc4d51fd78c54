#![forbid(unsafe_code)]
//! Other processes, with std's names: whoever waits for one lets the other coroutines run.
//!
//! - [`Command`] (`command.rs`) says what is to be run, and runs it;
//! - [`Child`] (`child.rs`) is what runs: its pipes, its end, signals to it. `ended.rs` is how its end is
//!   waited for: by a descriptor that the kernel makes readable, registered with the hub as any other. So no
//!   handler of `SIGCHLD` is needed, none is disturbed, and children that end at the same moment are told
//!   apart.
#![cfg_attr(
    feature = "process",
    doc = "- [`SharedArray`] (`shared_array.rs`) is memory that forked processes share, with a lock that\n  \
           outlives whoever is killed with it; `shared_lock.rs` is how it is waited for."
)]

mod child;
mod command;
mod ended;
#[cfg(feature = "process")]
mod shared_array;
#[cfg(feature = "process")]
mod shared_lock;

pub use child::Child;
pub use command::Command;
#[cfg(feature = "process")]
pub use shared_array::{SharedArray, SharedCell, SharedGuard};
pub use std::process::{ExitStatus, Output, Stdio};
