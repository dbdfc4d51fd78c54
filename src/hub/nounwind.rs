#![forbid(unsafe_code)]
//! Waits in which nothing is raised: for callers that must not unwind, such as functions that C code calls.
//!
//! ```text
//!   a kill, a limit ──► told: the call is cut short, and says so ──► raised, where the coroutine waits next
//!                  └──► deferred: the call goes on to its end    ──►         in a call of this library
//! ```
//!
//! Each is told once, so that a loop that begins its call anew waits again, and does not spin.
//!
//! A signal handler that runs on the hub's thread interrupts the waits of that thread, as it interrupts the
//! calls of a thread in the kernel:
//!
//! ```text
//!   a handler ──► counted (`sys/signal_counts.rs`), and the inbox is nudged: a sleep ends, or does not begin
//!   the hub looks into its inbox ──► another count? resumes all quiet waits ──► each compares for itself
//! ```
//!
//! The inbox's word makes that sound: a handler that runs between the hub's last look and its sleep finds the
//! word ASLEEP and raises the alarm.

use super::deadline::Deadline;
use super::here::{here, try_with};
use super::interrupt::Interrupt;
use super::park::{Delegate, Timer, Wake};
use super::state::Hub;
use super::task::{self, TaskRef};
use crate::greenlet::scheduled;
use crate::greenlet::scheduled::marks::{HUB, INTERRUPTED, NO_THROW, PARKED, QUEUED, ROOT};
use crate::greenlet::{AnyWeakGreenlet, GreenletExit};
use crate::sys::errno;
use crate::sys::signal_counts::{self, Count, Handlers};

/// What is done about what would be raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interrupts {
    /// The wait ends with [`Wake::Interrupted`]. Whoever cuts its call short for that says so by
    /// [`mark_interrupts_reported`]. After a signal handler without `SA_RESTART` it ends with
    /// [`Wake::Signalled`].
    Tell,
    /// As `Tell`, and [`Wake::Signalled`] after any handler: for calls that the kernel never restarts.
    ReportAnySignal,
    /// It goes on after a kill, and ends with [`Wake::Signalled`] after a handler without `SA_RESTART`.
    Signals,
    /// As `Signals`, of a call that began at this count.
    SignalsSince(Handlers, Count),
    /// As `Tell` or `ReportAnySignal`, of a call that began at this count: see [`Interrupts::begun`].
    ReportSince(Handlers, Count),
    /// It goes on.
    Defer,
}

impl Interrupts {
    /// Of a call on a socket, which the kernel never restarts if `SO_RCVTIMEO` or `SO_SNDTIMEO` gives it a
    /// deadline.
    pub(crate) fn of_socket(deadline: Option<Deadline>) -> Self {
        match deadline {
            None => Interrupts::Tell,
            Some(_) => Interrupts::ReportAnySignal,
        }
    }

    /// After any handler that has run since the call has begun by [`yield_if_due_nounwind`]. It goes on
    /// after a kill.
    pub(crate) fn any_signal_since_call_began() -> Self {
        Interrupts::SignalsSince(Handlers::Any, call_began())
    }

    /// For all waits of a call that begins now: a handler that runs between two of them, or beside an event,
    /// interrupts the next one.
    pub(crate) fn begun(self) -> Self {
        self.since(Count::now)
    }

    /// As [`Interrupts::begun`], of a call that has begun by [`yield_if_due_nounwind`]: a handler that has
    /// run since then interrupts it, also one that has run while others had their turn there, or in an
    /// earlier wait.
    pub(crate) fn since_call_began(self) -> Self {
        self.since(call_began)
    }

    /// Of the rest of a call that has done a part: any handler ends it from now on, and so does one that has
    /// run before, and would have ended the wait.
    pub(crate) fn behind_a_part(self) -> Self {
        if self.has_come() { self } else { Interrupts::ReportAnySignal.begun() }
    }

    fn since(self, count: impl FnOnce() -> Count) -> Self {
        match self {
            Interrupts::Tell => Interrupts::ReportSince(Handlers::Cutting, count()),
            Interrupts::ReportAnySignal => Interrupts::ReportSince(Handlers::Any, count()),
            Interrupts::Signals => Interrupts::SignalsSince(Handlers::Cutting, count()),
            other => other,
        }
    }

    /// Whether a kill or a time limit ends the wait.
    fn reports_kills(self) -> bool {
        !matches!(self, Interrupts::Defer | Interrupts::Signals | Interrupts::SignalsSince(..))
    }

    /// Whether a handler has run that ends the wait.
    fn has_come(self) -> bool {
        match self {
            Interrupts::ReportSince(which, count) | Interrupts::SignalsSince(which, count) => {
                count.differs(which, Count::now())
            }
            _ => false,
        }
    }
}

/// The count at which the current call has begun by [`yield_if_due_nounwind`], or this moment's.
fn call_began() -> Count {
    here().call_began.take().unwrap_or_else(Count::now)
}

/// Where a call is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// On a thread without a hub, or in a signal handler.
    Thread,
    /// In a hub's own greenlet, which must not wait.
    Hub,
    /// In a coroutine, or main beside coroutines.
    Task,
}

/// Where the caller is. A signal handler is outside of all: it may have come in the middle of something.
#[inline]
pub(crate) fn place() -> Place {
    if signal_counts::is_inside() {
        return Place::Thread;
    }
    match try_with(|_| scheduled::running().mark() & HUB == 0) {
        None => Place::Thread,
        Some(false) => Place::Hub,
        Some(true) => Place::Task,
    }
}

