//! Beginnings and ends.
//!
//! ```text
//!               create            first switch              body ends
//!   (no block) ────────► Unstarted ───────────► Started ─────────────────► Dead ──► (block free)
//!                            │                     │ last handle dropped    ▲        when nobody
//!                            │ last handle dropped │ while suspended:       │        holds it
//!                            │ or thrown into      ▼ thrown into            │
//!                            └──────────────────────────────────────────────┘
//! ```
//!
//! A block is counted twice: `handles` keep the greenlet alive, `holds` keep the block. All handles
//! together, or being alive, are one hold.

use super::core::{Body, Cold, Core, Life, Locals};
use super::handle::Hold;
use super::switch::{
    Failure, LOOK, PLAIN, decode, deliver, encode, leave, mismatch, receive, receive_anything,
    switch_stacks,
};
use super::thread::{self, Arrival, Here};
use super::types::TypeKey;
use super::{AnyWeakGreenlet, Payload, TraceKind};
use crate::arch::{STACK_ALIGNMENT, Word, float_modes_changed};
use crate::greenlet::error::{BuildError, GreenletExit, SwitchError};
use crate::stack::{DEFAULT_SIZE, MIN_SIZE, Stack};
use crate::sys::stderr;
use std::any::Any;
use std::borrow::Cow;
use std::mem::{self, ManuallyDrop};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process;
use std::ptr::{self, NonNull};
use std::rc::Rc;

/// What a greenlet is to be like.
pub(crate) struct Spec {
    pub(crate) name: Option<Cow<'static, str>>,
    pub(crate) stack_size: usize,
    pub(crate) stack: Option<Box<dyn corosensei::stack::Stack>>,
    /// Zero the stack, so that its high-water mark is this greenlet's.
    pub(crate) clean: bool,
    /// Use the current greenlet's locals.
    pub(crate) share_locals: bool,
    /// Who gets the result, if that is not the current greenlet.
    pub(crate) parent: Option<AnyWeakGreenlet>,
}

impl Default for Spec {
    fn default() -> Self {
        Spec {
            name: None,
            stack_size: DEFAULT_SIZE,
            stack: None,
            clean: false,
            share_locals: false,
            parent: None,
        }
    }
}

/// Makes a greenlet with a stack from the pool, the current greenlet its parent.
///
/// # Safety
///
/// What `body` borrows outlives the greenlet: it is dead, or its stack is never used again, before
/// any of it ends.
#[inline]
pub(super) unsafe fn create<In, Out, F>(body: F) -> Result<NonNull<Core>, BuildError>
where
    In: 'static,
    Out: 'static,
    F: FnOnce(In) -> Out,
{
    let here = Here::ready().ok_or(BuildError::ThreadEnded)?;
    check_body::<F>(DEFAULT_SIZE)?;
    let stack = here.pool.borrow_mut().take_default().map_err(BuildError::Stack)?;
    // SAFETY: as the caller says; the stack was just taken, and is large enough.
    Ok(unsafe { create_on(here, stack, body) })
}

/// Makes a greenlet as `spec` says, the current greenlet its parent.
///
/// # Safety
///
/// As for [`create`].
pub(super) unsafe fn build<In, Out, F>(spec: Spec, body: F) -> Result<NonNull<Core>, BuildError>
where
    In: 'static,
    Out: 'static,
    F: FnOnce(In) -> Out,
{
    let here = Here::ready().ok_or(BuildError::ThreadEnded)?;
    let stack = match spec.stack {
        Some(custom) => {
            check_body::<F>(custom.base().get() - custom.limit().get())?;
            Stack::custom(custom)
        }
        None => {
            check_body::<F>(spec.stack_size.max(MIN_SIZE))?;
            let mut pool = here.pool.borrow_mut();
            let size = spec.stack_size;
            let stack = if spec.clean { pool.take_clean(size) } else { pool.take(size) };
            stack.map_err(BuildError::Stack)?
        }
    };
    // SAFETY: as the caller says; the stack was just taken, and is large enough.
    let block = unsafe { create_on(here, stack, body) };
    // SAFETY: just made.
    let cold = unsafe { block.as_ref() }.cold();
    if spec.name.is_some() {
        *cold.name.borrow_mut() = spec.name;
    }
    if let Some(parent) = spec.parent {
        // No cycle: it is nobody's parent yet.
        let maker = cold.parent.replace(Some(parent.into_hold().into_block()));
        drop(maker.map(Hold::from_block));
    }
    if spec.share_locals {
        *cold.locals.borrow_mut() = Some(locals_of(here.current()));
    }
    Ok(block)
}

