//! Acquiring a C lock in a coroutine: the loop that all kinds of locks share.
//!
//! ```text
//!   holder           what the coroutine does
//!
//!   none             takes the lock: each round begins with libc's own attempt, which does not wait
//!   a sibling        waits in `addresses` for the unlock: in the kernel it would wait indefinitely
//!   another thread   retries for a few microseconds, since most locks are held for less
//!                    ├─ plain mutex, spin lock: then waits in the kernel, or spins, for 0.1 s in all
//!                    └─ after that, and at once for other kinds: waits in `addresses`, with polling
//! ```
//!
//! *Why the thread is blocked first.* A library may take a lock for a few instructions while it changes
//! thread-local state: an allocator does so, with a plain mutex or a spin lock. If a coroutine switched there
//! because another thread has the lock, siblings would find that state half changed. So such a wait blocks
//! the thread, and is counted once it exceeds a millisecond. A tenth of a second is far longer than such a
//! lock is held; a holder that takes longer may be waiting for a coroutine of this very thread, which has to
//! run. Allocators do not use mutexes that have an owner, or read-write locks: those do not block the thread.
//!
//! *Why poll.* Most unlocks pass through the hooks, which wake the waiters. The exceptions are an unlock by
//! another process, the death of an owner, and a thread without coroutines that waits at a condition
//! variable, since libc unlocks the mutex internally. The pauses grow from 50 us to a tenth of a second, and
//! start over after each wake-up.
//!
//! No wake-up is lost: the last attempt is made under the bucket's lock (see `addresses.rs`), and a waiter
//! that was woken but gives up wakes the next one.

use crate::hub::Deadline;
use crate::monkey::addresses::{self, Waiting};
use libc::{c_int, clockid_t, timespec};
use std::hint::spin_loop;
use std::time::Duration;

/// All waiters of an address.
pub(in crate::monkey) const ANY: u32 = u32::MAX;

/// The result of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::monkey) enum Attempt {
    /// The call is over, with this result.
    Over(c_int),
    /// A sibling holds the lock, or the caller holds it and has to wait for itself.
    Sibling,
    /// A sibling holds the lock, and its end has to be noticed by polling.
    Mortal,
    /// Another thread holds the lock, or the holder is unknown.
    Foreign,
}

/// How long a call may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::monkey) enum Limit {
    Never,
    At(Deadline),
    /// A deadline before 1970: the call does not wait.
    Past,
    /// Refused by libc as soon as the call would have to wait.
    Invalid,
}

impl Limit {
    /// The limit for a deadline on `clock`.
    ///
    /// A deadline that [`Deadline`] cannot represent is `Never`.
    ///
    /// # Safety
    ///
    /// `until` is null or valid.
    pub(in crate::monkey) unsafe fn until(clock: clockid_t, until: *const timespec) -> Limit {
        // SAFETY: the pointer is null or valid: the contract of this function.
        let Some(until) = (unsafe { until.as_ref() }) else { return Limit::Invalid };
        let mut now = timespec { tv_sec: 0, tv_nsec: 0 };
        if !(0..1_000_000_000).contains(&until.tv_nsec)
            || !matches!(clock, libc::CLOCK_REALTIME | libc::CLOCK_MONOTONIC)
        {
            return Limit::Invalid;
        }
        if until.tv_sec < 0 {
            return Limit::Past;
        }
        // SAFETY: `now` is valid for a write, and these two clocks always exist.
        unsafe { libc::clock_gettime(clock, &mut now) };
        let duration = |time: &timespec| Duration::new(time.tv_sec as u64, time.tv_nsec as u32);
        let left = duration(until).saturating_sub(duration(&now));
        Deadline::after(left).map_or(Limit::Never, Limit::At)
    }

    pub(in crate::monkey) fn deadline(self) -> Option<Deadline> {
        match self {
            Limit::At(deadline) => Some(deadline),
            Limit::Past => Deadline::after(Duration::ZERO),
            Limit::Never | Limit::Invalid => None,
        }
    }
}