/// As [`park`](super::park()), and raises nothing. To be called in a [`Place::Task`].
pub(crate) fn park_nounwind(
    purpose: &'static str,
    deadline: Option<Deadline>,
    interrupts: Interrupts,
) -> Wake {
    here().park_nounwind(purpose, deadline, interrupts)
}

/// The current call is cut short, for all that is to be raised now.
pub(crate) fn mark_interrupts_reported() {
    let me = &*scheduled::running();
    let depth = task::panics(me);
    if let Some(task) = TaskRef::of(me) {
        let mut interrupts = task.interrupts.borrow_mut();
        for interrupt in interrupts.iter_mut() {
            interrupt.is_reported |= interrupt.depth >= depth && interrupt.is_meant_for(me);
        }
    }
}

/// The current call was cut short, but succeeds with a part: nothing is reported by it, and the next call
/// that would wait is.
pub(crate) fn retract_reports() {
    let me = &*scheduled::running();
    if let Some(task) = TaskRef::of(me) {
        let mut interrupts = task.interrupts.borrow_mut();
        let own = interrupts.iter_mut().filter(|interrupt| interrupt.is_meant_for(me));
        own.for_each(|interrupt| interrupt.is_reported = false);
    }
}

/// As [`yield_now`](super::yield_now()), and raises nothing.
pub(crate) fn yield_nounwind() {
    let hub = here();
    let is_late = hub.tick();
    if is_late || !hub.ready.is_empty() {
        hub.queue_up_nounwind(is_late);
    }
}

/// As `Hub::yield_if_due`, and raises nothing.
#[inline]
pub(crate) fn yield_if_due_nounwind() {
    yield_if_due_nounwind_with(|| ());
}

/// As [`yield_if_due_nounwind`]. If others are to have their turn, `before` is called first, and its result
/// is returned.
#[inline]
pub(crate) fn yield_if_due_nounwind_with<R>(before: impl FnOnce() -> R) -> Option<R> {
    let hub = here();
    if !hub.tick() {
        hub.call_began.set(None);
        return None;
    }
    let result = before();
    hub.yield_late_nounwind();
    Some(result)
}

impl Hub {
    fn park_nounwind(
        &self,
        purpose: &'static str,
        deadline: Option<Deadline>,
        interrupts: Interrupts,
    ) -> Wake {
        let me = &*scheduled::running();
        let interrupts = interrupts.begun();
        let is_interrupted = || interrupts.reports_kills() && has_unreported(me);
        if is_interrupted() {
            return Wake::Interrupted;
        }
        if interrupts.has_come() {
            return Wake::Signalled;
        }
        let _delegate = delegate(me);
        let timer = deadline.map(|deadline| Timer::new(self, deadline, me));
        let of_any = usize::from(matches!(
            interrupts,
            Interrupts::ReportSince(Handlers::Any, _) | Interrupts::SignalsSince(Handlers::Any, _)
        ));
        self.ended_by_any_handler.set(self.ended_by_any_handler.get() + of_any);
        me.set_purpose(purpose);
        me.set_mark(me.mark() | PARKED);
        self.suspend_shielded(me, None);
        self.ended_by_any_handler.set(self.ended_by_any_handler.get() - of_any);
        self.call_began.set(match interrupts {
            Interrupts::ReportSince(_, count) => Some(count),
            _ => None,
        });
        let has_fired = timer.is_some_and(Timer::cancel);
        match is_interrupted() {
            true => Wake::Interrupted,
            false if has_fired => Wake::TimedOut,
            false if interrupts.has_come() => Wake::Signalled,
            false => Wake::Unparked,
        }
    }

    /// Resumes the waits that signal handlers may have interrupted since the last look.
    pub(super) fn wake_interrupted_waits(&self) {
        let now = Count::now();
        let before = self.handled.replace(now);
        let which = match self.ended_by_any_handler.get() {
            0 => Handlers::Cutting,
            _ => Handlers::Any,
        };
        if !before.differs(which, now) {
            return;
        }
        let mut waiting = vec![self.main.clone()];
        scheduled::for_each_alive(|greenlet| waiting.push(greenlet));
        for greenlet in waiting.iter().filter(|greenlet| greenlet.mark() & NO_THROW != 0) {
            self.unpark(greenlet);
        }
    }

    #[cold]
    fn yield_late_nounwind(&self) {
        let begun = Count::now();
        self.queue_up_nounwind(true);
        self.call_began.set(Some(begun));
    }

    #[cold]
    fn queue_up_nounwind(&self, is_late: bool) {
        let me = &*scheduled::running();
        let _delegate = delegate(me);
        me.set_mark(me.mark() | QUEUED);
        self.ready.push(me.clone());
        self.suspend_shielded(me, is_late.then(|| self.poller()));
    }

    fn suspend_shielded(&self, me: &AnyWeakGreenlet, next: Option<AnyWeakGreenlet>) {
        me.set_mark(me.mark() | NO_THROW);
        // Siblings have failures of their own.
        let number = errno::get();
        self.suspend_nounwind(me, next);
        errno::set(number);
        me.set_mark(me.mark() & !NO_THROW);
    }

    /// Tells all who wait here that their thread ends, and lets each of them have a turn: what they do then
    /// can be unwound, unless they wait here again.
    pub(super) fn interrupt_nounwind_waits(&self) {
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
            self.queue_up_nounwind(false);
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
fn has_unreported(me: &AnyWeakGreenlet) -> bool {
    if me.mark() & (INTERRUPTED | ROOT) == ROOT {
        return false;
    }
    let depth = task::panics(me);
    TaskRef::of(me).is_some_and(|task| {
        let interrupts = task.interrupts.borrow();
        interrupts.iter().any(|interrupt| {
            interrupt.depth >= depth && !interrupt.is_reported && interrupt.is_meant_for(me)
        })
    })
}
