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

use std::sync::OnceLock;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

thread_local! {
    /// All handlers that have run. Without a destructor, so that it is there for as long as signals come.
    static ANY: AtomicU32 = const { AtomicU32::new(0) };
    /// Those installed without `SA_RESTART`.
    static CUTTING: AtomicU32 = const { AtomicU32::new(0) };
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
