#![forbid(unsafe_code)]
//! Non-unwinding waits: for callers that must not unwind, such as functions called by C code.
//!
//! ```text
//!   a kill, a timeout ──► reported: the call is cut short, and returns an error ─┐  thrown at the next wait
//!                    └──► deferred: the call continues to its end ──────────────┴► in a call of this crate
//! ```
//!
//! Each interrupt is reported once, so that a loop that repeats its call waits again and does not spin.
//!
//! A signal handler that runs on the hub's thread interrupts the waits of that thread, as it interrupts the
//! calls of a thread in the kernel:
//!
//! ```text
//!   a handler ──► counted (`sys/signal_counts.rs`), and the inbox is nudged: a sleep ends, or does not begin
//!   the hub checks its inbox ──► new count? wakes all non-unwinding waits ──► each compares the count
//! ```
//!
//! The state of the inbox makes this sound: a handler that runs between the hub's last check and its sleep
//! prevents the sleep, or finds the state ASLEEP and triggers the waker.

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

/// What a non-unwinding wait does about interrupts and signal handlers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interrupts {
    /// The wait ends with [`Wake::Interrupted`]. A caller that cuts its call short calls
    /// [`mark_interrupts_reported`]. After a signal handler without `SA_RESTART`, the wait ends with
    /// [`Wake::Signalled`].
    Tell,
    /// Like `Tell`, but ends with [`Wake::Signalled`] after any handler: for calls that the kernel never
    /// restarts.
    ReportAnySignal,
    /// Continues after a kill or a timeout. Ends with [`Wake::Signalled`] after a handler without
    /// `SA_RESTART`.
    Signals,
    /// Like `Signals`, but for these handlers, in a call that began at this count.
    SignalsSince(Handlers, Count),
    /// Like `Tell` or `ReportAnySignal`, in a call that began at this count: see [`Interrupts::begun`].
    ReportSince(Handlers, Count),
    /// Continues, and ignores signal handlers.
    Defer,
}

impl Interrupts {
    /// For a call on a socket. The kernel never restarts it if `SO_RCVTIMEO` or `SO_SNDTIMEO` sets a
    /// deadline.
    pub(crate) fn of_socket(deadline: Option<Deadline>) -> Self {
        match deadline {
            None => Interrupts::Tell,
            Some(_) => Interrupts::ReportAnySignal,
        }
    }

    /// Ends after any handler that has run since the call began in [`yield_if_due_nounwind`]. Continues
    /// after a kill.
    pub(crate) fn any_signal_since_call_began() -> Self {
        Interrupts::SignalsSince(Handlers::Any, call_began())
    }

    /// For all waits of a call that begins now: a handler that runs between two waits, or together with an
    /// event, interrupts the next one.
    pub(crate) fn begun(self) -> Self {
        self.since(Count::now)
    }

    /// Like [`Interrupts::begun`], for a call that began in [`yield_if_due_nounwind`]: a handler that has
    /// run since then interrupts it, even one that ran while others had their turn there, or in an earlier
    /// wait.
    pub(crate) fn since_call_began(self) -> Self {
        self.since(call_began)
    }

    /// For the rest of a call that is partly complete: any handler ends it from now on, and so does an
    /// earlier handler that would have ended the wait.
    pub(crate) fn behind_a_part(self) -> Self {
        if self.has_handler_run() { self } else { Interrupts::ReportAnySignal.begun() }
    }

    fn since(self, count: impl FnOnce() -> Count) -> Self {
        match self {
            Interrupts::Tell => Interrupts::ReportSince(Handlers::Cutting, count()),
            Interrupts::ReportAnySignal => Interrupts::ReportSince(Handlers::Any, count()),
            Interrupts::Signals => Interrupts::SignalsSince(Handlers::Cutting, count()),
            other => other,
        }
    }

    /// Whether a kill or a timeout ends the wait.
    fn reports_kills(self) -> bool {
        !matches!(self, Interrupts::Defer | Interrupts::Signals | Interrupts::SignalsSince(..))
    }

    /// Whether a handler has run that ends the wait.
    fn has_handler_run(self) -> bool {
        match self {
            Interrupts::ReportSince(which, count) | Interrupts::SignalsSince(which, count) => {
                count.differs(which, Count::now())
            }
            _ => false,
        }
    }
}

/// Returns the count at which the current call began in [`yield_if_due_nounwind`], or the present one.
fn call_began() -> Count {
    here().call_began.take().unwrap_or_else(Count::now)
}

/// The context of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// On a thread without a hub, or in a signal handler.
    Thread,
    /// Where waits are refused: in a hub's own greenlet, or in a callback that must not wait.
    Hub,
    /// In a coroutine, or in main on a thread with a hub.
    Task,
}

/// Returns the caller's context.
///
/// A signal handler counts as outside of the hub, since it may have interrupted the hub anywhere.
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

/// Like [`park`](super::park()), but throws nothing. Must be called in a [`Place::Task`].
pub(crate) fn park_nounwind(
    purpose: &'static str,
    deadline: Option<Deadline>,
    interrupts: Interrupts,
) -> Wake {
    here().park_nounwind(purpose, deadline, interrupts)
}

/// Marks the interrupts that could be thrown now as reported: the current call is cut short for them.
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

/// Undoes [`mark_interrupts_reported`] for a call that was cut short but succeeds with a part: the next call
/// that would wait reports the interrupts.
pub(crate) fn retract_reports() {
    let me = &*scheduled::running();
    if let Some(task) = TaskRef::of(me) {
        let mut interrupts = task.interrupts.borrow_mut();
        let own = interrupts.iter_mut().filter(|interrupt| interrupt.is_meant_for(me));
        own.for_each(|interrupt| interrupt.is_reported = false);
    }
}

/// Like [`yield_now`](super::yield_now()), but throws nothing.
pub(crate) fn yield_nounwind() {
    let hub = here();
    let is_late = hub.tick();
    if is_late || !hub.ready.is_empty() {
        hub.queue_up_nounwind(is_late);
    }
}

/// Like `Hub::yield_if_due`, but throws nothing.
#[inline]
pub(crate) fn yield_if_due_nounwind() {
    yield_if_due_nounwind_with(|| ());
}

/// Like [`yield_if_due_nounwind`], but calls `before` ahead of an actual yield, and returns its result.
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
        if interrupts.has_handler_run() {
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
            false if interrupts.has_handler_run() => Wake::Signalled,
            false => Wake::Unparked,
        }
    }

    /// Wakes the waits that signal handlers may have interrupted since the last check.
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
        // Other coroutines may change `errno` meanwhile.
        let number = errno::get();
        self.suspend_nounwind(me, next);
        errno::set(number);
        me.set_mark(me.mark() & !NO_THROW);
    }

    /// Interrupts all non-unwinding waits of a thread that ends, and lets each waiter have a turn. After
    /// that it can be unwound, unless it waits here again.
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
        // Nothing is thrown in the greenlet that ends the thread: it is in a destructor.
        if !self.ready.is_empty() {
            self.queue_up_nounwind(false);
        }
    }
}

/// Registers a greenlet that waits for a task other than its own.
fn delegate(me: &AnyWeakGreenlet) -> Option<Delegate> {
    debug_assert!(me.mark() & HUB == 0, "the hub's own greenlet must not wait");
    if me.mark() & ROOT != 0 {
        return None;
    }
    TaskRef::of(me).map(|task| Delegate::new(task, me.clone()))
}

/// Whether an interrupt could be thrown in `me` now that was not reported to it.
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
