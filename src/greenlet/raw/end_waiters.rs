//! The waiters for the end of a greenlet: those that unwind it, the most recent first.
//!
//! ```text
//!   X.end_waiter ──► D2 ── next_waiter ──► D1        D1 and D2 have thrown an exit into X, and are suspended
//!                    │                     │         until X ends, or they are resumed by another greenlet
//!                    └── awaits_end_of ──► X ◄── awaits_end_of ──┘
//! ```
//!
//! Waits may end in any order, so each waiter removes its own entry. **Invariant 20**: a greenlet is in a
//! list exactly while it is suspended in `end::try_unwind`. It is linked after the last user code that runs
//! before its switch, and unlinked before the first user code that runs after it. So a waiter found in a
//! list is suspended, accepts [`TypeKey::ANY`] or [`TypeKey::END`], and reads no value.
//!
//! The links need no holds: a suspended greenlet has the hold of its own life, and has a hold of `X` on its
//! stack.

use super::block::Core;
use super::types::TypeKey;
use std::ptr::NonNull;

impl Core {
    /// Links `self`, the current greenlet, as the most recent waiter for the end of `ending`.
    pub(super) fn begin_to_await_end_of(&self, ending: &Core) {
        let (mine, list) = (self.cold(), &ending.cold().end_waiter);
        debug_assert!(mine.awaits_end_of.get().is_none());
        mine.awaits_end_of.set(Some(ending.into()));
        mine.next_waiter.set(list.replace(Some(self.into())));
    }

    /// Unlinks `self`, which has just been resumed.
    pub(super) fn stop_awaiting_end(&self) {
        let mine = self.cold();
        let Some(ending) = mine.awaits_end_of.take() else { return };
        let next = mine.next_waiter.take();
        // SAFETY: Invariant 20: the waiter has a hold of `ending` on its stack.
        let mut link = &unsafe { ending.as_ref() }.cold().end_waiter;
        while let Some(waiter) = link.get() {
            if waiter == NonNull::from(self) {
                return link.set(next);
            }
            // SAFETY: Invariant 20: `waiter` is suspended, so it has the hold of its life.
            link = &unsafe { waiter.as_ref() }.cold().next_waiter;
        }
        unreachable!("a waiter is in the list of the greenlet that it waits for");
    }

    /// Returns the most recent waiter for the end of this greenlet.
    pub(super) fn end_waiter(&self) -> Option<&Core> {
        // SAFETY: Invariant 20: `waiter` is suspended, so it has the hold of its life.
        self.cold().end_waiter.get().map(|waiter| unsafe { waiter.as_ref() })
    }

    /// Returns whether it waits for the end of `other`.
    pub(super) fn awaits_end_of(&self, other: &Core) -> bool {
        self.cold().awaits_end_of.get() == Some(other.into())
    }

    /// Returns whether it waits only for an end that is still to come, as a scope does.
    pub(super) fn accepts_only_an_end(&self) -> bool {
        let ending = self.cold().awaits_end_of.get();
        // SAFETY: Invariant 20: the waiter has a hold of `ending` on its stack.
        let is_to_come = ending.is_some_and(|ending| unsafe { ending.as_ref() }.is_alive());
        self.accepts.get() == TypeKey::END && is_to_come
    }
}
