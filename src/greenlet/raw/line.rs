//! The greenlets that a greenlet runs on behalf of.

use super::block::Core;
use super::handle::{AnyWeakGreenlet, WeakGreenlet};
use super::thread::{Here, Thread};
use std::ptr;

impl AnyWeakGreenlet {
    /// Returns the greenlets that this one runs on behalf of, itself first, up to the first that has an
    /// owner. The next one is the waiter for its end if there is one, and its parent otherwise.
    pub(crate) fn line(&self) -> Line {
        let by_waiters = Line { next: Some(self.clone()), by_waiters: true };
        // A greenlet may drop its own ancestor and wait for its end: then the path through the waiters is a
        // cycle. The path through the parents is not (Invariant 10).
        let longest = Here::of_a_block().live.get() + 2;
        let is_circle = by_waiters.clone().take(longest + 1).count() > longest;
        Line { by_waiters: !is_circle, ..by_waiters }
    }
}

/// The iterator of [`WeakGreenlet::line`].
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
    /// Returns whether an explicit switch must not lead to `target`: there is a pinned greenlet, and
    /// `target` neither is it nor runs on its behalf. So what a pinned greenlet holds is released before
    /// other greenlets run, and such callbacks end in the reverse order of their start.
    pub(super) fn is_barred(&self, target: &Core) -> bool {
        let pinned = self.pinned.borrow();
        let Some(pinned) = pinned.as_ref() else { return false };
        !WeakGreenlet::untyped(target).line().any(|node| ptr::eq(node.core(), &**pinned))
    }
}
