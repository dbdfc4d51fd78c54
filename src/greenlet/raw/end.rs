//! Ends: of a body, of a handle, of a thread.
//!
//! ```text
//!               create            first switch              body ends
//!   (no block) ────────► Unstarted ───────────► Started ─────────────────► Dead ──► (block free)
//!                            │                     │ last handle dropped    ▲        when nobody
//!                            │ last handle dropped │ while suspended:       │        holds it
//!                            │ or thrown into      ▼ thrown into            │
//!                            └──────────────────────────────────────────────┘
//! ```

use super::block::{Core, Hold, Life, add_handle, remove_handle};
use super::dropping::{Payload, drop_reporting, run_reporting};
use super::marks::{EXIT_PROPAGATES, LEFT_BEHIND, NO_THROW};
use super::report::{complain, report_panic};
use super::run::drop_locals;
use super::switch::{deliver, receive_anything};
use super::thread::{self, Arrival, Here};
use super::types::TypeKey;
use crate::greenlet::error::GreenletExit;
use crate::stack::Pool;
use crate::sys::stderr;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Does away with what is left of a greenlet that has ended by a switch to the current one, given the hold of
/// its life.
#[inline]
pub(super) fn reclaim(here: Here, core: Hold) {
    // SAFETY: it has ended, and nobody switches to the dead.
    unsafe { core.context.retire() };
    let custom = give_back_stack(here, &core);
    if custom.is_some() || core.cold().locals.borrow().is_some() || core.is_detached() {
        reclaim_belongings(core, custom);
    }
}

/// Drops what an ended greenlet has left of user values: locals that were made when the others were dropped
/// already, and a custom stack. Nothing else comes after it.
#[cold]
#[inline(never)]
fn reclaim_belongings(core: Hold, custom: Option<Box<dyn corosensei::stack::Stack>>) {
    Here::of_a_block().running().arrive();
    drop_locals(&core);
    let owner = core.cold().owner.take();
    drop(core);
    drop(custom);
    drop(owner);
}

/// Takes a greenlet's stack away, which is not the current one. A custom one is returned.
#[inline]
fn give_back_stack(here: Here, core: &Core) -> Option<Box<dyn corosensei::stack::Stack>> {
    let stack = core.cold().stack.take()?;
    #[cfg(feature = "sanitizer")]
    {
        let bottom = stack.bottom().addr().get();
        crate::sys::sanitizer::forget(bottom, stack.top().addr().get() - bottom);
    }
    // SAFETY: nothing runs on it, and the caller does not.
    unsafe { here.pool.borrow_mut().give_back(stack) }
}

/// Says that a greenlet has ended.
#[inline]
pub(super) fn close(here: Here, core: &Core, life: Life) {
    core.life.set(life);
    core.door.set(TypeKey::CLOSED);
    core.accepts.set(TypeKey::NONE);
    here.live.set(here.live.get() - 1);
}

/// Ends a greenlet that has not begun. Its body is dropped here and now.
///
/// # Panics
///
/// With what the body's destructor panics, when all is done.
pub(super) fn discard_unstarted(here: Here, core: &Core) {
    let body = core.cold().body.take().expect("an unstarted greenlet has a body");
    // SAFETY: that of its life, which is over; who takes the body takes it.
    let core = unsafe { Hold::from_block(core.into()) };
    close(here, &core, Life::Ending);
    // Its entry in the scheduler's queue is left over.
    core.arrive();
    // SAFETY: in place, and taken out of the block, so dropped once.
    let dropped = catch_unwind(AssertUnwindSafe(|| unsafe { (body.drop)(body.place) }));
    core.life.set(Life::Dead);
    // SAFETY: it was never switched to.
    unsafe { core.context.retire() };
    let custom = give_back_stack(here, &core);
    if let Err(payload) = dropped {
        run_reporting("the destructor of a stack", || reclaim_belongings(core, custom));
        resume_unwind(payload);
    }
    reclaim_belongings(core, custom);
}

