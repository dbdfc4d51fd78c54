//! The interface for a scheduler of greenlets: its data in a block, and switches without a value.
//!
//! A scheduler's greenlets are *detached*: they live until they end, whatever their handles. The engine
//! does not depend on the event loop. It does not interpret the purpose or the owner, and of the mark only
//! the bits listed in `marks.rs`.
//!
//! **Turn contract** of the switches below: a greenlet that calls them awaits a `()`, so `word` is read as
//! a `()` at most, and both `word` and `signal` are read at once after the switch.

use super::block::{Hold, Life, Owner};
use super::create::{DetachedSpec, create_detached};
use super::dropping::Payload;
use super::end;
use super::handle::{AnyWeakGreenlet, Untyped, WeakGreenlet};
use super::switch::{
    self, DELIVERY, Failure, PLAIN, Switched, Unwinding, receive, receive_anything, reclaim_signal,
    switch_stacks,
};
use super::thread::{self, Arrival, Here};
use super::types::TypeKey;
use crate::arch::{self, Word, float_modes_changed};
use crate::greenlet::error::{BuildError, GreenletExit, SwitchError};
use std::mem::{self, ManuallyDrop};
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::rc::Rc;

/// Creates a greenlet that no handle keeps alive. Its result goes to `parent`.
#[inline]
pub(crate) fn spawn(
    parent: &AnyWeakGreenlet,
    spec: DetachedSpec,
    owner: Option<Rc<dyn Owner>>,
    body: impl FnOnce(()) + 'static,
) -> Result<AnyWeakGreenlet, BuildError> {
    // SAFETY: the body is `'static`, so it borrows nothing.
    let hold = unsafe { create_detached(parent.core(), spec, body)? };
    if owner.is_some() {
        hold.cold().owner.set(owner);
    }
    Ok(WeakGreenlet::untyped_of(hold))
}

/// The current greenlet, without a counted hold. It must not leave the frame that obtained it, which may
/// switch.
pub(crate) struct Current(ManuallyDrop<AnyWeakGreenlet>);

impl Deref for Current {
    type Target = AnyWeakGreenlet;

    #[inline(always)]
    fn deref(&self) -> &AnyWeakGreenlet {
        &self.0
    }
}

/// Returns the current greenlet.
///
/// # Panics
///
/// If the thread has no greenlets.
#[inline(always)]
pub(crate) fn running() -> Current {
    let current = thread::current().expect("a thread with a scheduler has greenlets");
    // SAFETY: `Untyped` satisfies Invariant 2. The hold is that of the greenlet's life, which outlives the
    // calling frame on its stack. `ManuallyDrop` does not release it.
    Current(ManuallyDrop::new(unsafe { WeakGreenlet::of(Hold::from_block(current)) }))
}

/// Returns the thread's main greenlet. `None` if the thread has unwound its greenlets.
pub(crate) fn main() -> Option<AnyWeakGreenlet> {
    let here = Here::ready()?;
    // SAFETY: main's block has the hold of its life until the thread has ended.
    Some(WeakGreenlet::untyped(unsafe { here.main.as_ref() }))
}

/// Returns the number of active panics of the current greenlet. It is above zero only in a destructor.
pub(crate) fn panics() -> usize {
    let here = Here::existing();
    let count = here.as_ref().and_then(|here| here.panics());
    count.map_or_else(|| usize::from(std::thread::panicking()), |count| count.get())
}

/// Calls `look` with every greenlet of the thread that is neither dead nor main.
pub(crate) fn for_each_alive(mut look: impl FnMut(AnyWeakGreenlet)) {
    let Some(here) = Here::existing() else { return };
    here.slab.each(|block| {
        // SAFETY: the slab has initialized every block that it passes, and frees none before its own drop.
        let core = unsafe { block.as_ref() };
        if core.is_alive() && !core.is_main() {
            look(WeakGreenlet::untyped(core));
        }
    });
}

/// Sets the scheduler's own greenlet. [`unwind_all`](super::unwind_all) skips it, it is not counted, and
/// only the scheduler switches from it: by [`WeakGreenlet::pass_on`] and [`WeakGreenlet::throw_on`].
pub(crate) fn set_scheduler(scheduler: Option<AnyWeakGreenlet>) {
    if let Some(here) = Here::existing() {
        here.scheduler.set(scheduler.map(WeakGreenlet::into_hold));
    }
}

/// While this exists, explicit switches can only lead to the greenlet that created it, and to greenlets
/// that run on its behalf.
pub(crate) struct Pin {
    before: Option<Hold>,
}

