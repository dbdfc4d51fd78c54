#![forbid(unsafe_code)]
//! What the hub's own greenlet does: calls, timers, events, and sleep.

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

/// The token of the inbox's alarm.
pub(super) const ALARM: u64 = u64::MAX;

impl Hub {
    /// The body of the hub's greenlet. It gets the thread when nobody is ready, when it is its turn to run
    /// a call, when events were not looked for in a while, and when a coroutine ends. Nothing but
    /// [`Hub::stop`] ends it.
    pub(super) fn run(&self) {
        self.context.close_to_others();
        // It may be resumed to end in the middle of each of these.
        while !self.is_stopping() {
            end_copy(CopyEnd::Hub);
            match self.why.replace(RunReason::End) {
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
                    Ok(Resumed::Failure(payload)) => self.raise_in_root(payload),
                    // Not one that the hub could have resumed: it was switched to by hand.
                    Err(_) => {}
                }
            }
        }
    }

    fn is_stopping(&self) -> bool {
        matches!(self.why.get(), RunReason::Stop)
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

    /// Has something raised in a task: at once (which is when the hub's greenlet has let go of the thread),
    /// or when it is its turn.
    pub(super) fn interrupt(&self, task: &Task, interrupt: Interrupt, at_once: bool) {
        let mut failure = self.try_interrupt(task, interrupt, at_once);
        // Each may bring the next, of which main is told.
        while let Some(payload) = failure {
            let root = self.root.borrow().clone();
            let interrupt = Interrupt::new(self.next_id(), 0, payload);
            failure = self.try_interrupt(&root, interrupt, false);
        }
    }

    /// Raises in main what has failed and no other greenlet awaits.
    fn raise_in_root(&self, payload: Payload) {
        let root = self.root.borrow().clone();
        self.interrupt(&root, Interrupt::new(self.next_id(), 0, payload), false);
    }

    /// As [`Hub::interrupt`]. If the target was resumed here, returns the failure that the hub's greenlet got
    /// the thread back with.
    fn try_interrupt(&self, task: &Task, interrupt: Interrupt, at_once: bool) -> Option<Payload> {
        let target = task.target_of(interrupt.origin.as_ref())?;
        let mark = target.mark();
        // One that was left behind and has parked since is gone on with here: an inherited generator's.
        let is_left_behind = mark & LEFT_BEHIND != 0 && mark & STATE == 0;
        if target.is_dead() || is_left_behind {
            return None;
        }
        let is_of_target = interrupt.origin.as_ref() == Some(&target);
        if mark & (STATE | ROOT) == 0 && is_of_target {
            // A time limit in a generator's body that has yielded: the generator is not under way, and finds
            // it where it next waits.
            task.interrupts.borrow_mut().push(interrupt);
            target.set_mark(mark | INTERRUPTED);
            return None;
        }
        if mark & STATE == 0 {
            return self.interrupt_by_hand(task, &target, interrupt);
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

    /// Raises something in a target that was suspended by hand, and not here: now, or when it next parks.
    fn interrupt_by_hand(
        &self,
        task: &Task,
        target: &AnyWeakGreenlet,
        interrupt: Interrupt,
    ) -> Option<Payload> {
        let Interrupt { id, depth, payload, origin, .. } = interrupt;
        // A deadlock is told in a destructor as well: better than waiting indefinitely.
        let is_deadlock = payload.is::<Deadlock>();
        let unwinding = if is_deadlock { Unwinding::IsRisked } else { Unwinding::IsSpared };
        deadlock::say_where_no_hook_does(&payload);
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
                // It has ended, or nothing can be thrown in this program.
                error.into_value().into_iter().for_each(drop_payload);
                None
            }
        }
    }

    /// As [`Hub::poll`]. A panic in there, which would be this crate's own mistake, does not end the hub.
    fn poll_guarded(&self) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| self.poll())) {
            self.raise_in_root(payload);
        }
    }

    /// Looks for events; sleeps if nobody is ready.
    fn poll(&self) {
        self.take_in();
        if !self.ready.is_empty() && !self.sources.is_empty() {
            // Nobody sleeps, but descriptors are to have their turn.
            if let Err(error) = self.look_for_events(Some(0)) {
                self.report_failure("look for events", &error);
            }
        }
        while self.ready.is_empty() && !self.is_stopping() {
            let next = self.timers.borrow().next();
            let limit = next.map(|next| next.saturating_sub(self.polled.get()));
            if limit.is_none() && !self.can_be_woken() {
                deadlock::report(self);
            } else if limit != Some(0)
                && let Err(error) = self.sleep(limit)
            {
                self.report_failure("wait for events", &error);
            }
            self.take_in();
        }
    }

    /// Whether something outside of this thread may wake one of its greenlets.
    fn can_be_woken(&self) -> bool {
        self.remotes.borrow().len() > 0
            || Arc::strong_count(&self.outside.borrow()) > 1
            || self.sources.are_waited_for()
    }

    /// The hub cannot do its work: main is told, where it waits. If it is not to be told, nothing can go on.
    #[cold]
    fn report_failure(&self, what: &str, error: &io::Error) {
        let text = format!("the hub of this thread could not {what}: {error}");
        deadlock::tell_root(self, text);
    }

    /// Makes ready whoever is to be by what has come meanwhile.
    fn take_in(&self) {
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

    /// The one place where a hub's thread sleeps.
    pub(super) fn sleep(&self, limit: Option<u64>) -> io::Result<()> {
        let Some(limit) = self.work_source_before_sleep(limit) else { return Ok(()) };
        #[cfg(feature = "monkey")]
        if !self.request_call() {
            self.work_source_after_sleep();
            return Ok(());
        }
        let slept = self.inbox.sleep_unless_filled(|| self.sleep_and_trim(limit));
        #[cfg(feature = "monkey")]
        self.cancel_call();
        self.work_source_after_sleep();
        if slept.is_ok() {
            self.reports.set(0);
        }
        slept
    }

    /// Waits for events, and notes them. Whether the alarm was among them.
    pub(super) fn look_for_events(&self, limit: Option<u64>) -> io::Result<bool> {
        #[cfg(feature = "monkey")]
        crate::sys::signal_counts::leave_all();
        let mut events = Events::new();
        self.epoll()?.wait(limit, &mut events)?;
        let mut rung = false;
        for index in 0..events.count() {
            let Some((token, readiness)) = events.get(index) else { break };
            self.look_ahead(&events, index);
            match token {
                ALARM => rung = true,
                _ => self.note(token, readiness),
            }
        }
        Ok(rung)
    }

    /// Made when it is first needed.
    pub(super) fn epoll(&self) -> io::Result<&Epoll> {
        if let Some(epoll) = self.epoll.get() {
            return Ok(epoll);
        }
        let epoll = Epoll::new()?;
        epoll.add(self.inbox.alarm.fd()?, ALARM)?;
        Ok(self.epoll.get_or_init(|| epoll))
    }

    /// Has the hub do something, when it is its turn.
    pub(super) fn call(&self, call: Call) {
        self.calls.borrow_mut().push_back(call);
        self.ready.push(self.context.clone());
    }
}

/// Makes what this thread's hub sleeps with, which is otherwise made when it is first needed.
///
/// # Errors
///
/// If there are no descriptors left.
pub(crate) fn prepare_to_sleep() -> io::Result<()> {
    with(|hub| hub.epoll().map(drop))
}

impl TaskRef {
    /// Takes back something that was to be raised in it, or has it raised no more.
    pub(super) fn forget(&self, id: u64) {
        drop(self.take_back(id));
        if self.interrupts.borrow().is_empty()
            && let Some(target) = self.target()
        {
            target.set_mark(target.mark() & !INTERRUPTED);
        }
    }
}
