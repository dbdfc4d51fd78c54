#![deny(unsafe_code)]
//! The hub: who runs when, on a thread. Ready queue, timers, events, and **the** blocking primitive.
//!
//! A thread's hub is made when it is first needed, and ends with the thread. Its own greenlet, the parent
//! of all coroutines, looks for events and sleeps; everybody else hands over directly.
//!
//! - `park.rs` is the blocking primitive, and `run.rs` what the hub's greenlet does;
//! - `ready.rs`, `timers.rs`, `inbox.rs` hold what is ready, what is to happen at a time, and what comes
//!   from other threads; `remote.rs` who can be woken by these;
//! - `task.rs` is what the hub knows about a coroutine, `deadlock.rs` what it says when all are stuck.
//!
//! The hub does not know what a coroutine returns, nor who joins it.

mod deadline;
mod deadlock;
#[allow(unsafe_code, reason = "said there")]
mod here;
mod inbox;
mod park;
#[allow(unsafe_code, reason = "said there")]
mod ready;
mod remote;
mod run;
mod task;
mod timers;

pub(crate) use deadline::Deadline;
pub(crate) use park::{Wake, park, unpark, yield_now};
pub(crate) use remote::{Registration, Unparker};
pub(crate) use task::{Interrupt, Task, TaskRef};

use crate::greenlet::scheduled::{self, DetachedSpec, Owner, Payload};
use crate::greenlet::{self, AnyWeakGreenlet, BuildError};
use crate::sys::poll::Epoll;
use here::{try_with, with};
use inbox::{Inbox, Message};
use park::{HUB, PARKED, QUEUED, ROOT, STATE};
use ready::Ready;
use remote::Remotes;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use timers::{Key, Timers};

/// What a thread keeps for its coroutines.
struct Hub {
    ready: Ready,
    /// So many changes from one to another until the clock is looked at, and how many there were last time.
    ticks: Cell<u64>,
    interval: Cell<u64>,
    /// When the clock was last looked at for this, and when events were looked for.
    looked: Cell<u64>,
    polled: Cell<u64>,
    /// The hub's own greenlet, and what it is to do when it has the thread.
    context: AnyWeakGreenlet,
    why: Cell<Why>,
    calls: RefCell<VecDeque<Call>>,
    timers: RefCell<Timers<Fire>>,
    epoll: OnceCell<Epoll>,
    inbox: Arc<Inbox>,
    remotes: RefCell<Remotes>,
    /// Counts, by its copies, the [`RemoteHub`]s that there are.
    outside: Arc<()>,
    main_task: Rc<Task>,
    next_id: Cell<u64>,
}

/// Why the hub's greenlet has the thread.
#[derive(Clone, Copy, Default)]
enum Why {
    /// A coroutine has ended.
    #[default]
    End,
    /// It is its turn to run a call.
    Call,
    /// Nobody is ready, or events were not looked for in a while.
    Poll,
}

/// What is to be done in the hub's greenlet.
enum Call {
    Run(Box<dyn FnOnce()>),
    Interrupt(TaskRef, Interrupt),
}

/// What happens when a time has come.
enum Fire {
    Unpark(AnyWeakGreenlet),
    Interrupt(TaskRef, u64),
}

/// What is raised in a coroutine when one of its time limits has passed. The number says which.
#[derive(Debug)]
pub(crate) struct LimitPassed(pub(crate) u64);

impl Hub {
    fn new() -> Result<Self, BuildError> {
        let main = scheduled::main().ok_or(BuildError::ThreadEnded)?;
        let main_task = Rc::new(Task::new(0, Some("main".into()), None));
        main.set_mark(ROOT);
        main.set_owner(Some(Rc::<Task>::clone(&main_task)));
        let spec = DetachedSpec { name: Some("hub".into()), ..DetachedSpec::default() };
        let own_task: Rc<dyn Owner> = Rc::new(Task::new(0, Some("hub".into()), None));
        let context = scheduled::spawn(&main, spec, Some(own_task), |()| with(|hub| hub.run()))?;
        context.set_mark(HUB | QUEUED);
        scheduled::set_scheduler(Some(context.clone()));
        let _ = main_task.greenlet.set(main);
        Ok(Hub {
            ready: Ready::new(),
            ticks: Cell::new(0),
            interval: Cell::new(0),
            looked: Cell::new(0),
            polled: Cell::new(crate::sys::clock::now()),
            context,
            why: Cell::new(Why::End),
            calls: RefCell::new(VecDeque::new()),
            timers: RefCell::new(Timers::new()),
            epoll: OnceCell::new(),
            inbox: Inbox::new(),
            remotes: RefCell::new(Remotes::default()),
            outside: Arc::new(()),
            main_task,
            next_id: Cell::new(1),
        })
    }

