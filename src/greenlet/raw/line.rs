//! Which greenlets one runs for.

use super::block::Core;
use super::handle::{AnyWeakGreenlet, WeakGreenlet};
use super::thread::{Here, Thread};
use std::ptr;

impl AnyWeakGreenlet {
    /// The greenlets that it runs for, itself first, up to the first that has an owner: from each to the one
    /// that waits for its end, or else to its parent.
    pub(crate) fn line(&self) -> Line {
        let by_waiters = Line { next: Some(self.clone()), by_waiters: true };
        // A greenlet may drop its own ancestor, and wait for its end: then the way up by waiters is a circle.
        // The way by parents is not (Invariant 10).
        let longest = Here::of_a_block().live.get() + 2;
        let is_circle = by_waiters.clone().take(longest + 1).count() > longest;
        Line { by_waiters: !is_circle, ..by_waiters }
    }
}

/// See [`WeakGreenlet::line`].
#[derive(Clone)]
pub(crate) struct Line {
    next: Option<AnyWeakGreenlet>,
    by_waiters: bool,
}

impl Iterator for Line {
    type Item = AnyWeakGreenlet;

    fn next(&mut self) -> Option<AnyWeakGreenlet> {
        let greenlet = self.next.take()?;
        let core = greenlet.core();
        if !core.is_detached() {
            let waiter = core.end_waiter().filter(|_| self.by_waiters).map(Core::hold);
            self.next = waiter.or_else(|| core.parent_hold()).map(WeakGreenlet::untyped_of);
        }
        Some(greenlet)
    }
}

impl Thread {
    /// Whether a switch made by hand must not lead to `target`: it is not the pinned greenlet, and does not
    /// run for it. So what a pinned greenlet holds is given back before anything else runs, and such calls
    /// end in the opposite order of their beginnings.
    pub(super) fn is_barred(&self, target: &Core) -> bool {
        let pinned = self.pinned.borrow();
        let Some(pinned) = pinned.as_ref() else { return false };
        !WeakGreenlet::untyped(target).line().any(|node| ptr::eq(node.core(), &**pinned))
    }
}
