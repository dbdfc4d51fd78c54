#![forbid(unsafe_code)]
//! A table with generational keys: the key of a removed entry finds nothing, even if its slot is in use
//! again.

/// The key of a present or removed entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SlotKey {
    slot: u32,
    generation: u32,
}

impl SlotKey {
    /// Encodes the key as a number, which [`SlotKey::from_bits`] decodes.
    pub(super) fn to_bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.slot)
    }

    pub(super) fn from_bits(bits: u64) -> Self {
        SlotKey { slot: bits as u32, generation: (bits >> 32) as u32 }
    }
}

/// The table. The generation of a slot changes at each removal.
pub(super) struct Slots<T> {
    slots: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Slots { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slots<T> {
    pub(super) fn insert(&mut self, value: T) -> SlotKey {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push((0, None));
            u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 entries")
        });
        let (generation, place) = &mut self.slots[slot as usize];
        *place = Some(value);
        SlotKey { slot, generation: *generation }
    }

    pub(super) fn remove(&mut self, key: SlotKey) -> Option<T> {
        let (generation, place) = self.slots.get_mut(key.slot as usize)?;
        if *generation != key.generation {
            return None;
        }
        let value = place.take()?;
        *generation = generation.wrapping_add(1);
        self.free.push(key.slot);
        Some(value)
    }

    /// Removes all entries, and passes each to `take`.
    pub(super) fn clear(&mut self, mut take: impl FnMut(T)) {
        for slot in 0..self.slots.len() {
            let key = SlotKey { slot: slot as u32, generation: self.slots[slot].0 };
            self.remove(key).into_iter().for_each(&mut take);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().filter_map(|(_, value)| value.as_ref())
    }

    pub(super) fn get(&self, key: SlotKey) -> Option<&T> {
        let (generation, value) = self.slots.get(key.slot as usize)?;
        value.as_ref().filter(|_| *generation == key.generation)
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_goes_stale() {
        let mut slots = Slots::default();
        let (a, b) = (slots.insert('a'), slots.insert('b'));
        assert_eq!((slots.remove(a), slots.remove(a), slots.len()), (Some('a'), None, 1));
        let c = slots.insert('c');
        assert_eq!((slots.get(a), slots.get(b), slots.get(c)), (None, Some(&'b'), Some(&'c')));
        assert_eq!(SlotKey::from_bits(c.to_bits()), c);
        assert_ne!(a, c);
    }
}
