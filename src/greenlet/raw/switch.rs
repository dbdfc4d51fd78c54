//! Switches from one greenlet to another.
//!
//! ```text
//!   switch ── types match, fast path open, default float modes ──► switch_stacks ──► PLAIN: the value
//!      │                                                                 ▲    └────► otherwise: receive
//!      └─ otherwise ─► switch_slowly: route, leave ──────────────────────┘
//! ```
//!
//! The fast path is inlined into the caller and does only what is necessary. State that belongs to a
//! greenlet but is stored per thread (the panic count, changed float modes) is saved by the slow path, in
//! the frame of the greenlet that leaves.
//!
//! **Arrival contract** of the functions that read a `word`: a switch has just returned `word` and `signal`
//! to the current greenlet, nothing has run since, and the type that is read is the one that the current
//! greenlet awaited, as it stated before the switch. The sender has checked this type (Invariants 1 and 5).

use super::block::{Core, Hold, Life};
use super::dropping::{Payload, drop_payload, drop_reporting};
use super::end;
use super::handle::WeakGreenlet;
use super::thread::{self, Arrival, Here, TraceKind};
use super::types::TypeKey;
use crate::arch::{self, FloatModes, Word, float_modes_changed};
use crate::greenlet::error::{GreenletExit, Mismatch, SwitchError};
use std::any::Any;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::{self, NonNull};
use std::rc::Rc;

/// The signal for a plain value.
pub(super) const PLAIN: usize = 0;
/// The signal for a delivery: read the thread's `Delivery`. Any other signal is the address of a block: the
/// greenlet has ended, and has sent its result as the value.
pub(super) const DELIVERY: usize = 1;

impl<In: 'static, Out: 'static> WeakGreenlet<In, Out> {
    #[inline(always)]
    pub(crate) fn switch_typed(&self, value: In) -> Result<Out, SwitchError<In>> {
        // SAFETY: the types are the declared ones by Invariant 2 (there is no `Untyped` value to send), and
        // `self` holds the block.
        unsafe { switch(self.block(), value) }
    }
}

impl<In, Out> WeakGreenlet<In, Out> {
    pub(crate) fn switch_any_checked<T: 'static, R: 'static>(
        &self,
        value: T,
    ) -> Result<R, SwitchError<T>> {
        switch_slowly(self.core(), value)
    }

    pub(crate) fn throw_payload<R: 'static>(
        &self,
        payload: Payload,
    ) -> Result<R, SwitchError<Payload>> {
        throw(self.core(), payload)
    }
}

/// Sends `value` to `target` and returns the next value sent to the caller.
///
/// # Safety
///
/// `T` and `R` are the types that `target` was declared with, and its block is held.
#[inline(always)]
pub(super) unsafe fn switch<T: 'static, R: 'static>(
    target: NonNull<Core>,
    value: T,
) -> Result<R, SwitchError<T>> {
    // SAFETY: the target's block is held, so this thread has state, and a current greenlet, which is alive.
    let (from, to) = unsafe { (thread::current().unwrap_unchecked().as_ref(), target.as_ref()) };
    if to.reply.get() != from.accepts.get()
        || thread::must_take_slow_path()
        || float_modes_changed()
    {
        return switch_slowly(to, value);
    }
    thread::set_current(target);
    let outgoing = ManuallyDrop::new(value);
    // SAFETY: by Invariant 1 the target awaits a `T`, and is suspended, has not started, or is the current
    // greenlet. `outgoing` stays in place until the target has read it. The current greenlet accepts the
    // type that `reply` names, `R`, so the arrival contract holds for it.
    unsafe {
        let (word, signal) = switch_stacks(from, to, encode(&outgoing), PLAIN);
        if signal == PLAIN {
            Ok(decode(word))
        } else {
            receive(word, signal).map_err(Failure::without_value)
        }
    }
}

