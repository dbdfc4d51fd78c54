#![forbid(unsafe_code)]
//! Handles of coroutines: wait for one, end it, be told of its end.

use super::error::JoinError;
use super::packet::{Head, Link, Packet, drop_in_passing, notify_in_hub};
use crate::greenlet::scheduled::Payload;
use crate::greenlet::scheduled::marks::LEFT_BEHIND;
use crate::greenlet::{AnyWeakGreenlet, GreenletExit};
use crate::hub::{self, Deadline, TaskRef, Wake};
use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::mem;
use std::panic::Location;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

/// A coroutine: to ask who it is, to end it, to be told of its end. A further handle of it is a clone.
///
/// Dropping it has no effect on the coroutine.
///
/// # Examples
///
/// ```
/// use switchgrass::coroutine;
///
/// let handle = coroutine::Builder::new().name("worker").spawn(|| coroutine::current().name());
/// assert_eq!(handle.unwrap().join().unwrap().as_deref(), Some("worker"));
/// assert_eq!(coroutine::current().name().as_deref(), Some("main"));
/// ```
#[derive(Clone)]
pub struct Coroutine(pub(super) TaskRef);

/// Names a link, to take it off. See [`Coroutine::link`].
///
/// It is unique on its thread, and stays there, since other threads count their links from 1 as well:
///
/// ```compile_fail,E0277
/// let link = switchgrass::spawn(|| ()).link(|| ());
/// std::thread::spawn(move || println!("{link:?}"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkId {
    pub(super) id: u64,
    /// Numbers are given out per thread.
    of_a_thread: PhantomData<*const ()>,
}

impl LinkId {
    /// Of main, which has no links.
    const NONE: LinkId = LinkId::new(0);

    const fn new(id: u64) -> Self {
        LinkId { id, of_a_thread: PhantomData }
    }
}

