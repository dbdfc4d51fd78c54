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

use super::Payload;
use super::core::{Core, Life};
use super::counts::unhold;
use super::handle::Hold;
use super::report::{complain, swallow_panic};
use super::run::drop_locals;
use super::switch::{deliver, receive_anything};
use super::thread::{Arrival, Here};
use super::types::TypeKey;
use crate::greenlet::error::GreenletExit;
use crate::stack::Pool;
use crate::sys::stderr;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::NonNull;

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
        mem::forget(here.pool.replace(Pool::new()));
        return;
    }
    drop(here.pool.replace(Pool::new()));
    if main.handles.get() == 0 {
        // SAFETY: main's own hold, since it is dead now and without handles.
        unsafe { unhold(here.main) };
    }
}
