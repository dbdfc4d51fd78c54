//! Reads AArch64's virtual counter.

use std::arch::asm;

/// Returns a counter that grows with time, at the rate that [`per_look`] tells.
#[inline(always)]
pub(crate) fn counter() -> u64 {
    let counter;
    // SAFETY: Linux lets user code read this register, and the instruction has no other effect.
    unsafe {
        asm!("mrs {}, cntvct_el0", out(reg) counter, options(nomem, nostack, preserves_flags))
    };
    counter
}

/// Returns by how much [`counter`] grows in about half a millisecond.
#[inline(always)]
pub(crate) fn per_look() -> u64 {
    let frequency: u64;
    // SAFETY: Linux lets user code read this register, and the instruction has no other effect.
    unsafe {
        asm!("mrs {}, cntfrq_el0", out(reg) frequency, options(nomem, nostack, preserves_flags))
    };
    frequency >> 11
}
