#![forbid(unsafe_code)]
//! Handles of coroutines: joining, killing, links.

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

/// A handle to identify, observe and kill a coroutine.
///
/// Clones refer to the same coroutine.
///
/// Dropping the handle has no effect on the coroutine.
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

/// Identifies a link, for [`Coroutine::unlink`]. See [`Coroutine::link`].
///
/// An identifier is unique within its thread and not [`Send`], since each thread numbers its links
/// independently:
///
/// ```compile_fail,E0277
/// let link = switchgrass::spawn(|| ()).link(|| ());
/// std::thread::spawn(move || println!("{link:?}"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkId {
    pub(super) id: u64,
    /// Identifiers are per thread.
    not_send: PhantomData<*const ()>,
}

impl LinkId {
    /// The identifier for main, which has no links.
    const NONE: LinkId = LinkId::new(0);

    const fn new(id: u64) -> Self {
        LinkId { id, not_send: PhantomData }
    }
}

impl Coroutine {
    /// Returns the coroutine's number. Main's is 0.
    ///
    /// Numbers are not reused within a thread.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// Returns the coroutine's name, if it has one.
    pub fn name(&self) -> Option<Cow<'static, str>> {
        self.0.name.clone()
    }

    /// Returns the source location of the spawn; `None` for main.
    pub fn spawned_at(&self) -> Option<&'static Location<'static>> {
        self.0.site
    }

    /// Describes what the coroutine waits for: the operation that suspended it.
    ///
    /// Describes a coroutine that is ready as waiting for its turn. Returns `None` if it is running or has
    /// ended.
    pub fn waits_for(&self) -> Option<&'static str> {
        if self.is_finished() || hub::current_task().id == self.0.id {
            return None;
        }
        self.0.waits_for()
    }

    /// Returns the greenlet that runs the body; `None` once the coroutine has ended.
    pub fn greenlet(&self) -> Option<AnyWeakGreenlet> {
        if self.is_finished() { None } else { self.0.greenlet.get().cloned() }
    }

    /// Whether the coroutine has ended, in any way.
    pub fn is_finished(&self) -> bool {
        Head::of(&self.0).is_some_and(Head::is_finished)
    }

    /// Requests that a [`GreenletExit`] be raised in the coroutine.
    ///
    /// It is delivered where the coroutine waits, when its turn comes: after the coroutines that are ready
    /// now, or after its own pending turn if it is ready itself. A coroutine that has not started never
    /// starts, and one that has ended is unaffected. Each call raises one more exit. In the current
    /// coroutine, the exit is raised immediately.
    ///
    /// The exit is an ordinary unwind: the coroutine may catch it and continue. To wait for its end, see
    /// [`Coroutine::kill_wait`]. An exit raised in main and not caught ends the process with status 101, as
    /// a panic does, and is reported on standard error.
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
    /// Panics with the `GreenletExit` if it is the current coroutine. Propagates a panic of the destructor
    /// of a body that has not started.
    ///
    /// # Switching
    ///
    /// Never switches, unless a destructor does: the body of a coroutine that has not started is dropped
    /// here.
    pub fn kill(&self) {
        self.kill_with(Box::new(GreenletExit));
    }

    /// Like [`Coroutine::kill`], but raises `payload` instead of a [`GreenletExit`].
    ///
    /// Unless the coroutine catches the payload, its result is [`JoinError::Panicked`].
    ///
    /// # Panics
    ///
    /// Panics with the payload if it is the current coroutine. Propagates a panic of the destructor of a
    /// body that has not started.
    ///
    /// # Switching
    ///
    /// Never switches, unless a destructor does: the body of a coroutine that has not started is dropped
    /// here.
    pub fn kill_with(&self, payload: Payload) {
        let task = &self.0;
        // A coroutine whose unstarted body is being dropped has ended already, and keeps its first outcome.
        let Some(greenlet) = self.greenlet().filter(|greenlet| !greenlet.is_dead()) else { return };
        if hub::current_task().id == task.id {
            hub::report_kill(task, &payload);
            hub::unwind_current(payload);
        }
        // In a forked child, the hub ignores interrupts for coroutines of the parent.
        if greenlet.is_started() || greenlet.mark() & LEFT_BEHIND != 0 {
            return hub::interrupt(task.clone(), payload);
        }
        let Some(head) = Head::of(task) else { return };
        head.fail(payload);
        // Dropping the body ends the coroutine.
        greenlet.discard();
    }

    /// Kills the coroutine and waits for its end.
    ///
    /// The wait lasts at most `timeout` (`None`: no timeout).
    ///
    /// Returns whether the coroutine has ended. The body of a coroutine that has not started is dropped
    /// first, which the timeout does not interrupt.
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
    /// Panics with the `GreenletExit` if it is the current coroutine. Unwinds with any kill or timeout
    /// delivered to the current coroutine during the wait. In main, panics on deadlock: when nothing is
    /// left that can wake it.
    ///
    /// # Switching
    ///
    /// May switch: if the coroutine has not ended. Any other coroutine may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The kill remains pending.
    #[track_caller]
    pub fn kill_wait(&self, timeout: Option<Duration>) -> bool {
        let deadline = timeout.and_then(Deadline::after);
        self.kill();
        self.wait("Coroutine::kill_wait", deadline)
    }

    /// Calls `notify` at the coroutine's end, or immediately if it has ended.
    ///
    /// `notify` must not wait.
    pub(crate) fn on_end(&self, notify: impl FnOnce() + 'static) {
        if self.is_finished() {
            notify();
        } else {
            self.link_end(notify);
        }
    }

    /// Like [`Coroutine::on_end`], but the link can be removed.
    ///
    /// The coroutine must not have ended.
    pub(crate) fn link_end(&self, notify: impl FnOnce() + 'static) -> LinkId {
        self.add(Link::Notify(Box::new(notify)))
    }

    /// Reports on standard error that the coroutine ended by this panic.
    ///
    /// Another owner holds the payload.
    pub(crate) fn report(&self, payload: &Payload) {
        if let Some(head) = Head::of(&self.0) {
            head.report(payload);
        }
    }

    pub(super) fn add(&self, link: Link) -> LinkId {
        let Some(head) = Head::of(&self.0) else {
            // Main ends with its thread, so a link of it would never be called.
            return LinkId::NONE;
        };
        let id = head.link(link);
        if head.is_finished() {
            notify_in_hub(self.0.clone());
        }
        LinkId::new(id)
    }

    /// Takes the payload of the coroutine's panic, unless it was taken before.
    pub(super) fn take_panic(&self) -> Option<Payload> {
        match Head::of(&self.0)?.take_failure()? {
            JoinError::Panicked(payload) => Some(payload),
            _ => None,
        }
    }

    /// Waits for the coroutine's end until `deadline`. Returns whether it has ended.
    #[track_caller]
    pub(super) fn wait(&self, purpose: &'static str, deadline: Option<Deadline>) -> bool {
        match Head::of(&self.0) {
            Some(head) => wait_for(head, purpose, deadline),
            None => panic_for_main(),
        }
    }

    /// Panics if `me`, the current greenlet, would wait for its own end or main's.
    ///
    /// See [`hub::refuse_own`].
    ///
    /// # Panics
    ///
    /// If this is main, or the coroutine that `me` runs for.
    #[track_caller]
    pub(super) fn refuse_wait(&self, me: &AnyWeakGreenlet) {
        if Head::of(&self.0).is_none() {
            panic_for_main();
        }
        hub::refuse_own(&self.0, me);
    }
}

