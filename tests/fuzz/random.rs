//! Pseudo-random numbers: a pure function of the seed, per thread.

use std::cell::Cell;
use std::time::Duration;

thread_local! {
    static STATE: Cell<u64> = const { Cell::new(1) };
}

/// Starts the sequence of a seed on this thread.
pub(crate) fn start(seed: u64) {
    // One round of SplitMix64, so that neighbouring seeds have nothing in common. The state must not be 0.
    let mut mixed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    STATE.set((mixed ^ (mixed >> 31)) | 1);
}

/// The next number, less than `limit`.
pub(crate) fn below(limit: u64) -> u64 {
    let mut state = STATE.get();
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    STATE.set(state);
    (state >> 11) % limit
}

/// True once in `n` times.
pub(crate) fn one_in(n: u64) -> bool {
    below(n) == 0
}

/// An index into something of this length; `None` if it is empty.
pub(crate) fn index(len: usize) -> Option<usize> {
    (len > 0).then(|| below(len as u64) as usize)
}

/// A clone of one of several.
pub(crate) fn pick<T: Clone>(all: &[T]) -> Option<T> {
    index(all.len()).map(|index| all[index].clone())
}

/// A short timeout: none at all, or up to half a millisecond.
pub(crate) fn moment() -> Duration {
    Duration::from_micros(100 * below(6))
}