/// A body may take a quarter of its stack.
fn check_body<F>(stack: usize) -> Result<(), BuildError> {
    let bytes = size_of::<F>().max(align_of::<F>());
    if bytes > stack / 4 { Err(BuildError::Body { bytes, stack }) } else { Ok(()) }
}

/// Makes a greenlet on `stack`.
///
/// # Safety
///
/// As for [`create`], and the stack is the caller's to give, and passes [`check_body`].
#[inline]
unsafe fn create_on<In, Out, F>(here: Here, stack: Stack, body: F) -> NonNull<Core>
where
    In: 'static,
    Out: 'static,
    F: FnOnce(In) -> Out,
{
    // The body lies at the top of the stack, and the first frame begins below it.
    let alignment = align_of::<F>().max(STACK_ALIGNMENT);
    let top = stack.top();
    let offset = size_of::<F>() + (top.addr().get() - size_of::<F>()) % alignment;
    // SAFETY: within the stack, of which `check_body` leaves half at least.
    let place = unsafe { top.sub(offset) };
    // SAFETY: aligned for `F`, in memory that is ours.
    unsafe { place.cast::<F>().write(body) };

    let block = here.slab.take();
    // SAFETY: just taken.
    let core = unsafe { block.as_ref() };
    // SAFETY: the stack is the greenlet's until `bury`. Above `place` lies the body alone.
    unsafe { core.context.prepare(place.as_ptr(), stack.bottom().as_ptr(), entry::<In, Out, F>) };
    let parent = here.current();
    // SAFETY: the current greenlet is alive.
    unsafe { hold(parent) };
    let (takes, gives) = (here.types.key::<In>(), here.types.key::<Out>());
    core.accepts.set(takes);
    core.door.set(gives);
    core.handles.set(1);
    core.holds.set(1);
    core.life.set(Life::Unstarted);
    let cold = core.cold();
    cold.id.set(here.next_id.replace(here.next_id.get() + 1));
    cold.takes.set(takes);
    cold.gives.set(gives);
    cold.parent.set(Some(parent));
    cold.body.set(Some(Body { place: place.as_ptr(), drop: drop_body::<F> }));
    cold.stack.set(Some(stack));
    here.live.set(here.live.get() + 1);
    block
}

/// # Safety
///
/// `place` is of an `F` that is in place and not used again.
unsafe fn drop_body<F>(place: *mut u8) {
    // SAFETY: as the caller says.
    unsafe { ptr::drop_in_place(place.cast::<F>()) }
}

