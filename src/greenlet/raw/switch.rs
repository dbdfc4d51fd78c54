//! From one greenlet to another.
//!
//! ```text
//!   switch ── door fits, no alarm, plain float modes ──► switch_stacks ──► signal 0: the value
//!      │                                                       ▲    └────► signal 1: receive
//!      └─ otherwise ─► switch_slowly: route, leave ────────────┘
//! ```
//!
//! The short way is inlined into the caller and does what it must and no more. Whatever belongs to a
//! greenlet and is kept by its thread (the count of panics, float modes that were set) is carried by
//! the long way, in the frame of the one who leaves.

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

/// The signal that says: nothing but a value is handed over.
pub(super) const PLAIN: usize = 0;
/// The signal that says: look at the thread's `Delivery`. Any other is the address of a block: a value
/// is handed over by a greenlet that has ended with that.
pub(super) const LOOK: usize = 1;

impl<In: 'static, Out: 'static> WeakGreenlet<In, Out> {
    #[inline(always)]
    pub(crate) fn exchange(&self, value: In) -> Result<Out, SwitchError<In>> {
        // SAFETY: by Invariant 2; nobody has an `Untyped` to send.
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

    pub(crate) fn raise<R: 'static>(&self, payload: Payload) -> Result<R, SwitchError<Payload>> {
        throw(self.core(), payload)
    }
}

/// Sends `value` to `target` and returns what is next sent to the caller.
///
/// # Safety
///
/// `T` and `R` are the types that `target` was declared with.
#[inline(always)]
pub(super) unsafe fn switch<T: 'static, R: 'static>(
    target: NonNull<Core>,
    value: T,
) -> Result<R, SwitchError<T>> {
    // SAFETY: the caller's handle holds the target's block, so this thread has state, and a current
    // greenlet, which is alive.
    let (from, to) = unsafe { (thread::current().unwrap_unchecked().as_ref(), target.as_ref()) };
    if to.door.get() != from.accepts.get() || thread::must_take_slow_path() || float_modes_changed()
    {
        return switch_slowly(to, value);
    }
    thread::set_current(target);
    let outgoing = ManuallyDrop::new(value);
    // SAFETY: by Invariant 1 the target is suspended or fresh (or is the current one) and awaits a
    // `T`, which `outgoing` is until the target has read it. We are declared to accept what the door
    // says, `R`, so that is what we are sent.
    unsafe {
        let (word, signal) = switch_stacks(from, to, encode(&outgoing), PLAIN);
        if signal == PLAIN {
            Ok(decode(word))
        } else {
            receive(word, signal).map_err(Failure::without_value)
        }
    }
}

/// As [`switch`], for any types: they are compared with what the target awaits.
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
    if here.is_barred(&first(target, Core::is_alive)) {
        return Err(SwitchError::InCallback { value });
    }
    match cross(here, target, value, here.types.key::<R>())? {
        Passage::Oneself(value) => {
            trace(here, TraceKind::Switch, here.running());
            let value = ManuallyDrop::new(value);
            // SAFETY: `cross` has found the types equal; it is read once.
            Ok(unsafe { (&raw const value).cast::<R>().read() })
        }
        // SAFETY: this switch has brought it, and we have said that we await an `R`.
        Passage::Brought(word, PLAIN) => Ok(unsafe { decode(word) }),
        Passage::Brought(word, signal) => {
            // SAFETY: as above.
            unsafe { receive(word, signal) }.map_err(Failure::without_value)
        }
    }
}

/// The first of `target` and its ancestors that `is_it`, or else the last.
fn first(target: &Core, is_it: impl Fn(&Core) -> bool) -> Hold {
    let mut node = target.hold();
    while !is_it(&node) {
        let Some(parent) = node.parent_hold() else { break };
        node = parent;
    }
    node
}

/// What a switch by the long way has led to.
pub(super) enum Passage<T> {
    /// The target was the caller itself: the value that was sent is what it awaits.
    Oneself(T),
    /// The caller was suspended, and resumed with this.
    Brought(Word, usize),
}