#[cold]
#[track_caller]
fn panic_for_main() -> ! {
    panic!("main ends with its thread, so it cannot be waited for")
}

/// Waits until the coroutine of `head` ends or `deadline` passes.
///
/// Returns whether it has ended.
///
/// Panics if the coroutine waits for itself.
#[inline]
#[track_caller]
fn wait_for(head: &Head, purpose: &'static str, deadline: Option<Deadline>) -> bool {
    if head.is_finished() {
        return true;
    }
    let me = hub::current_greenlet();
    hub::refuse_own(&head.task, &me);
    let _linked = head.wake_at_end(me);
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

/// An owned permission to join a coroutine: waits for its end and takes its result.
///
/// Dereferences to [`Coroutine`], which has the other operations on a coroutine.
///
/// Dropping the handle detaches the coroutine, which continues to run. If the handle is dropped first, the
/// coroutine drops its own result just before it ends; otherwise the result is dropped with the handle. A
/// panic of the result's destructor is reported on standard error and not propagated. The handle is not
/// [`Send`]:
///
/// ```compile_fail,E0277
/// let handle = switchgrass::spawn(|| ());
/// std::thread::spawn(move || handle.join());
/// ```
///
/// The handle is also a [`Future`]. Polling it from the coroutine itself panics, as [`JoinHandle::join`]
/// does.
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
    /// The link of the most recently registered waker.
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
    /// Returns a handle to the coroutine that may outlive this one.
    pub fn coroutine(&self) -> Coroutine {
        self.coroutine.clone()
    }

    /// Waits until the coroutine has ended, and takes its result.
    ///
    /// # Errors
    ///
    /// Returns a [`JoinError`] if the coroutine was killed or panicked, or the result was already taken.
    ///
    /// # Panics
    ///
    /// Unwinds with any kill or timeout delivered to the current coroutine during the wait. In main, panics
    /// on deadlock, when nothing is left that can wake it, with a message that lists what each coroutine
    /// waits for. Panics in the coroutine itself, and in a generator that it runs, since the wait would
    /// never end.
    ///
    /// # Switching
    ///
    /// May switch: if the coroutine has not ended. Any other coroutine may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The coroutine continues; its result is lost with this handle, which the call has consumed. To keep
    /// the result, first call [`Coroutine::wait_end`], or call [`JoinHandle::join_timeout`] with
    /// `Duration::MAX`.
    #[track_caller]
    pub fn join(self) -> Result<T, JoinError> {
        wait_for(&self.packet.head, "JoinHandle::join", None);
        self.packet.take()
    }

    /// Like [`JoinHandle::join`], but waits for at most `timeout`.
    ///
    /// Returns `None` if the coroutine has not ended by then. The result can be taken once; later calls
    /// return [`JoinError::Taken`].
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
    /// Panics like [`JoinHandle::join`].
    ///
    /// # Switching
    ///
    /// May switch: if the coroutine has not ended. Any other coroutine may run meanwhile; a timeout of zero
    /// still lets the ready ones run.
    ///
    /// # Cancellation
    ///
    /// The result stays available through this handle.
    #[track_caller]
    pub fn join_timeout(&mut self, timeout: Duration) -> Option<Result<T, JoinError>> {
        let (head, deadline) = (&self.packet.head, Deadline::after(timeout));
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
        // No handle is left that could take the value.
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