/// Sends `value` to `target` like [`switch`], for any types, which are compared with those awaited.
#[cold]
#[inline(never)]
pub(super) fn switch_slowly<T: 'static, R: 'static>(
    target: &Core,
    value: T,
) -> Result<R, SwitchError<T>> {
    let here = Here::of_a_block();
    if here.is_scheduler(here.running()) {
        return Err(SwitchError::Scheduler { value });
    }
    if here.is_barred(&first_ancestor(target, Core::is_alive)) {
        return Err(SwitchError::InCallback { value });
    }
    match switch_across(here, target, value, here.types.key::<R>())? {
        Switched::ToSelf(value) => {
            trace(here, TraceKind::Switch, here.running());
            let value = ManuallyDrop::new(value);
            // SAFETY: `switch_across` has found `T` and `R` equal; the value is read once.
            Ok(unsafe { (&raw const value).cast::<R>().read() })
        }
        // SAFETY: the arrival contract: `switch_across` was called with the key of `R`.
        Switched::Resumed(word, PLAIN) => Ok(unsafe { decode(word) }),
        Switched::Resumed(word, signal) => {
            // SAFETY: the arrival contract: `switch_across` was called with the key of `R`.
            unsafe { receive(word, signal) }.map_err(Failure::without_value)
        }
    }
}

/// Returns the first of `target` and its ancestors for which `is_it` holds, or the last ancestor.
fn first_ancestor(target: &Core, is_it: impl Fn(&Core) -> bool) -> Hold {
    let mut node = target.hold();
    while !is_it(&node) {
        let Some(parent) = node.parent_hold() else { break };
        node = parent;
    }
    node
}

/// The outcome of a switch by the slow path.
pub(super) enum Switched<T> {
    /// The target was the caller itself, which receives its own value.
    ToSelf(T),
    /// The caller was suspended, and resumed with this word and signal.
    Resumed(Word, usize),
}

/// Sends `value` to `target`, or to its first live ancestor, and awaits `awaited`.
#[inline(always)]
pub(super) fn switch_across<T: 'static>(
    here: Here,
    target: &Core,
    value: T,
    awaited: TypeKey,
) -> Result<Switched<T>, SwitchError<T>> {
    let target = match route(here, target, here.types.key::<T>(), awaited) {
        Ok(target) => target,
        Err(Refusal::WrongType(mismatch)) => {
            return Err(SwitchError::WrongType { value, mismatch });
        }
        Err(Refusal::ThreadEnded) => return Err(SwitchError::ThreadEnded { value }),
        Err(Refusal::Unwinding) => return Err(SwitchError::Unwinding { value }),
    };
    if target == here.current() {
        return Ok(Switched::ToSelf(value));
    }
    let outgoing = ManuallyDrop::new(value);
    // SAFETY: `route` returns a live greenlet, so it has the hold of its life.
    let accepts = unsafe { target.as_ref() }.accepts.get();
    let is_read = accepts != TypeKey::ANY && accepts != TypeKey::END;
    let word = if is_read {
        encode(&outgoing)
    } else {
        // SAFETY: `outgoing` is a `ManuallyDrop` that is not read again.
        let unwanted: Box<dyn Any> = Box::new(unsafe { ptr::read(&*outgoing) });
        here.delivery.discard_later(unwanted);
        here.delivery.arrival.set(Arrival::Nothing);
        Word::uninit()
    };
    let carried = leave(here, awaited, TraceKind::Switch);
    // SAFETY: the target is suspended or has not started, and awaits a `T`, or reads the delivery instead
    // of the word.
    let (word, signal) = unsafe { go(here, target, word) };
    carried.restore(here);
    Ok(Switched::Resumed(word, signal))
}

/// Raises `payload` in `target`, or where `throw_across` redirects it, and returns the next value sent to
/// the caller.
pub(super) fn throw<R: 'static>(
    target: &Core,
    payload: Payload,
) -> Result<R, SwitchError<Payload>> {
    let here = Here::of_a_block();
    if here.is_scheduler(here.running()) {
        return Err(SwitchError::Scheduler { value: payload });
    }
    if here.is_barred(&first_ancestor(target, |node| node.life.get() == Life::Started)) {
        return Err(SwitchError::InCallback { value: payload });
    }
    let awaited = here.types.key::<R>();
    let (word, signal) = throw_across(here, target, payload, awaited, Unwinding::IsSpared)?;
    // SAFETY: the arrival contract: `throw_across` was called with the key of `R`.
    unsafe {
        if signal == PLAIN {
            Ok(decode(word))
        } else {
            receive(word, signal).map_err(Failure::without_value)
        }
    }
}

