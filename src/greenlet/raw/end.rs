//! The ends of greenlets: of a body, by the drop of the last handle, with a thread.
//!
//! ```text
//!               create            first switch              body ends
//!   (no block) ────────► Unstarted ───────────► Started ─────────────────► Dead ──► (block free)
//!                            │                     │ last handle dropped    ▲        with its
//!                            │ last handle dropped │ while suspended:       │        last hold
//!                            │ or thrown into      ▼ exit thrown into it    │
//!                            └──────────────────────────────────────────────┘
//! ```

use super::block::{Core, Hold, Life, add_handle, remove_handle};
use super::dropping::{Payload, drop_reporting, run_reporting};
use super::marks::{EXIT_PROPAGATES, LEFT_BEHIND, NO_THROW};
use super::report::{report_leak, report_panic};
use super::run::drop_locals;
use super::switch::{deliver, receive_anything};
use super::thread::{self, Arrival, Here};
use super::types::TypeKey;
use crate::greenlet::error::GreenletExit;
use crate::stack::Pool;
use crate::sys::stderr;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Frees the stack and the remaining values of a greenlet that has ended by a switch to the current one.
/// Takes over the hold of its life.
#[inline]
pub(super) fn reclaim(here: Here, core: Hold) {
    // SAFETY: it has ended, and a dead greenlet is never switched to.
    unsafe { core.context.retire() };
    let custom = give_back_stack(here, &core);
    if custom.is_some() || core.cold().locals.borrow().is_some() || core.is_detached() {
        drop_belongings(core, custom);
    }
}

/// Drops the user values that an ended greenlet has left: locals created after the others were dropped, and
/// a custom stack. This comes last, since it runs user code.
#[cold]
#[inline(never)]
fn drop_belongings(core: Hold, custom: Option<Box<dyn corosensei::stack::Stack>>) {
    Here::of_a_block().running().arrive();
    drop_locals(&core);
    let owner = core.cold().owner.take();
    drop(core);
    drop(custom);
    drop(owner);
}

/// Takes the stack of a greenlet that does not run on it any more. Returns it if it is a custom one.
#[inline]
fn give_back_stack(here: Here, core: &Core) -> Option<Box<dyn corosensei::stack::Stack>> {
    let stack = core.cold().stack.take()?;
    #[cfg(feature = "sanitizer")]
    {
        let bottom = stack.bottom().addr().get();
        crate::sys::sanitizer::forget(bottom, stack.top().addr().get() - bottom);
    }
    // SAFETY: nothing runs on the stack, and the current greenlet has another.
    unsafe { here.pool.borrow_mut().give_back(stack) }
}

/// Marks a greenlet as ended.
#[inline]
pub(super) fn close(here: Here, core: &Core, life: Life) {
    core.life.set(life);
    core.reply.set(TypeKey::CLOSED);
    core.accepts.set(TypeKey::NONE);
    here.live.set(here.live.get() - 1);
}

/// Ends a greenlet that has not started. Its body is dropped at once.
///
/// # Panics
///
/// With the panic of the body's destructor, after everything is cleaned up.
pub(super) fn discard_unstarted(here: Here, core: &Core) {
    let body = core.cold().body.take().expect("an unstarted greenlet has a body");
    // SAFETY: the hold of its life, which ends here. Only one caller finds the body, so it is taken once.
    let core = unsafe { Hold::from_block(core.into()) };
    close(here, &core, Life::Ending);
    // Makes an entry in the scheduler's queue stale.
    core.arrive();
    // SAFETY: the body is in place, and was taken out of the block, so it is dropped once.
    let dropped = catch_unwind(AssertUnwindSafe(|| unsafe { (body.drop)(body.place) }));
    core.life.set(Life::Dead);
    // SAFETY: it was never switched to.
    unsafe { core.context.retire() };
    let custom = give_back_stack(here, &core);
    if let Err(payload) = dropped {
        run_reporting("the destructor of a stack", || drop_belongings(core, custom));
        resume_unwind(payload);
    }
    drop_belongings(core, custom);
}

