#![forbid(unsafe_code)]
//! Chooses the hub that a body runs on, and reaches all bodies of a crew.

use super::body::Body;
use super::crew::Crew;
use super::worker;
use crate::coroutine::Builder;
use std::cell::Cell;
use std::sync::Arc;

/// Where a body is to run.
#[derive(Clone, Copy, Debug)]
pub(super) enum Where {
    /// On this hub or an idle one.
    Anywhere,
    /// The same, this hub being the one of that number.
    Rather(usize),
    On(usize),
}

/// Has a body run. `false` if it is closed: the body has not begun, and nobody else has it.
pub(super) fn push(crew: &Arc<Crew>, body: Arc<dyn Body>, place: Where) -> bool {
    let own = worker::index_in(crew);
    let (index, is_movable) = match (place, own) {
        (Where::On(index), _) => (index, false),
        (Where::Rather(index), _) => (index, true),
        (Where::Anywhere, Some(own)) => (own, true),
        (Where::Anywhere, None) => return push_from_outside(crew, body),
    };
    let member = &crew.members[index];
    let Some(movable) = member.queue.push(body, is_movable) else { return false };
    let is_own = own == Some(index);
    // One that sleeps gets to it at once, and sees to the rest itcrew.
    let was_idle = !is_own && crew.idle.leave(index);
    if is_own {
        worker::begin_soon();
    } else {
        member.nudge();
    }
    if is_movable && !was_idle {
        crew.call_for_help(movable);
    }
    true
}

/// To an idle hub if there is one, or else to one after the other.
fn push_from_outside(crew: &Crew, body: Arc<dyn Body>) -> bool {
    thread_local! {
        /// For each thread: they share nothing for this.
        static NEXT: Cell<usize> = const { Cell::new(0) };
    }
    let idle = crew.idle.claim();
    let index = idle.unwrap_or_else(|| {
        let next = NEXT.try_with(|next| next.replace(next.get().wrapping_add(1)));
        next.unwrap_or(0) % crew.members.len()
    });
    let member = &crew.members[index];
    let Some(movable) = member.queue.push(body, true) else {
        // It was taken out to be woken.
        member.nudge();
        return false;
    };
    member.nudge();
    if idle.is_none() {
        crew.call_for_help(movable);
    }
    true
}

/// Kills all bodies, after `close`. Returns at once.
pub(super) fn kill(crew: &Crew) {
    crew.set_killing();
    for member in &crew.members {
        member.remote().call(|| {
            // Destructors may wait. Without memory for a coroutine they panic where they do.
            if Builder::new().spawn(worker::kill_all).is_err() {
                worker::kill_all();
            }
        });
    }
}
