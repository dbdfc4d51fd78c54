//! `thread::park`, which has *one* word a thread, for all of its coroutines.
//!
//! ```text
//!   EMPTY 0, NOTIFIED 1, PARKED -1
//!
//!   std's park:    word -= 1; was it NOTIFIED? return. Otherwise, until NOTIFIED could be made EMPTY:
//!                  wait while PARKED, by a call if it is PARKED now, and by none otherwise
//!   std's unpark:  swap NOTIFIED in; wake, by a call, if it was PARKED
//! ```
//!
//! So while a coroutine runs, the word must not be PARKED: if it parked, it would spin, and never call. And
//! while the thread sleeps, it must be: otherwise whoever unparks does not call.
//!
//! - A coroutine that waits sets the word back to EMPTY first, and is remembered here.
//! - Each time the hub looks for events, it looks at the word: NOTIFIED wakes *all* who wait, since it is not
//!   said whom it is for. (`park` may return for no reason.)
//! - The hub makes it PARKED for as long as the thread sleeps. Whoever then unparks calls: a [`Bell`] hangs
//!   at the word's address.
//! - Who goes on makes it NOTIFIED, since only so he is let out of `park`. If it was already, that was for
//!   somebody else, and all are woken. Who has a time limit is let out whatever it is: so it is made PARKED,
//!   and nothing that comes then is lost.
//! - A notification may have been for one who was about to wait: so each coroutine that has not been told
//!   since the last one returns at once, once.
//! - What leaves no trace is a notification that another coroutine has got: one that finds NOTIFIED when it
//!   begins to park, or in the instructions between here and std's exchange. So everybody who waits looks
//!   around now and then: at once, as soon as nobody else is ready, some times; then after a millisecond,
//!   and ever more rarely, a second apart at last. A wake-up may so be late, and is never lost. Those who
//!   are late are coroutines of one thread that park and unpark each other, and nobody else.
//!
//! `std::sync::mpsc`, which parks, wakes a receiver or sender of *another* thread only: it passes over those
//! whose thread is the one that sends. So two coroutines of one thread do not wake each other by it,
//! whatever is done here: they have this library's channels.

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
    /// Without a destructor, so that it is there for as long as calls are made. Emptied when the hub ends.
    static HERE: ManuallyDrop<Parking> = const { ManuallyDrop::new(Parking::new()) };
}

/// What is known of this thread's `park`.
struct Parking {
    word: Cell<Word>,
    waiting: RefCell<Vec<Rc<Waiter>>>,
    bell: RefCell<Option<Bell>>,
    was_notified: Cell<bool>,
    /// When anybody was last notified, by the clock.
    news: Cell<u64>,
    /// By number, those who were told of the last notification, and how often each has looked around since.
    told: RefCell<BTreeMap<u64, u32>>,
}

#[derive(Clone, Copy)]
enum Word {
    Unknown,
    /// `std` is asked to show it.
    Asked,
    Known(*const AtomicU32),
    /// This is not the `std` that is known here.
    Foreign,
}

struct Waiter {
    is_reported: Cell<bool>,
    unparker: Unparker,
}

/// Whether `std` has just been asked for this word, which is noted. The call is to end at once.
pub(super) fn was_asked_for(word: *const AtomicU32) -> bool {
    HERE.with(|here| {
        let is_asked = matches!(here.word.get(), Word::Asked);
        if is_asked {
            here.word.set(Word::Known(word));
        }
        is_asked
    })
}

/// Parks the current coroutine, if this is the word of its thread. Whether it was woken, or seems to be;
/// otherwise its deadline has passed. `None`: it is not the word.
///
/// # Safety
///
/// The word is there for as long as it is waited for.
pub(super) unsafe fn park_at(
    word: *const AtomicU32,
    has_limit: bool,
    deadline: Option<Deadline>,
) -> Option<bool> {
    HERE.with(|here| {
        if matches!(here.word.get(), Word::Unknown) {
            here.learn();
        }
        match here.word.get() {
            Word::Known(known) if ptr::eq(known, word) => {
                // SAFETY: as the caller says.
                let word = unsafe { &*word };
                Some(here.park(word, has_limit, deadline))
            }
            _ => None,
        }
    })
}

