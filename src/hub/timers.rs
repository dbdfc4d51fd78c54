#![forbid(unsafe_code)]
//! Timers: a heap ordered by deadline, and a table of positions, so that any entry can be removed.
//!
//! The heap has four children per node, so it is half as deep as one with two.
//!
//! ```text
//!   heap, by (when, order):   [ 0 ][ 1 ][ 2 ][ 3 ][ 4 ][ 5 ] ...   children of i: 4i+1 .. 4i+4
//!                               │ slot        ▲ place
//!   slots:                    [ fire, place, generation ] ...      a Key is a slot and its generation
//! ```

use super::deadline::Deadline;

/// The key of a present or removed entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    slot: u32,
    generation: u32,
}

/// Entries with the same deadline fire in the order of insertion, urgent ones before the others.
pub(super) struct Timers<F> {
    heap: Vec<Node>,
    slots: Vec<Slot<F>>,
    free: Option<u32>,
    count: u64,
}

#[derive(Clone, Copy)]
struct Node {
    when: u64,
    order: u64,
    slot: u32,
}

struct Slot<F> {
    fire: Option<F>,
    /// Position in the heap. Of a free slot: the next free slot, or its own number if it is the last.
    place: u32,
    generation: u32,
}

/// Set in the order of entries that are not urgent.
const LATER: u64 = 1 << 63;

impl Node {
    fn is_before(&self, other: &Node) -> bool {
        (self.when, self.order) < (other.when, other.order)
    }
}

impl<F> Timers<F> {
    pub(super) const fn new() -> Self {
        Timers { heap: Vec::new(), slots: Vec::new(), free: None, count: 0 }
    }

    pub(super) fn insert(&mut self, deadline: Deadline, urgent: bool, fire: F) -> Key {
        let slot = match self.free {
            Some(slot) => {
                let next = self.slots[slot as usize].place;
                self.free = (next != slot).then_some(next);
                slot
            }
            None => {
                let slot = u32::try_from(self.slots.len()).expect("fewer than 2^32 timers");
                self.slots.push(Slot { fire: None, place: 0, generation: 0 });
                slot
            }
        };
        self.count += 1;
        let order = if urgent { self.count } else { self.count | LATER };
        self.slots[slot as usize].fire = Some(fire);
        let node = Node { when: deadline.0, order, slot };
        self.heap.push(node);
        self.rise(self.heap.len() - 1, node);
        Key { slot, generation: self.slots[slot as usize].generation }
    }

    /// Removes an entry. `None` if it has fired or was removed before.
    pub(super) fn remove(&mut self, key: Key) -> Option<F> {
        let slot = self.slots.get(key.slot as usize)?;
        if slot.generation != key.generation || slot.fire.is_none() {
            return None;
        }
        Some(self.take_out(slot.place as usize))
    }

    /// Removes the first entry if it is due.
    pub(super) fn pop_due(&mut self, now: u64) -> Option<F> {
        let first = self.heap.first()?;
        (first.when <= now).then(|| self.take_out(0))
    }

    /// Removes all entries, and passes each to `take`.
    pub(super) fn clear(&mut self, mut take: impl FnMut(F)) {
        while !self.heap.is_empty() {
            take(self.take_out(self.heap.len() - 1));
        }
    }

    /// Returns when the first entry is due.
    pub(super) fn next(&self) -> Option<u64> {
        self.heap.first().map(|first| first.when)
    }

    fn take_out(&mut self, place: usize) -> F {
        let slot = self.heap[place].slot;
        let last = self.heap.pop().expect("the heap holds an entry");
        if place < self.heap.len() {
            let parent = place.checked_sub(1).map(|below| below / 4);
            if parent.is_some_and(|parent| last.is_before(&self.heap[parent])) {
                self.rise(place, last);
            } else {
                self.sink(place, last);
            }
        }
        let free = self.free.replace(slot);
        let entry = &mut self.slots[slot as usize];
        entry.place = free.unwrap_or(slot);
        entry.generation = entry.generation.wrapping_add(1);
        entry.fire.take().expect("an entry in the heap has not fired")
    }

    fn put(&mut self, place: usize, node: Node) {
        self.heap[place] = node;
        self.slots[node.slot as usize].place = place as u32;
    }

    /// Puts `node` at `place`, or as far above as it belongs.
    fn rise(&mut self, mut place: usize, node: Node) {
        while place > 0 {
            let parent = (place - 1) / 4;
            if !node.is_before(&self.heap[parent]) {
                break;
            }
            self.put(place, self.heap[parent]);
            place = parent;
        }
        self.put(place, node);
    }

    /// Puts `node` at `place`, or as far below as it belongs.
    fn sink(&mut self, mut place: usize, node: Node) {
        loop {
            let children = 4 * place + 1..(4 * place + 5).min(self.heap.len());
            let first =
                children.reduce(|a, b| if self.heap[b].is_before(&self.heap[a]) { b } else { a });
            match first {
                Some(child) if self.heap[child].is_before(&node) => {
                    self.put(place, self.heap[child]);
                    place = child;
                }
                _ => break,
            }
        }
        self.put(place, node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares with a sorted list, over random sequences of all operations.
    #[test]
    fn matches_a_sorted_list() {
        let mut state = 1_u64;
        let mut random = |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for _ in 0..50 {
            let mut timers = Timers::new();
            let mut model: Vec<(u64, bool, u64, Key)> = Vec::new();
            let mut gone = Vec::new();
            for number in 0..400 {
                match random(5) {
                    0..3 => {
                        let (when, urgent) = (random(40), random(4) == 0);
                        let key = timers.insert(Deadline(when), urgent, number);
                        model.push((when, !urgent, number, key));
                        model.sort_by_key(|&(when, later, number, _)| (when, later, number));
                    }
                    3 if !model.is_empty() => {
                        let (_, _, number, key) = model.remove(random(model.len() as u64) as usize);
                        assert_eq!(timers.remove(key), Some(number));
                        gone.push(key);
                    }
                    _ => {
                        let now = random(40);
                        let due = model.first().is_some_and(|first| first.0 <= now);
                        let expected = due.then(|| model.remove(0));
                        assert_eq!(timers.pop_due(now), expected.map(|entry| entry.2));
                        gone.extend(expected.map(|entry| entry.3));
                    }
                }
                assert_eq!(timers.next(), model.first().map(|first| first.0));
            }
            assert!(gone.iter().all(|key| timers.remove(*key).is_none()));
        }
    }
}
