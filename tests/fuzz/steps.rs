//! What the programs of all kinds have in common: how many steps they take, how deep these nest, and what
//! becomes of the panics.

use crate::values::Body;
use crate::{WITHOUT, finding, random};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any, resume_unwind};
use std::sync::LazyLock;
use std::{env, thread};
use switchgrass::current;

thread_local! {
    /// Steps left.
    static FUEL: Cell<u32> = const { Cell::new(0) };
    static STEP: Cell<fn()> = const { Cell::new(|| ()) };
    static TAME: Cell<bool> = const { Cell::new(false) };
    /// Steps within each other, per greenlet: the stacks are of a limited size.
    static DEPTHS: RefCell<BTreeMap<u64, u32>> = const { RefCell::new(BTreeMap::new()) };
}

/// Steps within each other on one stack.
const DEPTH: u32 = 12;

pub(crate) fn start(fuel: u32, step: fn()) {
    FUEL.set(fuel);
    STEP.set(step);
    TAME.set(random::one_in(3));
}

/// Something that a program can do.
pub(crate) struct Action {
    pub(crate) name: &'static str,
    /// How often it is chosen, relative to others.
    pub(crate) weight: u64,
    pub(crate) act: fn(),
}

/// Lists functions as actions with weights.
macro_rules! actions {
    ($($weight:literal $name:ident),* $(,)?) => {
        &[$(crate::steps::Action { name: stringify!($name), weight: $weight, act: $name }),*]
    };
}
pub(crate) use actions;

/// Whether something was not left out by its name.
pub(crate) fn is_allowed(name: &str) -> bool {
    static NAMES: LazyLock<String> = LazyLock::new(|| env::var(WITHOUT).unwrap_or_default());
    NAMES.split(',').all(|without| without != name)
}

/// Takes one of the actions.
pub(crate) fn act(actions: &[Action]) {
    static IS_VERBOSE: LazyLock<bool> =
        LazyLock::new(|| env::var_os("SWITCHGRASS_FUZZ_VERBOSE").is_some());
    let mut chosen = random::below(actions.iter().map(|action| action.weight).sum());
    for action in actions {
        if chosen >= action.weight {
            chosen -= action.weight;
            continue;
        }
        if !is_allowed(action.name) {
            return;
        }
        if *IS_VERBOSE {
            let panicking = if thread::panicking() { ", panicking" } else { "" };
            eprintln!("{:?}{panicking}: {}", catch_unwind(current).ok(), action.name);
        }
        return (action.act)();
    }
}

/// In a tame program nobody refuses to end: kills are not caught, and destructors take no steps. So at the end
/// of its thread nothing may be alive.
pub(crate) fn is_tame() -> bool {
    TAME.get()
}

pub(crate) fn are_left() -> bool {
    FUEL.get() > 0
}

/// Takes a random step, which may panic.
pub(crate) fn step() {
    struct Leave(u64);
    impl Drop for Leave {
        fn drop(&mut self) {
            let _ = DEPTHS.try_with(|depths| {
                *depths.borrow_mut().entry(self.0).or_insert(1) -= 1;
            });
        }
    }
    // After the end of the thread's greenlets there is no current one.
    let id = catch_unwind(|| current().id()).unwrap_or(u64::MAX);
    let fits = DEPTHS.try_with(|depths| {
        let mut depths = depths.borrow_mut();
        let depth = depths.entry(id).or_default();
        let fits = *depth < DEPTH;
        *depth += u32::from(fits);
        fits
    });
    if fits != Ok(true) {
        return;
    }
    let _leave = Leave(id);
    // A step may be taken where no body is: in the destructor of a greenlet's local, for example.
    let _body = Body::new();
    let Some(fuel) = FUEL.get().checked_sub(1) else { return };
    FUEL.set(fuel);
    STEP.get()();
}

/// Takes up to `limit` steps, each of which may fail.
pub(crate) fn run(limit: u64) {
    let was_panicking = thread::panicking();
    for _ in 0..random::below(limit + 1) {
        if !are_left() {
            return;
        }
        guarded(step);
        if thread::panicking() != was_panicking {
            finding("the count of panics is not that of this greenlet");
        }
    }
}

/// In a destructor, a `clone`, a comparison, a trace hook: which of these is `name`.
pub(crate) fn step_in_callback(name: &str) {
    if !is_tame() && are_left() && is_allowed(name) {
        guarded(step);
    }
}

/// Calls `f`, and swallows its panics. Those that end a greenlet are passed on: always in a tame program,
/// mostly in others.
pub(crate) fn guarded(f: impl FnOnce()) {
    let Err(payload) = catch_unwind(AssertUnwindSafe(f)) else { return };
    let ends = !payload.is::<&'static str>() && !payload.is::<String>();
    if ends && !thread::panicking() && (is_tame() || !random::one_in(4)) {
        resume_unwind(payload);
    }
    swallow(|| drop(payload));
}

/// Calls `f`, and swallows whatever it raises: for the outermost frames.
pub(crate) fn swallow(f: impl FnOnce()) {
    let mut result = catch_unwind(AssertUnwindSafe(f));
    // A payload may have a destructor that panics, with such a payload.
    while let Err(payload) = result {
        result = catch_unwind(AssertUnwindSafe(|| drop(payload)));
    }
}

/// Panics with a message that is no finding.
pub(crate) fn fail() -> ! {
    panic_any("on purpose")
}
