#![forbid(unsafe_code)]
//! Waiting for the lock of shared memory.
//!
//! ```text
//!              attempt                      an event: the lock was released
//!   start ──────────► held by another ──► parked ───────────────────────────────► attempt ──► locked
//!                                            │  or 5, 10, 20, 40, 50, 50 .. ms        ▲
//!                                            └────────────────────────────────────────┘
//! ```
//!
//! A holder that is killed signals no event; the timeouts cover that case. Every failed attempt is followed
//! by a wait.
//!
//! When the lock is released, all waiters are woken and race for it: a queue would depend on processes that
//! may be killed. A process that unlocks and locks again without waiting in between could so starve the
//! others. Therefore a waiter of at least [`PATIENCE`] stores a *promise* with each attempt. While the
//! promise is valid, waiters of less than that leave the lock alone. It expires by itself, in case the
//! waiter that it was given to is killed.

use crate::hub::{self, Deadline, Direction, Source, Wake};
use crate::sys::clock;
use crate::sys::shared_memory::{Locked, SharedMemory};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// A waiter of at least this time goes before new ones.
const PATIENCE: Duration = Duration::from_millis(10);

/// How long a promise is valid. It is renewed after at most [`LONGEST_PAUSE`].
const PROMISE: Duration = Duration::from_millis(100);

/// Locks the memory, waiting if necessary. `None` if `deadline` has passed.
#[track_caller]
pub(super) fn lock(
    memory: &Arc<SharedMemory>,
    purpose: &'static str,
    deadline: Option<Deadline>,
) -> Option<Locked> {
    match attempt(memory, false) {
        Some(locked) => Some(locked),
        None => wait(memory, purpose, deadline),
    }
}

#[cold]
#[track_caller]
fn wait(
    memory: &Arc<SharedMemory>,
    purpose: &'static str,
    deadline: Option<Deadline>,
) -> Option<Locked> {
    // Without descriptors, waiting relies on the pauses.
    let event = UnlockEvent::new(memory).ok();
    let begin = Instant::now();
    let attempt = || attempt(memory, begin.elapsed() >= PATIENCE);
    let mut pause = FIRST_PAUSE;
    loop {
        memory.await_lock();
        if let Some(event) = &event {
            event.source.expect_event(Direction::Read);
        }
        let locked = attempt();
        if locked.is_some() {
            return locked;
        }
        let next = Deadline::after(pause).into_iter().chain(deadline).min();
        let has_passed = match &event {
            Some(event) => event.source.wait(Direction::Read, purpose, next).is_err(),
            None => hub::park(purpose, next) == Wake::TimedOut,
        };
        // `await_lock` was not called again before this attempt. So if it succeeds, the unlock signals no
        // event in vain; if it fails, the next iteration calls it.
        let locked = attempt();
        let is_over =
            has_passed && deadline.is_some() && deadline <= Deadline::after(Duration::ZERO);
        if locked.is_some() || is_over {
            return locked;
        }
        if has_passed {
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// Takes the lock if it is free and not promised to others.
///
/// With `is_preferred`, renews the promise.
fn attempt(memory: &Arc<SharedMemory>, is_preferred: bool) -> Option<Locked> {
    let promised_until = &memory.notes().promised_until;
    if is_preferred {
        promised_until.store(clock::now() + PROMISE.as_nanos() as u64, Relaxed);
    } else {
        let until = promised_until.load(Relaxed);
        if until != 0 && until > clock::now() {
            return None;
        }
    }
    let locked = memory.try_lock()?;
    if is_preferred {
        promised_until.store(0, Relaxed);
    }
    Some(locked)
}

/// The event of an unlock after `await_lock`, registered with this hub.
///
/// Each waiter has a copy of the descriptor: a descriptor can be registered only once with a hub, and a
/// registration is not inherited by forked processes.
struct UnlockEvent {
    /// Declared first, so that it is unregistered before the descriptor is closed.
    source: Source,
    _copy: OwnedFd,
}

impl UnlockEvent {
    fn new(memory: &SharedMemory) -> io::Result<Self> {
        let copy = memory.unlocked()?;
        Ok(UnlockEvent { source: Source::new(copy.as_raw_fd())?, _copy: copy })
    }
}
