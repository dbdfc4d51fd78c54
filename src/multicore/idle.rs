#![forbid(unsafe_code)]
//! Which hubs sleep, and whether a hub is about to search the others' queues for tasks.
//!
//! ```text
//!            a hub sleeps with a timeout                 several tasks are pushed:
//!                                                           an idle hub is woken
//!   NONE ─────────────────────────────────► TIMED ────────────────────────────► WOKEN
//!     ▲  │                                     │                                  ▲ │
//!     │  └────────── a task is pushed: an idle hub is woken ──────────────────────┘ │
//!     │                                        │                                    │
//!     └──────── the timed hub searches ────────┴──────── the woken hub searches ────┘
//! ```
//!
//! A producer pushes its task, fences, and then reads this state. A searcher stores NONE, fences, and then
//! reads the queues; a hub that is about to sleep sets its bit, fences, and then reads the queues. One of
//! the two fences comes first, so at least one side sees the other: no task waits beside a sleeping hub,
//! and while one searcher is on its way no other is woken. (loom checks a model of this:
//! `RUSTFLAGS="--cfg loom" cargo test --lib --release idle`.)
//!
//! TIMED saves wake-ups where the hub is likely to begin the task itself at once, as when a coroutine
//! repeatedly spawns a task and joins it: then it is enough that one idle hub searches each millisecond.

#[cfg(loom)]
use loom::sync::atomic::{AtomicU8, AtomicU64, Ordering, fence};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering, fence};

use Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};

/// No search is due: a producer claims and wakes a hub.
const NONE: u8 = 0;
/// One hub sleeps with a timeout, and searches when it has expired. A producer wakes a hub only if it is
/// urgent.
const TIMED: u8 = 1;
/// A producer has claimed a hub that has not begun to search yet. No producer wakes another.
const WOKEN: u8 = 2;

/// The number of hubs per word.
const WORD: usize = u64::BITS as usize;

pub(super) struct Idle {
    /// One bit per hub.
    asleep: Box<[AtomicU64]>,
    searcher: AtomicU8,
}

impl Idle {
    /// The state of `hubs` hubs, none of which sleeps.
    pub(super) fn new(hubs: usize) -> Self {
        let asleep = (0..hubs.div_ceil(WORD)).map(|_| AtomicU64::new(0)).collect();
        Idle { asleep, searcher: AtomicU8::new(NONE) }
    }

    /// Marks a hub as going to sleep. It must read the queues once more after this.
    pub(super) fn enter(&self, hub: usize) {
        self.asleep[hub / WORD].fetch_or(1 << (hub % WORD), AcqRel);
        fence(SeqCst);
    }

    /// Marks a hub as awake.
    ///
    /// Returns `false` if the mark was already gone: another thread has claimed the hub to wake it, and
    /// relies on its search.
    pub(super) fn leave(&self, hub: usize) -> bool {
        let bit = 1 << (hub % WORD);
        let word = &self.asleep[hub / WORD];
        // Acquire, also if the bit is already clear: the WOKEN stored by the claiming thread is then
        // ordered before the NONE that this hub stores.
        word.load(Acquire) & bit != 0 && word.fetch_and(!bit, AcqRel) & bit != 0
    }

    fn is_empty(&self) -> bool {
        self.asleep.iter().all(|word| word.load(Relaxed) == 0)
    }

    /// Claims a sleeping hub, which the caller must wake.
    pub(super) fn claim(&self) -> Option<usize> {
        for (index, word) in self.asleep.iter().enumerate() {
            let mut bits = word.load(Relaxed);
            while bits != 0 {
                let bit = bits & bits.wrapping_neg();
                let before = word.fetch_and(!bit, AcqRel);
                if before & bit != 0 {
                    return Some(index * WORD + bit.trailing_zeros() as usize);
                }
                bits = before;
            }
        }
        None
    }

    /// Claims a sleeping hub to search for tasks, unless a search is coming anyway.
    ///
    /// The caller must wake it.
    ///
    /// Called after a task was pushed that its hub may not begin soon. If it is not urgent, a search within
    /// a millisecond is enough.
    pub(super) fn claim_searcher(&self, is_urgent: bool) -> Option<usize> {
        fence(SeqCst);
        while !self.is_empty() {
            let state = self.searcher.load(Relaxed);
            if state == WOKEN || (state == TIMED && !is_urgent) {
                return None;
            }
            if self.searcher.compare_exchange(state, WOKEN, AcqRel, Relaxed).is_err() {
                continue;
            }
            if let Some(hub) = self.claim() {
                return Some(hub);
            }
            // All hubs are awake. Meanwhile another producer may have relied on this claim, and a hub may
            // have gone to sleep: try again.
            self.searcher.store(NONE, Release);
            fence(SeqCst);
        }
        None
    }