/// Pins the current greenlet. `None` on a thread without greenlets.
pub(crate) fn pin() -> Option<Pin> {
    let here = Here::existing()?;
    let before = here.pinned.replace(Some(here.running().hold()));
    here.update_slow_path();
    Some(Pin { before })
}

impl Drop for Pin {
    fn drop(&mut self) {
        if let Some(here) = Here::existing() {
            let pinned = here.pinned.replace(self.before.take());
            here.update_slow_path();
            drop(pinned);
        }
    }
}

/// Ends all greenlets of the thread except the scheduler's own: see [`end::wind_up`].
pub(crate) fn wind_up() {
    if let Some(here) = Here::existing() {
        end::wind_up(here);
    }
}

/// Closes what [`wind_up`] has left, and the thread with it: see [`end::close_thread`].
pub(crate) fn close_thread() {
    if let Some(here) = Here::existing() {
        end::close_thread(here);
    }
}

/// Returns the number of greenlets created on this thread, plus one; 0 if it has none.
pub(crate) fn made_count() -> u64 {
    Here::existing().map_or(0, |here| here.next_id.get())
}

/// How a switch of the scheduler or of its greenlets returned.
#[derive(Debug)]
pub(crate) enum Resumed {
    /// It is its turn.
    Turn,
    /// A descendant, with no live ancestor in between, has panicked, or has ended with a result of a type
    /// that is not awaited.
    Failure(Payload),
}

impl From<Arrival> for Resumed {
    fn from(arrival: Arrival) -> Self {
        match arrival {
            Arrival::Throw(payload) if !payload.is::<GreenletExit>() => Resumed::Failure(payload),
            Arrival::WrongResult(mismatch) => {
                let error: SwitchError<()> = SwitchError::WrongResult(mismatch);
                Resumed::Failure(Box::new(error.to_string()))
            }
            Arrival::Value | Arrival::Nothing | Arrival::Exit | Arrival::Throw(_) => Resumed::Turn,
        }
    }
}

impl WeakGreenlet<Untyped, Untyped> {
    /// Returns the scheduler's bits: see `marks.rs`. Zero in a new greenlet.
    #[inline(always)]
    pub(crate) fn mark(&self) -> u8 {
        self.core().mark.get()
    }

    #[inline(always)]
    pub(crate) fn set_mark(&self, mark: u8) {
        self.core().mark.set(mark);
    }

    /// Prefetches its block, ahead of its turn.
    #[inline(always)]
    pub(crate) fn prefetch(&self) {
        arch::prefetch(self.block().as_ptr().cast());
    }

    /// Prefetches its stack, ahead of its turn. Its block should be cached already.
    #[inline(always)]
    pub(crate) fn prefetch_stack(&self) {
        self.core().context.prefetch_stack();
    }

