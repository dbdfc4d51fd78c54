#![forbid(unsafe_code)]
//! Signals that other processes, the terminal or the kernel send: handled by coroutines, which may do
//! whatever coroutines may, and wait.
//!
//! - [`Signal`] (`number.rs`) is one of them;
//! - [`on`] (`handler.rs`) has a coroutine run whenever one comes;
//! - [`wait`] and [`Signals`] (`wait.rs`) wait for one.
//!
//! A signal is the process's: all threads' handlers hear of it, and all who wait. Several that come
//! together may be heard of as one, as the kernel has it. The first use of a signal replaces what it does by
//! default, for the process, and the end of the last one brings that back. A handler that the program had
//! before is called too, and first. Children begin with what the signals do by default.

mod handler;
mod number;
mod wait;

pub use handler::{Handler, on};
pub use number::Signal;
pub use wait::{Signals, wait};