/// Drops a greenlet's locals, and those that their destructors make.
#[cold]
fn drop_locals(core: &Core) {
    while let Some(locals) = core.cold().locals.take() {
        swallow_panic(core, "dropping a local of", || drop(locals));
    }
}

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
unsafe extern "C" fn entry<In, Out, F>(word: Word, signal: usize) -> !
where
    In: 'static,
    Out: 'static,
    F: FnOnce(In) -> Out,
{
    #[cfg(all(feature = "sanitizer", not(feature = "portable")))]
    crate::sys::sanitizer::arrive(ptr::null_mut());
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
        Outcome::Returned(result) if awaits_it && !thread::alarmed() && !float_modes_changed() => {
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
    core.life.set(Life::Dead);
    core.door.set(TypeKey::CLOSED);
    core.accepts.set(TypeKey::NONE);
    here.live.set(here.live.get() - 1);
    here.set_current(heir);
    // SAFETY: the heir is started and suspended, or unstarted and fresh, and awaits what `word`
    // encodes, or looks at the delivery. `value` stays in place: this stack is not used again before
    // `bury`, which comes after the value is read.
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
    let mut heir = parent_of(core);
    let inheritance = loop {
        match (heir.life.get(), outcome) {
            (Life::Dead, same) => outcome = same,
            (_, Outcome::Returned(value)) if heir.accepts.get() == gives => break Ok(value),
            (Life::Started, other) => break Err(arrival_of(here, core, &heir, other)),
            (Life::Unstarted, other) => {
                // It cannot take this: the error is its end as well, and goes on to its parent.
                outcome = match other {
                    Outcome::Returned(value) => {
                        let mismatch = mismatch(here, &heir, heir.accepts.get(), gives);
                        swallow_panic(core, "dropping the result of", || drop(value));
                        let error: SwitchError<()> = SwitchError::WrongResult(mismatch);
                        Outcome::Panicked(Box::new(error.to_string()))
                    }
                    same => same,
                };
                swallow_panic(&heir, "dropping the body of", || {
                    discard_unstarted(here, heir.block())
                });
            }
        }
        heir = parent_of(&heir);
    };
    let thrown = matches!(inheritance, Err(Arrival::Throw(_)));
    // It does not come back for what it carried, nor is it anybody's orphan.
    let event = if thrown { TraceKind::Throw } else { TraceKind::Switch };
    let _ = leave(here, TypeKey::NONE, event);
    drop(here.delivery.orphan.take());
    here.delivery.look.set(false);
    here.delivery.finished.set(Some(block));
    let result = match inheritance {
        Ok(result) => Some(result),
        Err(arrival) => {
            here.delivery.arrival.set(arrival);
            None
        }
    };
    (heir.block(), result)
}

fn parent_of(core: &Core) -> Hold {
    Hold::new(core.cold().parent.get().expect("every ancestor is below main, which is alive"))
}

/// What an heir that cannot take the outcome as a value is sent. No code of the user's runs: what the
/// heir awaits must not change before it is switched to.
fn arrival_of<Out: 'static>(
    here: Here,
    core: &Core,
    heir: &Core,
    outcome: Outcome<Out>,
) -> Arrival {
    let waits_for_the_end = heir.accepts.get() == TypeKey::ANY;
    match outcome {
        Outcome::Returned(value) => {
            let unwanted: Box<dyn Any> = Box::new(value);
            here.delivery.discard.set(Some(unwanted));
            if waits_for_the_end {
                return Arrival::Value;
            }
            let gives = core.cold().gives.get();
            Arrival::WrongResult(mismatch(here, heir, heir.accepts.get(), gives))
        }
        Outcome::Exited if waits_for_the_end => Arrival::Value,
        Outcome::Exited => Arrival::Exit,
        Outcome::Panicked(payload) if waits_for_the_end => {
            report(core, "panicked while it was being dropped", &payload);
            // Its destructor is the user's, and might switch: it runs when this is over.
            here.delivery.discard.set(Some(payload));
            Arrival::Value
        }
        Outcome::Panicked(payload) => Arrival::Throw(payload),
    }
}

/// Does away with what is left of a greenlet that has ended by a switch to the current one.
#[inline]
pub(super) fn bury(here: Here, block: NonNull<Core>) {
    // SAFETY: nobody has freed it: it held itself until now.
    let core = unsafe { block.as_ref() };
    // SAFETY: it has ended, and nobody switches to the dead.
    unsafe { core.context.retire() };
    give_back_stack(here, core);
    if core.handles.get() == 0 {
        release(block);
    }
}