impl Hold {
    /// What is done when the last handle has gone: this is the hold of the handles.
    #[inline]
    pub(super) fn release(self) {
        if self.life.get() != Life::Dead {
            release_alive(&self);
        }
    }
}

#[cold]
#[inline(never)]
fn release_alive(core: &Core) {
    let here = Here::of_a_block();
    match core.life.get() {
        Life::Dead | Life::Ending => {}
        _ if core.is_detached() => {}
        Life::Unstarted => discard_unstarted(here, core),
        Life::Started if core.is_main() => {}
        Life::Started if core.is_current() => here.set_orphaned(),
        Life::Started => unwind(here, core),
    }
}

/// Unwinds a greenlet that has left the thread without having a handle, unless it has one again.
pub(super) fn unwind_orphan(here: Here, core: &Core) {
    if core.handles.get() == 0 && !core.is_current() {
        unwind(here, core);
    }
}

/// Unwinds a suspended greenlet, as [`try_unwind`], and raises what was thrown into the current one
/// meanwhile.
pub(super) fn unwind(here: Here, core: &Core) {
    if let Some(payload) = try_unwind(here, core, TypeKey::ANY) {
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

/// Whether nothing can be thrown into a suspended greenlet, because of what it waits for.
pub(super) fn throws_never(core: &Core) -> bool {
    core.accepts_only_an_end() || core.mark.get() & NO_THROW != 0
}

/// Unwinds a suspended greenlet, by throwing a [`GreenletExit`] into it, and comes back. Its end comes here
/// and not to its parent. Never unwinds: returns what was thrown into the current greenlet meanwhile.
///
/// With `awaited` being [`TypeKey::ANY`], whatever is sent to the current greenlet brings it back early;
/// with [`TypeKey::END`], only the greenlet that is unwound can, until it has ended.
///
/// It may not let itself be unwound: by catching the exit and switching away, or because it is in a
/// destructor already. Then it is left as it is, and that is reported unless there is a handle of it.
///
/// Others may unwind it at the same time. The most recent gets the end, and the others go on when they are
/// next switched to.
///
/// Nothing happens to one that has not begun, has ended, or is the current one.
pub(super) fn try_unwind(here: Here, core: &Core, awaited: TypeKey) -> Option<Payload> {
    if !core.is_started() || core.is_current() {
        return None;
    }
    let core = core.hold();
    let cold = core.cold();
    if cfg!(panic = "abort") {
        complain(&core, "cannot be unwound under panic = \"abort\"");
        return None;
    }
    if cold.unwinding.get() > 0 || throws_never(&core) {
        complain(
            &core,
            match core.mark.get() & NO_THROW {
                0 => "is suspended in a destructor while it unwinds",
                _ => "is suspended in a call that cannot be unwound",
            },
        );
        return None;
    }
    // Both have a handle for the time being: dropping something is not leaving, and being dropped is not
    // losing a handle once more.
    let waiter = here.running().hold();
    add_handle(&waiter);
    add_handle(&core);
    // A kill that it caught before is over: this exit is its own.
    core.mark.set(core.mark.get() & !EXIT_PROPAGATES);
    waiter.begin_to_await_end_of(&core);
    let exit = Arrival::Throw(Box::new(GreenletExit));
    // SAFETY: suspended, so not the current one. We await anything, and read none of it.
    let arrival = unsafe {
        let (word, signal) = deliver(here, core.block(), exit, awaited);
        waiter.stop_awaiting_end();
        receive_anything(word, signal)
    };
    // SAFETY: added above.
    unsafe {
        remove_handle(&waiter);
        remove_handle(&core);
    }
    if waiter.handles.get() == 0 && !waiter.is_main() && !waiter.is_detached() {
        here.set_orphaned();
    }
    let thrown = match arrival {
        Arrival::Throw(payload) => Some(payload),
        _ => None,
    };
    if core.is_alive() && core.handles.get() == 0 && thrown.is_none() {
        let in_a_destructor = cold.unwinding.get() > 0;
        complain(
            &core,
            match in_a_destructor {
                true => "is suspended in a destructor while it unwinds",
                false => "caught its GreenletExit and switched away",
            },
        );
    }
    thrown
}

/// Ends all greenlets of the thread but main and the current one. What they panic with is reported.
///
/// Unwinding may make new ones, so this is done in rounds: until none is left, or none of a round has ended.
/// One that refuses to end is left, and so is what is still made after many rounds.
pub(super) fn unwind_all(here: Here) {
    const ROUNDS: usize = 100;
    for _ in 0..ROUNDS {
        let living = living(here);
        for core in &living {
            report_panic(core, "unwinding", || match core.life.get() {
                Life::Unstarted => discard_unstarted(here, core),
                // Its drop has been reported.
                Life::Started if cfg!(panic = "abort") => {}
                Life::Started => unwind(here, core),
                Life::Ending | Life::Dead => {}
            });
        }
        if living.iter().all(|core| core.is_alive()) {
            break;
        }
    }
}

/// Ends all greenlets of a thread that is about to end, and what it keeps for main and the scheduler: the
/// tracer and their locals, whose destructors may use all of these again.
pub(super) fn wind_up(here: Here) {
    const ROUNDS: usize = 100;
    // SAFETY: main's block is the thread's own.
    let main = unsafe { here.main.as_ref() }.hold();
    let keep_locals = [Some(main), here.scheduler()];
    for _ in 0..ROUNDS {
        unwind_all(here);
        let tracer = here.tracer.take();
        here.update_slow_path();
        let mut all = keep_locals.iter().flatten();
        if tracer.is_none() && all.all(|core| core.cold().locals.borrow().is_none()) {
            break;
        }
        drop_reporting("the destructor of a tracer", tracer);
        keep_locals.iter().flatten().for_each(|core| drop_locals(core));
    }
}

/// The greenlets that [`unwind_all`] ends.
fn living(here: Here) -> Vec<Hold> {
    let mut living = Vec::new();
    here.slab.each(|block| {
        // SAFETY: made by the slab, which exists.
        let core = unsafe { block.as_ref() };
        let is_spared = core.is_current()
            || core.is_main()
            || here.is_scheduler(core)
            || core.mark.get() & LEFT_BEHIND != 0;
        if core.is_alive() && !is_spared {
            living.push(core.hold());
        }
    });
    living
}

impl Here {
    /// Ends all greenlets of a thread that is about to end, and what it keeps for them. Nothing happens if
    /// that has been done.
    pub(super) fn end_thread(self) {
        if !self.ended.get() {
            if self.current() == self.main {
                wind_up(self);
            }
            close_thread(self);
        }
    }
}

/// The second half of [`Here::end_thread`]: what is left, since it does not let itself be unwound, is never
/// resumed.
///
/// If the current greenlet is not main, `exit` was called in it: main is in the middle of something, and must
/// not be resumed by a destructor that switches to it. The process ends, and nobody is unwound.
pub(super) fn close_thread(here: Here) {
    here.ended.set(true);
    thread::set_ended();
    let mut somebody_remains = here.current() != here.main;
    here.slab.each(|block| {
        // SAFETY: made by the slab, which exists.
        let core = unsafe { block.as_ref() };
        if core.life.get() != Life::Dead {
            // It keeps the hold of its life, and with it the thread's state.
            somebody_remains |= block != here.main;
            core.life.set(Life::Dead);
            core.door.set(TypeKey::CLOSED);
            core.accepts.set(TypeKey::NONE);
        }
    });
    if somebody_remains {
        // Frames that nobody has unwound may be pointed into: their stacks must stay.
        mem::forget(here.pool.replace(Pool::new()));
        return;
    }
    drop(here.pool.replace(Pool::new()));
    // SAFETY: that of main's life.
    drop(unsafe { Hold::from_block(here.main) });
}
