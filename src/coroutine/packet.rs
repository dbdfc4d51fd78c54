#![forbid(unsafe_code)]
//! What a coroutine and its handles share: its task, its end, and who is to be told of it.

use super::error::JoinError;
use crate::greenlet::dropping::{drop_reporting, report, run_reporting};
use crate::greenlet::scheduled::{Owner, Payload, describe, drop_current_locals};
use crate::greenlet::{AnyWeakGreenlet, GreenletExit};
use crate::hub::{self, CopyEnd, Task, TaskRef, TimeoutExit};
use crate::sys::stderr;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::rc::Rc;
use std::task::Waker;

/// What a coroutine and its handles share.
pub(super) struct Packet<T> {
    pub(super) head: Head,
    pub(super) value: Cell<Option<T>>,
    /// Whether there is a handle that could still take the value.
    pub(super) is_wanted: Cell<bool>,
}

/// The part that does not depend on what the coroutine returns.
pub(super) struct Head {
    pub(super) task: Task,
    finished: Cell<bool>,
    /// Whether it has ended by a panic. The failure itself may be taken.
    panicked: Cell<bool>,
    failure: Cell<Option<JoinError>>,
    /// The very first one, if it is of who waits: two words, since most have this one and no other, and
    /// what is larger is slow to move.
    waiter: Cell<Option<AnyWeakGreenlet>>,
    waiter_id: Cell<u64>,
    /// The first of the others needs no memory of its own.
    first: Cell<Option<(u64, Link)>>,
    /// Whether that is there.
    has_links: Cell<bool>,
    /// Few coroutines have others, so they are one word.
    others: RefCell<Option<Box<Others>>>,
}

#[derive(Default)]
struct Others {
    /// Behind the first.
    waiting: VecDeque<(u64, Link)>,
    /// Spawned, and not begun: they can still be taken off.
    starting: Vec<(u64, Callback)>,
}

/// The user's.
pub(super) type Callback = Box<dyn FnOnce()>;

/// Spawns a coroutine that calls the callback.
pub(super) type Spawner = fn(&'static Location<'static>, Callback);

/// What is to be done when a coroutine has ended.
pub(super) enum Link {
    Unpark(AnyWeakGreenlet),
    Wake(Waker),
    /// The library's, and does not wait. It may drop user values, and so panic.
    Tell(Callback),
    /// To be run in the hub.
    InHub(Callback),
    /// Called in a coroutine that the function makes, spawned at the location.
    Spawn(Callback, &'static Location<'static>, Spawner),
}

/// A link that is taken off when this is dropped.
pub(super) struct Linked<'a> {
    head: &'a Head,
    id: u64,
}

impl<T> Packet<T> {
    #[inline(always)]
    pub(super) fn new(task: Task) -> Self {
        let head = Head {
            task,
            finished: Cell::new(false),
            panicked: Cell::new(false),
            failure: Cell::new(None),
            waiter: Cell::new(None),
            waiter_id: Cell::new(0),
            first: Cell::new(None),
            has_links: Cell::new(false),
            others: RefCell::new(None),
        };
        Packet { head, value: Cell::new(None), is_wanted: Cell::new(true) }
    }

    /// The outcome, which is there once.
    pub(super) fn take(&self) -> Result<T, JoinError> {
        if let Some(value) = self.value.take() {
            return Ok(value);
        }
        Err(self.head.take_failure().unwrap_or(JoinError::Taken))
    }
}

