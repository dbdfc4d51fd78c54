#![forbid(unsafe_code)]
//! Records which coroutine holds a lock that libc attributes to the thread.
//!
//! libc identifies an owner by its thread ID, so all coroutines of a thread are one owner: a recursive mutex
//! would admit a sibling of the holder. This table, one per thread, has an entry for each such lock that one
//! of its tasks holds. Each task of a thread is an owner: each coroutine, main, and the hub's own greenlet,
//! which has the largest number. Code that runs on behalf of a task, as a generator does, counts as the task.
//!
//! 1. A lock that the thread holds without an entry belongs to main: it was locked before the thread had a
//!    hub, or while this table was in use (by an allocator).
//! 2. An entry may be stale, if the memory of a lock was freed while the lock was held. So callers check an
//!    entry, even their own, against the lock itself if libc's lock records its owner.
//! 3. No borrow of the table is held across a switch, nor while destructors run.

use crate::greenlet::AnyWeakGreenlet;
use crate::hub::{Place, TaskRef, current_greenlet, place};
use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

thread_local! {
    static HELD: RefCell<Held> = const { RefCell::new(HashMap::with_hasher(BuildHasherDefault::new())) };
}

type Held = HashMap<usize, Entry, BuildHasherDefault<AddressHasher>>;

struct Entry {
    owner: Owner,
    /// How many times the owner has locked it.
    count: usize,
    /// The owner, if the lock has to notice its end.
    greenlet: Option<AnyWeakGreenlet>,
}

/// A task, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner(u64);

impl Owner {
    pub(super) const MAIN: Owner = Owner(0);
    const HUB: Owner = Owner(u64::MAX);

    /// Returns the caller: main on a thread without a hub.
    pub(super) fn current() -> Owner {
        match place() {
            Place::Thread => Owner::MAIN,
            Place::Hub | Place::Task => {
                TaskRef::of(&current_greenlet()).map_or(Owner::HUB, |task| Owner(task.id))
            }
        }
    }
}

/// Fibonacci hashing: spreads addresses, which are multiples of a few bytes, over the upper bits.
#[derive(Default)]
struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        // The map takes the bucket from the lower bits.
        self.0.rotate_left(32)
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("keys are addresses");
    }

    fn write_usize(&mut self, address: usize) {
        self.0 = (address as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}

/// Calls `f` with the table. `None` if it is in use, or the thread-local was destroyed.
fn with<R>(f: impl FnOnce(&mut Held) -> R) -> Option<R> {
    HELD.try_with(|held| held.try_borrow_mut().ok().map(|mut held| f(&mut held))).ok().flatten()
}

/// Returns the recorded owner of a lock. `None`: the thread does not hold it, or main does.
pub(super) fn owner_of(address: usize) -> Option<Owner> {
    with(|held| held.get(&address).map(|entry| entry.owner)).flatten()
}

/// Records that `owner`, the caller, has locked it, possibly once more.
pub(super) fn record(address: usize, owner: Owner) {
    add(address, owner, None);
}

/// Like [`record`], but also notices the owner's end: see [`has_ended`].
pub(super) fn record_mortal(address: usize, owner: Owner) {
    let greenlet = match place() {
        Place::Task => {
            TaskRef::of(&current_greenlet()).and_then(|task| task.greenlet.get().cloned())
        }
        Place::Thread | Place::Hub => None,
    };
    add(address, owner, greenlet);
}

fn add(address: usize, owner: Owner, greenlet: Option<AnyWeakGreenlet>) {
    let left = with(|held| match held.get_mut(&address) {
        Some(entry) if entry.owner == owner => {
            entry.count += 1;
            (None, greenlet)
        }
        _ => (held.insert(address, Entry { owner, count: 1, greenlet }), None),
    });
    drop(left);
}

/// Records that it was unlocked once.
pub(super) fn release(address: usize) {
    let gone = with(|held| {
        let entry = held.get_mut(&address)?;
        entry.count -= 1;
        if entry.count == 0 { held.remove(&address) } else { None }
    });
    drop(gone);
}

/// Removes the entry: the lock was destroyed, or this thread does not hold it any more.
pub(super) fn forget(address: usize) {
    let gone = with(|held| held.remove(&address));
    drop(gone);
}

/// Whether the owner has ended without unlocking it. Requires [`record_mortal`].
pub(super) fn has_ended(address: usize) -> bool {
    let greenlet = with(|held| held.get(&address).and_then(|entry| entry.greenlet.clone()));
    greenlet.flatten().is_some_and(|greenlet| greenlet.is_dead())
}

/// Removes, in a child, the entries of all tasks but the one that has forked.
pub(super) fn begin_anew() {
    let me = Owner::current();
    let gone = with(|held| {
        let (kept, gone): (Held, Held) =
            std::mem::take(held).into_iter().partition(|(_, entry)| entry.owner == me);
        *held = kept;
        gone
    });
    drop(gone);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_holds_a_lock_until_its_last_unlock() {
        let (address, me) = (0x1000, Owner(7));
        assert_eq!(owner_of(address), None);
        record(address, me);
        record(address, me);
        release(address);
        assert_eq!(owner_of(address), Some(me));
        release(address);
        assert_eq!(owner_of(address), None);
        release(address);
        assert_eq!(owner_of(address), None);
    }

    #[test]
    fn a_new_owner_of_a_stale_entry_starts_at_a_count_of_one() {
        let address = 0x2000;
        record(address, Owner(1));
        record(address, Owner(1));
        record(address, Owner(2));
        assert_eq!(owner_of(address), Some(Owner(2)));
        release(address);
        assert_eq!(owner_of(address), None);
    }
}
