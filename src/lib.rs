// The README is the crate's documentation. Its examples, shown without hidden lines, need the `monkey`
// feature, so doctests skip them without it.
#![cfg_attr(any(not(doctest), feature = "monkey"), doc = include_str!("../README.md"))]

mod arch;
pub mod coroutine;
pub mod fs;
pub mod generator;
pub mod greenlet;
mod hub;
pub mod io;
#[cfg(feature = "monkey")]
pub mod monkey;
pub mod multicore;
pub mod net;
pub mod pool;
pub mod process;
pub mod signal;
pub mod stack;
pub mod sync;
mod sys;
pub mod thread;
pub mod watchdog;

pub use coroutine::{
    Coroutine, Elapsed, JoinError, JoinHandle, sleep, sleep_until, spawn, timeout, yield_now,
};
pub use generator::Generator;
pub use greenlet::{
    AnyGreenlet, AnyWeakGreenlet, BuildError, Builder, Greenlet, GreenletExit, Local, Mismatch,
    ParentError, SwitchError, WeakGreenlet, current, pair,
};
