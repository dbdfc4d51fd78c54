#![forbid(unsafe_code)]
//! Which coroutine holds a lock that, to libc, belongs to the thread.
//!
//! libc tells owners apart by the number of their thread, so it takes all coroutines of a thread for one
//! owner: a sibling of the holder would be let into a recursive mutex. This table, one per thread, has an
//! entry for each such lock that one of its coroutines holds. Within a thread, each task is an owner: each
//! coroutine, main, and the hub's own greenlet, whose number is the largest. What runs on behalf of a task,
//! as a generator does, is that task.
//!
//! 1. A lock that the thread holds without an entry belongs to main: it was locked before the thread had a
//!    hub, or where this table was in use already (an allocator's lock).
//! 2. An entry may be left behind: by a lock whose memory was given back while it was held. So callers check
//!    an entry, also one of their own, against the lock itself wherever libc's lock says whose it is.
//! 3. Nothing here is held across a switch, and destructors run when the table is free.

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
    /// The owner, if its end is to be noticed.
    greenlet: Option<AnyWeakGreenlet>,
}

/// A task, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner(u64);

impl Owner {
    pub(super) const MAIN: Owner = Owner(0);
    const HUB: Owner = Owner(u64::MAX);

    /// The caller. On a thread without a hub there is only main.
    pub(super) fn current() -> Owner {
        match place() {
            Place::Thread => Owner::MAIN,
            Place::Hub | Place::Task => {
                TaskRef::of(&current_greenlet()).map_or(Owner::HUB, |task| Owner(task.id))
            }
        }
    }
}

/// Fibonacci hashing: locks lie some bytes apart, and this spreads them over the upper bits.
#[derive(Default)]
struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        // The map takes its buckets from the lower bits.
        self.0.rotate_left(32)
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("keys are addresses");
    }

    fn write_usize(&mut self, address: usize) {
        self.0 = (address as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}

/// Calls `f` with the table, unless it is in use or the thread's variables are gone.
fn with<R>(f: impl FnOnce(&mut Held) -> R) -> Option<R> {
    HELD.try_with(|held| held.try_borrow_mut().ok().map(|mut held| f(&mut held))).ok().flatten()
}

/// The owner of a lock that this thread holds. `None`: it does not hold it, or it is main's.
pub(super) fn owner_of(address: usize) -> Option<Owner> {
    with(|held| held.get(&address).map(|entry| entry.owner)).flatten()
}

/// Records that `owner`, which is the caller, has locked it, once more if it had before.
pub(super) fn record(address: usize, owner: Owner) {
    add(address, owner, None);
}

/// As [`record`], of a lock that knows when its owner has ended: see [`has_ended`].
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

/// The lock is gone, or is not held by this thread any more.
pub(super) fn forget(address: usize) {
    let gone = with(|held| held.remove(&address));
    drop(gone);
}

/// Whether the owner has ended without unlocking it. Known of those only that were recorded so.
pub(super) fn has_ended(address: usize) -> bool {
    let greenlet = with(|held| held.get(&address).and_then(|entry| entry.greenlet.clone()));
    greenlet.flatten().is_some_and(|greenlet| greenlet.is_dead())
}

/// In a child there is only the task that has forked, and what it holds.
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
    fn a_lock_is_its_owners_until_it_is_unlocked_as_often_as_locked() {
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
    fn who_takes_over_what_was_left_behind_begins_to_count_anew() {
        let address = 0x2000;
        record(address, Owner(1));
        record(address, Owner(1));
        record(address, Owner(2));
        assert_eq!(owner_of(address), Some(Owner(2)));
        release(address);
        assert_eq!(owner_of(address), None);
    }
}
