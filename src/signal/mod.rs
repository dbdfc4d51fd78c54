#![forbid(unsafe_code)]
//! Signals from other processes, the terminal or the kernel, handled by coroutines.
//!
//! The handlers are ordinary coroutines, which may wait.
//!
//! - [`Signal`] (`number.rs`) is a signal number;
//! - [`on`] (`handler.rs`) runs a coroutine whenever a signal arrives;
//! - [`wait`] and [`Signals`] (`wait.rs`) wait for signals.
//!
//! Signals are delivered to the process: the handlers and waiters of all threads see each one. Several that
//! arrive together may be seen as one, as the kernel merges them. The first use of a signal replaces its
//! default action, for the process, and the end of the last use restores it. A handler that the program
//! installed before is called too, and first. Child processes start with the default actions.

mod handler;
mod number;
mod wait;

pub use handler::{Handler, on};
pub use number::Signal;
pub use wait::{Signals, wait};