    /// The timed or woken hub begins to search; from now on producers may claim another.
    pub(super) fn begin_search(&self) {
        self.searcher.store(NONE, Release);
        fence(SeqCst);
    }

    /// Makes the calling hub, which has entered, the timed searcher.
    ///
    /// Returns whether it did; `false` if there is one already.
    pub(super) fn try_watch(&self) -> bool {
        self.searcher.compare_exchange(NONE, TIMED, AcqRel, Acquire).is_ok()
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn one_hub_is_woken_at_a_time_and_none_if_a_search_is_due() {
        let idle = Idle::new(130);
        assert_eq!(idle.claim_searcher(true), None, "no hub sleeps");
        for hub in [129, 3] {
            idle.enter(hub);
        }
        assert!(idle.try_watch() && !idle.try_watch());
        assert_eq!(idle.claim_searcher(false), None, "the timed hub searches soon");
        assert_eq!(idle.claim_searcher(true), Some(3));
        assert_eq!(idle.claim_searcher(true), None, "a woken hub is on its way");
        assert!(!idle.leave(3));
        idle.begin_search();
        assert_eq!(idle.claim_searcher(false), Some(129));
        idle.begin_search();
        assert_eq!((idle.claim_searcher(true), idle.claim()), (None, None));
        idle.enter(64);
        assert!(idle.leave(64) && !idle.leave(64));
    }
}

#[cfg(all(test, loom))]
mod model {
    use super::*;
    use loom::sync::atomic::AtomicUsize;
    use loom::sync::{Arc, Condvar, Mutex};
    use loom::thread;

    const HUBS: usize = 1;

    struct Model {
        idle: Idle,
        /// Tasks whose own hub never begins them.
        tasks: AtomicUsize,
        /// Per hub, whether it was woken: stands for its inbox.
        nudged: [(Mutex<bool>, Condvar); HUBS],
    }

    impl Model {
        fn push(&self, is_urgent: bool) {
            self.tasks.fetch_add(1, Release);
            if let Some(hub) = self.idle.claim_searcher(is_urgent) {
                let (is_nudged, condvar) = &self.nudged[hub];
                *is_nudged.lock().unwrap() = true;
                condvar.notify_one();
            }
        }

        fn take(&self) -> usize {
            let mut taken = 0;
            while self.tasks.load(Acquire) > 0 {
                self.tasks.fetch_sub(1, AcqRel);
                taken += 1;
            }
            taken
        }

        /// Runs a hub until it has taken `all` tasks.
        ///
        /// It sleeps with a timeout at most `patience` times.
        fn work(&self, hub: usize, all: usize, mut patience: usize) {
            let mut taken = 0;
            while taken < all {
                self.idle.enter(hub);
                let found = self.take();
                taken += found;
                let is_short = found == 0 && patience > 0 && self.idle.try_watch();
                if is_short {
                    // The timeout has expired.
                    patience -= 1;
                } else if found == 0 {
                    let (is_nudged, condvar) = &self.nudged[hub];
                    let mut is_nudged = is_nudged.lock().unwrap();
                    while !*is_nudged {
                        is_nudged = condvar.wait(is_nudged).unwrap();
                    }
                    *is_nudged = false;
                }
                if !self.idle.leave(hub) || is_short {
                    self.idle.begin_search();
                    taken += self.take();
                }
            }
        }
    }

    /// Checks that an idle hub takes what others push, in every interleaving.
    ///
    /// If it slept beside a task, loom would report a deadlock.
    fn check(pushers: usize, patience: usize) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(move || {
            let nudged = [(); HUBS].map(|()| (Mutex::new(false), Condvar::new()));
            let model = Model { idle: Idle::new(HUBS), tasks: AtomicUsize::new(0), nudged };
            let model = Arc::new(model);
            let threads: Vec<_> = (0..pushers)
                .map(|number| {
                    let model = Arc::clone(&model);
                    thread::spawn(move || model.push(number % 2 == 1))
                })
                .collect();
            model.work(0, pushers, patience);
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
    }

    #[test]
    fn no_hub_sleeps_beside_a_task() {
        check(1, 0);
        check(2, 0);
    }

    #[test]
    fn no_hub_sleeps_beside_a_task_after_a_timed_sleep() {
        check(1, 1);
        check(2, 1);
    }
}
