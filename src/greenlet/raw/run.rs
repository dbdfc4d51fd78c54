//! What runs on a greenlet's stack before the body and after it: the first Rust code there, and the
//! last.
//!
//! ```text
//!   entry ── the body ── finish ── the parent awaits the result ──────────► switch, for good
//!                           │                                                  ▲
//!                           └── otherwise: settle_estate finds who gets what ──┘
//! ```

use super::block::{Core, Hold, Life};
use super::dropping::Payload;
use super::end::{close, discard_unstarted};
use super::marks::EXIT_PROPAGATES;
use super::report::{report, report_panic};
use super::switch::{
    Failure, LOOK, PLAIN, decode, encode, leave, mismatch, receive, switch_stacks,
};
use super::thread::{self, Arrival, Here, TraceKind};
use super::types::TypeKey;
use crate::arch::{Word, float_modes_changed};
use crate::greenlet::error::{GreenletExit, SwitchError};
use crate::sys::stderr;
use std::any::Any;
use std::cell::RefCell;
use std::mem::{self, ManuallyDrop};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process;
use std::ptr::NonNull;
use std::rc::Rc;

/// How a body ended.
enum Outcome<Out> {
    Returned(Out),
    Exited,
    Panicked(Payload),
}

/// The first Rust code on a greenlet's stack, and the last.
///
/// # Safety
///
/// Called by the first switch into a greenlet that [`create`] has made with these types.
pub(super) unsafe extern "C" fn entry<In, Out, F>(word: Word, signal: usize) -> !
where
    In: 'static,
    Out: 'static,
    F: FnOnce(In) -> Out,
{
    #[cfg(all(feature = "sanitizer", not(feature = "portable")))]
    crate::sys::sanitizer::arrive(std::ptr::null_mut());
    let here = Here::of_a_block();
    let block = here.current();
    // SAFETY: the current greenlet is alive.
    let core = unsafe { block.as_ref() };
    core.life.set(Life::Started);
    let place = core.cold().body.take().expect("an unstarted greenlet has a body").place;
    let ended = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: `create` has put it there; it is read once, having been taken out of the block.
        let body = unsafe { place.cast::<F>().read() };
        let input = match signal {
            // SAFETY: sent to one that was declared to take an `In`.
            PLAIN => Ok(unsafe { decode(word) }),
            // SAFETY: as above.
            _ => unsafe { receive(word, signal) },
        };
        let input: In =
            input.unwrap_or_else(|_: Failure| unreachable!("what begins is sent a value"));
        body(input)
    }));
    let outcome = match ended {
        Ok(result) => Outcome::Returned(result),
        Err(payload) if payload.is::<GreenletExit>() => Outcome::Exited,
        Err(payload) => Outcome::Panicked(payload),
    };
    if core.cold().locals.borrow().is_some() {
        drop_locals(core);
    }
    finish(here, block, outcome)
}

/// Drops a greenlet's locals one by one, then those that their destructors have made, and so on. After many
/// rounds the rest is leaked.
#[cold]
pub(super) fn drop_locals(core: &Core) {
    const ROUNDS: usize = 100;
    for _ in 0..ROUNDS {
        let Some(locals) = core.cold().locals.take() else { return };
        // `None` if another greenlet shares them.
        let values = Rc::into_inner(locals).map(RefCell::into_inner);
        for (_, value) in values.into_iter().flatten() {
            report_panic(core, "dropping a local of", || drop(value));
        }
    }
    if let Some(left) = core.cold().locals.take() {
        let title = core.title();
        stderr::write(&[&format!(
            "switchgrass: greenlet {title} leaks locals: their destructors make new ones each time\n"
        )]);
        mem::forget(left);
    }
}

/// Ends the current greenlet: hands its outcome to its first ancestor that can take it.
///
/// Inlined into [`entry`], so that no call stands between the first switch into a greenlet and its last.
#[inline(always)]
fn finish<Out: 'static>(here: Here, block: NonNull<Core>, outcome: Outcome<Out>) -> ! {
    // SAFETY: the current greenlet is alive.
    let core = unsafe { block.as_ref() };
    let parent = core.cold().parent.get().expect("only main has no parent, and it does not end");
    // SAFETY: a block holds its parent's.
    let awaits_it = unsafe { parent.as_ref() }.accepts.get() == core.cold().gives.get();
    let value;
    let (heir, word, signal) = match outcome {
        // Common: the parent lives, and it is suspended in a wait for just this. (The dead accept
        // nothing, and nobody gives that.)
        Outcome::Returned(result)
            if awaits_it
                && core.end_waiter().is_none()
                && !thread::must_take_slow_path()
                && !float_modes_changed() =>
        {
            value = ManuallyDrop::new(result);
            (parent, encode(&value), block.as_ptr().expose_provenance())
        }
        outcome => {
            let (heir, result) = settle_estate(here, block, outcome);
            let word = match result {
                Some(result) => {
                    value = ManuallyDrop::new(result);
                    encode(&value)
                }
                None => Word::uninit(),
            };
            (heir, word, LOOK)
        }
    };
    close(here, core, Life::Dead);
    here.set_current(heir);
    // SAFETY: the heir is started and suspended, or unstarted and fresh, and awaits what `word`
    // encodes, or looks at the delivery. `value` stays in place: this stack is not used again before
    // `reclaim`, which comes after the value is read.
    unsafe { switch_stacks(core, heir.as_ref(), word, signal) };
    stderr::write(&["switchgrass: a dead greenlet was resumed; this is a bug\n"]);
    process::abort()
}

