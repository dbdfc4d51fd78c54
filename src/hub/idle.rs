#![forbid(unsafe_code)]
//! Running all that is ready, until nothing is.

use super::here::unless_ended;
use super::state::Hub;

/// Lets all others run until none of them is ready: see [`run_until_idle`](crate::coroutine::run_until_idle).
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
            // What is due, and what has come meanwhile.
            self.yield_to_the_poller();
            if !self.others_are_ready() {
                return;
            }
        }
    }

    /// Whether there are others in the queue than those that wait for this as well.
    fn others_are_ready(&self) -> bool {
        self.ready.len() >= self.waiting_for_idle.get()
    }
}

/// One that waits until nobody is ready, the current one included.
struct Waiting<'a>(&'a Hub);

impl<'a> Waiting<'a> {
    fn new(hub: &'a Hub) -> Self {
        hub.waiting_for_idle.set(hub.waiting_for_idle.get() + 1);
        Waiting(hub)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // None: this is a child's copy of a wait of its parent's.
        self.0.waiting_for_idle.set(self.0.waiting_for_idle.get().saturating_sub(1));
    }
}
