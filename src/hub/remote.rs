#![forbid(unsafe_code)]
//! What other threads may do to a hub: wake its greenlets, and have it run something.

use super::here::{try_with, with};
use super::inbox::{Inbox, Message, RemoteKey};
use super::state::current_greenlet;
use crate::greenlet::AnyWeakGreenlet;
use std::fmt;
use std::sync::Arc;

/// Who is registered to be woken from elsewhere.
#[derive(Default)]
pub(super) struct Remotes {
    slots: Vec<(u32, Option<AnyWeakGreenlet>)>,
    free: Vec<u32>,
}

impl Remotes {
    pub(super) fn insert(&mut self, greenlet: AnyWeakGreenlet) -> RemoteKey {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push((0, None));
            u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 waiters")
        });
        let (generation, place) = &mut self.slots[slot as usize];
        *place = Some(greenlet);
        RemoteKey { slot, generation: *generation }
    }

    pub(super) fn remove(&mut self, key: RemoteKey) {
        let (generation, place) = &mut self.slots[key.slot as usize];
        if *generation == key.generation && place.take().is_some() {
            *generation = generation.wrapping_add(1);
            self.free.push(key.slot);
        }
    }

    pub(super) fn get(&self, key: RemoteKey) -> Option<AnyWeakGreenlet> {
        let (generation, greenlet) = self.slots.get(key.slot as usize)?;
        if *generation == key.generation { greenlet.clone() } else { None }
    }

    pub(super) fn count(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

/// The current greenlet, registered to be woken by any thread for as long as this lives. While somebody is
/// registered, the hub does not take it that nobody can wake its thread.
#[derive(Debug)]
pub(crate) struct Registration(RemoteKey);

impl Registration {
    pub(crate) fn new() -> Self {
        let me = current_greenlet();
        Registration(with(|hub| hub.remotes.borrow_mut().insert(me)))
    }

    /// What wakes it.
    pub(crate) fn unparker(&self) -> Unparker {
        Unparker { inbox: with(|hub| Arc::clone(&hub.inbox)), key: self.0 }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        try_with(|hub| hub.remotes.borrow_mut().remove(self.0));
    }
}

/// Wakes a registered greenlet from any thread. A wake-up is sticky: it may come before the one that waits
/// has parked.
#[derive(Clone)]
pub(crate) struct Unparker {
    inbox: Arc<Inbox>,
    key: RemoteKey,
}

impl Unparker {
    pub(crate) fn unpark(&self) {
        let is_here = try_with(|hub| {
            let is_here = Arc::ptr_eq(&hub.inbox, &self.inbox);
            if is_here {
                let greenlet = hub.remotes.borrow().get(self.key);
                greenlet.iter().for_each(|greenlet| hub.unpark(greenlet));
            }
            is_here
        });
        if is_here != Some(true) {
            self.inbox.push(Message::Unpark(self.key));
        }
    }
}

impl fmt::Debug for Unparker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unparker").finish_non_exhaustive()
    }
}

/// A thread's hub, for other threads. While there is one, the hub does not take it that nobody can wake its
/// thread.
#[derive(Clone)]
pub(crate) struct RemoteHub {
    inbox: Arc<Inbox>,
    _outside: Arc<()>,
}

impl RemoteHub {
    /// This thread's.
    #[track_caller]
    pub(crate) fn here() -> Self {
        with(|hub| RemoteHub { inbox: Arc::clone(&hub.inbox), _outside: Arc::clone(&hub.outside) })
    }

    /// Has `f` run in the hub's greenlet. It must not wait.
    pub(crate) fn call(&self, f: impl FnOnce() + Send + 'static) {
        self.inbox.push(Message::Call(Box::new(f)));
    }
}
