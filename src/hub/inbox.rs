#![forbid(unsafe_code)]
//! What other threads leave for a hub, and how they wake it.
//!
//! ```text
//!   another thread                      the hub's thread
//!   ──────────────                      ────────────────
//!   push the message                    say ASLEEP
//!   was it ASLEEP? say AWAKE,           any message? then AWAKE again, and no sleep
//!   raise the signal                    sleep until the signal or a time; say AWAKE
//! ```
//!
//! Either the pusher sees ASLEEP, or the hub sees the message: whoever comes second under the lock's
//! order of things. So a wake-up is never lost, and a hub that is awake costs no system call.

use crate::sys::poll::Signal;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// What a message does when it arrives, on the hub's thread.
pub(super) enum Message {
    /// Wakes the one that was registered under this key.
    Unpark(RemoteKey),
    /// Runs in the hub, where nothing may block.
    Call(Box<dyn FnOnce() + Send>),
}

/// Names somebody who waits to be woken by other threads. Stale ones are recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RemoteKey {
    pub(super) slot: u32,
    pub(super) generation: u32,
}

#[derive(Default)]
pub(super) struct Inbox {
    messages: Mutex<VecDeque<Message>>,
    /// Whether there may be messages: so that looking costs no lock.
    filled: AtomicBool,
    asleep: AtomicBool,
    /// Made when the hub first sleeps.
    signal: OnceLock<Signal>,
}

impl Inbox {
    pub(super) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Leaves a message, from any thread.
    pub(super) fn push(&self, message: Message) {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner).push_back(message);
        self.filled.store(true, SeqCst);
        if self.asleep.swap(false, SeqCst)
            && let Some(signal) = self.signal.get()
        {
            signal.raise();
        }
    }

    /// Takes all messages.
    pub(super) fn take(&self) -> VecDeque<Message> {
        if !self.filled.swap(false, SeqCst) {
            return VecDeque::new();
        }
        std::mem::take(&mut *self.messages.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn set_signal(&self, signal: Signal) -> &Signal {
        self.signal.get_or_init(|| signal)
    }

    /// Before the hub sleeps: whether it may.
    pub(super) fn may_sleep(&self) -> bool {
        self.asleep.store(true, SeqCst);
        if self.filled.load(SeqCst) {
            self.asleep.store(false, SeqCst);
            return false;
        }
        true
    }

    /// After the hub has slept.
    pub(super) fn is_awake(&self) {
        // Somebody has raised the signal, or is about to: then it wakes the hub once more, for nothing.
        if !self.asleep.swap(false, SeqCst)
            && let Some(signal) = self.signal.get()
        {
            signal.lower();
        }
    }
}
