#![forbid(unsafe_code)]
//! Counts the program's signal handlers that have run on each thread.
//!
//! ```text
//!   a handler runs ──► count: ANY += 1, and CUTTING += 1 without SA_RESTART ──► wakes the hub of its thread
//!   a wait begins: records a count ── resumed: another count? ──► it was interrupted
//! ```
//!
//! The counters wrap around. A handler that interrupts [`count`] itself may hide one step, but never leaves
//! a counter as it was before both.
//!
//! Calls made by a handler are never cooperative: it may have interrupted anything, so nothing may be
//! switched, looked up or locked there (see [`is_inside`]). A handler that leaves by `longjmp` never calls
//! [`leave`]. So the address of its frame is compared with the caller's: a caller above that frame is
//! outside of the handler, and so is a running hub.

use std::hint::black_box;
use std::sync::OnceLock;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicUsize};

thread_local! {
    /// Counts all handlers. Without a destructor, so that it exists for as long as signals come.
    static ANY: AtomicU32 = const { AtomicU32::new(0) };
    /// Counts the handlers installed without `SA_RESTART`.
    static CUTTING: AtomicU32 = const { AtomicU32::new(0) };
    /// An address in the frame that called the innermost handler, or 0.
    static INSIDE: AtomicUsize = const { AtomicUsize::new(0) };
}

/// Wakes the hub of the thread that a handler has run on.
static AFTER_EACH: OnceLock<fn()> = OnceLock::new();

/// Which handlers interrupt a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handlers {
    /// All handlers: the kernel never restarts the call.
    Any,
    /// The handlers installed without `SA_RESTART`.
    Cutting,
}

/// Records that the caller is about to call a handler, on the stack below its own frame.
///
/// Returns the argument for [`leave`].
#[inline(always)]
pub(crate) fn enter() -> usize {
    let frame = frame();
    INSIDE.with(|inside| inside.swap(frame, Relaxed))
}

/// Records that the handler has returned.
pub(crate) fn leave(outer: usize) {
    INSIDE.with(|inside| inside.store(outer, Relaxed));
}

/// Records that no handler is running, since the hub is.
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
    /// More stack than any handler uses.
    const MOST: usize = 1 << 20;
    let frame = frame();
    let inside = INSIDE.with(|inside| inside.load(Relaxed));
    let is_below = inside.checked_sub(frame).is_some_and(|depth| depth < MOST);
    if !is_below {
        // The handler has left by `longjmp`.
        leave(0);
    }
    is_below
}

/// Returns an address in the caller's frame.
#[inline(always)]
fn frame() -> usize {
    let mark = 0_u8;
    (&raw const *black_box(&mark)).addr()
}

/// Sets the function that is called for each handler, on its thread. It must be async-signal-safe.
pub(crate) fn call_after_each(f: fn()) {
    let _ = AFTER_EACH.set(f);
}

/// Counts a handler that is about to run on this thread. Async-signal-safe; may change `errno`.
pub(crate) fn count(restarts: bool) {
    ANY.with(|any| any.fetch_add(1, Relaxed));
    if !restarts {
        CUTTING.with(|cutting| cutting.fetch_add(1, Relaxed));
    }
    if let Some(f) = AFTER_EACH.get() {
        f();
    }
}

/// How many handlers had run on a thread at some moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    any: u32,
    cutting: u32,
}

impl Count {
    /// Returns the count of this thread now.
    #[inline]
    pub(crate) fn now() -> Self {
        Count {
            any: ANY.with(|any| any.load(Relaxed)),
            cutting: CUTTING.with(|cutting| cutting.load(Relaxed)),
        }
    }

    /// Whether such a handler has run between this count and `now`.
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
    fn a_callee_of_a_handler_is_inside_until_the_handler_returns() {
        let outer = enter();
        assert!(is_inside());
        let middle = enter();
        leave(middle);
        assert!(is_inside());
        leave(outer);
        assert!(!is_inside());
    }

    /// A handler never returns if it leaves by `longjmp`.
    #[test]
    fn a_frame_above_a_handler_that_never_returned_is_outside() {
        /// Runs well below the caller's frame, as a handler does below the kernel's signal frame.
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
