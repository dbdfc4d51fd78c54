#![forbid(unsafe_code)]
//! Dictionaries of encoded values, in the order of insertion.

use super::bytes::Bytes;
use super::protocol::{Exchanged, Refusal};
use std::collections::{BTreeMap, HashMap};

/// All dictionaries of a manager.
///
/// None is ever removed, since any process may have a handle of it.
#[derive(Debug, Default)]
pub(super) struct Store {
    /// Indexed by their numbers.
    tables: Vec<Table>,
}

impl Store {
    /// Adds an empty dictionary, and returns its number.
    pub(super) fn add(&mut self) -> u64 {
        self.tables.push(Table::default());
        self.tables.len() as u64 - 1
    }

    pub(super) fn table(&mut self, number: u64) -> Result<&mut Table, Refusal> {
        let index = usize::try_from(number).ok();
        index.and_then(|index| self.tables.get_mut(index)).ok_or(Refusal::NoSuchDict)
    }
}

/// One dictionary.
///
/// ```text
///   positions: key ──► 0, 1, 2 ...       entries: 0 ──► key, value
///                                                 2 ──► key, value      1 was removed
/// ```
#[derive(Debug, Default)]
pub(super) struct Table {
    positions: HashMap<Bytes, u64>,
    entries: BTreeMap<u64, (Bytes, Bytes)>,
    next: u64,
}

impl Table {
    /// Sets the value of a key, and returns the previous one.
    ///
    /// An existing key keeps its position.
    pub(super) fn insert(&mut self, key: Bytes, value: Bytes) -> Option<Bytes> {
        if let Some(position) = self.positions.get(&key) {
            let (_, there) = self.entries.get_mut(position)?;
            return Some(std::mem::replace(there, value));
        }
        self.positions.insert(key.clone(), self.next);
        self.entries.insert(self.next, (key, value));
        self.next += 1;
        None
    }

    pub(super) fn get(&self, key: &Bytes) -> Option<Bytes> {
        let (_, value) = self.entries.get(self.positions.get(key)?)?;
        Some(value.clone())
    }

    pub(super) fn remove(&mut self, key: &Bytes) -> Option<Bytes> {
        let (_, value) = self.entries.remove(&self.positions.remove(key)?)?;
        Some(value)
    }

    pub(super) fn contains_key(&self, key: &Bytes) -> bool {
        self.positions.contains_key(key)
    }

    pub(super) fn len(&self) -> u64 {
        self.entries.len() as u64
    }

    pub(super) fn clear(&mut self) {
        *self = Table::default();
    }

    pub(super) fn extend(&mut self, items: Vec<(Bytes, Bytes)>) {
        for (key, value) in items {
            self.insert(key, value);
        }
    }

    pub(super) fn keys(&self) -> Vec<Bytes> {
        self.entries.values().map(|(key, _)| key.clone()).collect()
    }

    pub(super) fn values(&self) -> Vec<Bytes> {
        self.entries.values().map(|(_, value)| value.clone()).collect()
    }

    pub(super) fn items(&self) -> Vec<(Bytes, Bytes)> {
        self.entries.values().cloned().collect()
    }

    pub(super) fn get_or_insert(&mut self, key: Bytes, value: Bytes) -> Bytes {
        if let Some(there) = self.get(&key) {
            return there;
        }
        self.insert(key, value.clone());
        value
    }

    pub(super) fn compare_exchange(
        &mut self,
        key: Bytes,
        current: Option<Bytes>,
        new: Option<Bytes>,
    ) -> Exchanged {
        let there = self.get(&key);
        if there != current {
            return Err(there);
        }
        match new {
            Some(new) => drop(self.insert(key, new)),
            None => drop(self.remove(&key)),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Bytes {
        Bytes::encode(text).unwrap()
    }

    fn texts(items: Vec<(Bytes, Bytes)>) -> String {
        let text = |bytes: Bytes| bytes.decode::<String>().unwrap();
        items.into_iter().map(|(key, value)| text(key) + &text(value) + " ").collect()
    }

    #[test]
    fn keys_are_in_the_order_of_insertion() {
        let mut table = Table::default();
        for (key, value) in [("c", "1"), ("a", "2"), ("b", "3")] {
            assert_eq!(table.insert(bytes(key), bytes(value)), None);
        }
        // An existing key keeps its position; a key that was removed and inserted again is the last.
        assert_eq!(table.insert(bytes("c"), bytes("4")), Some(bytes("1")));
        assert_eq!(texts(table.items()), "c4 a2 b3 ");
        assert_eq!(table.remove(&bytes("a")), Some(bytes("2")));
        assert_eq!(table.remove(&bytes("a")), None);
        table.extend(vec![(bytes("a"), bytes("5")), (bytes("b"), bytes("6"))]);
        assert_eq!(texts(table.items()), "c4 b6 a5 ");
        assert_eq!(table.keys(), ["c", "b", "a"].map(bytes));
        assert_eq!(table.values(), ["4", "6", "5"].map(bytes));
        assert_eq!(table.len(), 3);
        table.clear();
        assert_eq!((table.len(), table.get(&bytes("c"))), (0, None));
    }

    #[test]
    fn compare_exchange_replaces_only_the_expected_value() {
        let mut table = Table::default();
        let key = || bytes("key");
        let [one, two] = ["1", "2"].map(|text| Some(bytes(text)));
        assert_eq!(table.compare_exchange(key(), one.clone(), two.clone()), Err(None));
        assert_eq!(table.compare_exchange(key(), None, one.clone()), Ok(()));
        assert_eq!(table.compare_exchange(key(), None, two.clone()), Err(one.clone()));
        assert_eq!(table.compare_exchange(key(), one, two.clone()), Ok(()));
        assert_eq!(table.get(&key()), two);
        assert_eq!(table.compare_exchange(key(), two, None), Ok(()));
        assert!(!table.contains_key(&key()));
        assert_eq!(table.get_or_insert(key(), bytes("3")), bytes("3"));
        assert_eq!(table.get_or_insert(key(), bytes("4")), bytes("3"));
    }

    #[test]
    fn dictionaries_are_independent_and_found_by_number() {
        let mut store = Store::default();
        let (a, b) = (store.add(), store.add());
        store.table(a).unwrap().insert(bytes("key"), bytes("1"));
        assert_eq!(store.table(b).unwrap().len(), 0);
        assert_eq!(store.table(b + 1).unwrap_err(), Refusal::NoSuchDict);
    }
}