impl Coroutine {
    /// Its number, which no other coroutine of the thread has or had. Main's is 0.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// Its name, if it was given one.
    pub fn name(&self) -> Option<Cow<'static, str>> {
        self.0.name.clone()
    }

    /// Where it was spawned. `None` for main.
    pub fn spawned_at(&self) -> Option<&'static Location<'static>> {
        self.0.site
    }

    /// What it waits for, in words: the operation that has suspended it last.
    pub fn waits_for(&self) -> Option<&'static str> {
        if self.is_finished() || hub::current_task().id == self.0.id {
            return None;
        }
        self.0.waits_for()
    }

    /// The greenlet that its body runs in. `None` when it has ended.
    pub fn greenlet(&self) -> Option<AnyWeakGreenlet> {
        if self.is_finished() { None } else { self.0.greenlet.get().cloned() }
    }

    /// Whether it has ended, in whichever way.
    pub fn is_finished(&self) -> bool {
        Head::of(&self.0).is_some_and(Head::is_finished)
    }

    /// Has a [`GreenletExit`] raised in it when the hub comes to that: after those that are ready now, and
    /// after itself if it is one of these. One that has not begun never begins; for one that has ended
    /// nothing happens. Each call raises one more. In the current one it is raised here and now.
    ///
    /// The coroutine may catch it and go on; it is an ordinary unwind. To wait for its end, see
    /// [`Coroutine::kill_wait`]. Raised in main and not caught, it ends the process with status 101, as a
    /// panic does, of which a line on standard error tells.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchgrass::{JoinError, coroutine, spawn, yield_now};
    ///
    /// let endless = spawn(|| loop { yield_now() });
    /// yield_now();
    /// endless.kill();
    /// assert!(matches!(endless.join(), Err(JoinError::Killed)));
    /// ```
    ///
    /// # Panics
    ///
    /// With the `GreenletExit`, if it is the current coroutine.
    ///
    /// # Switching
    ///
    /// Never switches; but the body of one that has not begun is dropped here, with whatever that does.
    pub fn kill(&self) {
        self.kill_with(Box::new(GreenletExit));
    }

    /// As [`Coroutine::kill`], with something else to raise: the coroutine ends by
    /// [`JoinError::Panicked`], unless it catches it.
    ///
    /// # Panics
    ///
    /// With the payload, if it is the current coroutine.
    ///
    /// # Switching
    ///
    /// As [`Coroutine::kill`].
    pub fn kill_with(&self, payload: Payload) {
        let task = &self.0;
        // Not if its body never began and is being dropped: it has ended, and keeps its first outcome.
        let Some(greenlet) = self.greenlet().filter(|greenlet| !greenlet.is_dead()) else { return };
        if hub::current_task().id == task.id {
            hub::report_kill(task, &payload);
            hub::unwind_current(payload);
        }
        // In a child, one of its parent's is left as it is by the hub.
        if greenlet.is_started() || greenlet.mark() & LEFT_BEHIND != 0 {
            return hub::interrupt(task.clone(), payload);
        }
        let Some(head) = Head::of(task) else { return };
        head.fail(payload);
        // When its body is gone, the coroutine has ended.
        greenlet.discard();
    }

    /// [`Coroutine::kill`], and waits for its end, for at most `limit` (`None`: for ever). Whether it has
    /// ended. The body of a coroutine that has not begun is dropped here first, however long that takes.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::panic::{AssertUnwindSafe, catch_unwind};
    /// use std::time::Duration;
    /// use switchgrass::{sleep, spawn, yield_now};
    ///
    /// let stubborn = spawn(|| {
    ///     let _ = catch_unwind(|| sleep(Duration::from_secs(60)));
    ///     sleep(Duration::from_millis(20));
    /// });
    /// yield_now();
    /// assert!(!stubborn.kill_wait(Some(Duration::from_millis(1))));
    /// assert!(stubborn.kill_wait(None));
    /// ```
    ///
    /// # Panics
    ///
    /// With what is raised in the current coroutine meanwhile; with the `GreenletExit`, if that is to be
    /// killed.
    ///
    /// # Switching
    ///
    /// Switches, unless it has ended already. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The kill is under way all the same.
    #[track_caller]
    pub fn kill_wait(&self, limit: Option<Duration>) -> bool {
        let deadline = limit.and_then(Deadline::after);
        self.kill();
        self.wait("Coroutine::kill_wait", deadline)
    }

    /// Has `tell` called at its end, at once if it has ended. It must not wait.
    pub(crate) fn on_end(&self, tell: impl FnOnce() + 'static) {
        if self.is_finished() {
            tell();
        } else {
            self.link_end(tell);
        }
    }

    /// As [`Coroutine::on_end`], for one that has not ended. The link can be taken off.
    pub(crate) fn link_end(&self, tell: impl FnOnce() + 'static) -> LinkId {
        self.add(Link::Tell(Box::new(tell)))
    }

    /// Says on standard error that it has ended by this panic, which somebody else keeps.
    pub(crate) fn report(&self, payload: &Payload) {
        if let Some(head) = Head::of(&self.0) {
            head.report(payload);
        }
    }

    pub(super) fn add(&self, link: Link) -> LinkId {
        let Some(head) = Head::of(&self.0) else {
            // Main ends with its thread: nobody is left who could be told.
            return LinkId::NONE;
        };
        let id = head.link(link);
        if head.is_finished() {
            notify_in_hub(self.0.clone());
        }
        LinkId::new(id)
    }

    /// What it has panicked with, if nobody has taken that.
    pub(super) fn take_panic(&self) -> Option<Payload> {
        match Head::of(&self.0)?.take_failure()? {
            JoinError::Panicked(payload) => Some(payload),
            _ => None,
        }
    }

    /// Waits for its end until `deadline`. Whether it has ended.
    #[track_caller]
    pub(super) fn wait(&self, purpose: &'static str, deadline: Option<Deadline>) -> bool {
        match Head::of(&self.0) {
            Some(head) => wait_for(head, purpose, deadline),
            None => refuse_main(),
        }
    }

    /// Refuses a wait of `me`, the current greenlet, for an end that would never come: see
    /// [`hub::refuse_own`].
    ///
    /// # Panics
    ///
    /// If this is main, or what `me` runs for.
    #[track_caller]
    pub(super) fn refuse_wait(&self, me: &AnyWeakGreenlet) {
        if Head::of(&self.0).is_none() {
            refuse_main();
        }
        hub::refuse_own(&self.0, me);
    }
}

#[cold]
#[track_caller]
fn refuse_main() -> ! {
    panic!("main ends with its thread: nobody can wait for it")
}

/// Waits for an end until `deadline`. Whether it has come. Refused in the coroutine itself.
#[inline]
#[track_caller]
fn wait_for(head: &Head, purpose: &'static str, deadline: Option<Deadline>) -> bool {
    if head.is_finished() {
        return true;
    }
    let me = hub::current_greenlet();
    hub::refuse_own(&head.task, &me);
    let _linked = head.wake_for_now(me);
    loop {
        let wake = hub::park(purpose, deadline);
        if head.is_finished() {
            return true;
        }
        if wake == Wake::TimedOut {
            return false;
        }
    }
}

impl fmt::Debug for Coroutine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Coroutine({})", self.0.title())
    }
}

