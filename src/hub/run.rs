#![forbid(unsafe_code)]
//! The loop of the hub's own greenlet: calls, timers, events, and sleep.

use super::deadlock;
use super::here::{CopyEnd, end_copy, with};
use super::inbox::Message;
use super::interrupt::{Deadlock, Interrupt, TimeoutExit, from_message, into_message};
use super::report::report_kill;
use super::state::{Call, Hub, RunReason, TimerAction};
use super::task::{Task, TaskRef};
use crate::greenlet::dropping::{drop_payload, report};
use crate::greenlet::scheduled::marks::{INTERRUPTED, LEFT_BEHIND, PARKED, QUEUED, ROOT, STATE};
use crate::greenlet::scheduled::{Payload, Resumed, Unwinding};
use crate::greenlet::{AnyWeakGreenlet, SwitchError};
use crate::sys::clock;
use crate::sys::poll::{Epoll, Events};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// The epoll token of the inbox's waker.
pub(super) const WAKER_TOKEN: u64 = u64::MAX;

impl Hub {
    /// The body of the hub's greenlet.
    ///
    /// It has the thread when no greenlet is ready, when a queued call has its turn, when the last poll for
    /// events was too long ago, and when a coroutine ends. Only [`Hub::stop`] ends it.
    pub(super) fn run(&self) {
        self.context.close_to_others();
        // `stop` may resume it in the middle of each of these steps.
        while !self.is_stopping() {
            end_copy(CopyEnd::Hub);
            match self.run_reason.replace(RunReason::End) {
                RunReason::End | RunReason::Stop => {}
                RunReason::Call => {
                    let call = self.calls.borrow_mut().pop_front();
                    if let Some(call) = call {
                        self.execute(call);
                    }
                }
                RunReason::Poll => self.poll_guarded(),
            }
            if self.is_stopping() {
                return;
            }
            let next = self.next();
            if next != self.context {
                match next.pass_on() {
                    Ok(Resumed::Turn) => {}
                    Ok(Resumed::Failure(payload)) => self.throw_in_root(payload),
                    // Its entry was stale: it was resumed by a manual switch, so the hub could not resume
                    // it.
                    Err(_) => {}
                }
            }
        }
    }

    fn is_stopping(&self) -> bool {
        matches!(self.run_reason.get(), RunReason::Stop)
    }

    fn execute(&self, call: Call) {
        let result = catch_unwind(AssertUnwindSafe(|| match call {
            Call::Run(f) => f(),
            Call::Interrupt(task, interrupt) => self.interrupt(&task, interrupt, true),
        }));
        if let Err(payload) = result {
            report("a callback in the hub", payload);
        }
        end_copy(CopyEnd::Hub);
    }

    /// Delivers an interrupt to a task.
    ///
    /// A parked target is queued: at the front of the ready queue if `at_once`, otherwise at its end. A
    /// queued target keeps its place. A target suspended by a manual switch is resumed here.
    pub(super) fn interrupt(&self, task: &Task, interrupt: Interrupt, at_once: bool) {
        let mut failure = self.try_interrupt(task, interrupt, at_once);
        // Each delivery may end with another failure, which main receives.
        while let Some(payload) = failure {
            let root = self.root.borrow().clone();
            let interrupt = Interrupt::new(self.next_id(), 0, payload);
            failure = self.try_interrupt(&root, interrupt, false);
        }
    }

    /// Throws in main a failure that no other greenlet awaits.
    fn throw_in_root(&self, payload: Payload) {
        let root = self.root.borrow().clone();
        self.interrupt(&root, Interrupt::new(self.next_id(), 0, payload), false);
    }