/// Whether to throw into a target that is suspended in a destructor during an unwind. A panic that leaves
/// that destructor aborts the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unwinding {
    /// Refuse with [`SwitchError::TargetUnwinding`].
    IsSpared,
    /// Throw anyway.
    IsRisked,
}

/// Raises `payload` in `target`, or in its first ancestor that has started and not ended, and awaits
/// `awaited`.
///
/// # Panics
///
/// With `payload`, if that is the caller.
pub(super) fn throw_across(
    here: Here,
    target: &Core,
    payload: Payload,
    awaited: TypeKey,
    unwinding: Unwinding,
) -> Result<(Word, usize), SwitchError<Payload>> {
    if cfg!(panic = "abort") {
        return Err(SwitchError::CannotUnwind { value: payload });
    }
    if here.cannot_carry_panics() {
        return Err(SwitchError::Unwinding { value: payload });
    }
    let is_exit = payload.is::<GreenletExit>();
    let mut node = target.hold();
    if is_exit && !node.is_alive() {
        return Err(SwitchError::Exited(GreenletExit));
    }
    // A greenlet that has not started ends at once, and the payload continues to its parent.
    let mut passed = false;
    while node.life.get() != Life::Started {
        if node.life.get() == Life::Unstarted {
            end::discard_unstarted(here, &node);
            passed = true;
        }
        let Some(parent) = node.parent_hold() else {
            return Err(SwitchError::ThreadEnded { value: payload });
        };
        node = parent;
    }
    let is_scheduler = here.is_scheduler(&node);
    if is_exit && passed && (is_scheduler || node.is_current()) {
        return Err(SwitchError::Exited(GreenletExit));
    }
    if is_scheduler {
        return Err(SwitchError::Scheduler { value: payload });
    }
    if node.is_current() {
        trace(here, TraceKind::Throw, &node);
        resume_unwind(payload);
    }
    let is_spared = unwinding == Unwinding::IsSpared && node.cold().unwinding.get() > 0;
    if is_spared || end::refuses_throws(&node) {
        return Err(SwitchError::TargetUnwinding { value: payload });
    }
    let arrival = if is_exit && passed { Arrival::Exit } else { Arrival::Throw(payload) };
    // SAFETY: the target is suspended and not the caller. It is alive, so it has the hold of its life.
    Ok(unsafe { deliver(here, node.block(), arrival, awaited) })
}

/// Switches to `target` with something other than a value. Awaits `awaited`, and returns what the switch
/// back brings.
///
/// # Safety
///
/// `target` is suspended, and not the caller.
pub(super) unsafe fn deliver(
    here: Here,
    target: NonNull<Core>,
    arrival: Arrival,
    awaited: TypeKey,
) -> (Word, usize) {
    let carried = leave(here, awaited, TraceKind::Throw);
    here.delivery.arrival.set(arrival);
    here.delivery.is_pending.set(true);
    // SAFETY: the caller says that `target` is suspended, and another greenlet. It reads the delivery, not
    // the word.
    let came = unsafe { go(here, target, Word::uninit()) };
    carried.restore(here);
    came
}

/// The reason for refusing a switch.
enum Refusal {
    WrongType(Mismatch),
    ThreadEnded,
    Unwinding,
}

