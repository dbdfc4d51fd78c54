#![forbid(unsafe_code)]
//! A binary heap that plans each change before it makes it.
//!
//! ```text
//!   place, path_down: compare, change nothing  ──►  insert, remove_first: change, compare nothing
//! ```
//!
//! Comparisons are user code. If one panics, the heap is unchanged and no item is lost, whereas std's heap
//! drops the item that it is about to return. A plan is valid until the heap is changed.

/// A min-heap. The children of node `i` are `2i + 1` and `2i + 2`.
#[derive(Debug)]
pub struct Heap<T>(Vec<T>);

/// The path from the root to the free position.
///
/// One bit per step, the lowest first, set for the right child.
#[derive(Clone, Copy)]
pub(super) struct Path {
    turns: usize,
    steps: u32,
}

impl<T> Default for Heap<T> {
    fn default() -> Self {
        Heap(Vec::new())
    }
}

/// Yields the items in no particular order.
impl<T> IntoIterator for Heap<T> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<T> Heap<T> {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Inserts an item at its planned position.
    ///
    /// The position lies between the end and the root. See [`Heap::place`].
    pub(super) fn insert(&mut self, place: usize, item: T) {
        let mut at = self.0.len();
        self.0.push(item);
        while at > place {
            let parent = (at - 1) / 2;
            self.0.swap(at, parent);
            at = parent;
        }
    }

    /// Removes and returns the smallest item.
    ///
    /// The last item moves to the end of the path.
    pub(super) fn remove_first(&mut self, path: Path) -> Option<T> {
        if self.0.is_empty() {
            return None;
        }
        let first = self.0.swap_remove(0);
        let mut at = 0;
        for step in 0..path.steps {
            let child = 2 * at + 1 + ((path.turns >> step) & 1);
            self.0.swap(at, child);
            at = child;
        }
        Some(first)
    }
}

impl<T: Ord> Heap<T> {
    /// Plans an insertion: returns the position for a new item.
    pub(super) fn place(&self, item: &T) -> usize {
        let mut at = self.0.len();
        while at > 0 {
            let parent = (at - 1) / 2;
            if item.cmp(&self.0[parent]).is_ge() {
                break;
            }
            at = parent;
        }
        at
    }

    /// Plans a removal: returns the path to the new position of the last item.
    pub(super) fn path_down(&self) -> Path {
        let mut path = Path { turns: 0, steps: 0 };
        let Some((last, rest)) = self.0.split_last() else { return path };
        let mut at = 0;
        while let Some(left) = rest.get(2 * at + 1) {
            let right = rest.get(2 * at + 2).filter(|right| (*right).cmp(left).is_lt());
            if last.cmp(right.unwrap_or(left)).is_le() {
                break;
            }
            let turn = usize::from(right.is_some());
            path.turns |= turn << path.steps;
            path.steps += 1;
            at = 2 * at + 1 + turn;
        }
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::cmp::Ordering;
    use std::panic::catch_unwind;

    thread_local! {
        static LEFT: Cell<u32> = const { Cell::new(u32::MAX) };
    }

    /// An item whose comparisons panic once `LEFT` of them have been made.
    #[derive(PartialEq, Eq, Debug)]
    struct Item(u32);

    impl Ord for Item {
        fn cmp(&self, other: &Self) -> Ordering {
            LEFT.set(LEFT.get().checked_sub(1).expect("no comparison is left"));
            self.0.cmp(&other.0)
        }
    }

    impl PartialOrd for Item {
        fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
            Some(self.cmp(other))
        }
    }

    fn pop(heap: &mut Heap<Item>) -> Option<u32> {
        let path = heap.path_down();
        heap.remove_first(path).map(|item| item.0)
    }

    fn push(heap: &mut Heap<Item>, number: u32) {
        let item = Item(number);
        let place = heap.place(&item);
        heap.insert(place, item);
    }

    #[test]
    fn items_come_in_order() {
        for count in 0..70 {
            let mut heap = Heap::default();
            (0..count).for_each(|n| push(&mut heap, n * 37 % 64));
            let mut expected: Vec<u32> = (0..count).map(|n| n * 37 % 64).collect();
            expected.sort();
            let all: Vec<u32> = std::iter::from_fn(|| pop(&mut heap)).collect();
            assert_eq!(all, expected);
        }
    }

    #[test]
    fn a_panicking_comparison_leaves_the_heap_unchanged() {
        for comparisons in 0..20 {
            let mut heap = Heap::default();
            (0..50).for_each(|n| push(&mut heap, n * 37 % 50));
            LEFT.set(comparisons);
            let heap = std::panic::AssertUnwindSafe(std::cell::RefCell::new(heap));
            let popped = catch_unwind(|| pop(&mut heap.borrow_mut()));
            LEFT.set(u32::MAX);
            let rest: Vec<u32> = std::iter::from_fn(|| pop(&mut heap.borrow_mut())).collect();
            let first = u32::from(popped.is_ok());
            assert_eq!(rest, (first..50).collect::<Vec<_>>());
        }
    }
}
