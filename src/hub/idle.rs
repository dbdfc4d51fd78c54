#![forbid(unsafe_code)]
//! Runs all ready greenlets until none is ready.

use super::here::unless_ended;
use super::state::Hub;

/// Lets all other greenlets run until none is ready: see
/// [`run_until_idle`](crate::coroutine::run_until_idle).
#[track_caller]
pub(crate) fn run_until_idle() {
    if let Some(hub) = unless_ended() {
        hub.run_until_idle();
    }
}

impl Hub {
    #[track_caller]
    fn run_until_idle(&self) {
        let _waiting = Waiting::new(self);
        loop {
            while self.others_are_ready() {
                self.yield_now();
            }
            // Collects due timers, and events that have arrived meanwhile.
            self.yield_to_poller();
            if !self.others_are_ready() {
                return;
            }
        }
    }

    /// Whether the queue holds greenlets besides those that wait for idleness themselves.
    fn others_are_ready(&self) -> bool {
        self.ready.len() >= self.waiting_for_idle.get()
    }
}

/// Counts the current greenlet among those that wait until none is ready, until dropped.
struct Waiting<'a>(&'a Hub);

impl<'a> Waiting<'a> {
    fn new(hub: &'a Hub) -> Self {
        hub.waiting_for_idle.set(hub.waiting_for_idle.get() + 1);
        Waiting(hub)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // Saturates at 0: in a child, this may be a copy of a wait of the parent.
        self.0.waiting_for_idle.set(self.0.waiting_for_idle.get().saturating_sub(1));
    }
}