/// In a child: whoever was parked is not there.
pub(super) fn begin_anew() {
    HERE.with(|here| {
        mem::forget(here.waiting.take());
        here.told.take();
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
            news: Cell::new(0),
            told: RefCell::new(BTreeMap::new()),
        }
    }

    /// Has `std` show the word: it calls with its address. It must not be guessed from what it holds: a lock
    /// of readers and writers can look the same.
    ///
    /// `std` does not call if the word is NOTIFIED, nor if it is PARKED, which it is if this is called in
    /// `park` itself. Either way it makes it EMPTY, and calls the next time.
    fn learn(&self) {
        const ENOUGH: usize = 100;
        let mut has_taken = false;
        for _ in 0..ENOUGH {
            self.word.set(Word::Asked);
            thread::park_timeout(Duration::ZERO);
            if let Word::Known(_) = self.word.get() {
                break;
            }
            has_taken = true;
        }
        if matches!(self.word.get(), Word::Asked) {
            self.word.set(Word::Foreign);
        } else {
            watch(Watch { look, request_call, cancel_call });
            at_end(forget);
            self.news.set(clock::now());
        }
        if has_taken {
            // Given back. In `park` itself, it lets the caller out, who has now a reason to look around.
            thread::current().unpark();
        }
    }

    fn park(&self, word: &AtomicU32, has_limit: bool, deadline: Option<Deadline>) -> bool {
        if word.compare_exchange(PARKED, EMPTY, Acquire, Relaxed).is_err() {
            // It stays so, and lets the caller out.
            self.notify();
            return true;
        }
        let me = current_task().id;
        let is_reported = !self.was_notified.get() || self.told.borrow().contains_key(&me);
        let in_time = !is_reported || self.wait(word, me, deadline);
        if self.was_notified.get() {
            self.told.borrow_mut().entry(me).or_insert(0);
        }
        if has_limit {
            if word.compare_exchange(EMPTY, PARKED, Acquire, Relaxed).is_err() {
                self.notify();
            }
        } else if word.swap(NOTIFIED, Acquire) == NOTIFIED {
            self.notify();
        }
        in_time
    }

    /// Whether it ends before the deadline.
    fn wait(&self, word: &AtomicU32, me: u64, deadline: Option<Deadline>) -> bool {
        let registration = Registration::new();
        let unparker = registration.unparker();
        let waiter = Rc::new(Waiter { is_reported: Cell::new(false), unparker });
        self.waiting.borrow_mut().push(Rc::clone(&waiter));
        if self.bell.borrow().is_none() {
            let bell = Bell::new(word.as_ptr() as usize, notify_all);
            *self.bell.borrow_mut() = Some(bell);
        }
        let looks = self.told.borrow().get(&me).copied().unwrap_or(0);
        let look = Deadline::after(pause(looks, clock::now() - self.news.get()));
        let next = deadline.into_iter().chain(look).min();
        while !waiter.is_reported.get() {
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
        if waiter.is_reported.get() {
            return true;
        }
        if next == deadline {
            return false;
        }
        let mut told = self.told.borrow_mut();
        if told.len() > MANY {
            told.clear();
        }
        told.insert(me, looks + 1);
        true
    }

    /// All who wait go on.
    fn notify(&self) {
        self.was_notified.set(true);
        self.news.set(clock::now());
        self.told.borrow_mut().clear();
        for waiter in &*self.waiting.borrow() {
            waiter.is_reported.set(true);
            waiter.unparker.unpark();
        }
    }

    /// The word, if anybody waits for it.
    fn word_waited_for(&self) -> Option<&AtomicU32> {
        match self.word.get() {
            // SAFETY: somebody waits for it in `park_at`, where it is said to be there.
            Word::Known(word) if !self.waiting.borrow().is_empty() => Some(unsafe { &*word }),
            _ => None,
        }
    }
}

/// So many are kept in mind. Who is forgotten returns once for no reason.
const MANY: usize = 10_000;

/// How long one waits who has looked around so often for nothing, by how many nanoseconds ago anybody was
/// notified: so that it costs next to nothing in the long run.
fn pause(looks: u32, quiet: u64) -> Duration {
    const AT_ONCE: u32 = 64;
    const PART: u64 = 128;
    const MILLI: u64 = 1_000_000;
    match looks {
        ..AT_ONCE => Duration::ZERO,
        _ => Duration::from_nanos((quiet / PART).clamp(MILLI, 1000 * MILLI)),
    }
}

fn notify_all() {
    HERE.with(|here| here.notify());
}

fn look() {
    HERE.with(|here| {
        if let Some(word) = here.word_waited_for()
            && word.compare_exchange(NOTIFIED, EMPTY, Acquire, Relaxed).is_ok()
        {
            here.notify();
        }
    });
}

fn request_call() -> bool {
    HERE.with(|here| {
        here.word_waited_for()
            .is_none_or(|word| word.compare_exchange(EMPTY, PARKED, SeqCst, Relaxed).is_ok())
    })
}

fn cancel_call() {
    HERE.with(|here| {
        if let Some(word) = here.word_waited_for() {
            let _ = word.compare_exchange(PARKED, EMPTY, Acquire, Relaxed);
        }
    });
}

/// The thread ends.
fn forget() {
    HERE.with(|here| {
        here.word.set(Word::Foreign);
        drop(here.waiting.take());
        drop(here.bell.take());
    });
}