impl Hold {
    /// Ends the greenlet after its last handle was dropped. `self` is the hold of the handles.
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

/// Unwinds a greenlet that lost its last handle while it ran, and has now been switched away from, unless
/// it has a handle again.
pub(super) fn unwind_orphan(here: Here, core: &Core) {
    if core.handles.get() == 0 && !core.is_current() {
        unwind(here, core);
    }
}

/// Unwinds a suspended greenlet: see [`try_unwind`]. Raises what was thrown into the current greenlet
/// meanwhile.
pub(super) fn unwind(here: Here, core: &Core) {
    if let Some(payload) = try_unwind(here, core, TypeKey::ANY) {
        raise_unless_unwinding(payload);
    }
}

/// Raises a panic, or only reports it if the thread is unwinding: a second panic in a destructor would
/// abort the process.
pub(super) fn raise_unless_unwinding(payload: Payload) {
    if std::thread::panicking() {
        stderr::write(&["switchgrass: a payload thrown into an unwinding greenlet was dropped\n"]);
    } else {
        resume_unwind(payload);
    }
}

/// Returns whether nothing can be thrown into a suspended greenlet, because of what it waits for.
pub(super) fn refuses_throws(core: &Core) -> bool {
    core.accepts_only_an_end() || core.mark.get() & NO_THROW != 0
}

/// Unwinds a suspended greenlet by throwing a [`GreenletExit`] into it, and waits for its end, which is
/// delivered here and not to its parent. Never unwinds: returns what was thrown into the current greenlet
/// meanwhile.
///
/// If `awaited` is [`TypeKey::ANY`], any value sent to the current greenlet ends the wait early. If it is
/// [`TypeKey::END`], only the unwinding greenlet can, until it has ended.
///
/// The greenlet may refuse: it catches the exit and switches away, or is in a destructor during an unwind,
/// or in a call that must not unwind. Then it is left as it is, and this is reported if it has no handles.
///
/// Several greenlets may unwind the same one at the same time. The most recent receives the end; the others
/// continue when they are next switched to.
///
/// Does nothing if the greenlet has not started, has ended, or is the current one.
pub(super) fn try_unwind(here: Here, core: &Core, awaited: TypeKey) -> Option<Payload> {
    if !core.is_started() || core.is_current() {
        return None;
    }
    let core = core.hold();
    let cold = core.cold();
    if cfg!(panic = "abort") {
        report_leak(&core, "cannot be unwound under panic = \"abort\"");
        return None;
    }
    if cold.unwinding.get() > 0 || refuses_throws(&core) {
        report_leak(
            &core,
            match core.mark.get() & NO_THROW {
                0 => "is suspended in a destructor while it unwinds",
                _ => "is suspended in a call that cannot be unwound",
            },
        );
        return None;
    }
    // Both get a temporary handle: the waiter must not count as an orphan when it switches away here, and
    // the drop of another handle of `core` must not unwind it a second time.
    let waiter = here.running().hold();
    add_handle(&waiter);
    add_handle(&core);
    // A kill that it caught earlier is over: this exit must not propagate.
    core.mark.set(core.mark.get() & !EXIT_PROPAGATES);
    waiter.begin_to_await_end_of(&core);
    let exit = Arrival::Throw(Box::new(GreenletExit));
    // SAFETY: `core` is suspended, so not the current greenlet. The current greenlet awaits a type of which
    // nothing is read.
    let arrival = unsafe {
        let (word, signal) = deliver(here, core.block(), exit, awaited);
        waiter.stop_awaiting_end();
        receive_anything(word, signal)
    };
    // SAFETY: both handles were added above.
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
        report_leak(
            &core,
            match in_a_destructor {
                true => "is suspended in a destructor while it unwinds",
                false => "caught its GreenletExit and switched away",
            },
        );
    }
    thrown
}

/// Ends all greenlets of the thread except main and the current one. Their panics are reported.
///
/// Unwinding may create greenlets, so this repeats until none is left, or none of a round has ended, or the
/// maximum number of rounds is reached. A greenlet that refuses to end is left.
pub(super) fn unwind_all(here: Here) {
    const ROUNDS: usize = 100;
    for _ in 0..ROUNDS {
        let living = collect_living(here);
        for core in &living {
            report_panic(core, "unwinding", || match core.life.get() {
                Life::Unstarted => discard_unstarted(here, core),
                // Reported when its handle was dropped.
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

/// Ends all greenlets of a thread that is about to end, and drops the tracer and the locals of main and the
/// scheduler. Their destructors may create new ones of each, so this runs in rounds.
pub(super) fn wind_up(here: Here) {
    const ROUNDS: usize = 100;
    // SAFETY: main's block has the hold of its life until the thread has ended.
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

/// Returns the greenlets that [`unwind_all`] ends.
fn collect_living(here: Here) -> Vec<Hold> {
    let mut living = Vec::new();
    here.slab.each(|block| {
        // SAFETY: the slab has initialized every block that it passes, and frees none before its own drop.
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
    /// Ends all greenlets of a thread that is about to end, and drops its data. Does nothing if this has
    /// happened.
    pub(super) fn end_thread(self) {
        if !self.ended.get() {
            if self.current() == self.main {
                wind_up(self);
            }
            close_thread(self);
        }
    }
}

/// The second half of [`Here::end_thread`]. Closes the greenlets that are left, which have refused to
/// unwind: they are never resumed.
///
/// If the current greenlet is not main, `exit` was called in it. Then main is suspended in the middle of
/// its code, and must not be resumed by a destructor that switches to it. The process ends without any
/// unwinding.
pub(super) fn close_thread(here: Here) {
    here.ended.set(true);
    thread::set_ended();
    let mut any_remain = here.current() != here.main;
    here.slab.each(|block| {
        // SAFETY: the slab has initialized every block that it passes, and frees none before its own drop.
        let core = unsafe { block.as_ref() };
        if core.life.get() != Life::Dead {
            // It keeps the hold of its life, and with it the thread's state.
            any_remain |= block != here.main;
            core.life.set(Life::Dead);
            core.reply.set(TypeKey::CLOSED);
            core.accepts.set(TypeKey::NONE);
        }
    });
    if any_remain {
        // There may be pointers into frames that were not unwound, so their stacks must stay mapped
        // (Invariant 8).
        mem::forget(here.pool.replace(Pool::new()));
        return;
    }
    drop(here.pool.replace(Pool::new()));
    // SAFETY: the hold of main's life, which ends here.
    drop(unsafe { Hold::from_block(here.main) });
}
