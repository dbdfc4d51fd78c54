//! The first and the last Rust code on a greenlet's stack, around the body.
//!
//! ```text
//!   entry ── the body ── finish ── the parent awaits the result ──────────────► last switch
//!                           │                                                       ▲
//!                           └── otherwise: find_receiver determines who gets what ──┘
//! ```

use super::block::{Core, Hold, Life};
use super::dropping::Payload;
use super::end::{close, discard_unstarted};
use super::marks::EXIT_PROPAGATES;
use super::report::{report, report_panic};
use super::switch::{
    DELIVERY, Failure, PLAIN, decode, encode, leave, mismatch, receive, switch_stacks,
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
/// Called by the first switch to a greenlet that `create` has made with these types.
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
    // SAFETY: the current greenlet is alive, and so has the hold of its life.
    let core = unsafe { block.as_ref() };
    core.life.set(Life::Started);
    let place = core.cold().body.take().expect("an unstarted greenlet has a body").place;
    let ended = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: `create` has written an `F` there. It was taken out of the block, so it is read once.
        let body = unsafe { place.cast::<F>().read() };
        let input = match signal {
            // SAFETY: the greenlet was declared to receive an `In`, and a plain signal comes with a value.
            PLAIN => Ok(unsafe { decode(word) }),
            // SAFETY: the first switch has just brought both, to a greenlet declared to receive an `In`.
            _ => unsafe { receive(word, signal) },
        };
        let input: In =
            input.unwrap_or_else(|_: Failure| unreachable!("the first switch sends a value"));
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

/// Drops a greenlet's locals one by one, then those that their destructors have created, and so on. What
/// remains after many rounds is leaked.
#[cold]
pub(super) fn drop_locals(core: &Core) {
    const ROUNDS: usize = 100;
    for _ in 0..ROUNDS {
        let Some(locals) = core.cold().locals.take() else { return };
        // `None` if another greenlet shares them.
        let values = Rc::into_inner(locals).map(RefCell::into_inner);
        for (_, value) in values.into_iter().flatten() {
            report_panic(core, "dropping a local", || drop(value));
        }
    }
    if let Some(left) = core.cold().locals.take() {
        let title = core.title();
        stderr::write(&[&format!(
            "switchgrass: greenlet {title} leaks locals: their destructors keep creating new ones\n"
        )]);
        mem::forget(left);
    }
}

/// Ends the current greenlet: sends its outcome to the waiter for its end, or to an ancestor that can
/// receive it.
///
/// Inlined into [`entry`], so that there is no call between the first switch to a greenlet and its last.
#[inline(always)]
fn finish<Out: 'static>(here: Here, block: NonNull<Core>, outcome: Outcome<Out>) -> ! {
    // SAFETY: the current greenlet is alive, and so has the hold of its life.
    let core = unsafe { block.as_ref() };
    let parent = core.cold().parent.get().expect("only main has no parent, and main does not end");
    // SAFETY: a block has a hold of its parent.
    let awaits_it = unsafe { parent.as_ref() }.accepts.get() == core.cold().output.get();
    let value;
    let (receiver, word, signal) = match outcome {
        // The common case: the parent is alive and suspended in a wait for exactly this type. (A dead
        // greenlet accepts `NONE`, which is never an output type.)
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
            let (receiver, result) = find_receiver(here, block, outcome);
            let word = match result {
                Some(result) => {
                    value = ManuallyDrop::new(result);
                    encode(&value)
                }
                None => Word::uninit(),
            };
            (receiver, word, DELIVERY)
        }
    };
    close(here, core, Life::Dead);
    here.set_current(receiver);
    // SAFETY: the receiver is suspended or has not started, and awaits the type that `word` encodes, or
    // reads the delivery. `value` stays in place: this stack is not reused before `reclaim`, which happens
    // after the value is read.
    unsafe { switch_stacks(core, receiver.as_ref(), word, signal) };
    stderr::write(&["switchgrass: a dead greenlet was resumed; this is a bug\n"]);
    process::abort()
}

