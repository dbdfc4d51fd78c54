#![forbid(unsafe_code)]
//! The *mark*: eight bits in a greenlet's block that belong to the scheduler.
//!
//! ```text
//!   bit   7              6          5             4     3      2             1        0
//!         EXIT_PROPAGATES   NO_THROW   LEFT_BEHIND   HUB   ROOT   INTERRUPTED   QUEUED   PARKED
//! ```
//!
//! A mark is only accessed by the thread of its greenlet. The engine reads the upper three bits and clears
//! [`STATE`] at each arrival; only the hub uses the others. A running coroutine with nothing pending has
//! the mark [`ROOT`] and no other bit, so one comparison detects every special case.

/// Suspended in a wait, and not in the ready queue. Set by `park`, never together with [`QUEUED`]. Replaced
/// by `QUEUED` on a wake-up, and cleared if the greenlet is resumed in another way.
pub(crate) const PARKED: u8 = 0b0000_0001;

/// Suspended, and in the ready queue. Cleared when the greenlet is resumed. A queue entry whose greenlet
/// does not have this bit is stale and is skipped: the greenlet was resumed by an explicit switch
/// meanwhile.
pub(crate) const QUEUED: u8 = 0b0000_0010;

/// How the scheduler has suspended the greenlet; neither bit is set if it runs, or was suspended by an
/// explicit switch. Cleared at its arrival, before user code runs there, which may suspend it again.
pub(crate) const STATE: u8 = PARKED | QUEUED;

/// An interrupt is pending in its task, to be raised at its next wait. May be set while none is pending,
/// but is never clear while one is. Set together with the addition of an interrupt, cleared before an
/// interrupt is raised.
pub(crate) const INTERRUPTED: u8 = 0b0000_0100;

/// It has its own task: the greenlet of a coroutine's body, or main. Set once, at creation; cleared for
/// main when its hub ends.
pub(crate) const ROOT: u8 = 0b0000_1000;

/// It must not wait: always set in the hub's own greenlet, and in any other while it runs a callback that
/// must not wait.
pub(crate) const HUB: u8 = 0b0001_0000;

/// The process was forked while it was suspended, and this is the child, where it is never resumed. It is
/// not unwound with the others. Set in the child, and never cleared.
pub(crate) const LEFT_BEHIND: u8 = 0b0010_0000;

/// Nothing may be thrown into it where it is suspended: its callers there do not unwind. Set only while it
/// is suspended by a non-unwinding wait.
pub(crate) const NO_THROW: u8 = 0b0100_0000;

/// If it ends with a `GreenletExit`, that is raised in its parent as well: the kill is meant for the
/// greenlets that it runs on behalf of, too. Set when a kill is raised in it, cleared at its end.
pub(crate) const EXIT_PROPAGATES: u8 = 0b1000_0000;
