#![forbid(unsafe_code)]
//! Which bodies have a coroutine on a hub, each in a place with a number.

use super::body::Body;
use crate::coroutine::Coroutine;
use std::sync::Arc;

#[derive(Default)]
pub(super) struct Roster {
    places: Vec<Entry>,
    free: Vec<usize>,
}

#[derive(Default)]
struct Entry {
    /// Until the coroutine begins.
    body: Option<Arc<dyn Body>>,
    coroutine: Option<Coroutine>,
}

impl Roster {
    /// A place that nobody has.
    pub(super) fn reserve(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.places.push(Entry::default());
            self.places.len() - 1
        })
    }

    pub(super) fn fill(&mut self, place: usize, body: Arc<dyn Body>, coroutine: Coroutine) {
        self.places[place] = Entry { body: Some(body), coroutine: Some(coroutine) };
    }

    pub(super) fn take_body(&mut self, place: usize) -> Option<Arc<dyn Body>> {
        self.places[place].body.take()
    }

    /// Gives a place back. What was in it is the caller's to drop.
    #[must_use]
    pub(super) fn leave(&mut self, place: usize) -> Option<Coroutine> {
        self.free.push(place);
        self.places[place].coroutine.take()
    }

    pub(super) fn coroutine(&self, place: usize) -> Option<Coroutine> {
        self.places.get(place)?.coroutine.clone()
    }

    pub(super) fn all(&self) -> Vec<Coroutine> {
        self.places.iter().filter_map(|entry| entry.coroutine.clone()).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.places.len() == self.free.len()
    }
}
