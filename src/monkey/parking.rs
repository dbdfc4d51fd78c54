//! `thread::park`, which has *one* word per thread, shared by all coroutines of the thread.
//!
//! ```text
//!   EMPTY 0, NOTIFIED 1, PARKED -1
//!
//!   std's park:    word -= 1; return if it was NOTIFIED. Otherwise loop until NOTIFIED -> EMPTY succeeds:
//!                  wait while the word is PARKED (calls futex only if it is PARKED now)
//!   std's unpark:  swap NOTIFIED in; call futex to wake if the word was PARKED
//! ```
//!
//! While a coroutine runs, the word must not be PARKED: a coroutine that parked would decrement it further,
//! and spin without a call. While the thread sleeps, it must be PARKED: otherwise `unpark` makes no call.
//!
//! - A coroutine that waits first sets the word back to EMPTY, and is entered here.
//! - Each time the hub polls for events, it checks the word. NOTIFIED wakes *all* waiters, since it does not
//!   identify the target. (`park` may return spuriously.)
//! - The hub sets the word to PARKED while the thread sleeps, so `unpark` calls, which rings a [`Bell`] at
//!   the word's address.
//! - A coroutine that resumes sets the word to NOTIFIED, the only value at which std's loop ends. If it was
//!   NOTIFIED already, that was meant for another coroutine, and all waiters are woken. With a timeout, std
//!   returns at any value: the coroutine sets PARKED, so that a concurrent `unpark` calls and is not lost.
//! - A notification may have been meant for a coroutine that was about to wait. So the next `park` of each
//!   coroutine that has not returned since the last notification returns at once.
//! - A notification leaves no trace if std hands it to another coroutine: to one that finds NOTIFIED when it
//!   begins to park, or in the instructions between this module and std's exchange. So each waiter also
//!   returns spuriously from time to time: the first 64 times as soon as no other coroutine is ready; then
//!   after a millisecond, and then at growing intervals of up to a second. So a wake-up may be late, but is
//!   never lost. Only coroutines of one thread that park and unpark each other are affected.
//!
//! `std::sync::mpsc`, which parks, wakes only a receiver or sender of *another* thread: it skips those that
//! belong to the calling thread. So two coroutines of one thread never wake each other through it, whatever
//! this module does. They can use this library's channels.

use super::addresses::Bell;
use crate::hub::{
    Deadline, Interrupts, Registration, Unparker, Wake, Watch, at_end, current_task, park_nounwind,
    watch,
};
use crate::sys::clock;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::mem::{self, ManuallyDrop};
use std::ptr;
use std::rc::Rc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Relaxed, SeqCst};
use std::thread;
use std::time::Duration;

const EMPTY: u32 = 0;
const NOTIFIED: u32 = 1;
pub(super) const PARKED: u32 = u32::MAX;

thread_local! {
    /// Has no destructor, so that it exists for as long as calls are made. Emptied when the hub ends.
    static HERE: ManuallyDrop<Parking> = const { ManuallyDrop::new(Parking::new()) };
}

/// The state of this thread's `park`.
struct Parking {
    word: Cell<Word>,
    waiting: RefCell<Vec<Rc<Waiter>>>,
    bell: RefCell<Option<Bell>>,
    /// Whether there was a notification since this state was made.
    was_notified: Cell<bool>,
    /// The time of the last notification, in nanoseconds.
    last_notified: Cell<u64>,
    /// The coroutines that have returned since the last notification, by number, and how often each has
    /// returned spuriously since.
    informed: RefCell<BTreeMap<u64, u32>>,
}

#[derive(Clone, Copy)]
enum Word {
    Unknown,
    /// `std` was made to call with its address, which [`was_asked_for`] records.
    Requested,
    Known(*const AtomicU32),
    /// `std` does not work as this module assumes, or the hub has ended.
    Foreign,
}

struct Waiter {
    is_notified: Cell<bool>,
    unparker: Unparker,
}

