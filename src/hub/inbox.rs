#![forbid(unsafe_code)]
//! What other threads leave for a hub, and how they wake it.
//!
//! One word says how things are:
//!
//! ```text
//!              push: FILLED                    EMPTY ◄── take ── FILLED
//!   another ──────────────────► was it           │                  ▲
//!   thread      (swap)          ASLEEP?          │ before a sleep   │ push
//!                               raise the        ▼                  │
//!                               alarm          ASLEEP ──────────────┘
//! ```
//!
//! All changes of that word are read-modify-write operations, so they have an order: either the hub finds it
//! FILLED and does not sleep, or the pusher finds it ASLEEP and raises the alarm. So a wake-up is never lost,
//! and a hub that is awake costs no system call. (A model of this is checked by loom: `RUSTFLAGS="--cfg loom"
//! cargo test --lib --release inbox`.)

use super::slots::SlotKey;
#[cfg(not(loom))]
use crate::sys::lock::{Lock, Locked as Guard};
use crate::sys::poll::EventFd;
#[cfg(loom)]
use lock_of_loom::{Lock, MutexGuard as Guard};
#[cfg(loom)]
use loom::sync::atomic::{AtomicU8, Ordering};
use std::collections::VecDeque;
use std::io;
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU8, Ordering};

/// What a message does when it arrives, on the hub's thread.
pub(super) enum Message {
    /// Wakes the one that was registered under this key.
    Unpark(SlotKey),
    /// Runs in the hub, where nothing may block.
    Call(Box<dyn FnOnce() + Send>),
}

/// What ends a sleep.
pub(super) trait Alarm {
    fn raise(&self);
    fn lower(&self);
}

impl Alarm for EventFd {
    fn raise(&self) {
        self.raise();
    }

    fn lower(&self) {
        self.lower();
    }
}

pub(super) struct Inbox<A = EventFd, M = Message> {
    messages: Lock<VecDeque<M>>,
    state: AtomicU8,
    pub(super) alarm: A,
}

const EMPTY: u8 = 0;
const FILLED: u8 = 1;
const ASLEEP: u8 = 2;

impl<A: Alarm, M> Inbox<A, M> {
    pub(super) fn new(alarm: A) -> Self {
        Inbox { messages: Lock::new(VecDeque::new()), state: AtomicU8::new(EMPTY), alarm }
    }

    /// Leaves a message, from any thread.
    pub(super) fn push(&self, message: M) {
        self.messages.lock().push_back(message);
        self.nudge();
    }

    /// Has the hub look around, and wakes it for that, from any thread.
    pub(super) fn nudge(&self) {
        if self.state.swap(FILLED, Ordering::AcqRel) == ASLEEP {
            self.alarm.raise();
        }
    }

    /// Nobody leaves or takes a message while what this returns is there.
    pub(super) fn hold(&self) -> Held<'_, A, M> {
        Held { messages: self.messages.lock(), inbox: self }
    }

    /// Whether there are messages.
    #[inline]
    pub(super) fn is_filled(&self) -> bool {
        self.state.load(Ordering::Relaxed) == FILLED
    }

    /// Whether the hub sleeps, and nothing has come for it.
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

    /// Calls `sleep`, which the alarm ends, unless there are messages. It returns whether the alarm has.
    ///
    /// Then the alarm is lowered. (A pusher may be late with it, and raise it in the hub's next sleep: so
    /// what the word says is not enough to know.) The messages are taken after that, so that none is left
    /// whose alarm was lowered.
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
        let rung = sleep();
        change(ASLEEP, EMPTY);
        if rung? {
            self.alarm.lower();
        }
        Ok(())
    }
}

pub(super) struct Held<'a, A, M> {
    messages: Guard<'a, VecDeque<M>>,
    inbox: &'a Inbox<A, M>,
}

impl<A, M> Held<'_, A, M> {
    /// Takes all messages, and says that there are none.
    pub(super) fn clear(mut self) -> VecDeque<M> {
        self.inbox.state.store(EMPTY, Ordering::Release);
        std::mem::take(&mut *self.messages)
    }
}

#[cfg(loom)]
mod lock_of_loom {
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

    /// An eventfd: raised until it is lowered.
    #[derive(Default)]
    struct Flag(Mutex<bool>, Condvar);

    impl Alarm for Flag {
        fn raise(&self) {
            *self.0.lock().unwrap() = true;
            self.1.notify_one();
        }

        fn lower(&self) {
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

    /// Whatever the interleaving, the hub gets both messages and never sleeps for ever: loom would say so.
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
                inbox.sleep_unless_filled(|| Ok(inbox.alarm.wait())).unwrap();
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