impl<T: 'static> Packet<T> {
    /// Runs the body, and ends the coroutine:
    ///
    /// 1. drops its locals, and its result if the handle is gone;
    /// 2. wakes its joiners and calls its links;
    /// 3. drops its failure and its pending interrupts if nobody else has a handle.
    ///
    /// The greenlet keeps its owner until all that is done: so a user destructor may wait and set time
    /// limits, and in step 1 kills reach it.
    pub(super) fn run(self: Rc<Self>, body: impl FnOnce() -> T) {
        hub::begin();
        match catch_unwind(AssertUnwindSafe(body)) {
            Ok(value) => {
                hub::end_copy(CopyEnd::Returned);
                self.value.set(Some(value));
            }
            Err(payload) => {
                self.head.fail(payload);
                hub::end_copy(CopyEnd::Failed);
            }
        }
        drop_current_locals();
        if std::mem::needs_drop::<T>() && !self.is_wanted.get() {
            self.drop_result();
        }
        self.head.finish(|| TaskRef(Rc::<Packet<T>>::clone(&self)));
        /// This one, and the owner of the greenlet.
        const OWN: usize = 2;
        if Rc::strong_count(&self) == OWN {
            self.head.drop_leftovers();
            drop_current_locals();
        }
        let owner = self.head.task.greenlet.get().and_then(|greenlet| greenlet.set_owner(None));
        drop((self, owner));
    }

    /// Drops a result that nobody can take, and the locals that its destructor makes.
    #[cold]
    fn drop_result(&self) {
        if let Some(value) = self.value.take() {
            drop_reporting(format_args!("the destructor of the result of {}", self.head), value);
            drop_current_locals();
        }
    }
}

/// A body that has not begun. Dropped as such, by whomever, its coroutine has ended when the body is gone.
pub(super) struct Unbegun<T: 'static, F> {
    /// Declared first, so that it is dropped first.
    body: F,
    end: EndUnbegun<T>,
}

/// Ends a coroutine when it is dropped, unless it has begun.
struct EndUnbegun<T: 'static>(Option<Rc<Packet<T>>>);

impl<T: 'static, F: FnOnce() -> T> Unbegun<T, F> {
    #[inline]
    pub(super) fn new(packet: Rc<Packet<T>>, body: F) -> Self {
        Unbegun { body, end: EndUnbegun(Some(packet)) }
    }

    #[inline]
    pub(super) fn run(mut self) {
        let packet = self.end.0.take().expect("taken here and when dropped");
        packet.run(self.body);
    }
}

impl<T: 'static> Drop for EndUnbegun<T> {
    #[inline]
    fn drop(&mut self) {
        if let Some(packet) = self.0.take() {
            packet.head.end_unbegun(|| TaskRef(Rc::<Packet<T>>::clone(&packet)));
        }
    }
}

impl<T: 'static> Owner for Packet<T> {
    fn as_any(&self) -> &dyn Any {
        &self.head.task
    }

    fn more(&self) -> Option<&dyn Any> {
        Some(&self.head)
    }
}

/// As [`drop_reporting`], in a coroutine that goes on afterwards: a kill or a time limit that was raised in
/// the destructor is not lost, but raised where the coroutine waits next.
#[cold]
pub(super) fn drop_in_passing<T>(what: impl fmt::Display, value: T) {
    run_in_passing(what, || drop(value));
}

/// As [`run_reporting`], in a coroutine that goes on afterwards: see [`drop_in_passing`].
pub(super) fn run_in_passing(what: impl fmt::Display, f: impl FnOnce()) {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(()) => {}
        Err(payload) if is_interrupt(&payload) && !hub::has_ended() => hub::defer_unwind([payload]),
        Err(payload) => report(what, payload),
    }
}

/// The first of two panics, if there is one, else the other. If there are both, the other is raised later if
/// it is a kill or a time limit, and dropped otherwise.
pub(super) fn first_raised(first: Option<Payload>, other: Option<Payload>) -> Option<Payload> {
    match (first, other) {
        (Some(first), Some(other)) if is_interrupt(&other) => {
            hub::defer_unwind([other]);
            Some(first)
        }
        (Some(first), other) => {
            drop_in_passing("the destructor of a panic's payload", other);
            Some(first)
        }
        (None, other) => other,
    }
}

/// Whether it is a kill or a time limit: code that catches one must not lose it.
pub(super) fn is_interrupt(payload: &Payload) -> bool {
    payload.is::<GreenletExit>() || payload.is::<TimeoutExit>()
}

/// "coroutine", and its name or number.
impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "coroutine {}", self.task.title())
    }
}

/// Any coroutine, and the hub, may drop the last reference: no user destructor unwinds from here.
impl Drop for Head {
    #[inline]
    fn drop(&mut self) {
        self.drop_leftovers();
    }
}

impl Head {
    pub(super) fn of(task: &TaskRef) -> Option<&Head> {
        task.0.more()?.downcast_ref()
    }

