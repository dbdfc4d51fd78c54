#![forbid(unsafe_code)]
//! **The** blocking primitive: everything that waits does it here.
//!
//! ```text
//!               park                        unpark, deadline, interrupt
//!   running ───────────► PARKED ──────────────────────────────────► QUEUED ──► running
//!      │                                                               ▲   its turn
//!      └───────────────────────────────────────────────────────────────┘
//!               yield_now, or a new one
//! ```
//!
//! A greenlet that parks hands the thread to the next that is ready, directly; to the hub's own only if
//! there is none. Whoever parks does so in a loop, until what it waits for has come: a wake-up may be
//! left over from an earlier wait. It is registered with whoever is to wake it *before* it parks, and
//! takes itself off in a destructor, since a kill or a timeout is raised in here.

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

/// RunReason a greenlet that had parked goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    /// Somebody has woken it, or nobody has: see what has become of what it waits for.
    Unparked,
    /// Its deadline has passed.
    TimedOut,
    /// Something is to be raised in it, which it does not allow. Only of a wait that says so (`nounwind.rs`).
    #[cfg(feature = "monkey")]
    Interrupted,
    /// A signal handler has run on this thread that interrupts the call. Only of a wait that asks for it.
    #[cfg(feature = "monkey")]
    Signalled,
}

/// Suspends the current greenlet until it is woken or `deadline` has passed.
///
/// # Panics
///
/// With whatever is raised in the current coroutine: a kill, a timeout. In the hub's own greenlet, which
/// must not block.
#[inline(always)]
#[track_caller]
pub(crate) fn park(purpose: &'static str, deadline: Option<Deadline>) -> Wake {
    here().park(purpose, deadline)
}

/// Calls a callback of user code that must not wait, since something is held meanwhile. A wait is refused
/// by a panic that names the callback. A switch made by hand is refused, unless it is to a greenlet that
/// runs for the callback: so nothing else runs before the callback has returned, and nested callbacks end
/// last in, first out.
pub(crate) fn without_waits<R>(callback: &'static str, f: impl FnOnce() -> R) -> R {
    let hub = unless_ended();
    let _pinned = scheduled::pin();
    let _refused = hub.as_ref().map(|hub| hub.refuse_waits(callback));
    f()
}

/// Makes a parked greenlet ready. Nothing happens to one that is not parked, nor where the hub has ended.
#[inline]
pub(crate) fn unpark(greenlet: &AnyWeakGreenlet) {
    try_with(|hub| hub.unpark(greenlet));
}

/// Lets all others run that are ready. Never takes the thread to sleep. Where the hub has ended there are
/// none.
#[inline(always)]
#[track_caller]
pub(crate) fn yield_now() {
    if let Some(hub) = unless_ended() {
        hub.yield_now();
    }
}

/// Yields if the current coroutine has used up its share of time: for a loop that may never wait.
#[track_caller]
pub(crate) fn yield_if_due() {
    if let Some(hub) = unless_ended() {
        hub.yield_if_due();
    }
}

/// Waits are refused until this is dropped.
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

/// Refuses an operation that waits before it has had any effect, in a callback that must not wait.
///
/// # Panics
///
/// In such a callback.
#[track_caller]
pub(crate) fn refuse_in_callback(purpose: &str) {
    try_with(|hub| hub.refuse_in_callback(&scheduled::running(), purpose));
}

impl Hub {
    /// Refuses to let `me` wait, if it is the hub's own greenlet, or runs in a callback that must not wait.
    /// One that the hub's greenlet unwinds may.
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