/// Sends `value` to `target`, or where that leads, and awaits `awaited`.
#[inline(always)]
pub(super) fn cross<T: 'static>(
    here: Here,
    target: &Core,
    value: T,
    awaited: TypeKey,
) -> Result<Passage<T>, SwitchError<T>> {
    let target = match route(here, target, here.types.key::<T>(), awaited) {
        Ok(target) => target,
        Err(Refusal::WrongType(mismatch)) => {
            return Err(SwitchError::WrongType { value, mismatch });
        }
        Err(Refusal::ThreadEnded) => return Err(SwitchError::ThreadEnded { value }),
        Err(Refusal::Unwinding) => return Err(SwitchError::Unwinding { value }),
    };
    if target == here.current() {
        return Ok(Passage::Oneself(value));
    }
    let outgoing = ManuallyDrop::new(value);
    // SAFETY: a block that `route` has found alive.
    let accepts = unsafe { target.as_ref() }.accepts.get();
    let looked_at = accepts != TypeKey::ANY && accepts != TypeKey::END;
    let word = if looked_at {
        encode(&outgoing)
    } else {
        // SAFETY: it is not read again.
        let unwanted: Box<dyn Any> = Box::new(unsafe { ptr::read(&*outgoing) });
        here.delivery.discard_later(unwanted);
        here.delivery.arrival.set(Arrival::Nothing);
        Word::uninit()
    };
    let carried = leave(here, awaited, TraceKind::Switch);
    // SAFETY: the target is suspended or fresh, and awaits a `T` or does not look at it.
    let (word, signal) = unsafe { go(here, target, word) };
    carried.restore(here);
    Ok(Passage::Brought(word, signal))
}

/// Raises `payload` in `target`, or where that leads, and returns what is next sent to the caller.
pub(super) fn throw<R: 'static>(
    target: &Core,
    payload: Payload,
) -> Result<R, SwitchError<Payload>> {
    let here = Here::of_a_block();
    if here.is_scheduler(here.running()) {
        return Err(SwitchError::Scheduler { value: payload });
    }
    if here.is_barred(&first(target, |node| node.life.get() == Life::Started)) {
        return Err(SwitchError::InCallback { value: payload });
    }
    let awaited = here.types.key::<R>();
    let (word, signal) = throw_across(here, target, payload, awaited, Unwinding::IsSpared)?;
    // SAFETY: this switch has brought it, and we have said that we await an `R`.
    unsafe {
        if signal == PLAIN {
            Ok(decode(word))
        } else {
            receive(word, signal).map_err(Failure::without_value)
        }
    }
}

/// What is done about a target that is suspended in a destructor while it unwinds. A panic that leaves that
/// destructor ends the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unwinding {
    IsSpared,
    IsRisked,
}

/// Raises `payload` in `target`, or where that leads, and awaits `awaited`.
///
/// # Panics
///
/// With `payload`, if that leads to the caller.
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
    // One that has not begun dies of it where it stands, and it goes on to the parent.
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
    if is_spared || end::throws_never(&node) {
        return Err(SwitchError::TargetUnwinding { value: payload });
    }
    let arrival = if is_exit && passed { Arrival::Exit } else { Arrival::Throw(payload) };
    // SAFETY: the target is suspended, and looks at the delivery. It is alive, and so holds its block.
    Ok(unsafe { deliver(here, node.block(), arrival, awaited) })
}

/// Switches to `target` with something other than a value. Returns what is next sent to the caller,
/// who awaits `awaited`.
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
    here.delivery.look.set(true);
    // SAFETY: as the caller says.
    let came = unsafe { go(here, target, Word::uninit()) };
    carried.restore(here);
    came
}

/// Why a switch is refused.
enum Refusal {
    WrongType(Mismatch),
    ThreadEnded,
    Unwinding,
}

