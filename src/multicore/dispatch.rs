#![forbid(unsafe_code)]
//! Chooses the hub that a task runs on, and kills all tasks.

use super::shared_state::SharedState;
use super::task::Task;
use super::worker;
use crate::coroutine::Builder;
use std::cell::Cell;
use std::sync::Arc;

/// The hub on which a task is to run.
#[derive(Clone, Copy, Debug)]
pub(super) enum Placement {
    /// The calling hub, or from outside an idle one. Other hubs may take the task.
    Anywhere,
    /// The hub with this number. Other hubs may take the task.
    Prefer(usize),
    /// The hub with this number only.
    On(usize),
}

/// Queues a task.
///
/// Returns `false` if the hubs are closed: the task has not begun, and the caller has the only reference.
pub(super) fn push(shared: &Arc<SharedState>, task: Arc<dyn Task>, placement: Placement) -> bool {
    let own = worker::index_in(shared);
    let (index, is_movable) = match (placement, own) {
        (Placement::On(index), _) => (index, false),
        (Placement::Prefer(index), _) => (index, true),
        (Placement::Anywhere, Some(own)) => (own, true),
        (Placement::Anywhere, None) => return push_from_outside(shared, task),
    };
    let remote = &shared.remotes[index];
    let Some(movable) = remote.queue.push(task, is_movable) else { return false };
    let is_own = own == Some(index);
    // A sleeping hub begins the task at once, and wakes a searcher itself if there are more.
    let was_idle = !is_own && shared.idle.leave(index);
    if is_own {
        worker::begin_soon();
    } else {
        remote.nudge();
    }
    if is_movable && !was_idle {
        shared.wake_searcher(movable);
    }
    true
}

/// Queues a task on an idle hub, or on the next one in turn if all are busy.
fn push_from_outside(shared: &SharedState, task: Arc<dyn Task>) -> bool {
    thread_local! {
        /// Per thread, so that threads share no counter.
        static NEXT: Cell<usize> = const { Cell::new(0) };
    }
    let idle = shared.idle.claim();
    let index = idle.unwrap_or_else(|| {
        let next = NEXT.try_with(|next| next.replace(next.get().wrapping_add(1)));
        next.unwrap_or(0) % shared.remotes.len()
    });
    let remote = &shared.remotes[index];
    let Some(movable) = remote.queue.push(task, true) else {
        // The claim obliges the caller to wake the hub.
        remote.nudge();
        return false;
    };
    remote.nudge();
    if idle.is_none() {
        shared.wake_searcher(movable);
    }
    true
}

/// Kills all tasks, after `close`. Returns at once.
pub(super) fn kill(shared: &SharedState) {
    shared.set_killing();
    for remote in &shared.remotes {
        remote.hub().call(|| {
            // In a coroutine, since destructors may wait. If there is no memory for one, a destructor
            // that waits panics.
            if Builder::new().spawn(worker::kill_all).is_err() {
                worker::kill_all();
            }
        });
    }
}
