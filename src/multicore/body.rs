#![forbid(unsafe_code)]
//! What a body and its handle share.
//!
//! ```text
//!             its coroutine begins                     returns, panics, is killed
//!   WAITING ───────────────────────► BEGUN on a hub ─────────────────────────────► ENDED ──join──► TAKEN
//!      │                                                                             ▲
//!      │ kill, or its hub is killed                    its destructor has run        │
//!      └─────────────────────────────► ENDING ───────────────────────────────────────┘
//! ```
//!
//! The changes are made under a lock, so there is one who takes the body out: to run it, or to drop it. A
//! kill of one that has begun is sent to its hub, where it finds it still there or not.

use crate::coroutine::{self, Coroutine, JoinError};
use crate::greenlet::GreenletExit;
use crate::hub::{self, CopyEnd, RemoteHub};
use crate::sync::{Event, Shared};
use crate::sys::lock::Lock;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::sync::Arc;

/// The hub that a body runs on.
pub(super) trait Home: Send + Sync {
    /// Whether this is its thread.
    fn is_here(&self) -> bool;

    /// The coroutine of the body in this slot, if this is the hub's thread and the body still runs.
    fn coroutine(&self, slot: usize) -> Option<Coroutine>;

    fn remote(&self) -> &RemoteHub;
}

/// A body, whatever it returns.
pub(super) trait Body: Send + Sync {
    /// Where it was spawned.
    fn spawned_at(&self) -> &'static Location<'static>;

    /// Runs it, in its coroutine, which has this slot of `home`.
    fn run(&self, home: Arc<dyn Home>, slot: usize);

    /// Drops it and ends it by `error`, if it has not begun. Whether that was so.
    fn refuse(&self, error: JoinError) -> bool;
}

/// The same for its handle.
pub(super) trait Joinable<T>: Send + Sync {
    fn done(&self) -> &Event<Shared>;

    fn take(&self) -> Result<T, JoinError>;

    fn kill(self: Arc<Self>);

    /// Whether it is what the current coroutine runs.
    fn is_current(&self) -> bool;
}

pub(super) struct Packet<T, F> {
    spawned_at: &'static Location<'static>,
    stage: Lock<Stage<T, F>>,
    /// Set when it is ENDED.
    done: Event<Shared>,
}

enum Stage<T, F> {
    Waiting(F),
    Ending,
    Begun(Arc<dyn Home>, usize),
    Ended(Result<T, JoinError>),
    Taken,
}

impl<T, F> Packet<T, F> {
    pub(super) fn new(spawned_at: &'static Location<'static>, body: F) -> Self {
        Packet { spawned_at, stage: Lock::new(Stage::Waiting(body)), done: Event::shared() }
    }

    /// Takes out the body of one that has not begun.
    fn begin(&self, next: Stage<T, F>) -> Option<F> {
        let mut stage = self.stage.lock();
        match &*stage {
            Stage::Waiting(_) => match std::mem::replace(&mut *stage, next) {
                Stage::Waiting(body) => Some(body),
                _ => unreachable!("seen under the same lock"),
            },
            _ => None,
        }
    }

    /// Takes back the body of one that nobody knows of.
    pub(super) fn into_body(self: Arc<Self>) -> F {
        self.begin(Stage::Taken).expect("it was given to nobody")
    }

    fn end(&self, result: Result<T, JoinError>) {
        let before = std::mem::replace(&mut *self.stage.lock(), Stage::Ended(result));
        drop(before);
        self.done.set();
    }

    /// Where it runs, if it does.
    fn place(&self) -> Option<(Arc<dyn Home>, usize)> {
        match &*self.stage.lock() {
            Stage::Begun(home, slot) => Some((Arc::clone(home), *slot)),
            _ => None,
        }
    }

    /// On the thread where it may be running: there it cannot end meanwhile.
    fn kill_here(&self) {
        if let Some((home, slot)) = self.place()
            && let Some(coroutine) = home.coroutine(slot)
        {
            drop(home);
            coroutine.kill();
        }
    }
}

impl<T: Send, F: FnOnce() -> T + Send> Body for Packet<T, F> {
    fn spawned_at(&self) -> &'static Location<'static> {
        self.spawned_at
    }

    fn run(&self, home: Arc<dyn Home>, slot: usize) {
        let Some(body) = self.begin(Stage::Begun(home, slot)) else { return };
        let result = catch_unwind(AssertUnwindSafe(body)).map_err(|payload| {
            if payload.is::<GreenletExit>() {
                JoinError::Killed
            } else {
                coroutine::current().report(&payload);
                JoinError::Panicked(payload)
            }
        });
        // In a child that it has forked it ends here: the parent's threads may have held what is locked now.
        hub::end_copy(if result.is_ok() { CopyEnd::Returned } else { CopyEnd::Failed });
        self.end(result);
    }

    fn refuse(&self, error: JoinError) -> bool {
        let Some(body) = self.begin(Stage::Ending) else { return false };
        // Also if its destructor panics.
        let end = End(self, Some(error));
        drop(body);
        drop(end);
        true
    }
}

struct End<'a, T, F>(&'a Packet<T, F>, Option<JoinError>);

impl<T, F> Drop for End<'_, T, F> {
    fn drop(&mut self) {
        self.0.end(Err(self.1.take().unwrap_or(JoinError::Killed)));
    }
}

impl<T: Send + 'static, F: FnOnce() -> T + Send + 'static> Joinable<T> for Packet<T, F> {
    fn done(&self) -> &Event<Shared> {
        &self.done
    }

    fn take(&self) -> Result<T, JoinError> {
        let mut stage = self.stage.lock();
        match &*stage {
            Stage::Ended(_) => match std::mem::replace(&mut *stage, Stage::Taken) {
                Stage::Ended(result) => result,
                _ => unreachable!("seen under the same lock"),
            },
            _ => Err(JoinError::Taken),
        }
    }

    fn kill(self: Arc<Self>) {
        if self.refuse(JoinError::Killed) {
            return;
        }
        let Some((home, _)) = self.place() else { return };
        if home.is_here() {
            self.kill_here();
        } else {
            home.remote().call(move || self.kill_here());
        }
    }

    fn is_current(&self) -> bool {
        let coroutine = self.place().and_then(|(home, slot)| home.coroutine(slot));
        coroutine.is_some_and(|coroutine| coroutine == coroutine::current())
    }
}
