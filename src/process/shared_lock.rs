#![forbid(unsafe_code)]
//! Waiting for the lock of shared memory.
//!
//! ```text
//!            try_lock                      an event: somebody has unlocked it
//!   wants ──────────► held by another ──► parked ───────────────────────────────► looks again ──► has it
//!                                            │  or 5, 10, 20, 40, 50, 50 .. ms        ▲
//!                                            └────────────────────────────────────────┘
//! ```
//!
//! Who is killed with the lock tells nobody: that is what the pauses are for. Each look in vain is followed
//! by a wait.
//!
//! All who wait hear of it when it is unlocked, and one is the first: a queue would be in the hands of
//! processes that may be killed. So that one that unlocks and locks again without ever waiting in between
//! does not keep all others out, one that has waited for [`PATIENCE`] has a *promise* noted whenever it
//! looks. As long as that is in force, who has waited for less keeps back. It runs out by itself, should the
//! one it was given to be killed.

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

/// Who has waited so long goes before those who come anew.
const PATIENCE: Duration = Duration::from_millis(10);

/// For how long a promise is in force. It is renewed after [`LONGEST_PAUSE`] at the latest.
const PROMISE: Duration = Duration::from_millis(100);

/// Locks it, if need be after others have unlocked it. `None` if `deadline` has passed.
#[track_caller]
pub(super) fn lock(
    memory: &Arc<SharedMemory>,
    purpose: &'static str,
    deadline: Option<Deadline>,
) -> Option<Locked> {
    match look(memory, false) {
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
    // Without descriptors, the pauses do.
    let bell = Bell::new(memory).ok();
    let begin = Instant::now();
    let look = || look(memory, begin.elapsed() >= PATIENCE);
    let mut pause = FIRST_PAUSE;
    loop {
        memory.await_lock();
        if let Some(bell) = &bell {
            bell.source.expect_event(Direction::Read);
        }
        let locked = look();
        if locked.is_some() {
            return locked;
        }
        let next = Deadline::after(pause).into_iter().chain(deadline).min();
        let has_passed = match &bell {
            Some(bell) => bell.source.wait(Direction::Read, purpose, next).is_err(),
            None => hub::park(purpose, next) == Wake::TimedOut,
        };
        // Not said to be awaited again before this look: so who gets it calls nobody for nothing when it
        // unlocks, and who does not says so then.
        let locked = look();
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

/// Takes the lock if it is free, and not promised to others.
fn look(memory: &Arc<SharedMemory>, is_preferred: bool) -> Option<Locked> {
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

/// Has events when who had the lock has found it awaited. A copy for each that waits: a descriptor can be
/// registered once with a hub, and a hub is not known to the processes that are forked from its own.
struct Bell {
    /// Declared first: it leaves the hub before the descriptor is closed.
    source: Source,
    _copy: OwnedFd,
}

impl Bell {
    fn new(memory: &SharedMemory) -> io::Result<Self> {
        let copy = memory.unlocked()?;
        Ok(Bell { source: Source::new(copy.as_raw_fd())?, _copy: copy })
    }
}
