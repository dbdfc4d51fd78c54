#![forbid(unsafe_code)]
//! Decides whether a call is made cooperative.

use super::kinds::{OnKill, What};
use crate::hub::{Place, place};
use crate::sys::lineage;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// The kinds of calls that are patched, one bit each.
static PATCHED: AtomicU32 = AtomicU32::new(0);

/// A row of the table, at run time.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) symbol: &'static str,
    /// The kinds of the symbol: it is patched if any of them is.
    pub(super) what: &'static [What],
    pub(super) on_kill: OnKill,
    bits: u32,
    /// Number of calls that may have blocked a hub's thread.
    pub(super) blocked: AtomicU64,
}

impl Row {
    pub(super) const fn new(symbol: &'static str, what: &'static [What], on_kill: OnKill) -> Self {
        let (mut bits, mut at) = (0, 0);
        while at < what.len() {
            bits |= what[at].bit();
            at += 1;
        }
        Row { symbol, what, on_kill, bits, blocked: AtomicU64::new(0) }
    }

    #[inline(always)]
    pub(super) fn is_patched(&self) -> bool {
        PATCHED.load(Relaxed) & self.bits != 0
    }

    /// Counts a call that may block a hub's thread.
    #[cold]
    pub(super) fn count_blocked(&self) {
        self.blocked.fetch_add(1, Relaxed);
    }
}

/// Patches the kinds of these bits.
pub(super) fn patch(what: u32) {
    PATCHED.fetch_or(what, Relaxed);
}

#[inline(always)]
pub(super) fn is_patched(what: What) -> bool {
    PATCHED.load(Relaxed) & what.bit() != 0
}

/// Whether a call updates the state that all threads share.
///
/// It does not in a child that was not forked by this library: the state there is a copy of its parent's or,
/// after `vfork`, its parent's own. Calls of such a child go to libc.
#[inline(always)]
pub(super) fn is_to_be_seen(row: &Row) -> bool {
    row.is_patched() && lineage::owns()
}

/// Whether a call is patched, and made by a coroutine or by main beside coroutines.
///
/// In a hub's own greenlet, as in a callback, no switch is possible: the call blocks, and is counted.
#[inline(always)]
pub(super) fn is_cooperative(row: &Row) -> bool {
    if !row.is_patched() {
        return false;
    }
    match place() {
        Place::Task => true,
        Place::Thread => false,
        Place::Hub => {
            row.count_blocked();
            false
        }
    }
}