    /// Like [`Hub::interrupt`], but if the target was resumed here, returns the failure with which the
    /// hub's greenlet got the thread back.
    fn try_interrupt(&self, task: &Task, interrupt: Interrupt, at_once: bool) -> Option<Payload> {
        let target = task.target_of(interrupt.origin.as_ref())?;
        let mark = target.mark();
        // A left-behind greenlet that has parked since then runs in this child: that of an inherited
        // generator.
        let is_left_behind = mark & LEFT_BEHIND != 0 && mark & STATE == 0;
        if target.is_dead() || is_left_behind {
            return None;
        }
        let is_of_target = interrupt.origin.as_ref() == Some(&target);
        if mark & (STATE | ROOT) == 0 && is_of_target {
            // A timeout set in the body of a generator that has yielded: the generator does not run now,
            // and receives it at its next wait.
            task.interrupts.borrow_mut().push(interrupt);
            target.set_mark(mark | INTERRUPTED);
            return None;
        }
        if mark & STATE == 0 {
            return self.interrupt_manually_suspended(task, &target, interrupt);
        }
        task.interrupts.borrow_mut().push(interrupt);
        target.set_mark(mark & !PARKED | QUEUED | INTERRUPTED);
        if mark & STATE == PARKED {
            if at_once {
                self.ready.push_front(target);
            } else {
                self.ready.push(target);
            }
        }
        None
    }

    /// Throws an interrupt in a target that a manual switch suspended: now, or when it next parks.
    fn interrupt_manually_suspended(
        &self,
        task: &Task,
        target: &AnyWeakGreenlet,
        interrupt: Interrupt,
    ) -> Option<Payload> {
        let Interrupt { id, depth, payload, origin, .. } = interrupt;
        // A deadlock is reported even in a destructor, which is better than waiting indefinitely.
        let is_deadlock = payload.is::<Deadlock>();
        let unwinding = if is_deadlock { Unwinding::IsRisked } else { Unwinding::IsSpared };
        deadlock::print_where_no_hook_runs(&payload);
        report_kill(task, &payload);
        match target.throw_on(into_message(payload), unwinding) {
            Ok(Resumed::Turn) => None,
            Ok(Resumed::Failure(payload)) => Some(payload),
            Err(SwitchError::TargetUnwinding { value }) => {
                let value = if is_deadlock { from_message(value) } else { value };
                let mut interrupt = Interrupt::new(id, depth, value);
                interrupt.origin = origin;
                task.interrupts.borrow_mut().push(interrupt);
                target.set_mark(target.mark() | INTERRUPTED);
                None
            }
            Err(error) => {
                // The target has ended, or this program cannot unwind.
                error.into_value().into_iter().for_each(drop_payload);
                None
            }
        }
    }

