//! The machine: what a suspended computation is, and the change from one to another.
//!
//! Every backend gives the same things, and nothing else in the crate knows a register:
//!
//! - [`Context`]: where a suspended computation goes on. `Context::new` makes one for the computation
//!   that is running now, `Context::prepare` one that will call an [`Entry`] on a fresh stack.
//! - [`switch`]: leaves one context for another and hands over a [`Word`] and a signal.
//! - [`FloatModes`], [`float_modes_changed`]: the floating-point control modes, which belong to a
//!   computation as much as its registers do.
//!
//! | file | backend |
//! |---|---|
//! | `x86_64/switch.rs`, `aarch64/switch.rs` | written by hand, the same items in the same order |
//! | `portable.rs` | over `corosensei::Coroutine`, for the other architectures and feature `portable` |
//! | `x86_64/float.rs`, `aarch64/float.rs`, `no_float.rs` | the control modes, for every backend |
//!
//! This layer takes raw addresses: it does not know what a stack is made of, nor what a greenlet is.

use std::mem::MaybeUninit;

/// What a switch hands over in a register: a small value itself, or the address of a larger one.
/// Possibly uninitialised, since a value may have padding or no bytes at all.
pub(crate) type Word = MaybeUninit<usize>;

/// The function that a fresh context calls, on its own stack, with what the first switch into it
/// hands over. It must not return and must not unwind.
pub(crate) type Entry = unsafe extern "C" fn(word: Word, signal: usize) -> !;

/// The alignment of a stack pointer at a call, on every architecture here.
pub(crate) const STACK_ALIGNMENT: usize = 16;

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod no_float;
#[cfg(any(feature = "portable", not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
mod portable;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(all(target_arch = "aarch64", not(feature = "portable")))]
use aarch64::switch as machine;
#[cfg(any(feature = "portable", not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
use portable as machine;
#[cfg(all(target_arch = "x86_64", not(feature = "portable")))]
use x86_64::switch as machine;

#[cfg(target_arch = "aarch64")]
use aarch64::float;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
use no_float as float;
#[cfg(target_arch = "x86_64")]
use x86_64::float;

pub(crate) use float::{FloatModes, float_modes_changed, float_probe_works};
pub(crate) use machine::{Context, switch};
