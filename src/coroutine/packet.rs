#![forbid(unsafe_code)]
//! What a coroutine and its handles share: its task, its end, and who is to be told of it.

use super::error::JoinError;
use crate::greenlet::scheduled::{Owner, Payload, describe};
use crate::greenlet::{AnyWeakGreenlet, GreenletExit};
use crate::hub::{self, Task, TaskRef};
use crate::sys::stderr;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
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
    others: RefCell<Others>,
}

/// Few coroutines have them, so they are one word.
type Others = Option<Box<VecDeque<(u64, Link)>>>;

/// What is to be done when a coroutine has ended.
pub(super) enum Link {
    Unpark(AnyWeakGreenlet),
    Wake(Waker),
    /// Ours: does not wait, and does not panic.
    Tell(Box<dyn FnOnce()>),
    /// The user's, to be run in the hub.
    InHub(Box<dyn FnOnce()>),
    /// The user's, to be run in a coroutine.
    Spawn(Box<dyn FnOnce()>, &'static Location<'static>),
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
    /// The body of the coroutine.
    pub(super) fn run(self: Rc<Self>, body: impl FnOnce() -> T) {
        hub::begin();
        match catch_unwind(AssertUnwindSafe(body)) {
            Ok(value) => self.value.set(Some(value)),
            Err(payload) => self.head.fail(payload),
        }
        self.head.finish(|| TaskRef(Rc::<Packet<T>>::clone(&self)));
        if std::mem::needs_drop::<T>() && !self.is_wanted.get() {
            // Its destructor may wait, and have limits: it is the coroutine's to run.
            let value = self.value.take();
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
                complain("the destructor of a coroutine's result", &payload);
                let _ = catch_unwind(AssertUnwindSafe(|| drop(payload)));
            }
        }
        let owner = self.head.task.greenlet.get().and_then(|greenlet| greenlet.set_owner(None));
        drop((self, owner));
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

fn complain(what: &str, payload: &Payload) {
    let message = describe(payload);
    stderr::write(&[&format!("switchgrass: {what} panicked: {message}\n")]);
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
                (_, Link::Tell(tell)) => tell(),
                other => {
                    if let Some(next) = self.put_first(Some(other)) {
                        self.others.borrow_mut().get_or_insert_default().push_front(next);
                    }
                    return notify_in_hub(task);
                }
            }
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
        let next = self.others.borrow_mut().as_mut().and_then(|others| others.pop_front());
        self.put_first(next);
        Some(first)
    }

    /// Adds a link.
    pub(super) fn link(&self, link: Link) -> u64 {
        let id = hub::next_id();
        match self.put_first(None) {
            None => drop(self.put_first(Some((id, link)))),
            first => {
                self.put_first(first);
                self.others.borrow_mut().get_or_insert_default().push_back((id, link));
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
        self.has_links.get() && self.unlink_other(id)
    }

    #[cold]
    #[inline(never)]
    fn unlink_other(&self, id: u64) -> bool {
        match self.put_first(None) {
            None => false,
            Some((first, link)) if first == id => {
                let next = self.others.borrow_mut().as_mut().and_then(|others| others.pop_front());
                self.put_first(next);
                drop(link);
                true
            }
            first => {
                self.put_first(first);
                let mut others = self.others.borrow_mut();
                let link = others.as_mut().and_then(|others| {
                    let at = others.iter().position(|(other, _)| *other == id)?;
                    others.remove(at)
                });
                drop(others);
                link.is_some()
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
/// panic without harm to them.
#[cold]
pub(super) fn notify_in_hub(task: TaskRef) {
    hub::call(move || {
        let head = Head::of(&task).expect("a coroutine's task has one");
        while let Some((_, link)) = head.pop_link() {
            let told = catch_unwind(AssertUnwindSafe(|| match link {
                Link::Unpark(greenlet) => hub::unpark(&greenlet),
                Link::Tell(tell) => tell(),
                Link::Wake(waker) => waker.wake(),
                Link::InHub(callback) => callback(),
                Link::Spawn(callback, site) => drop(super::spawn::spawn_at(site, callback)),
            }));
            if let Err(payload) = told {
                let title = head.task.title();
                complain(&format!("a link of coroutine {title}"), &payload);
                let _ = catch_unwind(AssertUnwindSafe(|| drop(payload)));
            }
        }
    });
}

impl Drop for Linked<'_> {
    #[inline]
    fn drop(&mut self) {
        self.head.unlink(self.id);
    }
}