    fn next_id(&self) -> u64 {
        self.next_id.replace(self.next_id.get() + 1)
    }

    /// Ends all coroutines of a thread that is about to end.
    fn end(&self) {
        let main = self.main_task.greenlet.get().expect("set when it was made");
        if !main.is_current() {
            // `exit` was called in a coroutine: see `greenlet/raw/end.rs`.
            return;
        }
        // Their destructors may wait: the hub's greenlet is spared and still works.
        greenlet::unwind_all();
        scheduled::set_scheduler(None);
        self.context.unwind();
        main.set_mark(0);
        // What is dropped here may be the user's, and may even call this.
        drop(self.calls.take());
        while self.ready.pop().is_some() {}
        drop(self.timers.replace(Timers::new()));
        drop(self.remotes.take());
        drop(main.set_owner(None));
    }
}

/// A new number, not used before on this thread.
pub(crate) fn next_id() -> u64 {
    with(Hub::next_id)
}

/// The greenlet that runs.
#[inline]
#[track_caller]
pub(crate) fn current_greenlet() -> AnyWeakGreenlet {
    // Main may be parked when there is a hub.
    with(|_| scheduled::with_current(AnyWeakGreenlet::clone))
}

/// The task that the current greenlet runs for.
pub(crate) fn current_task() -> TaskRef {
    TaskRef::of(&current_greenlet()).expect("main has one")
}

/// When a new coroutine is to begin.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Start {
    /// At the end of the queue of those that are ready.
    Now,
    /// Not before this.
    At(Deadline),
    /// When it is unparked.
    Held,
}

/// Makes a coroutine that runs `body`, and belongs to `owner`. Its body begins with [`begin`].
#[inline]
pub(crate) fn spawn(
    spec: DetachedSpec,
    start: Start,
    owner: Rc<dyn Owner>,
    body: impl FnOnce(()) + 'static,
) -> Result<AnyWeakGreenlet, BuildError> {
    with(|hub| {
        let greenlet = scheduled::spawn(&hub.context, spec, Some(owner), body)?;
        match start {
            Start::Now => {
                greenlet.set_mark(ROOT | QUEUED);
                hub.ready.push(greenlet.clone());
            }
            Start::At(deadline) => {
                greenlet.set_mark(ROOT | PARKED);
                let fire = Fire::Unpark(greenlet.clone());
                hub.timers.borrow_mut().insert(deadline, false, fire);
            }
            Start::Held => greenlet.set_mark(ROOT | PARKED),
        }
        greenlet.set_purpose("its first turn");
        Ok(greenlet)
    })
}

/// The first thing that a coroutine's body calls: it runs now.
#[inline]
pub(crate) fn begin() {
    scheduled::with_current(|me| me.set_mark(me.mark() & !STATE));
}

/// Has `f` run in the hub's greenlet, at the end of the queue of those that are ready. It must not wait.
pub(crate) fn call(f: impl FnOnce() + 'static) {
    with(|hub| hub.call(Call::Run(Box::new(f))));
}

/// Has `payload` raised in a task, when the hub comes to it: at the end of the queue of those that are ready.
pub(crate) fn interrupt(task: TaskRef, payload: Payload) {
    with(|hub| {
        let id = hub.next_id();
        hub.call(Call::Interrupt(task, Interrupt { id, payload }));
    });
}

/// A time limit of the current coroutine: when it has passed, a [`LimitPassed`] with its number is raised
/// in it, unless this was dropped before.
pub(crate) struct Limit {
    id: u64,
    task: TaskRef,
    timer: Key,
}

impl Limit {
    pub(crate) fn new(deadline: Deadline) -> Self {
        let task = current_task();
        let (id, timer) = with(|hub| {
            let id = hub.next_id();
            let fire = Fire::Interrupt(task.clone(), id);
            (id, hub.timers.borrow_mut().insert(deadline, true, fire))
        });
        Limit { id, task, timer }
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        try_with(|hub| {
            let fire = hub.timers.borrow_mut().remove(self.timer);
            if fire.is_none() {
                // It has fired, and may not have been raised yet.
                self.task.forget(self.id);
            }
        });
    }
}

/// A thread's hub, for other threads. While there is one, the hub does not take it that nobody can wake its
/// thread.
#[derive(Clone)]
pub(crate) struct RemoteHub {
    inbox: Arc<Inbox>,
    _outside: Arc<()>,
}

impl RemoteHub {
    /// This thread's.
    #[track_caller]
    pub(crate) fn here() -> Self {
        with(|hub| RemoteHub { inbox: Arc::clone(&hub.inbox), _outside: Arc::clone(&hub.outside) })
    }

    /// Has `f` run in the hub's greenlet. It must not wait.
    pub(crate) fn call(&self, f: impl FnOnce() + Send + 'static) {
        self.inbox.push(Message::Call(Box::new(f)));
    }
}