/// Finds the greenlet that a switch to `target` leads to: itself, or its first live ancestor if it is dead.
fn route(
    here: Here,
    target: &Core,
    sent: TypeKey,
    awaited: TypeKey,
) -> Result<NonNull<Core>, Refusal> {
    if here.cannot_carry_panics() {
        return Err(Refusal::Unwinding);
    }
    let mut node = NonNull::from(target);
    loop {
        // SAFETY: the caller holds the target, and a block has a hold of its parent.
        let core = unsafe { node.as_ref() };
        if core.is_alive() {
            let expected = if node == here.current() { awaited } else { core.accepts.get() };
            // A scope that waits for an end accepts a value from the greenlet that it unwinds, and, once
            // that end has come and was delivered to another waiter, from any greenlet.
            let is_brought_back = expected == TypeKey::END
                && (core.awaits_end_of(here.running()) || !core.accepts_only_an_end());
            return if expected == sent || expected == TypeKey::ANY || is_brought_back {
                Ok(node)
            } else {
                Err(Refusal::WrongType(mismatch(here, core, expected, sent)))
            };
        }
        node = core.cold().parent.get().ok_or(Refusal::ThreadEnded)?;
    }
}

#[cold]
pub(super) fn mismatch(here: Here, core: &Core, awaited: TypeKey, sent: TypeKey) -> Mismatch {
    Mismatch {
        greenlet: core.title(),
        awaited: here.types.name(awaited),
        sent: here.types.name(sent),
    }
}

/// State of a greenlet that is stored per thread, saved while it is suspended.
#[must_use]
pub(super) struct Carried {
    modes: Option<FloatModes>,
}

/// Prepares to leave: sets the awaited type, saves the current greenlet's part of the thread's state, and
/// fills in the delivery. Runs no user code.
pub(super) fn leave(here: Here, awaited: TypeKey, kind: TraceKind) -> Carried {
    let core = here.running();
    let cold = core.cold();
    if core.is_main() {
        core.accepts.set(awaited);
    } else if awaited != cold.input.get() {
        core.accepts.set(awaited);
        core.reply.set(TypeKey::CLOSED);
    }
    if let Some(panics) = here.panics() {
        cold.unwinding.set(panics.replace(0));
    }
    let modes = FloatModes::current();
    let modes = (modes != here.modes).then_some(modes);
    if modes.is_some() {
        here.modes.restore();
    }
    if here.tracer.borrow().is_some() {
        here.delivery.trace.set(Some((kind, core.hold())));
        here.delivery.is_pending.set(true);
    }
    if here.orphaned.replace(false) {
        here.update_slow_path();
        if core.handles.get() == 0 && !core.is_main() {
            here.delivery.orphan.set(Some(core.hold()));
            here.delivery.is_pending.set(true);
        }
    }
    Carried { modes }
}

impl Carried {
    /// Restores what [`leave`] has saved.
    pub(super) fn restore(self, here: Here) {
        let core = here.running();
        let cold = core.cold();
        if !core.is_main() {
            core.accepts.set(cold.input.get());
            core.reply.set(cold.output.get());
        }
        if let Some(panics) = here.panics() {
            panics.set(cold.unwinding.replace(0));
        }
        if let Some(modes) = self.modes {
            modes.restore();
        }
    }
}

/// Switches to `target`'s stack, after [`leave`].
///
/// # Safety
///
/// `target` is suspended or has not started, is not the current greenlet, and either awaits the type that
/// `word` encodes, or finds in the delivery that there is no value to read.
pub(super) unsafe fn go(here: Here, target: NonNull<Core>, word: Word) -> (Word, usize) {
    let current = here.current();
    here.set_current(target);
    let signal = if here.delivery.is_pending.replace(false) { DELIVERY } else { PLAIN };
    // SAFETY: the current greenlet is alive; the caller vouches for the target.
    unsafe { switch_stacks(current.as_ref(), target.as_ref(), word, signal) }
}