    /// Like [`Hub::poll`], but survives a panic there, which would be a bug of this crate: main receives
    /// it.
    fn poll_guarded(&self) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| self.poll())) {
            self.throw_in_root(payload);
        }
    }

    /// Polls for events; sleeps if no greenlet is ready.
    fn poll(&self) {
        self.collect_wakeups();
        if !self.ready.is_empty() && !self.sources.is_empty() {
            // No need to sleep, but descriptors must have their turn.
            if let Err(error) = self.poll_events(Some(0)) {
                self.report_failure("poll for events", &error);
            }
        }
        while self.ready.is_empty() && !self.is_stopping() {
            let next = self.timers.borrow().next();
            let timeout = next.map(|next| next.saturating_sub(self.polled.get()));
            if timeout.is_none() && !self.can_be_woken() {
                deadlock::report(self);
            } else if timeout != Some(0)
                && let Err(error) = self.sleep(timeout)
            {
                self.report_failure("wait for events", &error);
            }
            self.collect_wakeups();
        }
    }

    /// Whether something outside of this thread may wake one of its greenlets.
    fn can_be_woken(&self) -> bool {
        self.remotes.borrow().len() > 0
            || Arc::strong_count(&self.outside.borrow()) > 1
            || self.sources.has_waiters()
    }

    /// Reports in main that the hub cannot work. If main cannot receive that, the process aborts.
    #[cold]
    fn report_failure(&self, what: &str, error: &io::Error) {
        let text = format!("the hub of this thread cannot {what}: {error}");
        deadlock::report_to_root(self, text);
    }

    /// Handles messages, work sources and due timers, and makes the greenlets ready that they wake.
    fn collect_wakeups(&self) {
        #[cfg(feature = "monkey")]
        self.poll_watched_word();
        if self.inbox.is_filled() {
            self.take_messages();
        }
        self.poll_work_source();
        let now = clock::now();
        self.polled.set(now);
        if let Some(watched) = self.watched.get() {
            watched.store(now, Relaxed);
        }
        loop {
            let fire = self.timers.borrow_mut().pop_due(now);
            match fire {
                None => return self.is_timed.set(self.timers.borrow().next().is_some()),
                Some(TimerAction::Unpark(greenlet)) => self.unpark(&greenlet),
                Some(TimerAction::Interrupt(task, id, depth, greenlet)) => {
                    let mut interrupt = Interrupt::new(id, depth, Box::new(TimeoutExit(id)));
                    interrupt.origin = Some(greenlet);
                    self.interrupt(&task, interrupt, false);
                }
            }
        }
    }

    #[cold]
    fn take_messages(&self) {
        let messages = self.inbox.take();
        #[cfg(feature = "monkey")]
        self.wake_interrupted_waits();
        for message in messages {
            match message {
                Message::Unpark(key) => {
                    let greenlet = self.remotes.borrow().get(key).cloned();
                    if let Some(greenlet) = greenlet {
                        self.unpark(&greenlet);
                    }
                }
                Message::Call(f) => self.call(Call::Run(f)),
            }
        }
    }

    /// Sleeps until an event. The only place where a hub's thread sleeps.
    pub(super) fn sleep(&self, timeout: Option<u64>) -> io::Result<()> {
        let Some(timeout) = self.work_source_before_sleep(timeout) else { return Ok(()) };
        #[cfg(feature = "monkey")]
        if !self.request_call() {
            self.work_source_after_sleep();
            return Ok(());
        }
        let slept = self.inbox.sleep_unless_filled(|| self.sleep_and_trim(timeout));
        #[cfg(feature = "monkey")]
        self.cancel_call();
        self.work_source_after_sleep();
        if slept.is_ok() {
            self.reports.set(0);
        }
        slept
    }

    /// Waits for events, and handles them. Returns whether the waker was among them.
    pub(super) fn poll_events(&self, timeout: Option<u64>) -> io::Result<bool> {
        #[cfg(feature = "monkey")]
        crate::sys::signal_counts::leave_all();
        let mut events = Events::new();
        self.epoll()?.wait(timeout, &mut events)?;
        let mut is_woken = false;
        for index in 0..events.count() {
            let Some((token, readiness)) = events.get(index) else { break };
            self.prefetch_ahead(&events, index);
            match token {
                WAKER_TOKEN => is_woken = true,
                _ => self.handle_event(token, readiness),
            }
        }
        Ok(is_woken)
    }

    /// Returns the epoll instance, which it creates if needed.
    pub(super) fn epoll(&self) -> io::Result<&Epoll> {
        if let Some(epoll) = self.epoll.get() {
            return Ok(epoll);
        }
        let epoll = Epoll::new()?;
        epoll.add(self.inbox.waker.fd()?, WAKER_TOKEN)?;
        Ok(self.epoll.get_or_init(|| epoll))
    }

    /// Queues a callback on the hub.
    pub(super) fn call(&self, call: Call) {
        self.calls.borrow_mut().push_back(call);
        self.ready.push(self.context.clone());
    }
}

/// Creates what this thread's hub sleeps with, which is otherwise created when first needed.
///
/// # Errors
///
/// If no descriptors are left.
pub(crate) fn prepare_to_sleep() -> io::Result<()> {
    with(|hub| hub.epoll().map(drop))
}

impl TaskRef {
    /// Cancels an interrupt that may be pending.
    pub(super) fn forget(&self, id: u64) {
        drop(self.take_back(id));
        if self.interrupts.borrow().is_empty()
            && let Some(target) = self.target()
        {
            target.set_mark(target.mark() & !INTERRUPTED);
        }
    }
}