/// Finds the receiver of an outcome that is not simply the value that the parent awaits, and fills in the
/// delivery for it. Returns the result if the receiver accepts it.
#[cold]
#[inline(never)]
fn find_receiver<Out: 'static>(
    here: Here,
    block: NonNull<Core>,
    mut outcome: Outcome<Out>,
) -> (NonNull<Core>, Option<Out>) {
    // SAFETY: the current greenlet is alive, and so has the hold of its life.
    let core = unsafe { block.as_ref() };
    let output = core.cold().output.get();
    let (receiver, delivered) = loop {
        // Determined again after each step that has run user code (Invariant 20).
        let receiver = receiver_of(core);
        outcome = match (receiver.life.get(), outcome) {
            (_, Outcome::Returned(value)) if receiver.accepts.get() == output => {
                break (receiver, Ok(value));
            }
            (Life::Unstarted, other) => skip_unstarted(here, core, &receiver, other),
            (_, other) => {
                let arrival = arrival_of(here, core, &receiver, other);
                break (receiver, Err(arrival));
            }
        }
    };
    let thrown = matches!(delivered, Err(Arrival::Throw(_)));
    // This greenlet is not resumed, so the carried state is not needed; nor is it an orphan.
    let event = if thrown { TraceKind::Throw } else { TraceKind::Switch };
    let _ = leave(here, TypeKey::NONE, event);
    drop(here.delivery.orphan.take());
    here.delivery.is_pending.set(false);
    // SAFETY: the hold of its life, which ends with the switch that follows.
    here.delivery.finished.set(Some(unsafe { Hold::from_block(block) }));
    let result = match delivered {
        Ok(result) => Some(result),
        Err(arrival) => {
            here.delivery.arrival.set(arrival);
            None
        }
    };
    (receiver.block(), result)
}

/// Returns the receiver of the outcome of `core`: the most recent waiter for its end, or the first live
/// ancestor.
fn receiver_of(core: &Core) -> Hold {
    let mut receiver = match core.end_waiter() {
        Some(waiter) => waiter.hold(),
        None => parent_of(core),
    };
    while !receiver.is_alive() {
        receiver = parent_of(&receiver);
    }
    receiver
}

fn parent_of(core: &Core) -> Hold {
    core.parent_hold().expect("main is the last ancestor, and is alive")
}

/// Ends a receiver that has not started and cannot receive the outcome. Returns the outcome for the next
/// receiver: a result becomes an error.
fn skip_unstarted<Out: 'static>(
    here: Here,
    core: &Core,
    receiver: &Core,
    outcome: Outcome<Out>,
) -> Outcome<Out> {
    let outcome = match outcome {
        Outcome::Returned(value) => {
            let mismatch =
                mismatch(here, receiver, receiver.accepts.get(), core.cold().output.get());
            report_panic(core, "dropping its result", || drop(value));
            let error: SwitchError<()> = SwitchError::WrongResult(mismatch);
            Outcome::Panicked(Box::new(error.to_string()))
        }
        same => same,
    };
    // Dropping the result is user code, and may have started or ended it.
    report_panic(receiver, "dropping its body", || {
        if receiver.life.get() == Life::Unstarted {
            discard_unstarted(here, receiver);
        }
    });
    outcome
}

/// Returns what to deliver to a receiver that does not accept the outcome as a value. Runs no user code:
/// what the receiver awaits must not change before the switch to it.
fn arrival_of<Out: 'static>(
    here: Here,
    core: &Core,
    receiver: &Core,
    outcome: Outcome<Out>,
) -> Arrival {
    let waits_for_the_end = receiver.awaits_end_of(core);
    match outcome {
        Outcome::Returned(value) => {
            let unwanted: Box<dyn Any> = Box::new(value);
            here.delivery.discard_later(unwanted);
            if waits_for_the_end {
                return Arrival::Nothing;
            }
            let output = core.cold().output.get();
            Arrival::WrongResult(mismatch(here, receiver, receiver.accepts.get(), output))
        }
        Outcome::Exited if core.mark.get() & EXIT_PROPAGATES != 0 => {
            Arrival::Throw(Box::new(GreenletExit))
        }
        Outcome::Exited if waits_for_the_end => Arrival::Nothing,
        Outcome::Exited => Arrival::Exit,
        Outcome::Panicked(payload) if waits_for_the_end => {
            report(core, "panicked while it was being dropped", &payload);
            // Its destructor is user code, and might switch. It runs after the switch.
            here.delivery.discard_later(payload);
            Arrival::Nothing
        }
        Outcome::Panicked(payload) => Arrival::Throw(payload),
    }
}
