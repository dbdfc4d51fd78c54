#![forbid(unsafe_code)]
//! **The** blocking primitive: every wait of a greenlet ends up here.
//!
//! ```text
//!               park                        unpark, deadline, interrupt
//!   running ───────────► PARKED ──────────────────────────────────► QUEUED ──► running
//!      │                                                               ▲   its turn
//!      └───────────────────────────────────────────────────────────────┘
//!               yield_now, or a new coroutine
//! ```
//!
//! A greenlet that parks hands the thread directly to the next ready greenlet, or to the hub's own if none
//! is ready. Callers park in a loop until their condition holds: a wake-up may be left over from an earlier
//! wait. They register with the waking side *before* they park, and unregister in a destructor, since kills
//! and timeouts are thrown from here.

#[cfg(feature = "monkey")]
use super::current::defer_unwind;
use super::deadline::Deadline;
use super::here::{CopyEnd, end_copy, here, try_with, unless_ended};
use super::interrupt::Deadlock;
use super::report::report_kill;
use super::state::{Hub, RunReason, TimerAction};
use super::task::{self, TaskRef};
use super::timers::Key;
use crate::arch;
use crate::greenlet::scheduled;
#[cfg(feature = "monkey")]
use crate::greenlet::scheduled::Resumed;
use crate::greenlet::scheduled::marks::{HUB, INTERRUPTED, PARKED, QUEUED, ROOT, STATE};
use crate::greenlet::{AnyWeakGreenlet, GreenletExit, SwitchError};
use crate::sys::{clock, stderr};
use std::mem::ManuallyDrop;
use std::panic::resume_unwind;
use std::process;

/// Why a parked greenlet was resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    /// Woken, perhaps spuriously: re-check the condition.
    Unparked,
    /// The deadline has passed.
    TimedOut,
    /// An interrupt is pending that may not be thrown here. Only in non-unwinding waits that report it
    /// (`nounwind.rs`).
    #[cfg(feature = "monkey")]
    Interrupted,
    /// A signal handler that interrupts the call has run on this thread. Only in waits that report it.
    #[cfg(feature = "monkey")]
    Signalled,
}

/// Suspends the current greenlet until it is woken or `deadline` has passed.
///
/// # Panics
///
/// With any interrupt of the current coroutine (a kill, a timeout). In the hub's own greenlet and in a
/// callback that must not wait.
#[inline(always)]
#[track_caller]
pub(crate) fn park(purpose: &'static str, deadline: Option<Deadline>) -> Wake {
    here().park(purpose, deadline)
}

/// Calls a user callback that must not wait, because something is held meanwhile.
///
/// A wait in the callback panics, with a message that names the callback. A manual switch is refused unless
/// its target runs for the callback. So nothing else runs before the callback has returned, and nested
/// callbacks end last in, first out.
pub(crate) fn without_waits<R>(callback: &'static str, f: impl FnOnce() -> R) -> R {
    let hub = unless_ended();
    let _pinned = scheduled::pin();
    let _refused = hub.as_ref().map(|hub| hub.refuse_waits(callback));
    f()
}

/// Makes a parked greenlet ready. Does nothing if it is not parked, or if the hub has ended.
#[inline]
pub(crate) fn unpark(greenlet: &AnyWeakGreenlet) {
    try_with(|hub| hub.unpark(greenlet));
}

/// Lets all other ready greenlets run. Never puts the thread to sleep.
///
/// Does nothing after the hub has ended.
#[inline(always)]
#[track_caller]
pub(crate) fn yield_now() {
    if let Some(hub) = unless_ended() {
        hub.yield_now();
    }
}

/// Yields if the time slice is used up. For loops that may never wait.
#[track_caller]
pub(crate) fn yield_if_due() {
    if let Some(hub) = unless_ended() {
        hub.yield_if_due();
    }
}

/// Refuses waits of `me` until dropped.
struct WaitsRefused<'a> {
    hub: &'a Hub,
    me: AnyWeakGreenlet,
    was_hub: bool,
    before: Option<&'static str>,
}

impl Drop for WaitsRefused<'_> {
    fn drop(&mut self) {
        self.hub.callback.set(self.before);
        if !self.was_hub {
            self.me.set_mark(self.me.mark() & !HUB);
        }
    }
}

/// Refuses an operation that waits, before it has any effect, in a callback that must not wait.
///
/// # Panics
///
/// In such a callback, and in the hub's own greenlet.
#[track_caller]
pub(crate) fn refuse_in_callback(purpose: &str) {
    try_with(|hub| hub.refuse_in_callback(&scheduled::running(), purpose));
}

