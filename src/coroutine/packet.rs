#![forbid(unsafe_code)]
//! What a coroutine shares with its handles: its task, outcome and links.

use super::error::JoinError;
use crate::greenlet::dropping::{drop_payload, drop_reporting, report, run_reporting};
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

/// The state that a coroutine shares with its handles.
pub(super) struct Packet<T> {
    pub(super) head: Head,
    pub(super) value: Cell<Option<T>>,
    /// Whether a join handle exists that could still take the value.
    pub(super) is_wanted: Cell<bool>,
}

/// The part of the packet that does not depend on the result type.
pub(super) struct Head {
    pub(super) task: Task,
    finished: Cell<bool>,
    /// Whether the coroutine ended by a panic. Stays set when the failure is taken.
    panicked: Cell<bool>,
    failure: Cell<Option<JoinError>>,
    /// The first link, if it is a waiting greenlet. It has fields of its own, two words, since most
    /// coroutines have this link and no other, and a larger value is slow to move.
    waiter: Cell<Option<AnyWeakGreenlet>>,
    waiter_id: Cell<u64>,
    /// The first link of any other kind, which needs no allocation.
    first: Cell<Option<(u64, Link)>>,
    /// Whether `first` is present.
    has_links: Cell<bool>,
    /// All further links, boxed since few coroutines have any.
    others: RefCell<Option<Box<Others>>>,
}

#[derive(Default)]
struct Others {
    /// Links that come after `first`, in order.
    waiting: VecDeque<(u64, Link)>,
    /// Callbacks whose coroutine is spawned but has not started: they can still be removed.
    starting: Vec<(u64, Callback)>,
}

/// A user callback.
pub(super) type Callback = Box<dyn FnOnce()>;

/// Spawns a coroutine that calls the callback.
pub(super) type Spawner = fn(&'static Location<'static>, Callback);

/// An action at the end of a coroutine.
pub(super) enum Link {
    /// Unparks a greenlet.
    Unpark(AnyWeakGreenlet),
    /// Wakes a task of `async` code. May run user code.
    Wake(Waker),
    /// Calls a function of this library, which does not wait. It may drop user values, and so panic.
    Notify(Callback),
    /// Calls a user callback in the hub.
    InHub(Callback),
    /// Calls a user callback in a coroutine that the function spawns, with the location as the place of the
    /// spawn.
    Spawn(Callback, &'static Location<'static>, Spawner),
}

/// Removes a link when dropped.
pub(super) struct LinkGuard<'a> {
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

    /// Takes the outcome, which is available once.
    pub(super) fn take(&self) -> Result<T, JoinError> {
        if let Some(value) = self.value.take() {
            return Ok(value);
        }
        Err(self.head.take_failure().unwrap_or(JoinError::Taken))
    }
}

impl<T: 'static> Packet<T> {
    /// Runs the body, then ends the coroutine:
    ///
    /// 1. drops its locals, and its result if the join handle is gone;
    /// 2. wakes the joiners and calls the links;
    /// 3. drops the failure and pending interrupts if no handle is left.
    ///
    /// The greenlet keeps its owner until all steps are complete, so user destructors may wait and use
    /// timeouts, and a kill can reach them in step 1.
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
        /// `self`, and the owner reference of the greenlet.
        const OWN: usize = 2;
        if Rc::strong_count(&self) == OWN {
            self.head.drop_leftovers();
            drop_current_locals();
        }
        let owner = self.head.task.greenlet.get().and_then(|greenlet| greenlet.set_owner(None));
        drop((self, owner));
    }

    /// Drops a result that no handle can take, and the locals that this creates.
    #[cold]
    fn drop_result(&self) {
        if let Some(value) = self.value.take() {
            drop_reporting(format_args!("the destructor of the result of {}", self.head), value);
            drop_current_locals();
        }
    }
}

