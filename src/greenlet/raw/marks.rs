#![forbid(unsafe_code)]
//! The eight bits that a scheduler keeps in a greenlet's block, its *mark*.
//!
//! ```text
//!   bit   7              6          5             4     3      2             1        0
//!         EXIT_PROPAGATES   NO_THROW   LEFT_BEHIND   HUB   ROOT   INTERRUPTED   QUEUED   PARKED
//! ```
//!
//! Each greenlet's mark belongs to its thread. The engine reads the upper three bits and clears [`STATE`] at
//! each arrival; the others are the hub's alone. A coroutine that runs, with nothing pending, has the mark
//! [`ROOT`] and no other bit: one comparison finds everything unusual.

/// Suspended in a wait, and not in the ready queue. Set by `park`, never together with [`QUEUED`]. Replaced
/// by `QUEUED` when it is woken, and cleared when it is resumed in any other way.
pub(crate) const PARKED: u8 = 0b0000_0001;

/// Suspended, and in the ready queue. An entry of the queue whose greenlet does not have this bit is stale,
/// and is skipped: it was resumed by hand meanwhile. Cleared when it is resumed.
pub(crate) const QUEUED: u8 = 0b0000_0010;

/// How the scheduler has suspended the greenlet; none of the bits if it runs, or was suspended by hand.
/// Cleared at its arrival, before user code runs there, which may suspend it again.
pub(crate) const STATE: u8 = PARKED | QUEUED;

/// An interrupt is pending in its task, to be raised where it waits next. May be set without one, never the
/// other way round. Set by whoever adds an interrupt, cleared before one is raised.
pub(crate) const INTERRUPTED: u8 = 0b0000_0100;

/// It has a task of its own: the greenlet of a coroutine's body, or main. Set once, when it is made; cleared
/// for main when its hub ends.
pub(crate) const ROOT: u8 = 0b0000_1000;

/// It must not wait: the hub's own greenlet, always, or any other for as long as it runs a callback that
/// must not wait.
pub(crate) const HUB: u8 = 0b0001_0000;

/// The process was forked while it was suspended, and this is the child, where it never goes on. It is not
/// unwound with the others. Set in the child, for good.
pub(crate) const LEFT_BEHIND: u8 = 0b0010_0000;

/// Nothing may be thrown into it where it is suspended: its callers there do not unwind. Set only while it is
/// suspended by a non-unwinding wait.
pub(crate) const NO_THROW: u8 = 0b0100_0000;

/// If it ends by a `GreenletExit`, that is raised in its parent as well: the kill is meant for all that it
/// works for. Set when a kill is raised in it, cleared at its end.
pub(crate) const EXIT_PROPAGATES: u8 = 0b1000_0000;