impl Hub {
    /// Panics if `me` is the hub's own greenlet, or runs in a callback that must not wait. A greenlet that
    /// the hub's greenlet unwinds may wait.
    #[track_caller]
    fn refuse_in_callback(&self, me: &AnyWeakGreenlet, purpose: &str) {
        assert!(
            *me != self.context,
            "{purpose} would block the hub: a callback that runs in it must not wait, but can spawn",
        );
        let is_refused = |node: &AnyWeakGreenlet| node.mark() & HUB != 0 && *node != self.context;
        if is_refused(me) || (me.mark() & ROOT == 0 && me.line().any(|node| is_refused(&node))) {
            let callback = self.callback.get().unwrap_or("a callback");
            panic!("{purpose} would wait in {callback}, which must not wait");
        }
    }

    /// Marks the current greenlet [`HUB`], so that its waits take the slow path, which refuses them.
    fn refuse_waits(&self, callback: &'static str) -> WaitsRefused<'_> {
        let me = scheduled::running().clone();
        let (was_hub, before) = (me.mark() & HUB != 0, self.callback.replace(Some(callback)));
        me.set_mark(me.mark() | HUB);
        WaitsRefused { hub: self, me, was_hub, before }
    }

    #[inline(always)]
    #[track_caller]
    pub(super) fn park(&self, purpose: &'static str, deadline: Option<Deadline>) -> Wake {
        let me = &*scheduled::running();
        if me.mark() != ROOT || deadline.is_some() {
            return self.park_slow(me, purpose, deadline);
        }
        me.set_purpose(purpose);
        me.set_mark(ROOT | PARKED);
        self.suspend(me, None);
        Wake::Unparked
    }

    /// The slow path of `park`: with a deadline, or with a mark other than [`ROOT`].
    #[cold]
    #[inline(never)]
    #[track_caller]
    fn park_slow(
        &self,
        me: &AnyWeakGreenlet,
        purpose: &'static str,
        deadline: Option<Deadline>,
    ) -> Wake {
        let _delegate = self.prepare_suspension(me, purpose);
        let timer = deadline.map(|deadline| Timer::new(self, deadline, me));
        me.set_purpose(purpose);
        me.set_mark(me.mark() | PARKED);
        self.suspend(me, None);
        if timer.is_some_and(Timer::cancel) { Wake::TimedOut } else { Wake::Unparked }
    }

    #[inline(always)]
    #[track_caller]
    pub(super) fn yield_now(&self) {
        let (me, ticks) = (&*scheduled::running(), self.ticks.get());
        if me.mark() != ROOT || ticks == 0 || self.is_overdue() || self.ready.is_empty() {
            return self.yield_slow(me);
        }
        self.ticks.set(ticks - 1);
        me.set_mark(ROOT | QUEUED);
        let first = self.ready.rotate(me.clone());
        self.suspend(me, first.filter(|first| self.may_run(first)));
    }

    /// The slow path of `yield_now`: no other greenlet is ready, the clock is to be read, or the mark is
    /// not [`ROOT`].
    #[cold]
    #[inline(never)]
    #[track_caller]
    fn yield_slow(&self, me: &AnyWeakGreenlet) {
        let _delegate = self.prepare_suspension(me, "yield_now");
        let is_late = self.tick();
        if self.ready.is_empty() && !is_late {
            return;
        }
        self.queue_up(me, is_late.then(|| self.poller()));
    }

    /// Yields if the time slice is used up. For operations that may succeed without ever blocking.
    #[inline(always)]
    #[track_caller]
    pub(super) fn yield_if_due(&self) {
        if self.tick() {
            self.yield_to_poller();
        }
    }

    /// Hands the thread to the hub's greenlet, which polls for events; returns when it is the caller's
    /// turn.
    #[cold]
    #[inline(never)]
    #[track_caller]
    pub(super) fn yield_to_poller(&self) {
        let me = &*scheduled::running();
        let _delegate = self.prepare_suspension(me, "a call");
        self.queue_up(me, Some(self.poller()));
    }

    /// Queues `me`, and hands the thread to `next`, or to the next ready greenlet if that is `None`.
    #[track_caller]
    fn queue_up(&self, me: &AnyWeakGreenlet, next: Option<AnyWeakGreenlet>) {
        me.set_mark(me.mark() | QUEUED);
        self.ready.push(me.clone());
        self.suspend(me, next);
    }

    /// The slow path before a suspension: panics where waits are refused, throws a pending interrupt, and
    /// registers `me` as a delegate if it has no task of its own.
    #[track_caller]
    fn prepare_suspension(&self, me: &AnyWeakGreenlet, purpose: &str) -> Option<Delegate> {
        let mark = me.mark();
        if mark & (HUB | ROOT) != ROOT {
            self.refuse_in_callback(me, purpose);
        }
        let task = if mark & ROOT == 0 { TaskRef::of(me) } else { None };
        let other = task.as_ref().is_some_and(|task| !task.interrupts.borrow().is_empty());
        if mark & INTERRUPTED != 0 || other {
            self.throw_pending(me);
        }
        task.map(|task| Delegate::new(task, me.clone()))
    }

    /// Hands the thread to `next`, or to the next ready greenlet, and returns when it is `me`'s turn. Then
    /// throws a pending interrupt.
    #[inline(always)]
    #[track_caller]
    fn suspend(&self, me: &AnyWeakGreenlet, next: Option<AnyWeakGreenlet>) {
        let suspended = Suspended(me);
        self.leave(next);
        if me.mark() & STATE == PARKED {
            handle_manual_switch();
        }
        drop(suspended);
        if me.mark() & INTERRUPTED != 0 {
            self.throw_pending(me);
        }
    }

    /// Like `suspend`, but throws nothing.
    #[cfg(feature = "monkey")]
    pub(super) fn suspend_nounwind(&self, me: &AnyWeakGreenlet, next: Option<AnyWeakGreenlet>) {
        let suspended = Suspended(me);
        self.leave_nounwind(next);
        end_copy(CopyEnd::Hub);
        drop(suspended);
    }

    #[inline]
    pub(super) fn unpark(&self, greenlet: &AnyWeakGreenlet) {
        let mark = greenlet.mark();
        if mark & STATE == PARKED {
            greenlet.set_mark(mark ^ PARKED ^ QUEUED);
            self.ready.push(greenlet.clone());
        }
    }

    #[inline(always)]
    fn leave(&self, mut next: Option<AnyWeakGreenlet>) {
        loop {
            match next.take().unwrap_or_else(|| self.next()).pass() {
                Ok(()) => return,
                // A child greenlet made by user code may have ended, and its end arrived here.
                Err(SwitchError::Exited(_) | SwitchError::WrongResult(_)) => {
                    return end_copy(CopyEnd::Hub);
                }
                Err(error) => self.handle_refusal(error),
            }
        }
    }

    /// Handles a refused hand-over. Returns if the target was resumed by a manual switch meanwhile.
    #[cold]
    #[inline(never)]
    fn handle_refusal(&self, error: SwitchError<()>) {
        if matches!(error, SwitchError::Unwinding { .. }) {
            panic!("{error}");
        }
        if !self.context.accepts_a_turn() {
            stderr::write(&["switchgrass: the hub's greenlet cannot be resumed; this is a bug\n"]);
            process::abort();
        }
    }

    /// Like [`Hub::leave`], but throws nothing: a failure that arrives here is thrown later.
    #[cfg(feature = "monkey")]
    fn leave_nounwind(&self, mut next: Option<AnyWeakGreenlet>) {
        loop {
            match next.take().unwrap_or_else(|| self.next()).pass_nounwind() {
                Ok(Resumed::Turn) => return,
                Ok(Resumed::Failure(payload)) => {
                    end_copy(CopyEnd::Hub);
                    return defer_unwind([payload]);
                }
                Err(error) => self.handle_refusal(error),
            }
        }
    }

    /// Removes and returns the next greenlet to run.
    #[inline(always)]
    pub(super) fn next(&self) -> AnyWeakGreenlet {
        if self.tick() {
            return self.poller();
        }
        while let Some(next) = self.ready.pop() {
            if self.may_run(&next) {
                return next;
            }
        }
        self.poller()
    }

    /// Returns the hub's own greenlet, to poll for events.
    pub(super) fn poller(&self) -> AnyWeakGreenlet {
        if self.context.is_dead() {
            stderr::write(&["switchgrass: the hub's greenlet has ended; this is a bug\n"]);
            process::abort();
        }
        self.run_reason.set(RunReason::Poll);
        self.context.clone()
    }

    /// Whether a greenlet taken from the queue is to run. If not, its entry is stale: it was resumed by a
    /// manual switch meanwhile.
    #[inline(always)]
    fn may_run(&self, next: &AnyWeakGreenlet) -> bool {
        let mark = next.mark();
        if mark & HUB != 0 {
            self.run_reason.set(RunReason::Call);
            return true;
        }
        mark & STATE == QUEUED
    }

    /// Counts a switch. Returns whether it is time to poll for events and due timers.
    ///
    /// ```text
    ///   no timer pending:  the clock is read every 0 to 63 switches, depending on how long turns take
    ///   a timer pending:   each switch reads the processor's counter, and a few per millisecond the clock:
    ///                      a long turn is noticed at its end, however short the turns before it were
    /// ```
    #[inline(always)]
    pub(super) fn tick(&self) -> bool {
        let left = self.ticks.get();
        if left == 0 || self.is_overdue() {
            return self.read_clock();
        }
        self.ticks.set(left - 1);
        false
    }

    /// Whether a timer is pending and the clock was not read for some time.
    #[inline(always)]
    fn is_overdue(&self) -> bool {
        self.is_timed.get()
            && arch::counter().wrapping_sub(self.counter_read.get()) > arch::per_look()
    }

    /// Reads the clock, and adapts the interval: rare reads if turns are short, one per switch if they are
    /// long. Returns whether a timer is due, or the last poll for events was more than a millisecond ago.
    #[cold]
    #[inline(never)]
    fn read_clock(&self) -> bool {
        /// In nanoseconds.
        const MILLISECOND: u64 = 1_000_000;
        let now = clock::now();
        let (interval, since) = (self.interval.get(), now - self.clock_read.get());
        let interval = if since > MILLISECOND { interval / 4 } else { (interval * 2 + 1).min(63) };
        self.clock_read.set(now);
        self.counter_read.set(arch::counter());
        self.interval.set(interval);
        self.ticks.set(interval);
        let is_due = self.timers.borrow().next().is_some_and(|next| next <= now);
        is_due || now - self.polled.get() > MILLISECOND
    }

    /// Throws the next pending interrupt in the running greenlet, if there is any to throw now.
    #[cold]
    #[inline(never)]
    #[track_caller]
    pub(super) fn throw_pending(&self, me: &AnyWeakGreenlet) {
        me.set_mark(me.mark() & !INTERRUPTED);
        let Some(task) = TaskRef::of(me) else { return };
        let interrupt = task.next_interrupt(me);
        if !task.interrupts.borrow().is_empty() {
            task.mark_interrupted(me);
        }
        if let Some(interrupt) = &interrupt {
            report_kill(&task, &interrupt.payload);
        }
        drop(task);
        if let Some(interrupt) = interrupt {
            if interrupt.payload.is::<GreenletExit>() {
                task::propagate_exit(me);
            }
            match interrupt.payload.downcast::<Deadlock>() {
                Ok(deadlock) => panic!("{}", deadlock.0),
                Err(payload) => resume_unwind(payload),
            }
        }
    }
}

/// A parked greenlet was resumed without its turn: by a manual switch, or by the end of a child greenlet
/// that user code made. In a copy of the process, it must not continue a wait of the parent.
#[cold]
#[inline(never)]
fn handle_manual_switch() {
    end_copy(CopyEnd::Hub);
}

/// A suspended greenlet. Dropping clears its state, also when a manual throw has resumed it.
struct Suspended<'a>(&'a AnyWeakGreenlet);

