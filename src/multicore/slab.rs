#![forbid(unsafe_code)]
//! The tasks that have a coroutine on a hub, each in a numbered slot.

use super::task::Task;
use crate::coroutine::Coroutine;
use std::sync::Arc;

#[derive(Default)]
pub(super) struct TaskSlab {
    entries: Vec<Entry>,
    free: Vec<usize>,
}

#[derive(Default)]
struct Entry {
    /// `None` once the coroutine has begun.
    task: Option<Arc<dyn Task>>,
    coroutine: Option<Coroutine>,
}

impl TaskSlab {
    /// Reserves a free slot.
    pub(super) fn reserve(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry::default());
            self.entries.len() - 1
        })
    }

    pub(super) fn fill(&mut self, slot: usize, task: Arc<dyn Task>, coroutine: Coroutine) {
        self.entries[slot] = Entry { task: Some(task), coroutine: Some(coroutine) };
    }

    pub(super) fn take_task(&mut self, slot: usize) -> Option<Arc<dyn Task>> {
        self.entries[slot].task.take()
    }

    /// Frees a slot and returns its coroutine, to be dropped outside of any borrow.
    #[must_use]
    pub(super) fn release(&mut self, slot: usize) -> Option<Coroutine> {
        self.free.push(slot);
        self.entries[slot].coroutine.take()
    }

    pub(super) fn coroutine(&self, slot: usize) -> Option<Coroutine> {
        self.entries.get(slot)?.coroutine.clone()
    }

    pub(super) fn all(&self) -> Vec<Coroutine> {
        self.entries.iter().filter_map(|entry| entry.coroutine.clone()).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.len() == self.free.len()
    }
}