/// A body that has not started.
///
/// Dropping it ends its coroutine, after the body's destructor.
pub(super) struct Unstarted<T: 'static, F> {
    /// Declared first, so dropped first.
    body: F,
    end: EndUnstarted<T>,
}

/// Ends the coroutine when dropped, unless `run` has taken the packet.
struct EndUnstarted<T: 'static>(Option<Rc<Packet<T>>>);

impl<T: 'static, F: FnOnce() -> T> Unstarted<T, F> {
    #[inline]
    pub(super) fn new(packet: Rc<Packet<T>>, body: F) -> Self {
        Unstarted { body, end: EndUnstarted(Some(packet)) }
    }

    #[inline]
    pub(super) fn run(mut self) {
        let packet = self.end.0.take().expect("taken here and when dropped");
        packet.run(self.body);
    }
}

impl<T: 'static> Drop for EndUnstarted<T> {
    #[inline]
    fn drop(&mut self) {
        if let Some(packet) = self.0.take() {
            packet.head.end_unstarted(|| TaskRef(Rc::<Packet<T>>::clone(&packet)));
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

/// Drops a value within a coroutine that continues, like [`drop_reporting`].
///
/// A kill or timeout raised in the destructor is deferred: it is raised where the coroutine waits next.
#[cold]
pub(super) fn drop_in_passing<T>(what: impl fmt::Display, value: T) {
    run_in_passing(what, || drop(value));
}

/// Calls `f` within a coroutine that continues, like [`run_reporting`].
///
/// See [`drop_in_passing`].
pub(super) fn run_in_passing(what: impl fmt::Display, f: impl FnOnce()) {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(()) => {}
        Err(payload) if is_interrupt(&payload) && !hub::has_ended() => hub::defer_unwind([payload]),
        Err(payload) => report(what, payload),
    }
}

/// Returns the first of two optional panics that is present.
///
/// If both are present, the other is deferred if it is a kill or a timeout, and dropped if not.
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

/// Whether a payload is a kill or a timeout.
///
/// Code that catches one must not lose it.
pub(super) fn is_interrupt(payload: &Payload) -> bool {
    payload.is::<GreenletExit>() || payload.is::<TimeoutExit>()
}

/// Formats as "coroutine" and its name or number.
impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "coroutine {}", self.task.title())
    }
}

