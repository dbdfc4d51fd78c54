#![forbid(unsafe_code)]
//! What a thread's hub keeps.

use super::deadline::Deadline;
use super::deadlock;
use super::here::{has_ended, here, is_copied, unless_ended, with};
use super::inbox::Inbox;
use super::io::Sources;
use super::limit::LimitPassed;
use super::park::{HUB, QUEUED, ROOT, STATE};
use super::ready::Ready;
use super::slots::Slots;
use super::task::{self, Interrupt, Task, TaskRef};
use super::timers::{Key, Timers};
use crate::greenlet::dropping::drop_reporting;
use crate::greenlet::scheduled::{self, DetachedSpec, Owner, Payload};
use crate::greenlet::{AnyWeakGreenlet, BuildError};
use crate::sys::clock;
use crate::sys::poll::{Epoll, Signal};
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::mem::forget;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// What a thread keeps for its coroutines.
pub(super) struct Hub {
    pub(super) ready: Ready,
    /// Changes left before the clock is looked at, and how many there were last time.
    pub(super) ticks: Cell<u64>,
    pub(super) interval: Cell<u64>,
    /// Whether a timer may be pending: then each change looks at the processor's counter, which said this
    /// when the clock was last looked at.
    pub(super) is_timed: Cell<bool>,
    pub(super) counted: Cell<u64>,
    /// When the clock was last looked at for this, and when events were looked for.
    pub(super) looked: Cell<u64>,
    pub(super) polled: Cell<u64>,
    /// The same for a watchdog, if there is one.
    pub(super) watched: OnceCell<Arc<AtomicU64>>,
    /// The hub's own greenlet, and what it is to do when it has the thread.
    pub(super) context: AnyWeakGreenlet,
    pub(super) why: Cell<Why>,
    pub(super) calls: RefCell<VecDeque<Call>>,
    pub(super) timers: RefCell<Timers<Fire>>,
    pub(super) epoll: OnceCell<Epoll>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) sources: Sources,
    /// Who is registered to be woken from elsewhere.
    pub(super) remotes: RefCell<Slots<AnyWeakGreenlet>>,
    /// Counts, by its copies, the [`RemoteHub`]s that there are.
    pub(super) outside: RefCell<Arc<()>>,
    /// The thread's main greenlet.
    pub(super) main: AnyWeakGreenlet,
    /// Who is told when nobody can ever wake anybody: main, or in a child the coroutine that has forked.
    pub(super) root: RefCell<TaskRef>,
    /// Reports of deadlocks and failures since something has happened, and what they keep.
    pub(super) reports: Cell<u32>,
    pub(super) made_at_report: Cell<u64>,
    /// What was last written to standard error of a deadlock in which main waits on.
    pub(super) said_deadlock: RefCell<Option<String>>,
    /// Its coroutines have been ended, in order.
    pub(super) has_ended: Cell<bool>,
    pub(super) next_id: Cell<u64>,
    /// The callback that runs and must not wait, if one does: see `park.rs`.
    pub(super) callback: Cell<Option<&'static str>>,
    /// What is to be done last.
    pub(super) at_end: RefCell<Vec<fn()>>,
    pub(super) feed: OnceCell<Rc<dyn super::feed::Feed>>,
    /// When unused stacks were last looked for.
    pub(super) trimmed: Cell<u64>,
    /// How many wait until nobody is ready.
    pub(super) waiting_for_idle: Cell<usize>,
    #[cfg(feature = "monkey")]
    pub(super) watch: Cell<Option<super::watch::Watch>>,
    /// When signal handlers were last looked for.
    #[cfg(feature = "monkey")]
    pub(super) handled: Cell<crate::sys::handled::Count>,
    /// When the current call of C began, if others have had their turn since.
    #[cfg(feature = "monkey")]
    pub(super) breathed: Cell<Option<crate::sys::handled::Count>>,
    /// How many wait in calls that any handler ends. Some of them may have been left behind in the parent.
    #[cfg(feature = "monkey")]
    pub(super) ended_by_any_handler: Cell<usize>,
}

/// Why the hub's greenlet has the thread.
#[derive(Clone, Copy, Default)]
pub(super) enum Why {
    /// A coroutine has ended.
    #[default]
    End,
    /// It is its turn to run a call.
    Call,
    /// Nobody is ready, or events were not looked for in a while.
    Poll,
    /// The thread ends.
    Stop,
}

/// What is to be done in the hub's greenlet.
pub(super) enum Call {
    Run(Box<dyn FnOnce()>),
    Interrupt(TaskRef, Interrupt),
}

/// What happens when a time has come.
pub(super) enum Fire {
    Unpark(AnyWeakGreenlet),
    /// A time limit has passed: with its number and depth, and the greenlet that has set it.
    Interrupt(TaskRef, u64, usize, AnyWeakGreenlet),
}

