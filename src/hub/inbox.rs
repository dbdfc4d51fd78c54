#![forbid(unsafe_code)]
//! Messages from other threads to a hub, and the wake-up of its thread.
//!
//! One atomic byte holds the state:
//!
//! ```text
//!              push: FILLED                    EMPTY ◄── take ── FILLED
//!   another ──────────────────► was it           │                  ▲
//!   thread      (swap)          ASLEEP?          │ before a sleep   │ push
//!                               trigger the      ▼                  │
//!                               waker          ASLEEP ──────────────┘
//! ```
//!
//! Every change is a read-modify-write operation, so all changes have one order: either the hub finds
//! FILLED and does not sleep, or the producer finds ASLEEP and triggers the waker. So no wake-up is lost,
//! and a message to a hub that is awake costs no system call. (The one plain store is in a forked child,
//! before it has other threads.) A loom model checks this: `RUSTFLAGS="--cfg loom" cargo test --lib
//! --release inbox`.

use super::slots::SlotKey;
#[cfg(not(loom))]
use crate::sys::lock::{Lock, Locked as Guard};
use crate::sys::poll::EventFd;
#[cfg(loom)]
use loom::sync::atomic::{AtomicU8, Ordering};
#[cfg(loom)]
use loom_lock::{Lock, MutexGuard as Guard};
use std::collections::VecDeque;
use std::io;
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU8, Ordering};

/// A message to a hub, handled on the hub's thread.
pub(super) enum Message {
    /// Wakes the greenlet that is registered under this key.
    Unpark(SlotKey),
    /// Runs the closure in the hub's greenlet, which must not block.
    Call(Box<dyn FnOnce() + Send>),
}

/// Ends a sleep of the hub, from any thread.
pub(super) trait Waker {
    fn wake(&self);
    fn reset(&self);
}

impl Waker for EventFd {
    fn wake(&self) {
        self.raise();
    }

    fn reset(&self) {
        self.lower();
    }
}

/// The inbox of a hub, shared with other threads.
pub(super) struct Inbox<A = EventFd, M = Message> {
    messages: Lock<VecDeque<M>>,
    state: AtomicU8,
    pub(super) waker: A,
}

/// Nothing has arrived since the hub last took its messages, and the hub is awake.
const EMPTY: u8 = 0;
/// A message or a nudge has arrived. Set by producers, in any state; replaced by `EMPTY` when the hub takes
/// its messages.
const FILLED: u8 = 1;
/// The hub sleeps or is about to: the next producer triggers the waker. Replaces `EMPTY` before a sleep, and
/// is replaced by it afterwards, unless a producer has set `FILLED`.
const ASLEEP: u8 = 2;

impl<A: Waker, M> Inbox<A, M> {
    pub(super) fn new(waker: A) -> Self {
        Inbox { messages: Lock::new(VecDeque::new()), state: AtomicU8::new(EMPTY), waker }
    }

    /// Sends a message, from any thread.
    pub(super) fn push(&self, message: M) {
        self.messages.lock().push_back(message);
        self.nudge();
    }

    /// Makes the hub check its inbox, and wakes it if it sleeps, from any thread.
    pub(super) fn nudge(&self) {
        if self.state.swap(FILLED, Ordering::AcqRel) == ASLEEP {
            self.waker.wake();
        }
    }

    /// Locks the messages: none is added or taken until the guard is dropped.
    pub(super) fn lock(&self) -> InboxGuard<'_, A, M> {
        InboxGuard { messages: self.messages.lock(), inbox: self }
    }

    /// Whether there are messages, or the hub was nudged.
    #[inline]
    pub(super) fn is_filled(&self) -> bool {
        self.state.load(Ordering::Relaxed) == FILLED
    }

    /// Whether the hub sleeps and nothing has arrived for it.
    pub(super) fn is_asleep(&self) -> bool {
        self.state.load(Ordering::Relaxed) == ASLEEP
    }

    /// Takes all messages.
    pub(super) fn take(&self) -> VecDeque<M> {
        if !self.is_filled() {
            return VecDeque::new();
        }
        self.state.swap(EMPTY, Ordering::AcqRel);
        std::mem::take(&mut *self.messages.lock())
    }

    /// Calls `sleep`, which the waker ends, unless there are messages. `sleep` returns whether the waker
    /// was triggered.
    ///
    /// If so, the waker is reset. The state does not tell this: a slow producer may trigger the waker only
    /// in the hub's next sleep. Messages are taken after the reset, so that none is left behind whose
    /// wake-up was reset.
    pub(super) fn sleep_unless_filled(
        &self,
        sleep: impl FnOnce() -> io::Result<bool>,
    ) -> io::Result<()> {
        let change = |from, to| {
            self.state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        };
        if !change(EMPTY, ASLEEP) {
            return Ok(());
        }
        let is_woken = sleep();
        change(ASLEEP, EMPTY);
        if is_woken? {
            self.waker.reset();
        }
        Ok(())
    }
}

/// The locked messages of an inbox.
pub(super) struct InboxGuard<'a, A, M> {
    messages: Guard<'a, VecDeque<M>>,
    inbox: &'a Inbox<A, M>,
}

impl<A, M> InboxGuard<'_, A, M> {
    /// Takes all messages and marks the inbox as empty.
    pub(super) fn clear(mut self) -> VecDeque<M> {
        self.inbox.state.store(EMPTY, Ordering::Release);
        std::mem::take(&mut *self.messages)
    }
}

#[cfg(loom)]
mod loom_lock {
    use loom::sync::Mutex;
    pub(super) use loom::sync::MutexGuard;

    pub(super) struct Lock<T>(Mutex<T>);

    impl<T> Lock<T> {
        pub(super) fn new(value: T) -> Self {
            Lock(Mutex::new(value))
        }

        pub(super) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap()
        }
    }
}

#[cfg(all(test, loom))]
mod model {
    use super::*;
    use loom::sync::{Arc, Condvar, Mutex};
    use loom::thread;

    /// A model of an eventfd: set until it is reset.
    #[derive(Default)]
    struct Flag(Mutex<bool>, Condvar);

    impl Waker for Flag {
        fn wake(&self) {
            *self.0.lock().unwrap() = true;
            self.1.notify_one();
        }

        fn reset(&self) {
            *self.0.lock().unwrap() = false;
        }
    }

    impl Flag {
        fn wait(&self) -> bool {
            let mut raised = self.0.lock().unwrap();
            while !*raised {
                raised = self.1.wait(raised).unwrap();
            }
            true
        }
    }

    /// In every interleaving the hub receives both messages and never sleeps indefinitely, which loom would
    /// report.
    #[test]
    fn no_wake_up_is_lost() {
        loom::model(|| {
            let inbox = Arc::new(Inbox::new(Flag::default()));
            let pushers: Vec<_> = (0..2)
                .map(|number| {
                    let inbox = Arc::clone(&inbox);
                    thread::spawn(move || inbox.push(number))
                })
                .collect();
            let mut got = Vec::new();
            while got.len() < 2 {
                inbox.sleep_unless_filled(|| Ok(inbox.waker.wait())).unwrap();
                got.extend(inbox.take());
            }
            got.sort();
            assert_eq!(got, [0, 1]);
            for pusher in pushers {
                pusher.join().unwrap();
            }
        });
    }
}