/// Drops what is left without unwinding.
///
/// Any coroutine, or the hub, may drop the last reference, so no user destructor may unwind from here.
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

    /// Records that the coroutine ends by a panic.
    ///
    /// Reports the panic unless it is a kill. A panic after a kill that a patched call has reported as an
    /// error counts as the kill: std panics on errors that it considers impossible.
    #[cold]
    pub(super) fn fail(&self, payload: Payload) {
        let error = if payload.is::<GreenletExit>() || self.task.has_reported_kill() {
            drop_payload(payload);
            JoinError::Killed
        } else {
            self.report(&payload);
            self.panicked.set(true);
            JoinError::Panicked(payload)
        };
        self.failure.set(Some(error));
    }

    /// Ends a coroutine that has not started.
    ///
    /// Its outcome is the failure recorded by [`Head::fail`], if any; otherwise it was killed.
    #[cold]
    fn end_unstarted(&self, task: impl FnOnce() -> TaskRef) {
        hub::forget_start(&self.task);
        let failure = self.failure.take().unwrap_or(JoinError::Killed);
        self.failure.set(Some(failure));
        self.finish(task);
    }

    pub(super) fn report(&self, payload: &Payload) {
        // Only the first line: the panic hook has already printed the whole message.
        let message = describe(payload).lines().next().unwrap_or_default();
        let title = self.task.title();
        let site = self.task.site.map_or(String::new(), |site| format!(" (spawned at {site})"));
        stderr::write(&[&format!("switchgrass: coroutine {title} panicked: {message}{site}\n")]);
    }

    /// Marks the coroutine as finished and processes its links in order.
    ///
    /// Links are processed immediately up to the first user callback or waker; that link and the ones after
    /// it are left to a hub call.
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
                (_, Link::Notify(notify)) => {
                    run_reporting(format_args!("the end of {self}"), notify)
                }
                other => {
                    if let Some(next) = self.put_first(Some(other)) {
                        self.others.borrow_mut().get_or_insert_default().waiting.push_front(next);
                    }
                    return notify_in_hub(task);
                }
            }
        }
    }

    /// Drops an untaken failure, uncalled links, and pending interrupts.
    #[inline]
    fn drop_leftovers(&self) {
        // Unless `panicked` is set, a failure is a kill, which has no destructor.
        if self.panicked.get() || self.has_links.get() || self.others.borrow().is_some() {
            self.drop_failure_and_links();
        }
        self.task.drop_interrupts();
    }

    #[cold]
    fn drop_failure_and_links(&self) {
        drop_in_passing(
            format_args!("the destructor of the panic payload of {self}"),
            self.failure.take(),
        );
        while let Some((_, link)) = self.pop_link() {
            drop_in_passing(format_args!("the destructor of a link of {self}"), link);
        }
        for (_, callback) in self.others.take().into_iter().flat_map(|others| others.starting) {
            drop_in_passing(format_args!("the destructor of a link of {self}"), callback);
        }
    }

    /// Replaces `first`.
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

    /// Adds a link, and returns its number.
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

    /// Removes a link. Returns whether it existed.
    #[inline]
    pub(super) fn unlink(&self, id: u64) -> bool {
        if self.waiter_id.get() == id {
            return self.waiter.take().is_some();
        }
        // The link's captures have user destructors: they run here, where nothing is borrowed.
        (self.has_links.get() && self.take_link(id).is_some()) || self.take_starting(id).is_some()
    }

    /// Removes the callback of a link whose coroutine is spawned but has not started.
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

    /// Removes the first link if its number is less than `end`.
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

    /// Unparks `greenlet` at the coroutine's end, until the returned guard is dropped.
    #[inline]
    pub(super) fn wake_at_end(&self, greenlet: AnyWeakGreenlet) -> LinkGuard<'_> {
        let waiter = self.waiter.take();
        if waiter.is_some() || self.has_links.get() {
            self.waiter.set(waiter);
            return self.link_while_held(Link::Unpark(greenlet));
        }
        let id = hub::next_id();
        self.waiter_id.set(id);
        self.waiter.set(Some(greenlet));
        LinkGuard { head: self, id }
    }

    #[cold]
    #[inline(never)]
    fn link_while_held(&self, link: Link) -> LinkGuard<'_> {
        LinkGuard { head: self, id: self.link(link) }
    }
}

/// Processes the links of a finished coroutine in a hub call.
///
/// A callback may remove links that come after its own, and a panic in it does not affect them. Links that
/// it adds are left to a hub call of their own, so a link that adds another each time does not monopolize
/// the thread.
#[cold]
pub(super) fn notify_in_hub(task: TaskRef) {
    hub::call(move || {
        let head = Head::of(&task).expect("a coroutine's task has one");
        let end = hub::next_id();
        while let Some((id, link)) = head.pop_link_before(end) {
            run_reporting(format_args!("a link of {head}"), || match link {
                Link::Unpark(greenlet) => hub::unpark(&greenlet),
                Link::Notify(notify) => notify(),
                Link::Wake(waker) => waker.wake(),
                Link::InHub(callback) => callback(),
                Link::Spawn(callback, site, spawn) => {
                    spawn(site, head.until_started(&task, id, callback));
                }
            });
        }
    });
}

/// The coroutine of a link, before it starts. Removes the link when dropped.
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
    /// Wraps a link's callback so that it can be removed until it starts.
    fn until_started(&self, task: &TaskRef, id: u64, callback: Callback) -> Callback {
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

impl Drop for LinkGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        self.head.unlink(self.id);
    }
}