    /// What the current greenlet is marked as has its waits go the long way, as those of the hub's own do.
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
            return self.park_unusually(me, purpose, deadline);
        }
        me.set_purpose(purpose);
        me.set_mark(ROOT | PARKED);
        self.suspend(me, None);
        Wake::Unparked
    }

    /// Parks one that has a deadline, or is not simply a coroutine or main without anything pending.
    #[cold]
    #[inline(never)]
    #[track_caller]
    fn park_unusually(
        &self,
        me: &AnyWeakGreenlet,
        purpose: &'static str,
        deadline: Option<Deadline>,
    ) -> Wake {
        let _delegate = self.look_before_suspension(me, purpose);
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
            return self.yield_unusually(me);
        }
        self.ticks.set(ticks - 1);
        me.set_mark(ROOT | QUEUED);
        let first = self.ready.rotate(me.clone());
        self.suspend(me, first.filter(|first| self.may_run(first)));
    }

    /// Yields if nobody else is ready, or it is time to look at the clock, or the caller is not simply a
    /// coroutine or main without anything pending.
    #[cold]
    #[inline(never)]
    #[track_caller]
    fn yield_unusually(&self, me: &AnyWeakGreenlet) {
        let _delegate = self.look_before_suspension(me, "yield_now");
        let is_late = self.tick();
        if self.ready.is_empty() && !is_late {
            return;
        }
        self.queue_up(me, is_late.then(|| self.poller()));
    }

    /// Lets the others run if the current coroutine has had its share of time: to be called by what can go
    /// on without ever waiting.
    #[inline(always)]
    #[track_caller]
    pub(super) fn yield_if_due(&self) {
        if self.tick() {
            self.yield_to_the_poller();
        }
    }

    /// Has events looked for, and comes back when it is one's turn.
    #[cold]
    #[inline(never)]
    #[track_caller]
    pub(super) fn yield_to_the_poller(&self) {
        let me = &*scheduled::running();
        let _delegate = self.look_before_suspension(me, "a call");
        self.queue_up(me, Some(self.poller()));
    }

    /// Goes to the end of the queue, and hands the thread to `next`, or to the first there is.
    #[track_caller]
    fn queue_up(&self, me: &AnyWeakGreenlet, next: Option<AnyWeakGreenlet>) {
        me.set_mark(me.mark() | QUEUED);
        self.ready.push(me.clone());
        self.suspend(me, next);
    }

    /// What is to be seen to in one that is not simply a coroutine or main without anything pending.
    #[track_caller]
    fn look_before_suspension(&self, me: &AnyWeakGreenlet, purpose: &str) -> Option<Delegate> {
        let mark = me.mark();
        if mark & (HUB | ROOT) != ROOT {
            self.refuse_in_callback(me, purpose);
        }
        let task = if mark & ROOT == 0 { TaskRef::of(me) } else { None };
        let other = task.as_ref().is_some_and(|task| !task.interrupts.borrow().is_empty());
        if mark & INTERRUPTED != 0 || other {
            self.raise(me);
        }
        task.map(|task| Delegate::new(task, me.clone()))
    }

    /// Hands the thread to `next`, or to the next one there is, and comes back when it is one's turn. Raises
    /// what is to be raised then.
    #[inline(always)]
    #[track_caller]
    fn suspend(&self, me: &AnyWeakGreenlet, next: Option<AnyWeakGreenlet>) {
        let suspended = Suspended(me);
        self.leave(next);
        if me.mark() & STATE == PARKED {
            came_by_hand();
        }
        drop(suspended);
        if me.mark() & INTERRUPTED != 0 {
            self.raise(me);
        }
    }

    /// As `suspend`, and raises nothing.
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
                // A child that was made by hand may have ended, and its end come here.
                Err(SwitchError::Exited(_) | SwitchError::WrongResult(_)) => {
                    return end_copy(CopyEnd::Hub);
                }
                Err(error) => self.look_at_refusal(error),
            }
        }
    }

    /// The thread could not be handed on. Returns if that was to one that was switched to by hand meanwhile.
    #[cold]
    #[inline(never)]
    fn look_at_refusal(&self, error: SwitchError<()>) {
        if matches!(error, SwitchError::Unwinding { .. }) {
            panic!("{error}");
        }
        if !self.context.accepts_a_turn() {
            stderr::write(&["switchgrass: the hub's greenlet cannot be resumed; this is a bug\n"]);
            process::abort();
        }
    }

    /// As [`Hub::leave`], and raises nothing: a failure that comes here is raised later.
    #[cfg(feature = "monkey")]
    fn leave_nounwind(&self, mut next: Option<AnyWeakGreenlet>) {
        loop {
            match next.take().unwrap_or_else(|| self.next()).pass_nounwind() {
                Ok(Resumed::Turn) => return,
                Ok(Resumed::Failure(payload)) => {
                    end_copy(CopyEnd::Hub);
                    return defer_unwind([payload]);
                }
                Err(error) => self.look_at_refusal(error),
            }
        }
    }

    /// Takes out the next one to run.
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

    /// The hub's own greenlet, to look for events.
    pub(super) fn poller(&self) -> AnyWeakGreenlet {
        if self.context.is_dead() {
            stderr::write(&["switchgrass: the hub's greenlet has ended; this is a bug\n"]);
            process::abort();
        }
        self.why.set(RunReason::Poll);
        self.context.clone()
    }

    /// Whether one that was taken out of the queue is to run. Otherwise that was an entry that is left over:
    /// somebody has resumed it by hand meanwhile.
    #[inline(always)]
    fn may_run(&self, next: &AnyWeakGreenlet) -> bool {
        let mark = next.mark();
        if mark & HUB != 0 {
            self.why.set(RunReason::Call);
            return true;
        }
        mark & STATE == QUEUED
    }

    /// Counts a change from one to another. Whether it is time to look for events and due timers.
    ///
    /// ```text
    ///   no timer pending:  the clock is read every 0 to 63 changes, as fits how long they take
    /// a timer pending:   each change reads the processor's counter, and the clock some times per
    /// millisecond:
    ///                      one change that takes long is seen at its end, however quick those before it were
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

    /// Whether a timer is pending, and some time has gone by since the last look at the clock.
    #[inline(always)]
    fn is_overdue(&self) -> bool {
        self.is_timed.get() && arch::counter().wrapping_sub(self.counted.get()) > arch::per_look()
    }

    /// Looks at the clock: rarely if changes are quick, at each if they are slow. Whether a timer is due, or
    /// events were last looked for a millisecond ago.
    #[cold]
    #[inline(never)]
    fn read_clock(&self) -> bool {
        /// Nanoseconds.
        const ENOUGH: u64 = 1_000_000;
        let now = clock::now();
        let (interval, since) = (self.interval.get(), now - self.looked.get());
        let interval = if since > ENOUGH { interval / 4 } else { (interval * 2 + 1).min(63) };
        self.looked.set(now);
        self.counted.set(arch::counter());
        self.interval.set(interval);
        self.ticks.set(interval);
        let is_due = self.timers.borrow().next().is_some_and(|next| next <= now);
        is_due || now - self.polled.get() > ENOUGH
    }

    /// Raises what is to be raised in the one that runs, if anything is.
    #[cold]
    #[inline(never)]
    #[track_caller]
    pub(super) fn raise(&self, me: &AnyWeakGreenlet) {
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

/// A parked greenlet has come back without its turn: it was switched to by hand, or it is the parent of a
/// greenlet made by hand that has ended. In a child, it must not go on with its parent's wait.
#[cold]
#[inline(never)]
fn came_by_hand() {
    end_copy(CopyEnd::Hub);
}

/// One that is suspended here. Dropped, it is not any more: also if something was thrown into it by hand.
struct Suspended<'a>(&'a AnyWeakGreenlet);

impl Drop for Suspended<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.0.set_mark(self.0.mark() & !STATE);
    }
}

/// A timer that unparks somebody. Dropped, it does not any more.
pub(super) struct Timer<'a> {
    hub: &'a Hub,
    key: Key,
}

impl<'a> Timer<'a> {
    pub(super) fn new(hub: &'a Hub, deadline: Deadline, greenlet: &AnyWeakGreenlet) -> Self {
        let fire = TimerAction::Unpark(greenlet.clone());
        Timer { hub, key: hub.add_timer(deadline, false, fire) }
    }

    /// Whether it has fired.
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

/// Says in a task that another greenlet than its own is parked for it, until this is dropped.
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
        // None, or not there: this is a child's copy of a wait of its parent's.
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
    fn one_who_yields_alone_keeps_no_sleeper_waiting() {
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
