#![forbid(unsafe_code)]
//! Counts the signal handlers of the program that have run on each thread.
//!
//! ```text
//!   a handler runs ──► count: ANY += 1, and CUTTING += 1 without SA_RESTART ──► the hub of its thread looks
//!   a wait begins: notes a count ── resumed: another count? ──► it was interrupted
//! ```
//!
//! The counters wrap around. A handler that interrupts [`count`] itself may hide one step, but never leaves
//! a counter as it was before both.
//!
//! What a handler calls is never cooperative: it may have come in the middle of anything, so nothing may be
//! switched, looked up or locked there (see [`is_inside`]). A handler that leaves by `longjmp` never says
//! that it has left. So its frame is compared with the caller's: who stands above it is outside, and a hub
//! that runs is, too.

use std::hint::black_box;
use std::sync::OnceLock;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicUsize};

thread_local! {
    /// All handlers that have run. Without a destructor, so that it is there for as long as signals come.
    static ANY: AtomicU32 = const { AtomicU32::new(0) };
    /// Those installed without `SA_RESTART`.
    static CUTTING: AtomicU32 = const { AtomicU32::new(0) };
    /// The frame that has called the innermost handler, or 0.
    static INSIDE: AtomicUsize = const { AtomicUsize::new(0) };
}

/// Wakes the hub of the thread that a handler has run on.
static RING: OnceLock<fn()> = OnceLock::new();

/// Which handlers interrupt a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handlers {
    /// All: the kernel never restarts the call.
    Any,
    /// Those installed without `SA_RESTART`.
    Cutting,
}

/// The caller is about to call a handler, on the stack below its own frame. Returns what is to be given to
/// [`leave`].
#[inline(always)]
pub(crate) fn enter() -> usize {
    let frame = frame();
    INSIDE.with(|inside| inside.swap(frame, Relaxed))
}

/// It has returned.
pub(crate) fn leave(outer: usize) {
    INSIDE.with(|inside| inside.store(outer, Relaxed));
}

/// The hub runs: no handler does, whatever was noted.
pub(crate) fn leave_all() {
    leave(0);
}

/// Whether the caller is a signal handler of the program, or called by one.
#[inline(always)]
pub(crate) fn is_inside() -> bool {
    INSIDE.with(|inside| inside.load(Relaxed)) != 0 && is_still_inside()
}

#[cold]
#[inline(never)]
fn is_still_inside() -> bool {
    /// No handler has more on its stack.
    const MOST: usize = 1 << 20;
    let frame = frame();
    let inside = INSIDE.with(|inside| inside.load(Relaxed));
    let is_below = inside.checked_sub(frame).is_some_and(|depth| depth < MOST);
    if !is_below {
        // It has left by `longjmp`.
        leave(0);
    }
    is_below
}

/// An address in the caller's frame.
#[inline(always)]
fn frame() -> usize {
    let mark = 0_u8;
    (&raw const *black_box(&mark)).addr()
}

/// Sets the function that is called after each handler, on its thread. It must be async-signal-safe.
pub(crate) fn call_after_each(ring: fn()) {
    let _ = RING.set(ring);
}

/// Counts a handler that is about to run on this thread. Async-signal-safe; may change `errno`.
pub(crate) fn count(restarts: bool) {
    ANY.with(|any| any.fetch_add(1, Relaxed));
    if !restarts {
        CUTTING.with(|cutting| cutting.fetch_add(1, Relaxed));
    }
    if let Some(ring) = RING.get() {
        ring();
    }
}

/// How many handlers had run on a thread at some moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    any: u32,
    cutting: u32,
}

impl Count {
    /// This moment, on this thread.
    #[inline]
    pub(crate) fn now() -> Self {
        Count {
            any: ANY.with(|any| any.load(Relaxed)),
            cutting: CUTTING.with(|cutting| cutting.load(Relaxed)),
        }
    }

    /// Whether such a handler has run from then to `now`.
    #[inline]
    pub(crate) fn differs(self, which: Handlers, now: Self) -> bool {
        match which {
            Handlers::Any => self.any != now.any,
            Handlers::Cutting => self.cutting != now.cutting,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_called_by_a_handler_is_inside_until_it_returns() {
        let outer = enter();
        assert!(is_inside());
        let middle = enter();
        leave(middle);
        assert!(is_inside());
        leave(outer);
        assert!(!is_inside());
    }

    /// As one does by `longjmp`.
    #[test]
    fn who_stands_above_a_handler_that_never_returned_is_outside() {
        /// Below what the kernel puts there, as a handler is.
        #[inline(never)]
        fn handler() {
            black_box(enter());
        }
        #[inline(never)]
        fn go_and_stay() {
            let room = black_box([0_u8; 4096]);
            handler();
            black_box(&room);
        }
        go_and_stay();
        assert!(!is_inside());
        assert_eq!(INSIDE.with(|inside| inside.load(Relaxed)), 0);
    }
}
