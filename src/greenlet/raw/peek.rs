//! Reads the current greenlet and its ancestors from a signal handler.
//!
//! The handler may interrupt the thread between any two instructions, perhaps in the middle of an update.
//! It changes no count, takes no borrow and moves nothing out. What it reads is consistent at any
//! instruction:
//!
//! 1. `current`, `parent` and `end_waiter` are single words, and so are the id, the mark and the life.
//! 2. A block that is reached is allocated: blocks are freed with their thread's state, and `current` is
//!    null by then. So a stale link leads to a different block at worst.
//! 3. The name is written before the greenlet first runs, and again when its block has no holds. The
//!    current greenlet is held, and so is every block that has children.
//! 4. The owner is written before the greenlet first runs as well. Later it is only taken out and put back,
//!    or taken out for good: then its first word is null, and nothing is read. Its second word does not
//!    change.
//!
//! Only blocks that are alive are read, so that 3 and 4 hold for blocks reached by a stale link, too.

use super::block::Owner;
use super::thread;

/// Maximum number of ancestors visited: the path through end waiters may be a cycle.
const MAX_ANCESTORS: usize = 1000;

/// The visible state of a greenlet.
pub(crate) struct Snapshot<'a> {
    /// Zero for a main greenlet.
    pub(crate) id: u64,
    pub(crate) name: Option<&'a str>,
    /// The scheduler's bits: see `marks.rs`.
    pub(crate) mark: u8,
    /// The scheduler's data. `None` also while it is taken out.
    pub(crate) owner: Option<&'a dyn Owner>,
}

/// Calls `look` with the current greenlet and its ancestors, the nearest first, until it returns `Some`.
/// May be called in a signal handler.
pub(crate) fn peek<R>(mut look: impl FnMut(Snapshot<'_>) -> Option<R>) -> Option<R> {
    let mut next = thread::current();
    for _ in 0..MAX_ANCESTORS {
        // SAFETY: point 2 of the module head: the block is allocated.
        let core = unsafe { next?.as_ref() };
        let cold = core.cold();
        if core.is_alive() {
            // SAFETY: points 3 and 4 of the module head. The interrupted code does not continue before
            // `look` has returned.
            let (name, owner) = unsafe { (&*cold.name.as_ptr(), &*cold.owner.as_ptr()) };
            let (name, owner) = (name.as_deref(), owner.as_deref());
            let found = look(Snapshot { id: cold.id.get(), name, mark: core.mark.get(), owner });
            if found.is_some() {
                return found;
            }
        }
        next = cold.end_waiter.get().or(cold.parent.get());
    }
    None
}