/// Switches stacks. The only place where a thread does so.
///
/// # Safety
///
/// The requirements of [`arch::switch`]. The thread's current greenlet is already set to `to`.
#[inline(always)]
pub(super) unsafe fn switch_stacks(
    from: &Core,
    to: &Core,
    word: Word,
    signal: usize,
) -> (Word, usize) {
    #[cfg(all(feature = "sanitizer", not(feature = "portable")))]
    let saved = super::sanitize::leave(from, to);
    // SAFETY: the caller vouches for the requirements of `arch::switch`.
    let came = unsafe { arch::switch(&from.context, &to.context, word, signal) };
    #[cfg(all(feature = "sanitizer", not(feature = "portable")))]
    crate::sys::sanitizer::arrive(saved);
    came
}

/// The reason why a completed switch brought no value.
pub(super) enum Failure {
    Exited,
    WrongResult(Mismatch),
}

impl Failure {
    pub(super) fn without_value<T>(self) -> SwitchError<T> {
        match self {
            Failure::Exited => SwitchError::Exited(GreenletExit),
            Failure::WrongResult(mismatch) => SwitchError::WrongResult(mismatch),
        }
    }
}

/// Acts on `signal`, and returns the value or raises what was thrown.
///
/// # Safety
///
/// The arrival contract, with `R` as the type that is read. `signal` is not [`PLAIN`].
#[inline(always)]
pub(super) unsafe fn receive<R>(word: Word, signal: usize) -> Result<R, Failure> {
    if signal == DELIVERY {
        // SAFETY: the arrival contract, passed on.
        return unsafe { receive_delivery(word) };
    }
    // SAFETY: the arrival contract: any other signal is a block that has ended with a value of the awaited
    // type. The value may be on the stack that is given back, so it is read first.
    let value = unsafe { decode(word) };
    // SAFETY: the arrival contract: the signal is a block that has ended, and the value was read.
    unsafe { reclaim_signal(signal) };
    Ok(value)
}

/// Frees what is left of the greenlet that has ended with `signal`.
///
/// # Safety
///
/// A switch has just brought `signal`, it is neither [`PLAIN`] nor [`DELIVERY`], and the value sent with it
/// was read.
#[inline(always)]
pub(super) unsafe fn reclaim_signal(signal: usize) {
    let finished = ptr::with_exposed_provenance_mut::<Core>(signal);
    let finished = NonNull::new(finished).expect("a signal that is not PLAIN");
    // SAFETY: the hold of its life, which ended with its last switch.
    end::reclaim(Here::of_a_block(), unsafe { Hold::from_block(finished) });
}

/// Acts on the delivery: see [`receive`].
///
/// # Safety
///
/// The arrival contract, and the signal was [`DELIVERY`].
#[cold]
#[inline(never)]
unsafe fn receive_delivery<R>(word: Word) -> Result<R, Failure> {
    // SAFETY: the arrival contract, passed on.
    let (value, arrival) = unsafe { take_delivery(word) };
    match arrival {
        Arrival::Value => Ok(value.expect("Arrival::Value comes with a value")),
        Arrival::Nothing => unreachable!("sent only to a waiter for an end"),
        Arrival::Throw(payload) => resume_unwind(payload),
        Arrival::Exit => Err(Failure::Exited),
        Arrival::WrongResult(mismatch) => Err(Failure::WrongResult(mismatch)),
    }
}

/// Takes the delivery and settles it, but raises nothing: a panic of what [`settle`] runs replaces what was
/// sent.
///
/// # Safety
///
/// The arrival contract, and the signal was [`DELIVERY`].
unsafe fn take_delivery<R>(word: Word) -> (Option<R>, Arrival) {
    let here = Here::of_a_block();
    let arrival = here.delivery.arrival.take();
    // SAFETY: the arrival contract: `Arrival::Value` comes with a value of the awaited type. It may be on a
    // stack that `settle` gives back, so it is read first.
    let value = matches!(arrival, Arrival::Value).then(|| unsafe { decode(word) });
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| settle(here))) {
        let thrown = match arrival {
            Arrival::Throw(payload) => Some(payload),
            _ => None,
        };
        drop_reporting("the destructor of a sent value", value);
        thrown.into_iter().for_each(drop_payload);
        return (None, Arrival::Throw(panic));
    }
    (value, arrival)
}