/// Whether a wait at `word` is `std` showing its word, which is then recorded.
///
/// If so, the call must end at once.
pub(super) fn was_asked_for(word: *const AtomicU32) -> bool {
    HERE.with(|here| {
        let is_asked = matches!(here.word.get(), Word::Requested);
        if is_asked {
            here.word.set(Word::Known(word));
        }
        is_asked
    })
}

/// Parks the current coroutine, if `word` is the one of its thread.
///
/// Returns `true` if woken, perhaps spuriously, and `false` if the deadline has passed. `None`: it is another
/// word.
///
/// # Safety
///
/// `word` must stay valid during the wait.
pub(super) unsafe fn park_at(
    word: *const AtomicU32,
    has_timeout: bool,
    deadline: Option<Deadline>,
) -> Option<bool> {
    HERE.with(|here| {
        if matches!(here.word.get(), Word::Unknown) {
            here.learn();
        }
        match here.word.get() {
            Word::Known(known) if ptr::eq(known, word) => {
                // SAFETY: the contract of this function: `word` is valid during the wait.
                let word = unsafe { &*word };
                Some(here.park(word, has_timeout, deadline))
            }
            _ => None,
        }
    })
}

/// Removes the waiters in a child, where they do not exist.
pub(super) fn begin_anew() {
    HERE.with(|here| {
        mem::forget(here.waiting.take());
        here.informed.take();
        here.was_notified.set(false);
    });
}

impl Parking {
    const fn new() -> Self {
        Parking {
            word: Cell::new(Word::Unknown),
            waiting: RefCell::new(Vec::new()),
            bell: RefCell::new(None),
            was_notified: Cell::new(false),
            last_notified: Cell::new(0),
            informed: RefCell::new(BTreeMap::new()),
        }
    }

    /// Finds the word: makes `std` call with its address.
    ///
    /// Its value would not identify it: a read-write lock can look the same. `std` does not call if the word
    /// is NOTIFIED, nor if it is PARKED, as inside `park` itself. Either way it sets the word to EMPTY, and
    /// calls the next time.
    fn learn(&self) {
        const ATTEMPTS: usize = 100;
        let mut has_taken = false;
        for _ in 0..ATTEMPTS {
            self.word.set(Word::Requested);
            thread::park_timeout(Duration::ZERO);
            if let Word::Known(_) = self.word.get() {
                break;
            }
            has_taken = true;
        }
        if matches!(self.word.get(), Word::Requested) {
            self.word.set(Word::Foreign);
        } else {
            watch(Watch { look, request_call, cancel_call });
            at_end(forget);
            self.last_notified.set(clock::now());
        }
        if has_taken {
            // Restores the notification. Inside `park` itself this makes the caller return, so that it checks
            // its condition.
            thread::current().unpark();
        }
    }

    /// Waits, and sets the word so that std's `park` returns. `false` if the deadline has passed.
    fn park(&self, word: &AtomicU32, has_timeout: bool, deadline: Option<Deadline>) -> bool {
        if word.compare_exchange(PARKED, EMPTY, Acquire, Relaxed).is_err() {
            // The word stays NOTIFIED, so std's `park` returns.
            self.notify();
            return true;
        }
        let me = current_task().id;
        let is_informed = !self.was_notified.get() || self.informed.borrow().contains_key(&me);
        let in_time = !is_informed || self.wait(word, me, deadline);
        if self.was_notified.get() {
            self.informed.borrow_mut().entry(me).or_insert(0);
        }
        if has_timeout {
            if word.compare_exchange(EMPTY, PARKED, Acquire, Relaxed).is_err() {
                self.notify();
            }
        } else if word.swap(NOTIFIED, Acquire) == NOTIFIED {
            self.notify();
        }
        in_time
    }