impl PartialEq for Coroutine {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for Coroutine {}

/// Waits for a coroutine's end, and takes its result. What else can be done with a coroutine is listed at
/// [`Coroutine`], to which this dereferences.
///
/// Dropping it has no effect on the coroutine, which goes on. If the handle is dropped first, the coroutine
/// drops its own result just before it ends; otherwise the result is dropped with the handle. A panic of
/// the result's destructor is reported on standard error and goes no further. The handle stays on its
/// thread:
///
/// ```compile_fail,E0277
/// let handle = switchgrass::spawn(|| ());
/// std::thread::spawn(move || handle.join());
/// ```
///
/// It is a [`Future`] as well, for code that is written so. Polled by the coroutine itself before its end, it
/// panics as [`JoinHandle::join`] does.
///
/// # Examples
///
/// ```
/// use switchgrass::spawn;
///
/// let sum = spawn(|| 1 + 2);
/// assert!(!sum.is_finished(), "nothing runs before the spawner gives up control");
/// assert_eq!(sum.join().unwrap(), 3);
/// ```
pub struct JoinHandle<T> {
    coroutine: Coroutine,
    packet: Rc<Packet<T>>,
    /// The link of the waker that was left last.
    waker: Option<LinkId>,
}

impl<T: 'static> JoinHandle<T> {
    #[inline]
    pub(super) fn new(packet: Rc<Packet<T>>) -> Self {
        let coroutine = Coroutine(TaskRef(Rc::<Packet<T>>::clone(&packet)));
        JoinHandle { coroutine, packet, waker: None }
    }
}

impl<T> JoinHandle<T> {
    /// The coroutine, for as long as one wants.
    pub fn coroutine(&self) -> Coroutine {
        self.coroutine.clone()
    }

    /// Waits until the coroutine has ended, and takes its result.
    ///
    /// # Errors
    ///
    /// The cases of [`JoinError`].
    ///
    /// # Panics
    ///
    /// With what is raised in the current coroutine meanwhile. In main, when nobody is left who could wake
    /// it, with a message that lists who waits for what. In the coroutine itself, also in a generator of
    /// it: it would wait for its own end.
    ///
    /// # Switching
    ///
    /// Switches, unless it has ended already. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The coroutine goes on; its result is lost with this handle, which the call has consumed. To keep the
    /// result, call [`JoinHandle::join_timeout`] with `Duration::MAX`, or [`Coroutine::wait_end`] first.
    #[track_caller]
    pub fn join(self) -> Result<T, JoinError> {
        wait_for(&self.packet.head, "JoinHandle::join", None);
        self.packet.take()
    }

    /// As [`JoinHandle::join`], for at most `limit`. `None` if it has not ended by then; once it has, the
    /// result is there once, and then [`JoinError::Taken`].
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use switchgrass::{sleep, spawn};
    ///
    /// let mut slow = spawn(|| sleep(Duration::from_millis(20)));
    /// assert!(slow.join_timeout(Duration::from_millis(1)).is_none());
    /// slow.join_timeout(Duration::from_secs(60)).expect("in time").unwrap();
    /// ```
    ///
    /// # Panics
    ///
    /// As [`JoinHandle::join`].
    ///
    /// # Switching
    ///
    /// As [`JoinHandle::join`]; a limit of zero lets those run that are ready.
    ///
    /// # Cancellation
    ///
    /// Nothing is lost.
    #[track_caller]
    pub fn join_timeout(&mut self, limit: Duration) -> Option<Result<T, JoinError>> {
        let (head, deadline) = (&self.packet.head, Deadline::after(limit));
        wait_for(head, "JoinHandle::join_timeout", deadline).then(|| self.packet.take())
    }
}

impl<T> std::ops::Deref for JoinHandle<T> {
    type Target = Coroutine;

    fn deref(&self) -> &Coroutine {
        &self.coroutine
    }
}

impl<T> Drop for JoinHandle<T> {
    #[inline]
    fn drop(&mut self) {
        let head = &self.packet.head;
        // Nobody can take the value any more.
        self.packet.is_wanted.set(false);
        if let Some(link) = self.waker.take() {
            drop_in_passing("the destructor of a waker", head.take_link(link.id));
        }
        if mem::needs_drop::<T>()
            && let Some(value) = self.packet.value.take()
        {
            drop_in_passing(format_args!("the destructor of the result of {head}"), value);
        }
    }
}

impl<T> Unpin for JoinHandle<T> {}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(link) = self.waker.take() {
            self.coroutine.unlink(link);
        }
        if self.packet.head.is_finished() {
            return Poll::Ready(self.packet.take());
        }
        self.coroutine.refuse_wait(&hub::current_greenlet());
        self.waker = Some(self.coroutine.add(Link::Wake(context.waker().clone())));
        Poll::Pending
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("JoinHandle").field(&self.coroutine).finish()
    }
}