/// Finds the heir of an outcome that is not simply the value that the parent awaits, and leaves word for
/// it. Returns the result if it can take it.
#[cold]
#[inline(never)]
fn settle_estate<Out: 'static>(
    here: Here,
    block: NonNull<Core>,
    mut outcome: Outcome<Out>,
) -> (NonNull<Core>, Option<Out>) {
    // SAFETY: the current greenlet is alive.
    let core = unsafe { block.as_ref() };
    let gives = core.cold().gives.get();
    let (heir, inheritance) = loop {
        // Looked for anew after each step that has run user code.
        let heir = heir_of(core);
        outcome = match (heir.life.get(), outcome) {
            (_, Outcome::Returned(value)) if heir.accepts.get() == gives => {
                break (heir, Ok(value));
            }
            (Life::Unstarted, other) => pass_over(here, core, &heir, other),
            (_, other) => {
                let arrival = arrival_of(here, core, &heir, other);
                break (heir, Err(arrival));
            }
        }
    };
    let thrown = matches!(inheritance, Err(Arrival::Throw(_)));
    // It does not come back for what it carried, nor is it anybody's orphan.
    let event = if thrown { TraceKind::Throw } else { TraceKind::Switch };
    let _ = leave(here, TypeKey::NONE, event);
    drop(here.delivery.orphan.take());
    here.delivery.look.set(false);
    // SAFETY: that of its life, which is over with the switch that is to come.
    here.delivery.finished.set(Some(unsafe { Hold::from_block(block) }));
    let result = match inheritance {
        Ok(result) => Some(result),
        Err(arrival) => {
            here.delivery.arrival.set(arrival);
            None
        }
    };
    (heir.block(), result)
}

/// The greenlet that gets the outcome of one that ends: the most recent that waits for this end, or else the
/// first live ancestor.
fn heir_of(core: &Core) -> Hold {
    let mut heir = match core.end_waiter() {
        Some(waiter) => waiter.hold(),
        None => parent_of(core),
    };
    while !heir.is_alive() {
        heir = parent_of(&heir);
    }
    heir
}

fn parent_of(core: &Core) -> Hold {
    core.parent_hold().expect("every ancestor is below main, which is alive")
}

/// Ends an heir that has not begun and cannot take the outcome. The outcome that goes on to the next heir: a
/// result becomes an error.
fn pass_over<Out: 'static>(
    here: Here,
    core: &Core,
    heir: &Core,
    outcome: Outcome<Out>,
) -> Outcome<Out> {
    let outcome = match outcome {
        Outcome::Returned(value) => {
            let mismatch = mismatch(here, heir, heir.accepts.get(), core.cold().gives.get());
            report_panic(core, "dropping the result of", || drop(value));
            let error: SwitchError<()> = SwitchError::WrongResult(mismatch);
            Outcome::Panicked(Box::new(error.to_string()))
        }
        same => same,
    };
    // Dropping the result may have begun it, or ended it.
    report_panic(heir, "dropping the body of", || {
        if heir.life.get() == Life::Unstarted {
            discard_unstarted(here, heir);
        }
    });
    outcome
}

/// What an heir that cannot take the outcome as a value is sent. No user code runs: what the heir awaits must
/// not change before it is switched to.
fn arrival_of<Out: 'static>(
    here: Here,
    core: &Core,
    heir: &Core,
    outcome: Outcome<Out>,
) -> Arrival {
    let waits_for_the_end = heir.awaits_end_of(core);
    match outcome {
        Outcome::Returned(value) => {
            let unwanted: Box<dyn Any> = Box::new(value);
            here.delivery.discard_later(unwanted);
            if waits_for_the_end {
                return Arrival::Nothing;
            }
            let gives = core.cold().gives.get();
            Arrival::WrongResult(mismatch(here, heir, heir.accepts.get(), gives))
        }
        Outcome::Exited if core.mark.get() & EXIT_PROPAGATES != 0 => {
            Arrival::Throw(Box::new(GreenletExit))
        }
        Outcome::Exited if waits_for_the_end => Arrival::Nothing,
        Outcome::Exited => Arrival::Exit,
        Outcome::Panicked(payload) if waits_for_the_end => {
            report(core, "panicked while it was being dropped", &payload);
            // Its destructor is user code, and might switch: it runs when this is over.
            here.delivery.discard_later(payload);
            Arrival::Nothing
        }
        Outcome::Panicked(payload) => Arrival::Throw(payload),
    }
}