/// Takes a greenlet's stack away, which is not the current one.
#[inline]
fn give_back_stack(here: Here, core: &Core) {
    let Some(stack) = core.cold().stack.take() else { return };
    #[cfg(feature = "sanitizer")]
    {
        let bottom = stack.bottom().addr().get();
        crate::sys::sanitizer::forget(bottom, stack.top().addr().get() - bottom);
    }
    // SAFETY: nothing runs on it, and the caller does not.
    let custom = unsafe { here.pool.borrow_mut().give_back(stack) };
    if let Some(custom) = custom {
        drop_stack(custom);
    }
}

/// Out of line, since it is rare. What the destructor does is the user's.
#[cold]
#[inline(never)]
fn drop_stack(custom: Box<dyn corosensei::stack::Stack>) {
    drop(custom);
}

/// Ends a greenlet that has not begun. Its body is dropped here and now.
pub(super) fn discard_unstarted(here: Here, block: NonNull<Core>) {
    // SAFETY: the caller holds it.
    let core = unsafe { block.as_ref() };
    let body = core.cold().body.take().expect("an unstarted greenlet has a body");
    core.life.set(Life::Dead);
    core.door.set(TypeKey::CLOSED);
    core.accepts.set(TypeKey::NONE);
    here.live.set(here.live.get() - 1);
    // SAFETY: in place, and taken out of the block, so dropped once.
    let dropped = catch_unwind(AssertUnwindSafe(|| unsafe { (body.drop)(body.place) }));
    // SAFETY: it was never switched to.
    unsafe { core.context.retire() };
    give_back_stack(here, core);
    let locals = core.cold().locals.take();
    if core.handles.get() == 0 {
        // SAFETY: its own hold, since it is dead and without handles.
        unsafe { unhold(block) };
    }
    drop(locals);
    if let Err(payload) = dropped {
        resume_unwind(payload);
    }
}

/// What is done when the last handle has gone.
#[inline(never)]
pub(super) fn release(block: NonNull<Core>) {
    // SAFETY: the hold that stood for the handles is still there.
    let core = unsafe { block.as_ref() };
    let here = Here::of_a_block();
    match core.life.get() {
        // SAFETY: the hold that stood for the handles.
        Life::Dead => unsafe { unhold(block) },
        Life::Unstarted => discard_unstarted(here, block),
        Life::Started if core.is_main() => {}
        Life::Started if block == here.current() => {
            here.orphaned.set(true);
            here.set_alarm();
        }
        Life::Started => unwind(here, block),
    }
}

/// Unwinds a greenlet that has left the thread without having a handle, unless it has one again.
pub(super) fn unwind_orphan(here: Here, block: NonNull<Core>) {
    // SAFETY: the delivery holds it.
    let core = unsafe { block.as_ref() };
    if core.handles.get() == 0 && core.is_started() && block != here.current() {
        unwind(here, block);
    }
}

/// Unwinds a suspended greenlet, as [`try_unwind`], and raises what was thrown into the current one
/// meanwhile.
pub(super) fn unwind(here: Here, block: NonNull<Core>) {
    if let Some(payload) = try_unwind(here, block) {
        raise_from_a_destructor(payload);
    }
}

/// Raises a panic where a destructor may be running because of another, which would end the process.
pub(super) fn raise_from_a_destructor(payload: Payload) {
    if std::thread::panicking() {
        stderr::write(&[
            "switchgrass: something was thrown into a greenlet that unwinds: it is lost\n",
        ]);
    } else {
        resume_unwind(payload);
    }
}