/// Acts on `signal` in a greenlet that awaits `()`, [`TypeKey::ANY`] or [`TypeKey::END`]. Never unwinds:
/// what is thrown is returned, and so is the panic of a tracer.
///
/// # Safety
///
/// The arrival contract, for a greenlet that awaits one of these: no more than a `()` is read.
pub(super) unsafe fn receive_anything(word: Word, signal: usize) -> Arrival {
    let received = catch_unwind(AssertUnwindSafe(|| match signal {
        PLAIN => Arrival::Value,
        // SAFETY: the arrival contract; at most a `()` is read.
        DELIVERY => unsafe { take_delivery::<()>(word).1 },
        _ => {
            // SAFETY: the arrival contract; any other signal is a block that has ended with a `()`.
            let _: Result<(), Failure> = unsafe { receive(word, signal) };
            Arrival::Value
        }
    }));
    received.unwrap_or_else(Arrival::Throw)
}

/// Performs what the greenlet that left could not do itself. Each step runs user code, and runs even if
/// another panics: the first panic is raised at the end.
#[cold]
fn settle(here: Here) {
    here.running().arrive();
    let delivery = &here.delivery;
    let (finished, orphan) = (delivery.finished.take(), delivery.orphan.take());
    let (discard, traced) = (delivery.discard.take(), delivery.trace.take());
    let mut panic = None;
    let mut run = |step: &mut dyn FnMut()| {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(step)) {
            match panic {
                None => panic = Some(payload),
                Some(_) => drop_payload(payload),
            }
        }
    };
    if let Some(finished) = finished {
        let mut finished = Some(finished);
        run(&mut || finished.take().into_iter().for_each(|finished| end::reclaim(here, finished)));
    }
    if let Some((kind, from)) = traced {
        run(&mut || trace(here, kind, &from));
    }
    if let Some(orphan) = orphan {
        run(&mut || end::unwind_orphan(here, &orphan));
    }
    if discard.is_some() {
        let mut discard = discard;
        run(&mut || drop(discard.take()));
    }
    if let Some(payload) = panic {
        resume_unwind(payload);
    }
}

/// Notifies the tracer that the current greenlet was switched to from `from`. A tracer that panics is
/// removed, and its panic is raised here.
fn trace(here: Here, kind: TraceKind, from: &Core) {
    let Some(tracer) = here.tracer() else { return };
    let (from, to) = (from.hold(), here.running().hold());
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| tracer.switched(kind, from, to))) {
        // It may have replaced itself.
        let is_it = here.tracer().is_some_and(|other| Rc::ptr_eq(&other, &tracer));
        let removed = if is_it { here.tracer.take() } else { None };
        here.update_slow_path();
        drop_reporting("the destructor of a tracer", (removed, tracer));
        resume_unwind(payload);
    }
}

/// Encodes a value as a word: the value itself if it fits, its address otherwise. Followed by one
/// [`decode`] before the value's place is reused.
#[inline(always)]
pub(super) fn encode<T>(value: &ManuallyDrop<T>) -> Word {
    let place = ptr::from_ref(value).cast::<MaybeUninit<u8>>();
    if size_of::<T>() > size_of::<Word>() {
        return Word::new(place.expose_provenance());
    }
    let mut word = Word::uninit();
    // SAFETY: copies the bytes of the value, which fit into the word.
    unsafe { ptr::copy_nonoverlapping(place, word.as_mut_ptr().cast(), size_of::<T>()) };
    word
}

/// Moves the value out of a word made by [`encode`].
///
/// # Safety
///
/// `word` encodes a `T` and is decoded once, and the encoded value is still in place.
#[inline(always)]
pub(super) unsafe fn decode<T>(word: Word) -> T {
    // SAFETY: the same case as in `encode`; an address is that of a `T` that is in place and not used
    // again.
    unsafe {
        if size_of::<T>() > size_of::<Word>() {
            ptr::with_exposed_provenance::<T>(word.assume_init()).read()
        } else {
            word.as_ptr().cast::<T>().read_unaligned()
        }
    }
}
