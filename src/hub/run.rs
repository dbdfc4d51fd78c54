#![forbid(unsafe_code)]
//! What the hub's own greenlet does: calls, timers, events, and sleep.

use super::deadlock;
use super::inbox::Message;
use super::limit::LimitPassed;
use super::park::{INTERRUPTED, PARKED, QUEUED, STATE};
use super::state::{Call, Fire, Hub, Why};
use super::task::{Interrupt, Task, TaskRef};
use crate::greenlet::SwitchError;
use crate::greenlet::scheduled::{LEFT_BEHIND, describe};
use crate::sys::poll::{Epoll, Events};
use crate::sys::{clock, stderr};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// The token of the inbox's alarm.
pub(super) const ALARM: u64 = u64::MAX;

impl Hub {
    /// The body of the hub's greenlet. It gets the thread when nobody is ready, when it is its turn to run
    /// a call, when events were not looked for in a while, and when a coroutine ends.
    pub(super) fn run(&self) -> ! {
        loop {
            match self.why.replace(Why::End) {
                Why::End => {}
                Why::Call => {
                    let call = self.calls.borrow_mut().pop_front();
                    if let Some(call) = call {
                        self.execute(call);
                    }
                }
                Why::Poll => self.poll(),
            }
            let next = self.next();
            if next != self.context {
                // Whatever comes back: it is the hub's turn.
                let _ = next.pass();
            }
        }
    }

    fn execute(&self, call: Call) {
        let result = catch_unwind(AssertUnwindSafe(|| match call {
            Call::Run(f) => f(),
            Call::Interrupt(task, interrupt) => self.interrupt(&task, interrupt, true),
        }));
        if let Err(payload) = result {
            let message = describe(&payload);
            stderr::write(&[&format!("switchgrass: a callback in the hub panicked: {message}\n")]);
            // Its destructor is the user's.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(payload)));
        }
    }

    /// Has something raised in a task: at once (which is when the hub's greenlet has let go of the thread),
    /// or when it is its turn.
    pub(super) fn interrupt(&self, task: &Task, interrupt: Interrupt, at_once: bool) {
        let Some(target) = task.target() else { return };
        let mark = target.mark();
        // One that was left behind and has parked since is gone on with here: an inherited generator's.
        let is_left_behind = mark & LEFT_BEHIND != 0 && mark & STATE == 0;
        if target.is_dead() || is_left_behind {
            return;
        }
        if mark & STATE == 0 {
            // Suspended by hand, and not here.
            let Interrupt { id, depth, payload, .. } = interrupt;
            if let Err(SwitchError::TargetUnwinding { value }) = target.throw_any::<()>(payload) {
                task.interrupts.borrow_mut().push(Interrupt::new(id, depth, value));
                target.set_mark(target.mark() | INTERRUPTED);
            }
            return;
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
    }

    /// Looks for events; sleeps if nobody is ready.
    fn poll(&self) {
        self.take_in();
        if !self.ready.is_empty() && !self.sources.is_empty() {
            // Nobody sleeps, but descriptors are to have their turn.
            let seen = self.look_for_events(Some(0));
            seen.unwrap_or_else(|error| panic!("a hub could not look for events: {error}"));
        }
        loop {
            if !self.ready.is_empty() {
                return;
            }
            let next = self.timers.borrow().next();
            let limit = next.map(|next| next.saturating_sub(self.polled.get()));
            let can_be_woken = self.remotes.borrow().len() > 0
                || Arc::strong_count(&self.outside.borrow()) > 1
                || self.sources.are_waited_for();
            if limit.is_none() && !can_be_woken {
                deadlock::report(self);
            } else if limit != Some(0) {
                self.sleep(limit);
            }
            self.take_in();
        }
    }

    /// Makes ready whoever is to be by what has come meanwhile.
    fn take_in(&self) {
        #[cfg(feature = "monkey")]
        self.look_at_the_word();
        if self.inbox.is_filled() {
            self.take_messages();
        }
        self.ask_for_work();
        let now = clock::now();
        self.polled.set(now);
        if let Some(watched) = self.watched.get() {
            watched.store(now, Relaxed);
        }
        loop {
            let fire = self.timers.borrow_mut().pop_due(now);
            match fire {
                None => return,
                Some(Fire::Unpark(greenlet)) => self.unpark(&greenlet),
                Some(Fire::Interrupt(task, id, depth)) => {
                    let payload = Box::new(LimitPassed(id));
                    self.interrupt(&task, Interrupt::new(id, depth, payload), false);
                }
            }
        }
    }

    #[cold]
    fn take_messages(&self) {
        for message in self.inbox.take() {
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
    fn sleep(&self, limit: Option<u64>) {
        let Some(limit) = self.ask_before_sleep(limit) else { return };
        #[cfg(feature = "monkey")]
        if !self.ask_to_be_called() {
            self.tell_of_sleep();
            return;
        }
        let slept = self.inbox.sleep_unless_filled(|| self.sleep_and_trim(limit));
        #[cfg(feature = "monkey")]
        self.ask_no_more();
        self.tell_of_sleep();
        slept.unwrap_or_else(|error| panic!("a hub could not sleep: {error}"));
    }

    /// Waits for events, and notes them. Whether the alarm was among them.
    pub(super) fn look_for_events(&self, limit: Option<u64>) -> io::Result<bool> {
        let mut events = Events::new();
        self.epoll()?.wait(limit, &mut events)?;
        let mut rung = false;
        for index in 0..events.count() {
            let Some((token, interest)) = events.get(index) else { break };
            self.look_ahead(&events, index);
            match token {
                ALARM => rung = true,
                _ => self.note(token, interest),
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
