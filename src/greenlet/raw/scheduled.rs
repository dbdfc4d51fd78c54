//! For a scheduler of greenlets: what it keeps in a block, and the switch that carries nothing.
//!
//! A scheduler's greenlets are *detached*: no handle keeps them, they live until they end. That there is
//! a loop is not known here: the purpose and the owner are not looked at, and of the mark one bit.

use super::block::{Hold, Life, Owner};
use super::create::{DetachedSpec, create_detached};
use super::dropping::Payload;
use super::end;
use super::handle::{AnyWeakGreenlet, Untyped, WeakGreenlet};
use super::switch::{
    self, Failure, LOOK, PLAIN, Passage, Unwinding, receive, receive_anything, reclaim_signal,
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

/// Makes a greenlet that no handle keeps. Its end goes to `parent`.
#[inline]
pub(crate) fn spawn(
    parent: &AnyWeakGreenlet,
    spec: DetachedSpec,
    owner: Option<Rc<dyn Owner>>,
    body: impl FnOnce(()) + 'static,
) -> Result<AnyWeakGreenlet, BuildError> {
    // SAFETY: a body that borrows nothing.
    let hold = unsafe { create_detached(parent.core(), spec, body)? };
    if owner.is_some() {
        hold.cold().owner.set(owner);
    }
    Ok(WeakGreenlet::untyped_of(hold))
}

/// The greenlet that runs, without a hold of its own. It never leaves the frame that has asked for it,
/// which may switch.
pub(crate) struct Current(ManuallyDrop<AnyWeakGreenlet>);

impl Deref for Current {
    type Target = AnyWeakGreenlet;

    #[inline(always)]
    fn deref(&self) -> &AnyWeakGreenlet {
        &self.0
    }
}

/// The greenlet that runs.
///
/// # Panics
///
/// On a thread without greenlets.
#[inline(always)]
pub(crate) fn running() -> Current {
    let current = thread::current().expect("a thread with a scheduler has greenlets");
    // SAFETY: no types; and the current greenlet's life has a hold of its block, which lasts until the
    // frame that asked has ended, being on its stack. It is not given up here.
    Current(ManuallyDrop::new(unsafe { WeakGreenlet::of(Hold::from_block(current)) }))
}

/// The thread's main greenlet. `None` when the thread has unwound its greenlets.
pub(crate) fn main() -> Option<AnyWeakGreenlet> {
    let here = Here::ready()?;
    // SAFETY: main's block is the thread's own.
    Some(WeakGreenlet::untyped(unsafe { here.main.as_ref() }))
}

/// So many panics are under way in the current greenlet: more than none in a destructor alone.
pub(crate) fn panics() -> usize {
    let here = Here::existing();
    let count = here.as_ref().and_then(|here| here.panics());
    count.map_or_else(|| usize::from(std::thread::panicking()), |count| count.get())
}

/// Calls `look` with every greenlet of the thread that is neither dead nor main.
pub(crate) fn for_each_alive(mut look: impl FnMut(AnyWeakGreenlet)) {
    let Some(here) = Here::existing() else { return };
    here.slab.each(|block| {
        // SAFETY: made by the slab, which exists.
        let core = unsafe { block.as_ref() };
        if core.is_alive() && !core.is_main() {
            look(WeakGreenlet::untyped(core));
        }
    });
}

/// Says which greenlet is the scheduler's own. [`unwind_all`](super::unwind_all) spares it, it is not
/// counted, and only the scheduler switches from it: by [`WeakGreenlet::pass_on`] and
/// [`WeakGreenlet::throw_on`].
pub(crate) fn set_scheduler(scheduler: Option<AnyWeakGreenlet>) {
    if let Some(here) = Here::existing() {
        here.scheduler.set(scheduler.map(WeakGreenlet::into_hold));
    }
}

/// Until this is dropped, switches made by hand lead to the greenlet that has made it, and to those that run
/// for it, only.
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

/// Ends all greenlets of the thread but the scheduler's own: see [`end::wind_up`].
pub(crate) fn wind_up() {
    if let Some(here) = Here::existing() {
        end::wind_up(here);
    }
}

/// Ends what [`wind_up`] has left, and the thread with it: see [`end::close_thread`].
pub(crate) fn close_thread() {
    if let Some(here) = Here::existing() {
        end::close_thread(here);
    }
}

/// How many greenlets this thread has made.
pub(crate) fn made_count() -> u64 {
    Here::existing().map_or(0, |here| here.next_id.get())
}

/// How a scheduler's greenlet got the thread back.
#[derive(Debug)]
pub(crate) enum Resumed {
    /// It is its turn.
    Turn,
    /// A greenlet whose ancestors had ended has panicked, or ended with a result that nobody awaits.
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
    /// A word for the scheduler. Zero in a new greenlet.
    #[inline(always)]
    pub(crate) fn mark(&self) -> u8 {
        self.core().mark.get()
    }

    #[inline(always)]
    pub(crate) fn set_mark(&self, mark: u8) {
        self.core().mark.set(mark);
    }

    /// Asks for its block, ahead of its turn.
    #[inline(always)]
    pub(crate) fn prefetch(&self) {
        arch::prefetch(self.block().as_ptr().cast());
    }

    /// Asks for its stack, ahead of its turn. Its block should be there.
    #[inline(always)]
    pub(crate) fn prefetch_stack(&self) {
        self.core().context.prefetch_stack();
    }

    /// What it is suspended for, says the scheduler.
    pub(crate) fn purpose(&self) -> &'static str {
        self.core().purpose.get()
    }

    #[inline(always)]
    pub(crate) fn set_purpose(&self, purpose: &'static str) {
        self.core().purpose.set(purpose);
    }

    /// So many panics are under way in it, while it is suspended.
    pub(crate) fn suspended_panics(&self) -> usize {
        self.core().cold().unwinding.get()
    }

    /// What the scheduler knows about it.
    pub(crate) fn owner(&self) -> Option<Rc<dyn Owner>> {
        self.core().owner()
    }

    pub(crate) fn set_owner(&self, owner: Option<Rc<dyn Owner>>) -> Option<Rc<dyn Owner>> {
        self.core().cold().owner.replace(owner)
    }

    /// Ends it if it has not begun. Its body is dropped here and now.
    ///
    /// # Panics
    ///
    /// With what the body's destructor panics, when it has ended.
    pub(crate) fn discard(&self) {
        if self.core().life.get() == Life::Unstarted {
            end::discard_unstarted(Here::of_a_block(), self.core());
        }
    }

    /// Switches to it with nothing and awaits nothing, and lets go of it: what a scheduler does.
    #[inline(always)]
    pub(crate) fn pass(self) -> Result<(), SwitchError<()>> {
        match self.pass_shortly() {
            Ok((_, PLAIN)) => Ok(()),
            // SAFETY: the switch has just brought this to one that awaits a `()`.
            Ok((word, signal)) => unsafe { receive(word, signal) }.map_err(Failure::without_value),
            Err(target) => switch::switch_slowly(target.core(), ()),
        }
    }

    /// As [`WeakGreenlet::pass`], from the scheduler's own greenlet. Raises nothing.
    #[inline(always)]
    pub(crate) fn pass_on(self) -> Result<Resumed, SwitchError<()>> {
        let here = Here::of_a_block();
        let me = here.running();
        debug_assert!(here.is_scheduler(me));
        me.accepts.set(TypeKey::UNIT);
        let passed = self.pass_shortly();
        me.accepts.set(TypeKey::NONE);
        Self::arrive_nounwind(here, passed)
    }

    /// As [`WeakGreenlet::pass`], from a greenlet whose callers do not unwind. What would be raised is
    /// returned.
    pub(crate) fn pass_nounwind(self) -> Result<Resumed, SwitchError<()>> {
        let passed = self.pass_shortly();
        Self::arrive_nounwind(Here::of_a_block(), passed)
    }

    /// As [`WeakGreenlet::pass_nounwind`], to the scheduler's own greenlet, which begins with that and
    /// switches back at once. No user code runs meanwhile: a tracer that panicked, or an orphan, would end
    /// it before its body has begun.
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
            Err(target) => match switch::cross(here, target.core(), (), TypeKey::UNIT)? {
                Passage::Oneself(_) => return Ok(Resumed::Turn),
                Passage::Brought(word, signal) => (word, signal),
            },
        };
        Ok(match signal {
            PLAIN => Resumed::Turn,
            // SAFETY: the switch has just brought this to one that awaits a `()`.
            LOOK => unsafe { receive_anything(word, signal) }.into(),
            // SAFETY: any other signal is that of an end. Most are, and bring nothing to look at.
            _ => match catch_unwind(AssertUnwindSafe(|| unsafe { reclaim_signal(signal) })) {
                Ok(()) => Resumed::Turn,
                Err(payload) => Arrival::Throw(payload).into(),
            },
        })
    }

    /// Raises `payload` in it, from the scheduler's own greenlet.
    pub(crate) fn throw_on(
        &self,
        payload: Payload,
        unwinding: Unwinding,
    ) -> Result<Resumed, SwitchError<Payload>> {
        let here = Here::of_a_block();
        let (word, signal) =
            switch::throw_across(here, self.core(), payload, TypeKey::UNIT, unwinding)?;
        // SAFETY: the switch has just brought this to one that awaits a `()`.
        Ok(unsafe { receive_anything(word, signal) }.into())
    }

    /// Whether [`WeakGreenlet::pass`] can resume it.
    pub(crate) fn accepts_a_turn(&self) -> bool {
        matches!(self.core().accepts.get(), TypeKey::UNIT | TypeKey::ANY)
    }

    /// Says, from the scheduler's own greenlet, that from now on only the scheduler switches from it.
    pub(crate) fn close_to_others(&self) {
        let core = self.core();
        core.cold().takes.set(TypeKey::NONE);
        core.cold().gives.set(TypeKey::CLOSED);
        core.accepts.set(TypeKey::NONE);
        core.door.set(TypeKey::CLOSED);
    }

    /// The short way: returns what the switch has brought, or the target if the long way must be gone.
    #[inline(always)]
    fn pass_shortly(self) -> Result<(Word, usize), Self> {
        let to = self.core();
        // SAFETY: a handle is there, so this thread has a current greenlet, which is alive.
        let from = unsafe { thread::current().unwrap_unchecked().as_ref() };
        let both_unit = to.accepts.get() == TypeKey::UNIT && from.accepts.get() == TypeKey::UNIT;
        if !both_unit || thread::must_take_slow_path() || float_modes_changed() {
            return Err(self);
        }
        // One that accepts something is alive, and so has a hold of its own: this is not the last.
        to.holds.set(to.holds.get() - 1);
        let to = NonNull::from(to);
        mem::forget(self);
        thread::set_current(to);
        // SAFETY: alive, as above. It accepts a `()`, so it is suspended or fresh, or the current one;
        // and so do we.
        Ok(unsafe { switch_stacks(from, to.as_ref(), Word::uninit(), PLAIN) })
    }
}
