#![forbid(unsafe_code)]
//! Start and end of a hub.

use super::deadlock;
use super::here::with;
use super::inbox::Inbox;
use super::ready::Ready;
use super::slots::Slots;
use super::sources::Sources;
use super::state::{Hub, RunReason};
use super::task::{Task, TaskRef};
use super::timers::Timers;
use crate::greenlet::BuildError;
use crate::greenlet::dropping::drop_reporting;
use crate::greenlet::scheduled::marks::{HUB, QUEUED, ROOT, STATE};
use crate::greenlet::scheduled::{self, DetachedSpec, Owner};
use crate::sys::clock;
use crate::sys::poll::EventFd;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

impl Hub {
    pub(super) fn new() -> Result<Self, BuildError> {
        let main = scheduled::main().ok_or(BuildError::ThreadEnded)?;
        let main_task = Rc::new(Task::new(0, Some("main".into()), None));
        main.set_mark(ROOT);
        main.set_owner(Some(Rc::<Task>::clone(&main_task)));
        let spec = DetachedSpec { name: Some("hub".into()), ..DetachedSpec::default() };
        // Its id differs from main's: a kill of main in a hub callback must not unwind that callback.
        let own_task: Rc<dyn Owner> = Rc::new(Task::new(u64::MAX, Some("hub".into()), None));
        let context = scheduled::spawn(&main, spec, Some(own_task), |()| with(|hub| hub.run()))?;
        context.set_mark(HUB | QUEUED);
        scheduled::set_scheduler(Some(context.clone()));
        let _ = main_task.greenlet.set(main.clone());
        Ok(Hub {
            ready: Ready::new(),
            ticks: Cell::new(0),
            interval: Cell::new(0),
            is_timed: Cell::new(false),
            counter_read: Cell::new(0),
            clock_read: Cell::new(0),
            polled: Cell::new(clock::now()),
            watched: OnceCell::new(),
            context,
            run_reason: Cell::new(RunReason::End),
            calls: RefCell::new(VecDeque::new()),
            timers: RefCell::new(Timers::new()),
            epoll: OnceCell::new(),
            inbox: Arc::new(Inbox::new(EventFd::new())),
            sources: Sources::default(),
            remotes: RefCell::new(Slots::default()),
            outside: RefCell::new(Arc::new(())),
            main,
            root: RefCell::new(TaskRef(main_task)),
            reports: Cell::new(0),
            made_at_report: Cell::new(0),
            printed_deadlock: RefCell::new(None),
            has_ended: Cell::new(false),
            next_id: Cell::new(1),
            callback: Cell::new(None),
            at_end: RefCell::new(Vec::new()),
            work_source: OnceCell::new(),
            trimmed: Cell::new(clock::now()),
            waiting_for_idle: Cell::new(0),
            #[cfg(feature = "monkey")]
            watch: Cell::new(None),
            #[cfg(feature = "monkey")]
            handled: Cell::default(),
            #[cfg(feature = "monkey")]
            call_began: Cell::new(None),
            #[cfg(feature = "monkey")]
            ended_by_any_handler: Cell::new(0),
        })
    }

    /// Starts the hub's greenlet, before anything can end it.
    pub(super) fn start(&self) {
        #[cfg(feature = "monkey")]
        crate::sys::signal_counts::call_after_each(|| {
            _ = super::here::try_with(|hub| hub.inbox.nudge())
        });
        let me = &*scheduled::running();
        me.set_mark(me.mark() | QUEUED);
        self.ready.push(me.clone());
        let _ = self.context.clone().begin_scheduling();
        me.set_mark(me.mark() & !STATE);
    }

    /// Ends the hub's greenlet.
    fn stop(&self) {
        self.run_reason.set(RunReason::Stop);
        // If the hub's greenlet is suspended inside a callback, the callback continues first.
        let _ = self.context.clone().pass_nounwind();
        scheduled::set_scheduler(None);
    }

    /// Ends all coroutines of a thread that is about to end.
    pub(super) fn end(&self) {
        let main = &self.main;
        if !main.is_current() {
            // `exit` was called in a coroutine: see `greenlet/raw/end.rs`.
            return;
        }
        // Destructors of coroutines may wait: the hub's greenlet is spared, and still works.
        #[cfg(feature = "monkey")]
        self.interrupt_nounwind_waits();
        scheduled::wind_up();
        self.stop();
        main.set_mark(0);
        // Dropping these may run user code, which may queue further calls.
        const ROUNDS: usize = 100;
        for _ in 0..ROUNDS {
            let (calls, messages) = (self.calls.take(), self.inbox.take());
            if calls.is_empty() && messages.is_empty() {
                break;
            }
            let what = "the destructor of a callback in the hub";
            calls.into_iter().for_each(|call| drop_reporting(what, call));
            messages.into_iter().for_each(|message| drop_reporting(what, message));
        }
        while self.ready.pop().is_some() {}
        drop(self.timers.replace(Timers::new()));
        drop(self.remotes.take());
        for at_end in self.at_end.take() {
            at_end();
        }
        let root = self.root.borrow().clone();
        for interrupt in root.interrupts.take() {
            deadlock::report_undelivered(interrupt.payload);
        }
        drop(main.set_owner(None));
        self.has_ended.set(true);
    }
}