    /// Returns the scheduler's description of what it is suspended for.
    pub(crate) fn purpose(&self) -> &'static str {
        self.core().purpose.get()
    }

    #[inline(always)]
    pub(crate) fn set_purpose(&self, purpose: &'static str) {
        self.core().purpose.set(purpose);
    }

    /// Returns the number of its active panics, while it is suspended.
    pub(crate) fn suspended_panics(&self) -> usize {
        self.core().cold().unwinding.get()
    }

    /// Returns the scheduler's data.
    pub(crate) fn owner(&self) -> Option<Rc<dyn Owner>> {
        self.core().owner()
    }

    pub(crate) fn set_owner(&self, owner: Option<Rc<dyn Owner>>) -> Option<Rc<dyn Owner>> {
        self.core().cold().owner.replace(owner)
    }

    /// Ends the greenlet if it has not started. Its body is dropped at once.
    ///
    /// # Panics
    ///
    /// With the panic of the body's destructor, after the greenlet has ended.
    pub(crate) fn discard(&self) {
        if self.core().life.get() == Life::Unstarted {
            end::discard_unstarted(Here::of_a_block(), self.core());
        }
    }

    /// Gives the greenlet a turn: switches to it with a `()`, awaits a `()`, and drops the handle.
    #[inline(always)]
    pub(crate) fn pass(self) -> Result<(), SwitchError<()>> {
        match self.pass_fast() {
            Ok((_, PLAIN)) => Ok(()),
            // SAFETY: the turn contract.
            Ok((word, signal)) => unsafe { receive(word, signal) }.map_err(Failure::without_value),
            Err(target) => switch::switch_slowly(target.core(), ()),
        }
    }

    /// Gives the greenlet a turn from the scheduler's own greenlet. Raises nothing: what would be raised is
    /// returned.
    #[inline(always)]
    pub(crate) fn pass_on(self) -> Result<Resumed, SwitchError<()>> {
        let here = Here::of_a_block();
        let me = here.running();
        debug_assert!(here.is_scheduler(me));
        me.accepts.set(TypeKey::UNIT);
        let passed = self.pass_fast();
        me.accepts.set(TypeKey::NONE);
        Self::arrive_nounwind(here, passed)
    }

    /// Gives the greenlet a turn from a greenlet whose callers do not unwind. What would be raised is
    /// returned.
    pub(crate) fn pass_nounwind(self) -> Result<Resumed, SwitchError<()>> {
        let passed = self.pass_fast();
        Self::arrive_nounwind(Here::of_a_block(), passed)
    }

    /// Gives the scheduler's own greenlet its first turn, like [`WeakGreenlet::pass_nounwind`]. It switches
    /// back at once. No user code runs meanwhile: a panic of a tracer, or an orphan, would end it before
    /// its body has started.
    pub(crate) fn begin_scheduling(self) -> Result<Resumed, SwitchError<()>> {
        let here = Here::of_a_block();
        let (tracer, orphaned) = (here.tracer.take(), here.orphaned.replace(false));
        here.update_slow_path();
        let came = self.pass_nounwind();
        here.tracer.replace(tracer);
        here.orphaned.set(orphaned);
        here.update_slow_path();
        came
    }

    #[inline(always)]
    fn arrive_nounwind(
        here: Here,
        passed: Result<(Word, usize), Self>,
    ) -> Result<Resumed, SwitchError<()>> {
        let (word, signal) = match passed {
            Ok(came) => came,
            Err(target) => match switch::switch_across(here, target.core(), (), TypeKey::UNIT)? {
                Switched::ToSelf(_) => return Ok(Resumed::Turn),
                Switched::Resumed(word, signal) => (word, signal),
            },
        };
        Ok(match signal {
            PLAIN => Resumed::Turn,
            // SAFETY: the turn contract.
            DELIVERY => unsafe { receive_anything(word, signal) }.into(),
            // SAFETY: the turn contract; any other signal is a block that has ended with a `()`, so there is
            // no value to read first.
            _ => match catch_unwind(AssertUnwindSafe(|| unsafe { reclaim_signal(signal) })) {
                Ok(()) => Resumed::Turn,
                Err(payload) => Arrival::Throw(payload).into(),
            },
        })
    }

    /// Raises `payload` in the greenlet, from the scheduler's own greenlet.
    pub(crate) fn throw_on(
        &self,
        payload: Payload,
        unwinding: Unwinding,
    ) -> Result<Resumed, SwitchError<Payload>> {
        let here = Here::of_a_block();
        let (word, signal) =
            switch::throw_across(here, self.core(), payload, TypeKey::UNIT, unwinding)?;
        // SAFETY: the turn contract.
        Ok(unsafe { receive_anything(word, signal) }.into())
    }

    /// Returns whether [`WeakGreenlet::pass`] can resume it.
    pub(crate) fn accepts_a_turn(&self) -> bool {
        matches!(self.core().accepts.get(), TypeKey::UNIT | TypeKey::ANY)
    }

    /// Called in the scheduler's own greenlet: from now on only the scheduler switches from it.
    pub(crate) fn close_to_others(&self) {
        let core = self.core();
        core.cold().input.set(TypeKey::NONE);
        core.cold().output.set(TypeKey::CLOSED);
        core.accepts.set(TypeKey::NONE);
        core.reply.set(TypeKey::CLOSED);
    }

    /// The fast path: returns what the switch back has brought, or the target if the slow path is required.
    #[inline(always)]
    fn pass_fast(self) -> Result<(Word, usize), Self> {
        let to = self.core();
        // SAFETY: there is a handle, so the thread has a current greenlet, which is alive.
        let from = unsafe { thread::current().unwrap_unchecked().as_ref() };
        let both_unit = to.accepts.get() == TypeKey::UNIT && from.accepts.get() == TypeKey::UNIT;
        if !both_unit || thread::must_take_slow_path() || float_modes_changed() {
            return Err(self);
        }
        // A greenlet that accepts a type is alive, and so has the hold of its life: this hold is not the
        // last.
        to.holds.set(to.holds.get() - 1);
        let to = NonNull::from(to);
        mem::forget(self);
        thread::set_current(to);
        // SAFETY: the target is alive and accepts a `()`, so it is suspended, has not started, or is the
        // current one. So does the current greenlet.
        Ok(unsafe { switch_stacks(from, to.as_ref(), Word::uninit(), PLAIN) })
    }
}
