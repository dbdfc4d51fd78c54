//! A look at the current greenlet and its ancestors from a signal handler.
//!
//! The handler runs between any two instructions of the thread that it looks at, perhaps in the middle of a
//! change. It neither counts, borrows nor takes anything out. What it reads is whole at any instruction:
//!
//! 1. `current`, `parent` and `end_waiter` are single words, and so are the id, the mark and the life.
//! 2. A block that is reached is there: blocks are freed with their thread's state, and `current` is null by
//!    then. So a link that is out of date leads to another block, at worst.
//! 3. The name is written before the greenlet first runs, and again when nobody holds its block. The current
//!    greenlet is held, and so is every block that has children.
//! 4. The owner is written before the greenlet first runs, too. Later it is only taken out and put back, or
//!    taken out for good: its first word is then null, and nothing is read. The second stays the same.
//!
//! Only blocks that are alive are looked into, so that 3 and 4 hold where a link is out of date as well.

use super::block::Owner;
use super::thread;

/// Ancestors that are looked at. The way by those that wait for an end may be a circle.
const MOST: usize = 1000;

/// What can be seen of a greenlet.
pub(crate) struct Snapshot<'a> {
    /// Zero for a main greenlet.
    pub(crate) id: u64,
    pub(crate) name: Option<&'a str>,
    /// The scheduler's.
    pub(crate) mark: u8,
    /// `None` also while it is being read or taken out.
    pub(crate) owner: Option<&'a dyn Owner>,
}

/// Calls `look` with the current greenlet and its ancestors, the nearest first, until it returns something.
/// May be called in a signal handler.
pub(crate) fn peek<R>(mut look: impl FnMut(Snapshot<'_>) -> Option<R>) -> Option<R> {
    let mut next = thread::current();
    for _ in 0..MOST {
        // SAFETY: 2 above.
        let core = unsafe { next?.as_ref() };
        let cold = core.cold();
        if core.is_alive() {
            // SAFETY: 3 and 4 above. The code that was interrupted does not go on before `look` has returned.
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
