#![forbid(unsafe_code)]
//! Access to a hub from other threads: wakes its greenlets, and runs closures in it.

use super::current::current_greenlet;
use super::here::{try_with, with};
use super::inbox::{Inbox, Message};
use super::slots::SlotKey;
use super::state::Hub;
use crate::sys::lineage::{self, Generation};
use std::fmt;
use std::mem::forget;
use std::sync::Arc;

/// Registers the current greenlet to be woken by any thread, until dropped.
///
/// Meanwhile, the deadlock detector treats the hub's thread as wakeable.
#[derive(Debug)]
pub(crate) struct Registration(SlotKey);

impl Registration {
    pub(crate) fn new() -> Self {
        let me = current_greenlet();
        Registration(with(|hub| hub.remotes.borrow_mut().insert(me)))
    }

    /// Returns a handle that wakes the greenlet.
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

/// Wakes a registered greenlet from any thread.
///
/// A wake-up by another thread is sticky: the hub handles it after the greenlet's turn, so it may be sent
/// before the greenlet has parked.
#[derive(Clone)]
pub(crate) struct Unparker {
    inbox: Arc<Inbox>,
    key: SlotKey,
    generation: Generation,
}

impl Unparker {
    /// Whether the process was forked since, and the greenlet does not continue in this child.
    #[inline]
    pub(crate) fn is_left_behind(&self) -> bool {
        self.generation != Generation::current() && !self.is_registered_here()
    }

    /// Whether the key is still registered with this thread's hub, which a child made by `fork.rs`
    /// inherits.
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
        // In a copy of the process nothing waits, and the waker is the parent's.
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

/// A thread's hub, for other threads. While one exists, the deadlock detector treats the thread as
/// wakeable.
#[derive(Clone)]
pub(crate) struct RemoteHub {
    inbox: Arc<Inbox>,
    _outside: Arc<()>,
}

impl RemoteHub {
    /// Returns this thread's hub.
    #[track_caller]
    pub(crate) fn here() -> Self {
        with(|hub| RemoteHub {
            inbox: Arc::clone(&hub.inbox),
            _outside: Arc::clone(&hub.outside.borrow()),
        })
    }

    /// Whether something has arrived for the hub that it has not handled.
    pub(crate) fn is_called(&self) -> bool {
        self.inbox.is_filled()
    }

    /// Makes the hub check for work soon. It then sees everything that was done before this call.
    pub(crate) fn nudge(&self) {
        if lineage::owns() {
            self.inbox.nudge();
        }
    }

    /// Queues `f` to run in the hub's greenlet. It must not wait.
    pub(crate) fn call(&self, f: impl FnOnce() + Send + 'static) {
        push(&self.inbox, f);
    }
}

/// Sends `f` to the hub; leaks it if the hub belongs to another process.
fn push(inbox: &Inbox, f: impl FnOnce() + Send + 'static) {
    match lineage::owns() {
        true => inbox.push(Message::Call(Box::new(f))),
        false => forget(f),
    }
}

/// A thread's hub, for other threads, which the deadlock detector does not count.
#[cfg(feature = "monkey")]
#[derive(Clone)]
pub(crate) struct NounwindHub(Arc<Inbox>);

#[cfg(feature = "monkey")]
impl NounwindHub {
    /// Returns this thread's hub.
    pub(crate) fn here() -> Self {
        NounwindHub(with(|hub| Arc::clone(&hub.inbox)))
    }

    pub(crate) fn is_here(&self) -> bool {
        try_with(|hub| Arc::ptr_eq(&hub.inbox, &self.0)).unwrap_or(false)
    }

    /// Queues `f` to run in the hub's greenlet. It must not wait.
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