    /// Waits for a notification or a spurious return. `false` if the deadline has passed.
    fn wait(&self, word: &AtomicU32, me: u64, deadline: Option<Deadline>) -> bool {
        let registration = Registration::new();
        let unparker = registration.unparker();
        let waiter = Rc::new(Waiter { is_notified: Cell::new(false), unparker });
        self.waiting.borrow_mut().push(Rc::clone(&waiter));
        if self.bell.borrow().is_none() {
            let bell = Bell::new(word.as_ptr() as usize, notify_all);
            *self.bell.borrow_mut() = Some(bell);
        }
        let returns = self.informed.borrow().get(&me).copied().unwrap_or(0);
        let spurious = Deadline::after(pause(returns, clock::now() - self.last_notified.get()));
        let next = deadline.into_iter().chain(spurious).min();
        while !waiter.is_notified.get() {
            if park_nounwind("thread::park", next, Interrupts::Defer) == Wake::TimedOut {
                break;
            }
        }
        let is_empty = {
            let mut waiting = self.waiting.borrow_mut();
            waiting.retain(|other| !Rc::ptr_eq(other, &waiter));
            waiting.is_empty()
        };
        if is_empty {
            let bell = self.bell.take();
            drop(bell);
        }
        if waiter.is_notified.get() {
            return true;
        }
        if next == deadline {
            return false;
        }
        let mut informed = self.informed.borrow_mut();
        if informed.len() > MAX_INFORMED {
            informed.clear();
        }
        informed.insert(me, returns + 1);
        true
    }

    /// Wakes all waiters.
    fn notify(&self) {
        self.was_notified.set(true);
        self.last_notified.set(clock::now());
        self.informed.borrow_mut().clear();
        for waiter in &*self.waiting.borrow() {
            waiter.is_notified.set(true);
            waiter.unparker.unpark();
        }
    }

    /// Returns the word, if there are waiters.
    fn word_waited_for(&self) -> Option<&AtomicU32> {
        match self.word.get() {
            // SAFETY: a waiter is in `park_at`, whose contract keeps the word valid.
            Word::Known(word) if !self.waiting.borrow().is_empty() => Some(unsafe { &*word }),
            _ => None,
        }
    }
}

/// Maximum size of `informed`. A coroutine that is forgotten returns spuriously once.
const MAX_INFORMED: usize = 10_000;

/// Returns the time until the next spurious return.
///
/// `returns` is the number of earlier ones, and `age` the nanoseconds since the last notification: the pauses
/// grow with it, so that the cost becomes negligible.
fn pause(returns: u32, age: u64) -> Duration {
    const AT_ONCE: u32 = 64;
    const PART: u64 = 128;
    const MILLI: u64 = 1_000_000;
    match returns {
        ..AT_ONCE => Duration::ZERO,
        _ => Duration::from_nanos((age / PART).clamp(MILLI, 1000 * MILLI)),
    }
}

fn notify_all() {
    HERE.with(|here| here.notify());
}

/// Wakes all waiters if the word is NOTIFIED. Called each time the hub polls.
fn look() {
    HERE.with(|here| {
        if let Some(word) = here.word_waited_for()
            && word.compare_exchange(NOTIFIED, EMPTY, Acquire, Relaxed).is_ok()
        {
            here.notify();
        }
    });
}

/// Sets the word to PARKED before the thread sleeps. `false` if it was notified: the thread must not sleep.
fn request_call() -> bool {
    HERE.with(|here| {
        here.word_waited_for()
            .is_none_or(|word| word.compare_exchange(EMPTY, PARKED, SeqCst, Relaxed).is_ok())
    })
}

/// Sets the word back to EMPTY after the thread has slept.
fn cancel_call() {
    HERE.with(|here| {
        if let Some(word) = here.word_waited_for() {
            let _ = word.compare_exchange(PARKED, EMPTY, Acquire, Relaxed);
        }
    });
}

/// Clears the state: the hub ends.
fn forget() {
    HERE.with(|here| {
        here.word.set(Word::Foreign);
        drop(here.waiting.take());
        drop(here.bell.take());
    });
}