/// A lock that a coroutine acquires.
pub(in crate::monkey) struct Wanted {
    pub(in crate::monkey) address: usize,
    /// Selects wake-ups: those that have a bit in common.
    pub(in crate::monkey) bits: u32,
    /// The name of the wait in reports.
    pub(in crate::monkey) purpose: &'static str,
    pub(in crate::monkey) limit: Limit,
}

/// Waits in the kernel for a slice of time, but not past the deadline.
///
/// `None`: the lock is still held.
pub(in crate::monkey) type Slice<'a> = &'a dyn Fn(Option<Deadline>) -> Option<c_int>;

/// The length of a slice.
pub(in crate::monkey) const SLICE: Duration = Duration::from_millis(1);

impl Wanted {
    /// Repeats `attempt` until the call is over.
    ///
    /// Called in a coroutine, or in main beside coroutines.
    pub(in crate::monkey) fn acquire(self, attempt: impl Fn() -> Attempt) -> c_int {
        self.acquire_patiently(attempt, None, || ())
    }

    /// Like [`Wanted::acquire`], for a lock that other threads hold only briefly.
    ///
    /// `slice` waits for them in the kernel; `count` is called once if that takes more than one slice.
    pub(in crate::monkey) fn acquire_patiently(
        self,
        attempt: impl Fn() -> Attempt,
        slice: Option<Slice<'_>>,
        count: impl Fn(),
    ) -> c_int {
        const SPINS: usize = 100;
        const SLICES: usize = 100;
        let deadline = self.limit.deadline();
        let (mut spins, mut slices, mut pauses) = (0, 0, Pauses::new());
        let mut was_woken = false;
        loop {
            match attempt() {
                Attempt::Over(result) => return result,
                _ if self.limit == Limit::Invalid => return libc::EINVAL,
                _ if self.limit == Limit::Past => return self.give_up(was_woken),
                Attempt::Foreign if spins < SPINS => {
                    spins += 1;
                    spin_loop();
                    continue;
                }
                Attempt::Foreign => {
                    if let Some(slice) = slice
                        && slices < SLICES
                    {
                        match slice(deadline) {
                            Some(result) => return result,
                            None if deadline.is_some_and(Deadline::has_passed) => {
                                return self.give_up(was_woken);
                            }
                            None => slices += 1,
                        }
                        if slices == 1 {
                            count();
                        }
                        continue;
                    }
                }
                Attempt::Sibling | Attempt::Mortal => {}
            }
            let mut last = Attempt::Sibling;
            let waiting = Waiting::enqueue(self.address, self.bits, || {
                last = attempt();
                !matches!(last, Attempt::Over(_))
            });
            let Some(waiting) = waiting else {
                match last {
                    Attempt::Over(result) => return result,
                    _ => continue,
                }
            };
            let look = (last != Attempt::Sibling).then(|| pauses.next()).flatten();
            let until = deadline.into_iter().chain(look).min();
            if waiting.wait(self.purpose, until) {
                was_woken = true;
                pauses = Pauses::new();
            } else if deadline.is_some_and(Deadline::has_passed) {
                return self.give_up(was_woken);
            }
        }
    }

    /// Passes on a wake-up that was received, and times out.
    fn give_up(&self, was_woken: bool) -> c_int {
        if was_woken {
            addresses::wake(self.address, self.bits, 1);
        }
        libc::ETIMEDOUT
    }
}

/// The pauses between two polls of a lock that another thread holds.
struct Pauses(Duration);

impl Pauses {
    const FIRST: Duration = Duration::from_micros(50);
    const LONGEST: Duration = Duration::from_millis(100);

    fn new() -> Self {
        Pauses(Pauses::FIRST)
    }

    fn next(&mut self) -> Option<Deadline> {
        let pause = self.0;
        self.0 = (pause * 2).min(Pauses::LONGEST);
        Deadline::after(pause)
    }
}