    #[inline]
    pub(super) fn is_finished(&self) -> bool {
        self.finished.get()
    }

    pub(super) fn take_failure(&self) -> Option<JoinError> {
        self.failure.take()
    }

    pub(super) fn is_successful(&self) -> bool {
        self.is_finished() && !self.panicked.get()
    }

    /// Notes that the coroutine ends by a panic, and says so unless it is a kill.
    #[cold]
    pub(super) fn fail(&self, payload: Payload) {
        let error = if payload.is::<GreenletExit>() {
            JoinError::Killed
        } else {
            self.report(&payload);
            self.panicked.set(true);
            JoinError::Panicked(payload)
        };
        self.failure.set(Some(error));
    }

    /// Ends a coroutine that has not begun: as it was said by [`Head::fail`], or else as killed.
    #[cold]
    fn end_unbegun(&self, task: impl FnOnce() -> TaskRef) {
        hub::forget_start(&self.task);
        let failure = self.failure.take().unwrap_or(JoinError::Killed);
        self.failure.set(Some(failure));
        self.finish(task);
    }

    pub(super) fn report(&self, payload: &Payload) {
        // One line, of a message that may have several: the panic hook has printed all of it.
        let message = describe(payload).lines().next().unwrap_or_default();
        let title = self.task.title();
        let site = self.task.site.map_or(String::new(), |site| format!(" (spawned at {site})"));
        stderr::write(&[&format!("switchgrass: coroutine {title} panicked: {message}{site}\n")]);
    }

    /// Tells everybody who is linked, in the order of their links: at once, but from the first callback of
    /// the user's on in the hub.
    #[inline]
    pub(super) fn finish(&self, task: impl FnOnce() -> TaskRef) {
        self.finished.set(true);
        if let Some(waiter) = self.waiter.take() {
            hub::unpark(&waiter);
        }
        if self.has_links.get() {
            self.finish_links(task());
        }
    }

    #[cold]
    #[inline(never)]
    fn finish_links(&self, task: TaskRef) {
        while let Some(link) = self.pop_link() {
            match link {
                (_, Link::Unpark(greenlet)) => hub::unpark(&greenlet),
                (_, Link::Tell(tell)) => run_reporting(format_args!("the end of {self}"), tell),
                other => {
                    if let Some(next) = self.put_first(Some(other)) {
                        self.others.borrow_mut().get_or_insert_default().waiting.push_front(next);
                    }
                    return notify_in_hub(task);
                }
            }
        }
    }

    /// Drops a failure that was not taken, links that never run, and pending interrupts.
    #[inline]
    fn drop_leftovers(&self) {
        // Without `panicked`, a failure is a kill, which has no destructor.
        if self.panicked.get() || self.has_links.get() || self.others.borrow().is_some() {
            self.drop_failure_and_links();
        }
        self.task.drop_interrupts();
    }

    #[cold]
    fn drop_failure_and_links(&self) {
        drop_in_passing(
            format_args!("the destructor of what {self} panicked with"),
            self.failure.take(),
        );
        while let Some((_, link)) = self.pop_link() {
            drop_in_passing(format_args!("the destructor of a link of {self}"), link);
        }
        for (_, callback) in self.others.take().into_iter().flat_map(|others| others.starting) {
            drop_in_passing(format_args!("the destructor of a link of {self}"), callback);
        }
    }

    /// Replaces the first of the others.
    fn put_first(&self, link: Option<(u64, Link)>) -> Option<(u64, Link)> {
        self.has_links.set(link.is_some());
        self.first.replace(link)
    }

    fn pop_link(&self) -> Option<(u64, Link)> {
        if let Some(waiter) = self.waiter.take() {
            return Some((self.waiter_id.get(), Link::Unpark(waiter)));
        }
        let first = self.put_first(None)?;
        self.put_first(self.pop_waiting());
        Some(first)
    }

    fn pop_waiting(&self) -> Option<(u64, Link)> {
        self.others.borrow_mut().as_mut()?.waiting.pop_front()
    }

    /// Adds a link.
    pub(super) fn link(&self, link: Link) -> u64 {
        let id = hub::next_id();
        match self.put_first(None) {
            None => drop(self.put_first(Some((id, link)))),
            first => {
                self.put_first(first);
                self.others.borrow_mut().get_or_insert_default().waiting.push_back((id, link));
            }
        }
        id
    }

