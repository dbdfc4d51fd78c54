#![forbid(unsafe_code)]
//! Waits in which nothing is raised: for callers that must not unwind, such as functions that C code calls.
//!
//! ```text
//!   a kill, a limit ──► told: the call is cut short, and says so ──► raised, where the coroutine waits next
//!                  └──► deferred: the call goes on to its end    ──►         in a call of this library
//! ```
//!
//! Each is told once, so that a loop that begins its call anew waits again, and does not spin.

use super::deadline::Deadline;
use super::here::{here, try_with};
use super::park::{Delegate, HUB, INTERRUPTED, PARKED, QUEUED, ROOT, Timer, Wake};
use super::state::Hub;
use super::task::{self, Interrupt, TaskRef};
use crate::greenlet::scheduled::{self, NO_THROW};
use crate::greenlet::{AnyWeakGreenlet, GreenletExit};

/// What is done about what would be raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interrupts {
    /// The wait ends with [`Wake::Interrupted`]. Whoever cuts its call short for that says so by
    /// [`tell_interrupts`].
    Tell,
    /// It goes on.
    Defer,
}

/// Where a call is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// On a thread without a hub.
    Thread,
    /// In a hub's own greenlet, which must not wait.
    Hub,
    /// In a coroutine, or main beside coroutines.
    Task,
}

/// Where the caller is.
#[inline]
pub(crate) fn place() -> Place {
    match try_with(|_| scheduled::running().mark() & HUB == 0) {
        None => Place::Thread,
        Some(false) => Place::Hub,
        Some(true) => Place::Task,
    }
}

/// As [`park`](super::park()), and raises nothing. To be called in a [`Place::Task`].
pub(crate) fn park_quietly(
    purpose: &'static str,
    deadline: Option<Deadline>,
    interrupts: Interrupts,
) -> Wake {
    here().park_quietly(purpose, deadline, interrupts)
}

/// The current call is cut short, for all that is to be raised now.
pub(crate) fn tell_interrupts() {
    let me = &*scheduled::running();
    let depth = task::panics(me);
    if let Some(task) = TaskRef::of(me) {
        let mut interrupts = task.interrupts.borrow_mut();
        for interrupt in interrupts.iter_mut() {
            interrupt.is_told |= interrupt.depth >= depth && interrupt.is_meant_for(me);
        }
    }
}

/// As [`yield_now`](super::yield_now()), and raises nothing.
pub(crate) fn yield_quietly() {
    let hub = here();
    let is_late = hub.tick();
    if is_late || !hub.ready.is_empty() {
        hub.queue_up_quietly(is_late);
    }
}

/// As `Hub::breathe`, and raises nothing.
#[inline]
pub(crate) fn breathe_quietly() {
    let hub = here();
    if hub.tick() {
        hub.queue_up_quietly(true);
    }
}

impl Hub {
    fn park_quietly(
        &self,
        purpose: &'static str,
        deadline: Option<Deadline>,
        interrupts: Interrupts,
    ) -> Wake {
        let me = &*scheduled::running();
        let is_interrupted = || interrupts == Interrupts::Tell && has_untold(me);
        if is_interrupted() {
            return Wake::Interrupted;
        }
        let _delegate = delegate(me);
        let timer = deadline.map(|deadline| Timer::new(self, deadline, me));
        me.set_purpose(purpose);
        me.set_mark(me.mark() | PARKED);
        self.suspend_shielded(me, None);
        let has_fired = timer.is_some_and(Timer::cancel);
        match is_interrupted() {
            true => Wake::Interrupted,
            false if has_fired => Wake::TimedOut,
            false => Wake::Unparked,
        }
    }

    #[cold]
    fn queue_up_quietly(&self, is_late: bool) {
        let me = &*scheduled::running();
        let _delegate = delegate(me);
        me.set_mark(me.mark() | QUEUED);
        self.ready.push(me.clone());
        self.suspend_shielded(me, is_late.then(|| self.poller()));
    }

    fn suspend_shielded(&self, me: &AnyWeakGreenlet, next: Option<AnyWeakGreenlet>) {
        me.set_mark(me.mark() | NO_THROW);
        self.suspend_quietly(me, next);
        me.set_mark(me.mark() & !NO_THROW);
    }

    /// Tells all who wait here that their thread ends, and lets each of them have a turn: what they do then
    /// can be unwound, unless they wait here again.
    pub(super) fn cut_short(&self) {
        let mut waiting = Vec::new();
        scheduled::for_each_alive(|greenlet| {
            if greenlet.mark() & NO_THROW != 0 {
                waiting.extend(TaskRef::of(&greenlet));
            }
        });
        for task in waiting {
            let payload = Box::new(GreenletExit);
            self.interrupt(&task, Interrupt::new(self.next_id(), usize::MAX, payload), false);
        }
        // Nothing is raised in who ends the thread: it is in a destructor.
        if !self.ready.is_empty() {
            self.queue_up_quietly(false);
        }
    }
}

/// What is to be seen to in one that waits for a task that is not its own.
fn delegate(me: &AnyWeakGreenlet) -> Option<Delegate> {
    debug_assert!(me.mark() & HUB == 0, "the hub's own greenlet must not wait");
    if me.mark() & ROOT != 0 {
        return None;
    }
    TaskRef::of(me).map(|task| Delegate::new(task, me.clone()))
}

/// Whether something is to be raised in the current task that it has not been told of.
fn has_untold(me: &AnyWeakGreenlet) -> bool {
    if me.mark() & (INTERRUPTED | ROOT) == ROOT {
        return false;
    }
    let depth = task::panics(me);
    TaskRef::of(me).is_some_and(|task| {
        let interrupts = task.interrupts.borrow();
        interrupts.iter().any(|interrupt| {
            interrupt.depth >= depth && !interrupt.is_told && interrupt.is_meant_for(me)
        })
    })
}