/// Where a switch to `target` leads: to itself, or if it is dead to its first live ancestor.
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
        // SAFETY: the caller holds the target, and every block holds its parent's.
        let core = unsafe { node.as_ref() };
        if core.is_alive() {
            let expected = if node == here.current() { awaited } else { core.accepts.get() };
            // The one that it unwinds may bring back a scope that waits for its end. So may anyone when that
            // end has come, and was handed to another.
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

/// What a greenlet takes with it when it leaves the thread to another.
#[must_use]
pub(super) struct Carried {
    modes: Option<FloatModes>,
}

/// Prepares to leave: says what is awaited, takes from the thread what is the current greenlet's own,
/// and leaves word for the one who arrives. No code of the user's runs.
pub(super) fn leave(here: Here, awaited: TypeKey, kind: TraceKind) -> Carried {
    let core = here.running();
    let cold = core.cold();
    if core.is_main() {
        core.accepts.set(awaited);
    } else if awaited != cold.takes.get() {
        core.accepts.set(awaited);
        core.door.set(TypeKey::CLOSED);
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
        here.delivery.look.set(true);
    }
    if here.orphaned.replace(false) {
        here.update_slow_path();
        if core.handles.get() == 0 && !core.is_main() {
            here.delivery.orphan.set(Some(core.hold()));
            here.delivery.look.set(true);
        }
    }
    Carried { modes }
}

impl Carried {
    /// Puts back what [`leave`] has taken.
    pub(super) fn restore(self, here: Here) {
        let core = here.running();
        let cold = core.cold();
        if !core.is_main() {
            core.accepts.set(cold.takes.get());
            core.door.set(cold.gives.get());
        }
        if let Some(panics) = here.panics() {
            panics.set(cold.unwinding.replace(0));
        }
        if let Some(modes) = self.modes {
            modes.restore();
        }
    }
}

/// Changes to `target`'s stack, after [`leave`].
///
/// # Safety
///
/// `target` is suspended or fresh, not the current greenlet, and either awaits what `word` encodes or
/// is told by the delivery not to look at it.
pub(super) unsafe fn go(here: Here, target: NonNull<Core>, word: Word) -> (Word, usize) {
    let current = here.current();
    here.set_current(target);
    let signal = if here.delivery.look.replace(false) { LOOK } else { PLAIN };
    // SAFETY: the current greenlet is alive, and the target as the caller says.
    unsafe { switch_stacks(current.as_ref(), target.as_ref(), word, signal) }
}

/// The one place where a thread changes from one stack to another.
///
/// # Safety
///
/// As for [`arch::switch`]. The thread's current greenlet is already said to be `to`.
#[inline(always)]
pub(super) unsafe fn switch_stacks(
    from: &Core,
    to: &Core,
    word: Word,
    signal: usize,
) -> (Word, usize) {
    #[cfg(all(feature = "sanitizer", not(feature = "portable")))]
    let saved = super::sanitize::leave(from, to);
    // SAFETY: as the caller says.
    let came = unsafe { arch::switch(&from.context, &to.context, word, signal) };
    #[cfg(all(feature = "sanitizer", not(feature = "portable")))]
    crate::sys::sanitizer::arrive(saved);
    came
}

/// Why a switch brought no value, after it was made.
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

/// Does what `signal` asks for, and returns the value or raises what was thrown.
///
/// # Safety
///
/// A switch has just brought `word` and `signal`, not [`PLAIN`], and `R` is what this greenlet awaited.
#[inline(always)]
pub(super) unsafe fn receive<R>(word: Word, signal: usize) -> Result<R, Failure> {
    if signal == LOOK {
        // SAFETY: as the caller says.
        return unsafe { look(word) };
    }
    // SAFETY: any other signal is a block that has ended, and a value comes with it, of the type that
    // was awaited. It may lie on the stack that is given back, so it is read first.
    let value = unsafe { decode(word) };
    // SAFETY: as above.
    unsafe { reclaim_signal(signal) };
    Ok(value)
}

/// Does away with what is left of the greenlet that has ended with `signal`.
///
/// # Safety
///
/// A switch has just brought it, it is neither [`PLAIN`] nor [`LOOK`], and the value that came along was
/// read.
#[inline(always)]
pub(super) unsafe fn reclaim_signal(signal: usize) {
    let finished = ptr::with_exposed_provenance_mut::<Core>(signal);
    let finished = NonNull::new(finished).expect("a signal that is not PLAIN");
    // SAFETY: that of its life, which is over.
    end::reclaim(Here::of_a_block(), unsafe { Hold::from_block(finished) });
}

/// Looks at the delivery: see [`receive`].
///
/// # Safety
///
/// As for [`receive`], and the signal was [`LOOK`].
#[cold]
#[inline(never)]
unsafe fn look<R>(word: Word) -> Result<R, Failure> {
    // SAFETY: as the caller says.
    let (value, arrival) = unsafe { collect(word) };
    match arrival {
        Arrival::Value => Ok(value.expect("a value is collected with its arrival")),
        Arrival::Nothing => unreachable!("sent only to one that waits for an end"),
        Arrival::Throw(payload) => resume_unwind(payload),
        Arrival::Exit => Err(Failure::Exited),
        Arrival::WrongResult(mismatch) => Err(Failure::WrongResult(mismatch)),
    }
}

/// As [`look`], but raises nothing: a panic of what [`settle`] runs arrives in place of what was sent.
///
/// # Safety
///
/// As for [`look`].
unsafe fn collect<R>(word: Word) -> (Option<R>, Arrival) {
    let here = Here::of_a_block();
    let arrival = here.delivery.arrival.take();
    // SAFETY: of the type that was awaited, says the one who sent it. It may lie on a stack that
    // `settle` gives back, so it is read first.
    let value = matches!(arrival, Arrival::Value).then(|| unsafe { decode(word) });
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| settle(here))) {
        let thrown = match arrival {
            Arrival::Throw(payload) => Some(payload),
            _ => None,
        };
        drop_reporting("the destructor of what was sent", value);
        thrown.into_iter().for_each(drop_payload);
        return (None, Arrival::Throw(panic));
    }
    (value, arrival)
}

