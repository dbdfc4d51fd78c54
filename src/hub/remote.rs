#![forbid(unsafe_code)]
//! What other threads may do to a hub: wake its greenlets, and have it run something.

use super::current::current_greenlet;
use super::here::{try_with, with};
use super::inbox::{Inbox, Message};
use super::slots::SlotKey;
use super::state::Hub;
use crate::sys::lineage::{self, Generation};
use std::fmt;
use std::mem::forget;
use std::sync::Arc;

/// The current greenlet, registered to be woken by any thread for as long as this lives. While somebody is
/// registered, the hub does not take it that nobody can wake its thread.
#[derive(Debug)]
pub(crate) struct Registration(SlotKey);

impl Registration {
    pub(crate) fn new() -> Self {
        let me = current_greenlet();
        Registration(with(|hub| hub.remotes.borrow_mut().insert(me)))
    }

    /// What wakes it.
    pub(crate) fn unparker(&self) -> Unparker {
        let inbox = with(|hub| Arc::clone(&hub.inbox));
        Unparker { inbox, key: self.0, generation: Generation::current() }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let greenlet = try_with(|hub| hub.remotes.borrow_mut().remove(self.0));
        drop(greenlet);
    }
}

/// Wakes a registered greenlet from any thread. A wake-up is sticky: it may come before the one that waits
/// has parked.
#[derive(Clone)]
pub(crate) struct Unparker {
    inbox: Arc<Inbox>,
    key: SlotKey,
    generation: Generation,
}

impl Unparker {
    /// Whether the process was forked since, and the greenlet does not go on in this child.
    #[inline]
    pub(crate) fn is_left_behind(&self) -> bool {
        self.generation != Generation::current() && !self.is_registered_here()
    }

    /// A child of `fork.rs` keeps the hub of the thread that was forked, and what it was registered for.
    #[cold]
    fn is_registered_here(&self) -> bool {
        let is_here = |hub: &Hub| {
            Arc::ptr_eq(&hub.inbox, &self.inbox) && hub.remotes.borrow().get(self.key).is_some()
        };
        try_with(is_here).unwrap_or(false)
    }

    pub(crate) fn unpark(&self) {
        let is_here = try_with(|hub| {
            let is_here = Arc::ptr_eq(&hub.inbox, &self.inbox);
            if is_here {
                let greenlet = hub.remotes.borrow().get(self.key).cloned();
                greenlet.iter().for_each(|greenlet| hub.unpark(greenlet));
            }
            is_here
        });
        // In a copy of the process nobody waits, and the alarm is the parent's.
        if is_here != Some(true) && lineage::owns() {
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
        with(|hub| RemoteHub {
            inbox: Arc::clone(&hub.inbox),
            _outside: Arc::clone(&hub.outside.borrow()),
        })
    }

    /// Whether something has come for the hub that it has not looked at.
    pub(crate) fn is_called(&self) -> bool {
        self.inbox.is_filled()
    }

    /// Has the hub look around soon: what was done before this, it will see then.
    pub(crate) fn nudge(&self) {
        if lineage::owns() {
            self.inbox.nudge();
        }
    }

    /// Has `f` run in the hub's greenlet. It must not wait.
    pub(crate) fn call(&self, f: impl FnOnce() + Send + 'static) {
        push(&self.inbox, f);
    }
}

/// Unless the hub is that of another process.
fn push(inbox: &Inbox, f: impl FnOnce() + Send + 'static) {
    match lineage::owns() {
        true => inbox.push(Message::Call(Box::new(f))),
        false => forget(f),
    }
}

/// A thread's hub, for other threads that may or may not have something for it.
#[cfg(feature = "monkey")]
#[derive(Clone)]
pub(crate) struct NounwindHub(Arc<Inbox>);

#[cfg(feature = "monkey")]
impl NounwindHub {
    /// This thread's.
    pub(crate) fn here() -> Self {
        NounwindHub(with(|hub| Arc::clone(&hub.inbox)))
    }

    pub(crate) fn is_here(&self) -> bool {
        try_with(|hub| Arc::ptr_eq(&hub.inbox, &self.0)).unwrap_or(false)
    }

    /// Has `f` run in the hub's greenlet. It must not wait.
    pub(crate) fn call(&self, f: impl FnOnce() + Send + 'static) {
        push(&self.0, f);
    }
}

#[cfg(feature = "monkey")]
impl PartialEq for NounwindHub {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