    /// Takes a link off. Whether it was there.
    #[inline]
    pub(super) fn unlink(&self, id: u64) -> bool {
        if self.waiter_id.get() == id {
            return self.waiter.take().is_some();
        }
        // What it captures is the user's, and is dropped here, where nothing is borrowed.
        (self.has_links.get() && self.take_link(id).is_some()) || self.take_starting(id).is_some()
    }

    /// Takes out a link whose coroutine has not begun.
    fn take_starting(&self, id: u64) -> Option<Callback> {
        let mut others = self.others.borrow_mut();
        let starting = &mut others.as_mut()?.starting;
        let at = starting.iter().position(|(other, _)| *other == id)?;
        Some(starting.remove(at).1)
    }

    #[cold]
    #[inline(never)]
    pub(super) fn take_link(&self, id: u64) -> Option<Link> {
        match self.put_first(None) {
            None => None,
            Some((first, link)) if first == id => {
                self.put_first(self.pop_waiting());
                Some(link)
            }
            first => {
                self.put_first(first);
                let mut others = self.others.borrow_mut();
                let waiting = &mut others.as_mut()?.waiting;
                let at = waiting.iter().position(|(other, _)| *other == id)?;
                waiting.remove(at).map(|(_, link)| link)
            }
        }
    }

    /// Takes out the first link, if it was added before the number `end` was given out.
    fn pop_link_before(&self, end: u64) -> Option<(u64, Link)> {
        match self.put_first(None) {
            Some(first) if first.0 >= end => {
                self.put_first(Some(first));
                None
            }
            first => {
                self.put_first(first);
                self.pop_link()
            }
        }
    }

    /// Has somebody woken at the end, until this is dropped.
    #[inline]
    pub(super) fn wake_for_now(&self, greenlet: AnyWeakGreenlet) -> Linked<'_> {
        let waiter = self.waiter.take();
        if waiter.is_some() || self.has_links.get() {
            self.waiter.set(waiter);
            return self.link_for_now(Link::Unpark(greenlet));
        }
        let id = hub::next_id();
        self.waiter_id.set(id);
        self.waiter.set(Some(greenlet));
        Linked { head: self, id }
    }

    #[cold]
    #[inline(never)]
    fn link_for_now(&self, link: Link) -> Linked<'_> {
        Linked { head: self, id: self.link(link) }
    }
}

/// Goes on with the links of one that has ended. A callback may take off those that come after it, and may
/// panic without harm to them. Links that it adds are not run here but by a hub call of their own: so a link
/// that adds another each time does not keep the thread.
#[cold]
pub(super) fn notify_in_hub(task: TaskRef) {
    hub::call(move || {
        let head = Head::of(&task).expect("a coroutine's task has one");
        let end = hub::next_id();
        while let Some((id, link)) = head.pop_link_before(end) {
            run_reporting(format_args!("a link of {head}"), || match link {
                Link::Unpark(greenlet) => hub::unpark(&greenlet),
                Link::Tell(tell) => tell(),
                Link::Wake(waker) => waker.wake(),
                Link::InHub(callback) => callback(),
                Link::Spawn(callback, site, spawn) => {
                    spawn(site, head.until_begun(&task, id, callback));
                }
            });
        }
    });
}

/// The coroutine of a link. Dropped before it has begun, it takes the link off.
struct Starting(TaskRef, u64);

impl Starting {
    fn take(&self) -> Option<Callback> {
        Head::of(&self.0)?.take_starting(self.1)
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        drop(self.take());
    }
}

impl Head {
    /// Wraps the callback of a link for its coroutine, so that the link can be removed until that begins.
    fn until_begun(&self, task: &TaskRef, id: u64, callback: Callback) -> Callback {
        self.others.borrow_mut().get_or_insert_default().starting.push((id, callback));
        let starting = Starting(task.clone(), id);
        Box::new(move || {
            let callback = starting.take();
            drop(starting);
            if let Some(callback) = callback {
                callback();
            }
        })
    }
}

impl Drop for Linked<'_> {
    #[inline]
    fn drop(&mut self) {
        self.head.unlink(self.id);
    }
}
