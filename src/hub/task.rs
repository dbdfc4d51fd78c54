#![forbid(unsafe_code)]
//! The hub's data about a coroutine or main.

use super::interrupt::Interrupt;
use super::timers::Key;
use crate::greenlet::dropping::drop_reporting;
use crate::greenlet::scheduled::marks::{EXIT_PROPAGATES, INTERRUPTED, QUEUED, ROOT, STATE};
use crate::greenlet::scheduled::{self, Owner, Payload};
use crate::greenlet::{AnyWeakGreenlet, GreenletExit};
use std::any::Any;
use std::borrow::Cow;
use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::panic::{Location, resume_unwind};
use std::rc::Rc;

/// The hub's data about a coroutine, or about a thread's main greenlet.
pub(crate) struct Task {
    pub(crate) id: u64,
    pub(crate) name: Option<Cow<'static, str>>,
    /// Where it was spawned; `None` for main.
    pub(crate) site: Option<&'static Location<'static>>,
    /// The greenlet that runs its body.
    pub(crate) greenlet: OnceCell<AnyWeakGreenlet>,
    /// The timer of a delayed start.
    pub(super) start: Cell<Option<Key>>,
    /// Other greenlets that are parked on its behalf, most recent last, such as that of a generator. Their
    /// waits may end in any order.
    pub(super) delegates: RefCell<Delegates>,
    /// The pending interrupts, thrown when it next runs.
    pub(super) interrupts: RefCell<Vec<Interrupt>>,
}

/// Boxed, so that it takes one word: few coroutines have any.
type Delegates = Option<Box<Vec<AnyWeakGreenlet>>>;

/// A reference to a task, through its owner, which is or contains the task.
#[derive(Clone)]
pub(crate) struct TaskRef(pub(crate) Rc<dyn Owner>);

impl Task {
    #[inline(always)]
    pub(crate) fn new(
        id: u64,
        name: Option<Cow<'static, str>>,
        site: Option<&'static Location<'static>>,
    ) -> Self {
        Task {
            id,
            name,
            site,
            greenlet: OnceCell::new(),
            start: Cell::new(None),
            delegates: RefCell::new(None),
            interrupts: RefCell::new(Vec::new()),
        }
    }

    /// Removes the next interrupt to throw in `me`, the running greenlet.
    pub(super) fn next_interrupt(&self, me: &AnyWeakGreenlet) -> Option<Interrupt> {
        let depth = panics(me);
        let mut interrupts = self.interrupts.borrow_mut();
        let is_next =
            |interrupt: &Interrupt| interrupt.depth >= depth && interrupt.is_meant_for(me);
        let at = interrupts.iter().position(is_next)?;
        Some(interrupts.remove(at))
    }

    /// Marks that an interrupt is pending: in `me`, which runs for the task, and in the task's own
    /// greenlet, which may be the next to wait.
    pub(super) fn mark_interrupted(&self, me: &AnyWeakGreenlet) {
        for greenlet in [Some(me), self.greenlet.get()].into_iter().flatten() {
            greenlet.set_mark(greenlet.mark() | INTERRUPTED);
        }
    }

    /// Whether a patched call was cut short for a kill that is still to be raised.
    pub(crate) fn has_reported_kill(&self) -> bool {
        let interrupts = self.interrupts.borrow();
        interrupts.iter().any(|kill| kill.is_reported && kill.payload.is::<GreenletExit>())
    }

    /// Drops pending interrupts that will never be thrown. Their payloads are user values.
    #[inline]
    pub(crate) fn drop_interrupts(&self) {
        if !self.interrupts.borrow().is_empty() {
            self.drop_interrupts_slow();
        }
    }

    #[cold]
    fn drop_interrupts_slow(&self) {
        for interrupt in self.interrupts.take() {
            let what = "the destructor of an undelivered interrupt";
            drop_reporting(what, interrupt.payload);
        }
    }

    /// Returns the name used in messages.
    pub(crate) fn title(&self) -> String {
        match &self.name {
            Some(name) => format!("'{name}'"),
            None => format!("#{}", self.id),
        }
    }