/// Unwinds a suspended greenlet, by throwing a [`GreenletExit`] into it as its parent, and comes back.
/// Never unwinds: returns what was thrown into the current greenlet meanwhile.
///
/// It may not let itself be unwound: by catching the exit and switching away, or because it is in a
/// destructor already. Then it is left as it is, and that is reported unless somebody has a handle.
pub(super) fn try_unwind(here: Here, block: NonNull<Core>) -> Option<Payload> {
    let hold_on = Hold::new(block);
    let cold = hold_on.cold();
    if cfg!(panic = "abort") {
        complain(&hold_on, "cannot be unwound under panic = \"abort\"");
        return None;
    }
    if cold.unwinding.get() > 0 {
        complain(&hold_on, "is suspended in a destructor while it unwinds");
        return None;
    }
    // As a parent for the time being, the current greenlet is held, and it is not an orphan while it
    // waits: dropping something is not leaving.
    let dropper = Hold::new(here.current());
    dropper.handles.set(dropper.handles.get() + 1);
    let parent = cold.parent.replace(Some(Hold::new(dropper.block()).into_block()));
    hold_on.handles.set(hold_on.handles.get() + 1);
    let exit = Arrival::Throw(Box::new(GreenletExit));
    // SAFETY: suspended, so not the current one. We await anything, and read none of it.
    let arrival = unsafe {
        let (word, signal) = deliver(here, block, exit, TypeKey::ANY);
        receive_anything(word, signal)
    };
    // That is the dropper's, or of another parent that it was given meanwhile.
    drop(cold.parent.replace(parent).map(Hold::from_block));
    dropper.handles.set(dropper.handles.get() - 1);
    if dropper.handles.get() == 0 {
        release(dropper.block());
    }
    hold_on.handles.set(hold_on.handles.get() - 1);
    if hold_on.handles.get() == 0 {
        if hold_on.life.get() == Life::Dead {
            // SAFETY: the hold that stood for the handles, of which there was one when it was buried.
            unsafe { unhold(block) };
        } else if !matches!(arrival, Arrival::Throw(_)) {
            complain(&hold_on, "caught its GreenletExit and switched away");
        }
    }
    match arrival {
        Arrival::Throw(payload) => Some(payload),
        _ => None,
    }
}

/// Unwinds all greenlets of a thread that is about to end.
pub(super) fn end_thread(here: Here) {
    let current = here.current();
    loop {
        let before = here.live.get();
        let mut living = Vec::new();
        here.slab.each(|block| {
            // SAFETY: made by the slab, which exists.
            let core = unsafe { block.as_ref() };
            if core.life.get() != Life::Dead && block != here.main && block != current {
                living.push(Hold::new(block));
            }
        });
        for core in living {
            swallow_panic(&core, "unwinding", || match core.life.get() {
                Life::Unstarted => discard_unstarted(here, core.block()),
                // Its drop has been reported.
                Life::Started if cfg!(panic = "abort") => {}
                Life::Started => unwind(here, core.block()),
                Life::Dead => {}
            });
        }
        // Unwinding may make new ones. Whoever refuses to end, or makes them for ever, is left.
        if here.live.get() == 0 || here.live.get() >= before {
            break;
        }
    }
    drop(here.tracer.take());
    // SAFETY: main's block is the thread's own.
    let main = unsafe { here.main.as_ref() };
    drop_locals(main);
    here.ended.set(true);
    let mut somebody_remains = current != here.main;
    here.slab.each(|block| {
        // SAFETY: made by the slab, which exists.
        let core = unsafe { block.as_ref() };
        if core.life.get() != Life::Dead {
            somebody_remains |= block != here.main;
            core.life.set(Life::Dead);
            core.door.set(TypeKey::CLOSED);
            core.accepts.set(TypeKey::NONE);
        }
    });
    if somebody_remains {
        // Frames that nobody has unwound may be pointed into: their stacks must stay.
        mem::forget(here.pool.replace(crate::stack::Pool::new()));
        return;
    }
    drop(here.pool.replace(crate::stack::Pool::new()));
    if main.handles.get() == 0 {
        // SAFETY: main's own hold, since it is dead now and without handles.
        unsafe { unhold(here.main) };
    }
}

