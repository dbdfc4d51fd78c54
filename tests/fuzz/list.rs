//! Lists that belong to a thread.

use crate::{random, steps};
use std::cell::RefCell;

/// A list of the thread's that is emptied item by item when the thread ends: their destructors may panic.
pub(crate) struct List<T>(RefCell<Vec<T>>);

impl<T> List<T> {
    pub(crate) const fn new() -> Self {
        List(RefCell::new(Vec::new()))
    }

    pub(crate) fn push(&self, item: T) {
        self.0.borrow_mut().push(item);
    }

    /// Takes any of them out.
    pub(crate) fn take_any(&self) -> Option<T> {
        let mut all = self.0.borrow_mut();
        random::index(all.len()).map(|at| all.swap_remove(at))
    }

    pub(crate) fn clear(&self) {
        for item in self.take_all() {
            steps::swallow(|| drop(item));
        }
    }

    pub(crate) fn take_all(&self) -> Vec<T> {
        self.0.take()
    }
}

impl<T: Clone> List<T> {
    pub(crate) fn any(&self) -> Option<T> {
        random::pick(&self.0.borrow())
    }

    pub(crate) fn first(&self) -> Option<T> {
        self.0.borrow().first().cloned()
    }

    pub(crate) fn find(&self, is_it: impl Fn(&T) -> bool) -> Option<T> {
        self.0.borrow().iter().find(|item| is_it(item)).cloned()
    }
}

impl<T> Drop for List<T> {
    fn drop(&mut self) {
        self.clear();
    }
}
