//! Waiting for a lock of C: the loop that all kinds of locks share.
//!
//! ```text
//!   who is in the way      the coroutine
//!
//!   nobody                 has it: each round begins with libc's own attempt, which does not wait
//!   a sibling              waits among `addresses` until it is unlocked: the kernel would wait indefinitely
//!   another thread         looks again some times, in a few microseconds, since most locks are held for less
//!                          ├─ of a plain mutex, or spins: in the kernel, for a tenth of a second in all
//!                          └─ then, and of other kinds at once: among `addresses`, looking now and then
//! ```
//!
//! *Why patience.* A library may take a lock for some instructions in the middle of a change to something of
//! the thread's: an allocator does, with a plain mutex or a spin lock. If a coroutine switched there because
//! another thread has the lock, siblings would find that half changed. So such a wait holds up the thread,
//! which is counted once it lasts for a millisecond. A tenth of a second is far beyond what such a lock is
//! held for; who holds it then may wait for a coroutine of this very thread, which has to run. The kinds
//! that have an owner, and locks of readers and writers, are not what allocators use, and have no patience.
//!
//! *Why look now and then.* Most unlocks pass through the hooks, which wake. What does not: another process,
//! an owner that dies, and a thread without coroutines that waits at a condition variable, since libc
//! unlocks the mutex inside. The pauses grow from 50 us to a tenth of a second, anew after each wake-up.
//!
//! No wake-up is lost: the last attempt is made under the bucket's lock (see `addresses.rs`), and one who was
//! woken, and gives up all the same, wakes the next.

use crate::hub::Deadline;
use crate::monkey::addresses::{self, Waiting};
use libc::{c_int, clockid_t, timespec};
use std::hint::spin_loop;
use std::time::Duration;

/// For all who wait at an address.
pub(in crate::monkey) const ANY: u32 = u32::MAX;

/// How an attempt went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::monkey) enum Attempt {
    /// That is the result of the call.
    Over(c_int),
    /// A sibling holds it, or the caller does and has to wait for itself.
    Sibling,
    /// A sibling holds it, whose end is to be noticed.
    Mortal,
    /// Another thread holds it, or one cannot tell.
    Foreign,
}

/// How long a call may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::monkey) enum Limit {
    Never,
    At(Deadline),
    /// Until before 1970: not at all.
    Past,
    /// What libc does not take, if it comes to that.
    Invalid,
}

impl Limit {
    /// At a moment of a clock. One that the clock cannot reach in this library's time never comes.
    ///
    /// # Safety
    ///
    /// Null, or a time.
    pub(in crate::monkey) unsafe fn until(clock: clockid_t, until: *const timespec) -> Limit {
        // SAFETY: the caller's.
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
        // SAFETY: a place for the answer; a clock that is always there.
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

/// What a coroutine waits for.
pub(in crate::monkey) struct Wanted {
    pub(in crate::monkey) address: usize,
    /// Which wake-ups are for it.
    pub(in crate::monkey) bits: u32,
    /// What the wait is called in reports.
    pub(in crate::monkey) purpose: &'static str,
    pub(in crate::monkey) limit: Limit,
}

/// Waits in the kernel for a slice of time, at most until the deadline. `None`: it is still held.
pub(in crate::monkey) type Slice<'a> = &'a dyn Fn(Option<Deadline>) -> Option<c_int>;

/// How long a slice is.
pub(in crate::monkey) const SLICE: Duration = Duration::from_millis(1);

impl Wanted {
    /// Attempts it until it is over. To be called in a coroutine, or in main beside coroutines.
    pub(in crate::monkey) fn acquire(self, attempt: impl Fn() -> Attempt) -> c_int {
        self.acquire_patiently(attempt, None, || ())
    }

    /// As [`Wanted::acquire`], of a lock that another thread is expected to hold for a short time only:
    /// `slice` waits for that in the kernel, and `count` is called once if it takes longer.
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

    fn give_up(&self, was_woken: bool) -> c_int {
        if was_woken {
            addresses::wake(self.address, self.bits, 1);
        }
        libc::ETIMEDOUT
    }
}

/// The pauses between two looks at a lock that another thread holds.
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