    /// Returns the greenlet that waits for the task, and is woken for an interrupt.
    pub(crate) fn target(&self) -> Option<AnyWeakGreenlet> {
        let delegate = self.delegates.borrow().iter().flat_map(|all| all.last()).next().cloned();
        delegate.or_else(|| self.greenlet.get().cloned())
    }

    /// Returns the greenlet to wake for an interrupt with this origin.
    pub(super) fn target_of(&self, origin: Option<&AnyWeakGreenlet>) -> Option<AnyWeakGreenlet> {
        let Some(origin) = origin else { return self.target() };
        if origin.mark() & STATE != 0 {
            return Some(origin.clone());
        }
        let runs_for_it = |delegate: &&AnyWeakGreenlet| delegate.line().any(|node| node == *origin);
        let delegates = self.delegates.borrow();
        let delegate = delegates.iter().flat_map(|all| all.iter()).rfind(runs_for_it).cloned();
        Some(delegate.unwrap_or_else(|| origin.clone()))
    }

    /// Returns what the task, or a greenlet on its behalf, waits for.
    pub(crate) fn waits_for(&self) -> Option<&'static str> {
        let target = self.target()?;
        Some(match target.mark() & STATE {
            QUEUED => "its turn",
            0 => "a switch made by hand",
            _ => target.purpose(),
        })
    }

    /// Takes back a pending interrupt.
    pub(crate) fn take_back(&self, id: u64) -> Option<Interrupt> {
        let mut interrupts = self.interrupts.borrow_mut();
        let at = interrupts.iter().position(|interrupt| interrupt.id == id)?;
        Some(interrupts.remove(at))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.drop_interrupts();
    }
}

impl Owner for Task {
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Task({})", self.title())
    }
}

impl TaskRef {
    /// Returns the task that `greenlet` runs for: its own, or that of its nearest ancestor with a task.
    pub(crate) fn of(greenlet: &AnyWeakGreenlet) -> Option<TaskRef> {
        greenlet.owner().or_else(|| greenlet.line().find_map(|node| node.owner())).map(TaskRef)
    }
}

/// Panics if `me`, the running greenlet, runs for `task`: directly, in a generator, or in another greenlet
/// below it.
///
/// Its wait for the end of the task would never end. Every such wait calls this, with or without a timeout.
#[inline]
#[track_caller]
pub(crate) fn refuse_own(task: &Task, me: &AnyWeakGreenlet) {
    let is_own = match me.mark() & ROOT {
        0 => TaskRef::of(me).is_some_and(|own| own.id == task.id),
        _ => task.greenlet.get().is_some_and(|own| own == me),
    };
    assert!(!is_own, "a coroutine cannot join itself: it would wait indefinitely");
}

/// Returns the depth of nested panics: in the running greenlet, and in those of its task that wait for it.
pub(super) fn panics(me: &AnyWeakGreenlet) -> usize {
    let mut panics = scheduled::panics();
    if me.owner().is_none() {
        panics += me.line().skip(1).map(|node| node.suspended_panics()).sum::<usize>();
    }
    panics
}

/// Marks what a kill of `me` also ends, if `me` is, for example, the greenlet of a generator.
pub(super) fn propagate_exit(me: &AnyWeakGreenlet) {
    if me.owner().is_none() {
        me.line()
            .filter(|node| node.owner().is_none())
            .for_each(|node| node.set_mark(node.mark() | EXIT_PROPAGATES));
    }
}

/// Throws `payload` in the current greenlet, on behalf of its task.
#[track_caller]
pub(crate) fn unwind_current(payload: Payload) -> ! {
    if payload.is::<GreenletExit>() {
        propagate_exit(&scheduled::running());
    }
    resume_unwind(payload)
}

impl std::ops::Deref for TaskRef {
    type Target = Task;

    #[inline]
    fn deref(&self) -> &Task {
        self.0.as_any().downcast_ref().expect("every owner is or has a task")
    }
}
