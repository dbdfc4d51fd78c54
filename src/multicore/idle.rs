#![forbid(unsafe_code)]
//! Who sleeps, and whether anybody is going to look for bodies that their hub does not get to.
//!
//! ```text
//!              one sleeps for a short while                 many bodies
//!   NOBODY ─────────────────────────────────► SOON ────────────────────────► WOKEN
//!     ▲  │                                     │                               ▲ │
//!     │  └──────────── a body is pushed: an idle hub is woken ─────────────────┘ │
//!     │                                        │                                 │
//!     └── the one that sleeps so short looks ──┴────── the one that was woken ───┘
//! ```
//!
//! Whoever pushes a body does that first, and then looks here. Whoever looks for bodies makes it NOBODY
//! first, and then looks; who is going to sleep says so first, and then looks. With a fence between the two
//! steps on either side, one of both sees what the other has done: so no body waits beside a hub that sleeps,
//! and while somebody is on his way nobody else is woken. (A model of this is checked by loom:
//! `RUSTFLAGS="--cfg loom" cargo test --lib --release idle`.)
//!
//! SOON spares the wake-up where it is likely that the hub gets to the body itself at once, as when a
//! coroutine spawns one and joins it, again and again: an idle hub that looks each millisecond is enough
//! then.

#[cfg(loom)]
use loom::sync::atomic::{AtomicU8, AtomicU64, Ordering, fence};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering, fence};

use Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};

const NOBODY: u8 = 0;
const SOON: u8 = 1;
const WOKEN: u8 = 2;

/// Hubs to a word.
const WORD: usize = u64::BITS as usize;

pub(super) struct Idle {
    /// A bit a hub.
    asleep: Box<[AtomicU64]>,
    lookout: AtomicU8,
}

impl Idle {
    /// Of so many hubs, none of which sleeps.
    pub(super) fn new(hubs: usize) -> Self {
        let asleep = (0..hubs.div_ceil(WORD)).map(|_| AtomicU64::new(0)).collect();
        Idle { asleep, lookout: AtomicU8::new(NOBODY) }
    }

    /// A hub is going to sleep: it looks for bodies once more after this.
    pub(super) fn enter(&self, hub: usize) {
        self.asleep[hub / WORD].fetch_or(1 << (hub % WORD), AcqRel);
        fence(SeqCst);
    }

    /// A hub does not sleep. Whether it has been entered until now: otherwise somebody has taken it out, to
    /// wake it, and relies on it to look.
    pub(super) fn leave(&self, hub: usize) -> bool {
        let bit = 1 << (hub % WORD);
        let word = &self.asleep[hub / WORD];
        // Acquired also if it was taken out: WOKEN, which that one has set, comes before our NOBODY.
        word.load(Acquire) & bit != 0 && word.fetch_and(!bit, AcqRel) & bit != 0
    }

    fn is_empty(&self) -> bool {
        self.asleep.iter().all(|word| word.load(Relaxed) == 0)
    }

    /// Takes out one that sleeps, to be woken.
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

    /// To be called after a body was pushed that its hub may not get to: returns one to be woken, that it may
    /// look, unless somebody will anyway. If it is not urgent, it is enough if that is within a millisecond.
    pub(super) fn call_for_help(&self, is_urgent: bool) -> Option<usize> {
        fence(SeqCst);
        while !self.is_empty() {
            let state = self.lookout.load(Relaxed);
            if state == WOKEN || (state == SOON && !is_urgent) {
                return None;
            }
            if self.lookout.compare_exchange(state, WOKEN, AcqRel, Relaxed).is_err() {
                continue;
            }
            if let Some(hub) = self.claim() {
                return Some(hub);
            }
            // All were faster. Somebody may have relied on us meanwhile, and one have gone to sleep: so once
            // more.
            self.lookout.store(NOBODY, Release);
            fence(SeqCst);
        }
        None
    }

    /// The one that sleeps for a short while, or was woken, looks for bodies now.
    pub(super) fn begin_to_look(&self) {
        self.lookout.store(NOBODY, Release);
        fence(SeqCst);
    }

    /// One that has entered wants to be the one that sleeps for a short while. Whether it is.
    pub(super) fn watch(&self) -> bool {
        self.lookout.compare_exchange(NOBODY, SOON, AcqRel, Acquire).is_ok()
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn one_is_woken_at_a_time_and_nobody_for_little() {
        let idle = Idle::new(130);
        assert_eq!(idle.call_for_help(true), None, "nobody sleeps");
        for hub in [129, 3] {
            idle.enter(hub);
        }
        assert!(idle.watch() && !idle.watch());
        assert_eq!(idle.call_for_help(false), None, "one looks soon");
        assert_eq!(idle.call_for_help(true), Some(3));
        assert_eq!(idle.call_for_help(true), None, "it is on its way");
        assert!(!idle.leave(3));
        idle.begin_to_look();
        assert_eq!(idle.call_for_help(false), Some(129));
        idle.begin_to_look();
        assert_eq!((idle.call_for_help(true), idle.claim()), (None, None));
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
        /// Bodies whose own hub never gets to them.
        bodies: AtomicUsize,
        /// For each hub that it is to look: what its inbox does.
        nudged: [(Mutex<bool>, Condvar); HUBS],
    }

    impl Model {
        fn push(&self, is_urgent: bool) {
            self.bodies.fetch_add(1, Release);
            if let Some(hub) = self.idle.call_for_help(is_urgent) {
                let (is_nudged, condvar) = &self.nudged[hub];
                *is_nudged.lock().unwrap() = true;
                condvar.notify_one();
            }
        }

        fn take(&self) -> usize {
            let mut taken = 0;
            while self.bodies.load(Acquire) > 0 {
                self.bodies.fetch_sub(1, AcqRel);
                taken += 1;
            }
            taken
        }

        /// What a hub does until it has taken so many bodies. It sleeps short so many times.
        fn work(&self, hub: usize, all: usize, mut patience: usize) {
            let mut taken = 0;
            while taken < all {
                self.idle.enter(hub);
                let found = self.take();
                taken += found;
                let is_short = found == 0 && patience > 0 && self.idle.watch();
                if is_short {
                    // The time is over.
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
                    self.idle.begin_to_look();
                    taken += self.take();
                }
            }
        }
    }

    /// Whatever the interleaving, an idle hub gets what others push, and does not sleep for ever beside it:
    /// loom would say so.
    fn check(pushers: usize, patience: usize) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(move || {
            let nudged = [(); HUBS].map(|()| (Mutex::new(false), Condvar::new()));
            let model = Model { idle: Idle::new(HUBS), bodies: AtomicUsize::new(0), nudged };
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
    fn nobody_sleeps_beside_a_body() {
        check(1, 0);
        check(2, 0);
    }

    #[test]
    fn nor_after_having_slept_short() {
        check(1, 1);
        check(2, 1);
    }
}
