//! The time-stamp counter.

/// A number that grows with time, at a rate that only [`per_look`] knows.
#[inline(always)]
pub(crate) fn counter() -> u64 {
    // SAFETY: no preconditions. Where a process is not allowed to read it, the C library's clock cannot be
    // read either.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// By how much [`counter`] grows in some tenths of a millisecond: processors count at 1 to 5 GHz.
#[inline(always)]
pub(crate) fn per_look() -> u64 {
    1 << 20
}
