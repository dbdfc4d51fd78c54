//! The virtual counter.

use std::arch::asm;

/// A number that grows with time, at a rate that only [`per_look`] knows.
#[inline(always)]
pub(crate) fn counter() -> u64 {
    let counter;
    // SAFETY: Linux lets programs read it, and nothing else changes.
    unsafe {
        asm!("mrs {}, cntvct_el0", out(reg) counter, options(nomem, nostack, preserves_flags))
    };
    counter
}

/// By how much [`counter`] grows in half a millisecond.
#[inline(always)]
pub(crate) fn per_look() -> u64 {
    let frequency: u64;
    // SAFETY: as above.
    unsafe {
        asm!("mrs {}, cntfrq_el0", out(reg) frequency, options(nomem, nostack, preserves_flags))
    };
    frequency >> 11
}
