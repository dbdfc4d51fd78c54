//! The machine layer: suspended computations, and the switch from one to another.
//!
//! Every backend provides the same items, and nothing else in the crate knows about registers:
//!
//! - [`Context`]: the place where a suspended computation resumes. `Context::new` makes one for the running
//!   computation, `Context::prepare` one that will call an [`Entry`] on a fresh stack.
//! - [`switch`]: leaves one context for another, and passes a [`Word`] and a signal to it.
//! - [`backtrace_is_safe`]: whether the unwind tables are correct at the instruction that a signal has
//!   interrupted.
//! - [`prefetch`]: loads a cache line ahead of its use.
//! - [`FloatModes`], [`float_modes_changed`]: the floating-point control modes, which belong to a
//!   computation as its registers do.
//! - [`counter`]: a measure of time that is cheaper to read than the clock.
//!
//! | file | backend |
//! |---|---|
//! | `x86_64/switch.rs`, `aarch64/switch.rs` | assembly, with the same items in the same order |
//! | `portable.rs` | based on `corosensei::Coroutine`, for other architectures and feature `portable` |
//! | `x86_64/float.rs`, `aarch64/float.rs`, `no_float.rs` | the control modes, for every backend |
//! | `x86_64/counter.rs`, `aarch64/counter.rs`, `no_counter.rs` | the counter, for every backend |
//!
//! This layer takes raw addresses: it knows neither how stacks are made nor what a greenlet is.

use std::mem::MaybeUninit;

/// The register-sized value that a switch passes: a small value itself, or the address of a larger one.
///
/// It may be uninitialised, since a value may have padding or no bytes at all.
pub(crate) type Word = MaybeUninit<usize>;

/// The function that a fresh context calls on its own stack, with the arguments of the first switch into it.
///
/// It must neither return nor unwind.
pub(crate) type Entry = unsafe extern "C" fn(word: Word, signal: usize) -> !;

/// The alignment of the stack pointer at a call, on every supported architecture.
pub(crate) const STACK_ALIGNMENT: usize = 16;

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod no_counter;
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
use aarch64::{counter, float};
#[cfg(target_arch = "x86_64")]
use x86_64::{counter, float};
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
use {no_counter as counter, no_float as float};

/// The size of a cache line, or a fraction of it.
#[cfg(all(not(feature = "portable"), any(target_arch = "x86_64", target_arch = "aarch64")))]
const CACHE_LINE: usize = 64;

/// Prefetches the cache line at any address.
#[inline(always)]
pub(crate) fn prefetch(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch accepts any address and does not fault.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a prefetch accepts any address, does not fault, and changes only the cache.
    unsafe {
        std::arch::asm!(
            "prfm pldl1keep, [{}]",
            in(reg) address,
            options(readonly, nostack, preserves_flags),
        );
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = address;
}

pub(crate) use counter::{counter, per_look};
pub(crate) use float::{FloatModes, float_modes_changed, float_probe_works};
pub(crate) use machine::{Context, backtrace_is_safe, switch};