impl Hub {
    pub(super) fn new() -> Result<Self, BuildError> {
        let main = scheduled::main().ok_or(BuildError::ThreadEnded)?;
        let main_task = Rc::new(Task::new(0, Some("main".into()), None));
        main.set_mark(ROOT);
        main.set_owner(Some(Rc::<Task>::clone(&main_task)));
        let spec = DetachedSpec { name: Some("hub".into()), ..DetachedSpec::default() };
        // Another number than main's, which is not the one to be killed here and now in a callback.
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
            counted: Cell::new(0),
            looked: Cell::new(0),
            polled: Cell::new(clock::now()),
            watched: OnceCell::new(),
            context,
            why: Cell::new(Why::End),
            calls: RefCell::new(VecDeque::new()),
            timers: RefCell::new(Timers::new()),
            epoll: OnceCell::new(),
            inbox: Arc::new(Inbox::new(Signal::new())),
            sources: Sources::default(),
            remotes: RefCell::new(Slots::default()),
            outside: RefCell::new(Arc::new(())),
            main,
            root: RefCell::new(TaskRef(main_task)),
            reports: Cell::new(0),
            made_at_report: Cell::new(0),
            said_deadlock: RefCell::new(None),
            has_ended: Cell::new(false),
            next_id: Cell::new(1),
            callback: Cell::new(None),
            at_end: RefCell::new(Vec::new()),
            feed: OnceCell::new(),
            trimmed: Cell::new(clock::now()),
            waiting_for_idle: Cell::new(0),
            #[cfg(feature = "monkey")]
            watch: Cell::new(None),
            #[cfg(feature = "monkey")]
            handled: Cell::default(),
            #[cfg(feature = "monkey")]
            breathed: Cell::new(None),
            #[cfg(feature = "monkey")]
            ended_by_any_handler: Cell::new(0),
        })
    }

    /// Has something happen at a time.
    pub(super) fn add_timer(&self, deadline: Deadline, urgent: bool, fire: Fire) -> Key {
        self.is_timed.set(true);
        self.timers.borrow_mut().insert(deadline, urgent, fire)
    }

    /// Begins the hub's greenlet, before anything can end it.
    pub(super) fn start(&self) {
        #[cfg(feature = "monkey")]
        crate::sys::handled::call_after_each(|| _ = super::here::try_with(|hub| hub.inbox.nudge()));
        let me = &*scheduled::running();
        me.set_mark(me.mark() | QUEUED);
        self.ready.push(me.clone());
        let _ = self.context.clone().begin_scheduling();
        me.set_mark(me.mark() & !STATE);
    }

    /// Ends the hub's greenlet.
    fn stop(&self) {
        self.why.set(Why::Stop);
        // What it was in the middle of comes first, if that was a callback.
        let _ = self.context.clone().pass_quietly();
        scheduled::set_scheduler(None);
    }

    pub(super) fn next_id(&self) -> u64 {
        self.next_id.replace(self.next_id.get() + 1)
    }

    /// Ends all coroutines of a thread that is about to end.
    pub(super) fn end(&self) {
        let main = &self.main;
        if !main.is_current() {
            // `exit` was called in a coroutine: see `greenlet/raw/end.rs`.
            return;
        }
        // Their destructors may wait: the hub's greenlet is spared and still works.
        #[cfg(feature = "monkey")]
        self.cut_short();
        scheduled::wind_up();
        self.stop();
        main.set_mark(0);
        // What is dropped here may be user code, and may even call this.
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

/// A new number, not used before on this thread.
pub(crate) fn next_id() -> u64 {
    with(Hub::next_id)
}

/// Has `f` called when this thread's hub ends, after its coroutines.
#[cfg(feature = "monkey")]
pub(crate) fn at_end(f: fn()) {
    with(|hub| hub.at_end.borrow_mut().push(f));
}

/// The greenlet that runs.
#[inline]
#[track_caller]
pub(crate) fn current_greenlet() -> AnyWeakGreenlet {
    // Main may be parked when there is a hub. In a copy of the process nothing is, and it may be asked for.
    if unless_ended().is_none() && !is_copied() {
        here();
    }
    scheduled::running().clone()
}

/// The task that the current greenlet runs for.
pub(crate) fn current_task() -> TaskRef {
    TaskRef::of(&current_greenlet()).expect("main has one")
}

/// Its number. Where the hub has ended only main is left.
pub(crate) fn current_task_id() -> u64 {
    if has_ended() && !is_copied() { 0 } else { current_task().id }
}

/// Has `f` run in the hub's greenlet, at the end of the queue of those that are ready. It must not wait. In a
/// copy of the process it never is, and is not dropped either.
pub(crate) fn call(f: impl FnOnce() + 'static) {
    if is_copied() {
        return forget(f);
    }
    with(|hub| hub.call(Call::Run(Box::new(f))));
}

/// Has `payload` raised in a task, when the hub comes to it: at the end of the queue of those that are ready.
/// In a copy of the process that task is not there.
pub(crate) fn interrupt(task: TaskRef, payload: Payload) {
    if is_copied() {
        return;
    }
    with(|hub| {
        let id = hub.next_id();
        hub.call(Call::Interrupt(task, Interrupt::new(id, 0, payload)));
    });
}

/// Has `payloads`, which were raised in the current coroutine and caught, raised once more where it
/// waits next, before what else is to be raised there.
pub(crate) fn raise_later(payloads: impl IntoIterator<Item = Payload>) {
    let interrupts = payloads.into_iter().filter_map(|payload| {
        let id = match payload.downcast_ref() {
            Some(LimitPassed(id)) => *id,
            None => next_id(),
        };
        // Of a deadlock there is nothing left to be told: if it is one still, it is found again.
        let depth = task::panics(&scheduled::running());
        (!deadlock::is_message(&payload)).then_some(Interrupt::new(id, depth, payload))
    });
    let interrupts: Vec<_> = interrupts.collect();
    // The hub never waits, so nothing is raised in it.
    if !interrupts.is_empty() && scheduled::running().mark() & HUB == 0 {
        let task = current_task();
        task.interrupts.borrow_mut().splice(..0, interrupts);
        task.mark_interrupted(&scheduled::running());
    }
}
