#![forbid(unsafe_code)]
//! Whether a call is ours to make cooperative.

use super::kinds::{OnKill, What};
use crate::hub::{Place, place};
use crate::sys::lineage;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// A bit for each kind of call that is patched.
static PATCHED: AtomicU32 = AtomicU32::new(0);

/// What is known about a symbol at run time.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) symbol: &'static str,
    /// Patched with any of them.
    pub(super) what: &'static [What],
    pub(super) on_kill: OnKill,
    bits: u32,
    /// So many calls held up a hub's thread.
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

    /// A call is made that may hold up the thread of a hub.
    #[cold]
    pub(super) fn count_blocked(&self) {
        self.blocked.fetch_add(1, Relaxed);
    }
}

pub(super) fn patch(what: u32) {
    PATCHED.fetch_or(what, Relaxed);
}

#[inline(always)]
pub(super) fn is_patched(what: What) -> bool {
    PATCHED.load(Relaxed) & what.bit() != 0
}

/// Whether a call changes what all threads know. Not in a child that this library has not made: what is known
/// there is its parent's, and a child of `vfork` has it in its own hands. Such a child's calls are libc's.
#[inline(always)]
pub(super) fn is_to_be_seen(row: &Row) -> bool {
    row.is_patched() && lineage::owns()
}

/// Whether a call is made by a coroutine, or by main beside coroutines, and is patched. In a hub's own
/// greenlet, in a callback that is, there is nobody to switch to.
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
