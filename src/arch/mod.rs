//! The machine: what a suspended computation is, and the change from one to another.
//!
//! Every backend gives the same things, and nothing else in the crate knows a register:
//!
//! - [`Context`]: where a suspended computation goes on. `Context::new` makes one for the computation
//!   that is running now, `Context::prepare` one that will call an [`Entry`] on a fresh stack.
//! - [`switch`]: leaves one context for another and hands over a [`Word`] and a signal.
//! - [`backtrace_is_safe`]: whether the unwind tables are true at an instruction that a signal interrupts.
//! - [`prefetch`]: asks for memory ahead of its use.
//! - [`FloatModes`], [`float_modes_changed`]: the floating-point control modes, which belong to a
//!   computation as much as its registers do.
//! - [`counter`]: how time goes on, for less than a look at the clock.
//!
//! | file | backend |
//! |---|---|
//! | `x86_64/switch.rs`, `aarch64/switch.rs` | written by hand, the same items in the same order |
//! | `portable.rs` | over `corosensei::Coroutine`, for the other architectures and feature `portable` |
//! | `x86_64/float.rs`, `aarch64/float.rs`, `no_float.rs` | the control modes, for every backend |
//! | `x86_64/counter.rs`, `aarch64/counter.rs`, `no_counter.rs` | the counter, for every backend |
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

/// The size of a cache line, or less than that.
#[cfg(all(not(feature = "portable"), any(target_arch = "x86_64", target_arch = "aarch64")))]
const CACHE_LINE: usize = 64;

/// Asks for the cache line at an address, whatever that is, ahead of its use.
#[inline(always)]
pub(crate) fn prefetch(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: any address will do: a prefetch does not fault.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above; and nothing but the cache changes.
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
