//! Values that check themselves, and count their births and deaths.

use crate::{finding, random, steps};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::panic::{Location, panic_any};
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Values alive in the program that runs. Not a thread-local: it is read after the thread has ended.
static ALIVE: AtomicI64 = AtomicI64::new(0);

/// Bodies that exist: not begun, running, or suspended.
static BODIES: AtomicI64 = AtomicI64::new(0);

/// Where the values were made that are alive.
struct Births {
    next: u64,
    all: BTreeMap<u64, &'static Location<'static>>,
}

impl Births {
    fn add(&mut self, location: &'static Location<'static>) -> u64 {
        self.next += 1;
        self.all.insert(self.next, location);
        self.next
    }
}

fn births<T>(f: impl FnOnce(&mut Births) -> T) -> T {
    static BIRTHS: Mutex<Births> = Mutex::new(Births { next: 0, all: BTreeMap::new() });
    f(&mut BIRTHS.lock().unwrap_or_else(PoisonError::into_inner))
}

pub(crate) fn reset() {
    ALIVE.store(0, Relaxed);
    BODIES.store(0, Relaxed);
    births(|births| births.all.clear());
}

/// Where the values were made that are alive, for a message.
pub(crate) fn origins() -> String {
    let lines =
        births(|births| births.all.values().map(|at| at.line().to_string()).collect::<Vec<_>>());
    lines.join(", ")
}

pub(crate) fn alive() -> i64 {
    ALIVE.load(Relaxed)
}

pub(crate) fn bodies() -> i64 {
    BODIES.load(Relaxed)
}

const FRESH: u64 = 0x5EED_F00D_CAFE_D00D;
const DEAD: u64 = 0xDEAD_DEAD_DEAD_DEAD;

/// Larger than what a switch hands over in a register, with a part on the heap: garbage, a second drop and a
/// read after the free are noticed.
pub(crate) struct Value {
    heap: Box<u64>,
    inline: [u64; 2],
    tag: u64,
    birth: u64,
}

impl Value {
    #[track_caller]
    pub(crate) fn new() -> Self {
        Value::tagged(0)
    }

    #[track_caller]
    pub(crate) fn tagged(tag: u64) -> Self {
        ALIVE.fetch_add(1, Relaxed);
        let caller = Location::caller();
        let birth = births(|births| births.add(caller));
        Value { heap: Box::new(FRESH), inline: [FRESH, tag], tag, birth }
    }

    /// Returns the tag.
    pub(crate) fn check(&self) -> u64 {
        if *self.heap != FRESH || self.inline != [FRESH, self.tag] {
            finding(&format!("a value that never was one: {:x} {:x?}", *self.heap, self.inline));
        }
        self.tag
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        self.check();
        *self.heap = DEAD;
        self.inline = [DEAD; 2];
        births(|births| births.all.remove(&self.birth));
        if ALIVE.fetch_sub(1, Relaxed) <= 0 {
            finding("more values were dropped than made");
        }
        if random::one_in(6) {
            steps::step_in_callback("in_drop");
        }
    }
}

/// The clone is user code as well.
impl Clone for Value {
    fn clone(&self) -> Self {
        let tag = self.check();
        if random::one_in(4) {
            steps::step_in_callback("in_clone");
        }
        self.check();
        Value::tagged(tag)
    }
}

impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Value({})", self.check())
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Value {}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Value {
    fn cmp(&self, other: &Self) -> Ordering {
        let order = self.check().cmp(&other.check());
        if random::one_in(12) {
            steps::step_in_callback("in_cmp");
        }
        order
    }
}

/// A panic payload whose destructor panics, where that does not end the process.
pub(crate) struct Nasty(pub(crate) Value);

impl Drop for Nasty {
    fn drop(&mut self) {
        self.0.check();
        if !thread::panicking() {
            panic_any("the destructor of a payload, on purpose");
        }
    }
}

/// Captured by every body, declared before anything else: while one exists, what that body owns may be
/// alive. Afterwards it must not.
pub(crate) struct Body(());

impl Body {
    pub(crate) fn new() -> Self {
        BODIES.fetch_add(1, Relaxed);
        Body(())
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if BODIES.fetch_sub(1, Relaxed) <= 0 {
            finding("a body was dropped twice");
        }
    }
}