impl Drop for Suspended<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.0.set_mark(self.0.mark() & !STATE);
    }
}

/// A timer that unparks a greenlet. Dropping cancels it.
pub(super) struct Timer<'a> {
    hub: &'a Hub,
    key: Key,
}

impl<'a> Timer<'a> {
    pub(super) fn new(hub: &'a Hub, deadline: Deadline, greenlet: &AnyWeakGreenlet) -> Self {
        let fire = TimerAction::Unpark(greenlet.clone());
        Timer { hub, key: hub.add_timer(deadline, false, fire) }
    }

    /// Cancels the timer. Returns whether it had fired.
    pub(super) fn cancel(self) -> bool {
        let timer = ManuallyDrop::new(self);
        let fire = timer.hub.timers.borrow_mut().remove(timer.key);
        fire.is_none()
    }
}

impl Drop for Timer<'_> {
    fn drop(&mut self) {
        let fire = self.hub.timers.borrow_mut().remove(self.key);
        drop(fire);
    }
}

/// Registers a greenlet that parks for a task other than its own, until dropped.
pub(super) struct Delegate {
    task: TaskRef,
    greenlet: AnyWeakGreenlet,
}

impl Delegate {
    pub(super) fn new(task: TaskRef, greenlet: AnyWeakGreenlet) -> Self {
        task.delegates.borrow_mut().get_or_insert_default().push(greenlet.clone());
        Delegate { task, greenlet }
    }
}

impl Drop for Delegate {
    fn drop(&mut self) {
        let mut delegates = self.task.delegates.borrow_mut();
        // If it is not found, this is a child's copy of a wait of the parent.
        let Some(delegates) = delegates.as_mut() else { return };
        if let Some(at) = delegates.iter().rposition(|delegate| *delegate == self.greenlet) {
            drop(delegates.remove(at));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{sleep, spawn, yield_now};
    use std::cell::Cell;
    use std::rc::Rc;
    use std::time::{Duration, Instant};

    #[test]
    fn a_lone_yielder_does_not_starve_a_sleeper() {
        let woken = Rc::new(Cell::new(false));
        let tell = Rc::clone(&woken);
        let sleeper = spawn(move || {
            sleep(Duration::from_millis(5));
            tell.set(true);
        });
        let start = Instant::now();
        while !woken.get() && start.elapsed() < Duration::from_secs(10) {
            yield_now();
        }
        assert!(woken.get());
        sleeper.join().unwrap();
    }
}
