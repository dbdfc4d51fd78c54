#![forbid(unsafe_code)]
//! The state that a task and its handle share.
//!
//! ```text
//!             its coroutine begins                     returns, panics, or is killed
//!   WAITING ───────────────────────► BEGUN on a hub ─────────────────────────────► ENDED ──join──► TAKEN
//!      │                                                                             ▲
//!      │ the task or its hub is killed                 the body has been dropped     │
//!      └─────────────────────────────► ENDING ───────────────────────────────────────┘
//! ```
//!
//! Each transition happens under a lock, so exactly one party takes the body out, to run it or to drop it.
//! The kill of a task that has begun is sent to its hub, which looks up whether the task still runs.

use crate::coroutine::{self, Coroutine, JoinError};
use crate::greenlet::GreenletExit;
use crate::hub::{self, CopyEnd, RemoteHub};
use crate::sync::{Event, Shared};
use crate::sys::lock::Lock;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::sync::Arc;

/// The hub that a task runs on.
pub(super) trait Home: Send + Sync {
    /// Whether the current thread is the hub's.
    fn is_here(&self) -> bool;

    /// The coroutine of the task in `slot`, if this is the hub's thread and the task still runs.
    fn coroutine(&self, slot: usize) -> Option<Coroutine>;

    fn hub(&self) -> &RemoteHub;
}

/// A task, with the type of its result erased.
pub(super) trait Task: Send + Sync {
    /// The source location of the spawn.
    fn spawned_at(&self) -> &'static Location<'static>;

    /// Runs the body in the current coroutine, which occupies `slot` of `home`.
    fn run(&self, home: Arc<dyn Home>, slot: usize);

    /// Drops the body and ends the task with `error`, if it has not begun.
    ///
    /// Returns whether it did.
    fn refuse(&self, error: JoinError) -> bool;
}

/// A task as its handle uses it.
pub(super) trait Joinable<T>: Send + Sync {
    fn done(&self) -> &Event<Shared>;

    fn take(&self) -> Result<T, JoinError>;

    fn kill(self: Arc<Self>);

    /// Whether the current coroutine runs this task.
    fn is_current(&self) -> bool;
}

pub(super) struct Packet<T, F> {
    spawned_at: &'static Location<'static>,
    stage: Lock<Stage<T, F>>,
    /// Set when the stage is `Ended`.
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

    /// Moves from `Waiting` to `next`, and returns the body.
    ///
    /// `None` if the stage is not `Waiting`.
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

    /// Takes the body back, for a task that was never queued.
    pub(super) fn into_body(self: Arc<Self>) -> F {
        self.begin(Stage::Taken).expect("the task was never queued")
    }

    fn end(&self, result: Result<T, JoinError>) {
        let before = std::mem::replace(&mut *self.stage.lock(), Stage::Ended(result));
        drop(before);
        self.done.set();
    }

    /// The hub and the slot in which the task runs, if it runs.
    fn place(&self) -> Option<(Arc<dyn Home>, usize)> {
        match &*self.stage.lock() {
            Stage::Begun(home, slot) => Some((Arc::clone(home), *slot)),
            _ => None,
        }
    }

    /// Kills the task's coroutine, if it runs on this thread.
    ///
    /// It cannot end in between: that, too, happens on this thread.
    fn kill_here(&self) {
        if let Some((home, slot)) = self.place()
            && let Some(coroutine) = home.coroutine(slot)
        {
            drop(home);
            coroutine.kill();
        }
    }
}

impl<T: Send, F: FnOnce() -> T + Send> Task for Packet<T, F> {
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
        // In a child that the body forked, this ends the process: threads of the parent may have held the
        // locks used below.
        hub::end_copy(if result.is_ok() { CopyEnd::Returned } else { CopyEnd::Failed });
        self.end(result);
    }

    fn refuse(&self, error: JoinError) -> bool {
        let Some(body) = self.begin(Stage::Ending) else { return false };
        // The guard ends the task even if the destructor panics.
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
            home.hub().call(move || self.kill_here());
        }
    }

    fn is_current(&self) -> bool {
        let coroutine = self.place().and_then(|(home, slot)| home.coroutine(slot));
        coroutine.is_some_and(|coroutine| coroutine == coroutine::current())
    }
}