/// As [`receive`], for one that awaits `()`, [`TypeKey::ANY`] or [`TypeKey::END`]. Never unwinds: what is
/// thrown is returned, and so is the panic of a tracer.
///
/// # Safety
///
/// A switch has just brought `word` and `signal` to such a one.
pub(super) unsafe fn receive_anything(word: Word, signal: usize) -> Arrival {
    let received = catch_unwind(AssertUnwindSafe(|| match signal {
        PLAIN => Arrival::Value,
        // SAFETY: as the caller says; a `()` is read of it at most.
        LOOK => unsafe { collect::<()>(word).1 },
        _ => {
            // SAFETY: as the caller says; any other signal is a block that has ended, with a `()`.
            let _: Result<(), Failure> = unsafe { receive(word, signal) };
            Arrival::Value
        }
    }));
    received.unwrap_or_else(Arrival::Throw)
}

/// Does what the one that left could not do itself. Each step runs user code, and none is left out because
/// another panics: the first panic is raised when all is done.
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

/// Tells the tracer that the current greenlet was switched to from `from`. A tracer that panics is
/// removed, and its panic goes on here.
fn trace(here: Here, kind: TraceKind, from: &Core) {
    let Some(tracer) = here.tracer() else { return };
    let (from, to) = (from.hold(), here.running().hold());
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| tracer.switched(kind, from, to))) {
        // It may have put another in its place.
        let is_it = here.tracer().is_some_and(|other| Rc::ptr_eq(&other, &tracer));
        let removed = if is_it { here.tracer.take() } else { None };
        here.update_slow_path();
        drop_reporting("the destructor of a tracer", (removed, tracer));
        resume_unwind(payload);
    }
}

/// A value as a word: itself if it fits, else its address. To be followed by one [`decode`] before the
/// value's place is used for anything else.
#[inline(always)]
pub(super) fn encode<T>(value: &ManuallyDrop<T>) -> Word {
    let place = ptr::from_ref(value).cast::<MaybeUninit<u8>>();
    if size_of::<T>() > size_of::<Word>() {
        return Word::new(place.expose_provenance());
    }
    let mut word = Word::uninit();
    // SAFETY: as many bytes as the value has, which fit.
    unsafe { ptr::copy_nonoverlapping(place, word.as_mut_ptr().cast(), size_of::<T>()) };
    word
}

/// The value that [`encode`] has made a word of, moved out.
///
/// # Safety
///
/// `word` is of a `T`, is decoded once, and the one who encoded it has not run since.
#[inline(always)]
pub(super) unsafe fn decode<T>(word: Word) -> T {
    // SAFETY: by size as in `encode`; the address is of a `T` that is in place and not used again.
    unsafe {
        if size_of::<T>() > size_of::<Word>() {
            ptr::with_exposed_provenance::<T>(word.assume_init()).read()
        } else {
            word.as_ptr().cast::<T>().read_unaligned()
        }
    }
}