/// The values of a greenlet's locals, made if need be.
pub(super) fn locals_of(block: NonNull<Core>) -> Rc<Locals> {
    // SAFETY: the caller holds it.
    let core = unsafe { block.as_ref() };
    Rc::clone(core.cold().locals.borrow_mut().get_or_insert_default())
}

/// Adds a hold.
///
/// # Safety
///
/// The block is held by somebody.
#[inline]
pub(super) unsafe fn hold(block: NonNull<Core>) {
    // SAFETY: as the caller says.
    let holds = unsafe { &block.as_ref().holds };
    holds.set(holds.get().checked_add(1).unwrap_or_else(|| process::abort()));
}

/// Takes a hold away, and frees the block with the last.
///
/// # Safety
///
/// The hold was the caller's, who does not use the block any more.
#[inline]
pub(super) unsafe fn unhold(block: NonNull<Core>) {
    // SAFETY: held until now.
    let holds = unsafe { &block.as_ref().holds };
    holds.set(holds.get() - 1);
    if holds.get() == 0 {
        free(block);
    }
}

/// Frees a block that nobody holds, and its ancestors as far as it alone held them.
#[inline]
fn free(block: NonNull<Core>) {
    let here = Here::of_a_block();
    // SAFETY: nobody holds it, so nobody has freed it.
    let cold = unsafe { block.as_ref() }.cold();
    if cold.name.borrow().is_some() {
        drop_name(cold);
    }
    let parent = cold.parent.take();
    // SAFETY: nobody uses it any more.
    unsafe { here.slab.give_back(block) };
    if here.ended.get() {
        free_thread(here);
    }
    let Some(parent) = parent else { return };
    // SAFETY: a block holds its parent's.
    let holds = unsafe { &parent.as_ref().holds };
    holds.set(holds.get() - 1);
    if holds.get() == 0 {
        free_ancestors(here, parent);
    }
}

#[cold]
#[inline(never)]
fn drop_name(cold: &Cold) {
    drop(cold.name.take());
}

/// Frees a block that only a block held that was just freed, and so on. A loop, since a chain of
/// parents may be longer than a stack is deep.
#[cold]
#[inline(never)]
fn free_ancestors(here: Here, block: NonNull<Core>) {
    let mut next = Some(block);
    while let Some(block) = next.take() {
        // SAFETY: nobody holds it, so nobody has freed it.
        let cold = unsafe { block.as_ref() }.cold();
        drop_name(cold);
        if let Some(parent) = cold.parent.take() {
            // SAFETY: a block holds its parent's.
            let holds = unsafe { &parent.as_ref().holds };
            holds.set(holds.get() - 1);
            next = (holds.get() == 0).then_some(parent);
        }
        // SAFETY: nobody uses it any more.
        unsafe { here.slab.give_back(block) };
    }
    if here.ended.get() {
        free_thread(here);
    }
}

/// Frees the state of a thread that has ended, if no block is in use.
#[cold]
#[inline(never)]
fn free_thread(here: Here) {
    if here.slab.in_use() == 0 {
        // SAFETY: the last block is gone, and whoever asked for a `Here` has it on a frame that does
        // not use it after its block.
        unsafe { here.free() };
    }
}

/// Runs a destructor of the user's where nothing may unwind.
fn swallow_panic(core: &Core, doing: &str, f: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(f)) {
        report(core, &format!("is where {doing} it panicked"), &payload);
        let _ = catch_unwind(AssertUnwindSafe(|| drop(payload)));
    }
}

/// Reports a panic that goes nowhere.
#[cold]
fn report(core: &Core, what: &str, payload: &Payload) {
    let message = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no message)");
    let title = core.title();
    stderr::write(&[&format!("switchgrass: greenlet {title} {what}: {message}\n")]);
}

/// Reports a greenlet that will never end.
#[cold]
fn complain(core: &Core, why: &str) {
    if core.handles.get() > 1 {
        return;
    }
    let title = core.title();
    stderr::write(&[&format!("switchgrass: greenlet {title} was dropped but {why}: it leaks\n")]);
}
