//! Coroutines that may borrow from their spawner's frame.
//!
//! Contains `unsafe`, unlike most modules above the engine: the lifetime of a borrowing body is erased
//! before the body is passed to the hub. The invariant that makes this sound:
//!
//! **Scope invariant.** [`scope`] does not return or unwind before each body spawned in it has been
//! dropped. Its own frame ensures this by waiting; it does not rely on a destructor, which could be skipped
//! by leaking a value. If the wait is impossible, the frame stays suspended indefinitely or the process
//! aborts.

use super::error::JoinError;
use super::join::{Coroutine, JoinHandle};
use super::packet::{Link, drop_in_passing, first_raised, is_interrupt, run_in_passing};
use crate::greenlet::scheduled::{Payload, describe};
use crate::greenlet::{self, GreenletExit, SwitchError};
use crate::hub;
use crate::sys::stderr;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::process;
use std::rc::Rc;

/// Calls `f` with a scope whose coroutines may borrow from the caller.
///
/// Coroutines spawned in the scope may borrow whatever outlives this call.
///
/// When `f` returns, the scope's coroutines are joined. When `f` panics, or a panic is raised in the
/// current coroutine during the join, the scope is cancelled: its coroutines are killed and joined, and
/// coroutines spawned in it later are killed before they start. Each further panic raised during the join
/// kills the remaining coroutines again, up to 100 times in all: two scopes that wait for each other would
/// otherwise kill each other's coroutines endlessly. So no coroutine outlives the scope, even if values are
/// leaked.
///
/// A scope waits until its coroutines have ended, however long that takes. In main, a deadlock of this wait
/// raises a panic as in any other wait: the scope is cancelled, and propagates the panic after its
/// coroutines have ended. Coroutines that catch the kill and deadlock again are killed again. After 100
/// such rounds the process aborts, with a message that lists what each coroutine waits for, since the scope
/// can neither end nor be left while its coroutines borrow.
///
/// # Examples
///
/// ```
/// use switchgrass::coroutine::scope;
///
/// let words = ["one", "two", "three"].map(String::from);
/// let lengths = scope(|scope| {
///     let all: Vec<_> = words.iter().map(|word| scope.spawn(move || word.len())).collect();
///     all.into_iter().map(|handle| handle.join().unwrap()).collect::<Vec<_>>()
/// });
/// assert_eq!(lengths, [3, 3, 5]);
/// ```
///
/// A body may not borrow from inside the scope:
///
/// ```compile_fail,E0373
/// switchgrass::coroutine::scope(|scope| {
///     let inner = String::new();
///     scope.spawn(|| inner.len());
/// });
/// ```
///
/// # Panics
///
/// Propagates a panic of `f`, or one raised in the current coroutine meanwhile, such as a kill or a
/// timeout. Otherwise, resumes the panic of the first coroutine of the scope that panicked and was not
/// joined. Further panics are only reported on standard error.
///
/// Panics before calling `f` where waits are refused: in a callback that runs in the hub, and in a
/// comparison of a priority queue.
///
/// # Switching
///
/// May switch: if some have not ended. Any other coroutine may run meanwhile.
///
/// # Cancellation
///
/// The coroutines of the scope are killed and joined.
#[track_caller]
pub fn scope<'env, R>(f: impl for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> R) -> R {
    hub::refuse_in_callback(PURPOSE);
    let scope = Scope { members: Rc::default(), scope: PhantomData, env: PhantomData };
    let guard = JoinGuard(&scope.members);
    let result = catch_unwind(AssertUnwindSafe(|| f(&scope)));
    let Raised { by_hub, by_body } = guard.wait(result.is_err());
    std::mem::forget(guard);
    let failed = scope.members.failed.take();
    let mut by_hub = by_hub.into_iter();
    let first = match &result {
        Ok(_) => by_hub.next(),
        Err(_) => None,
    };
    // Only one payload can be resumed. The others were meant for this coroutine, so they are deferred.
    hub::defer_unwind(by_hub);
    let first = first_raised(first, by_body);
    let first = match (&result, first) {
        (Ok(_), None) => failed.iter().find_map(Coroutine::take_panic),
        (_, first) => first,
    };
    match (result, first) {
        (Ok(result), None) => result,
        (Ok(result), Some(first)) => {
            drop_in_passing("the destructor of the result of a scope", result);
            resume_unwind(first)
        }
        (Err(payload), other) => {
            drop_in_passing("the destructor of a panic's payload in a scope", other);
            resume_unwind(payload)
        }
    }
}

/// A scope to spawn borrowing coroutines in. See [`scope`].
pub struct Scope<'scope, 'env: 'scope> {
    members: Rc<Members>,
    scope: PhantomData<&'scope mut &'scope ()>,
    env: PhantomData<&'env mut &'env ()>,
}

#[derive(Default)]
struct Members {
    /// Coroutines that have not ended, by number.
    alive: RefCell<BTreeMap<u64, Coroutine>>,
    /// Coroutines spawned from now on never start.
    is_cancelled: Cell<bool>,
    waiter: RefCell<Option<crate::greenlet::AnyWeakGreenlet>>,
    /// Coroutines that have panicked, in the order of their ends. A join takes the panic.
    failed: RefCell<Vec<Coroutine>>,
}

/// The panics raised in the greenlet that waits for a scope.
#[derive(Default)]
struct Raised {
    /// Kills and timeouts. A second kill or deadlock is dropped, since it requests nothing new.
    by_hub: Vec<Payload>,
    /// The first panic of a destructor of a body that has not started.
    by_body: Option<Payload>,
}

impl Raised {
    fn add(&mut self, payload: Payload) {
        let is_there =
            |is_it: fn(&Payload) -> bool| is_it(&payload) && self.by_hub.iter().any(is_it);
        let is_kill = |payload: &Payload| payload.is::<GreenletExit>();
        if !is_there(is_kill) && !is_there(hub::is_deadlock) {
            self.by_hub.push(payload);
        }
    }
}

/// Aborts the process if dropped: the frame that bodies borrow from would be left.
struct JoinGuard<'a>(&'a Members);

impl JoinGuard<'_> {
    /// Waits until all members have ended, and returns the panics raised meanwhile.
    ///
    /// Kills all members if the scope is `cancelled` from the start, and again for each of the first
    /// [`MAX_KILLS`] panics.
    ///
    /// Terminates: each round but the last either suspends this greenlet or is one of at most
    /// [`MAX_KILLS`]. A wait that is refused would be refused again, so it aborts the process.
    fn wait(&self, cancelled: bool) -> Raised {
        let mut raised = Raised::default();
        let (mut deadlocks, mut kills) = (0, 0);
        if cancelled {
            self.kill_all(&mut raised);
        }
        while !self.0.alive.borrow().is_empty() {
            let waiter = self.0.waiter.replace(Some(hub::current_greenlet()));
            drop(waiter);
            abort_if_refused();
            let woken = catch_unwind(AssertUnwindSafe(|| hub::park(PURPOSE, None)));
            let Err(payload) = woken else { continue };
            if hub::has_ended() {
                suspend_indefinitely();
            }
            if hub::is_deadlock(&payload) {
                deadlocks += 1;
                if deadlocks > MAX_KILLS {
                    abort(&format!("a scope can never end: {}", describe(&payload)));
                }
            }
            raised.add(payload);
            if kills < MAX_KILLS {
                kills += 1;
                self.kill_all(&mut raised);
            }
        }
        raised
    }

    /// Kills all members. Later ones never start.
    fn kill_all(&self, raised: &mut Raised) {
        self.0.is_cancelled.set(true);
        let alive: Vec<Coroutine> = self.0.alive.borrow().values().cloned().collect();
        for coroutine in alive {
            match catch_unwind(AssertUnwindSafe(|| coroutine.kill())) {
                Ok(()) => {}
                Err(payload) if is_interrupt(&payload) => raised.add(payload),
                Err(payload) => raised.by_body = first_raised(raised.by_body.take(), Some(payload)),
            }
        }
    }
}

/// The wait of a scope, as named in messages.
const PURPOSE: &str = "the end of a scope";

/// Aborts the process if the current greenlet must not wait here.
fn abort_if_refused() {
    let refused = catch_unwind(|| hub::refuse_in_callback(PURPOSE));
    if let Err(payload) = refused {
        abort(&format!("a scope can never end: {}", describe(&payload)));
    }
}

/// Suspends the current greenlet and never resumes it, or aborts the process.
///
/// Called when the thread has ended its hub while members of a scope were alive. They never run again, but
/// what they borrow must stay valid, so the frame of the scope stays.
fn suspend_indefinitely() -> ! {
    loop {
        let left = catch_unwind(|| {
            let parent = greenlet::current().parent();
            parent
                .map(|parent| parent.try_switch_any::<(), ()>(()).map_err(SwitchError::into_value))
        });
        if matches!(left, Ok(None | Some(Err(Some(()))))) {
            abort("a scope can never end: its thread has ended, and its coroutines refuse to");
        }
    }
}

/// Maximum number of kills of a scope's members.
///
/// The kills are due to panics raised in the scope's waiter. It is also the number of deadlocks after which
/// the next one aborts the process.
///
/// More than one: a member may have caught a kill in an inner layer of its code. Bounded: a member's own
/// scope may pass each kill on, and so may what it waits for, back to this scope.
const MAX_KILLS: usize = 100;

impl Drop for JoinGuard<'_> {
    fn drop(&mut self) {
        abort("a scope was left with coroutines that borrow from it");
    }
}

fn abort(message: &str) -> ! {
    stderr::write(&["switchgrass: ", message, "\n"]);
    process::abort();
}

impl<'scope> Scope<'scope, '_> {
    /// Spawns a coroutine that may borrow whatever outlives the scope.
    ///
    /// See [`spawn`](crate::spawn).
    ///
    /// In a cancelled scope, the coroutine is killed at once: its body is dropped here and never starts.
    ///
    /// # Panics
    ///
    /// Panics if there is no stack for the coroutine.
    ///
    /// # Switching
    ///
    /// Never switches.
    #[track_caller]
    pub fn spawn<T: 'scope>(
        &'scope self,
        body: impl FnOnce() -> T + 'scope,
    ) -> ScopedJoinHandle<'scope, T> {
        let value = Rc::new(ResultSlot(Cell::new(None)));
        let slot = Rc::clone(&value);
        let body: Box<dyn FnOnce() + 'scope> = Box::new(move || slot.0.set(Some(body())));
        // SAFETY: the transmute changes only the lifetime, so the layouts agree. The body is not used after
        // 'scope ends: by the scope invariant (module head), it has been called or dropped by then. The
        // member registered below makes `scope` wait for it; if spawning panics, the body is dropped first.
        let body: Box<dyn FnOnce() + 'static> = unsafe { std::mem::transmute(body) };
        let handle = super::spawn::spawn_at(Location::caller(), body);
        let members = Rc::clone(&self.members);
        let id = handle.id();
        self.members.alive.borrow_mut().insert(id, handle.coroutine());
        handle.add(Link::Notify(Box::new(move || {
            let ended = members.alive.borrow_mut().remove(&id);
            let failed = ended.filter(|ended| !ended.is_successful());
            members.failed.borrow_mut().extend(failed);
            if let Some(waiter) = &*members.waiter.borrow() {
                hub::unpark(waiter);
            }
        })));
        if self.members.is_cancelled.get() {
            run_in_passing("the destructor of a body that has not started", || handle.kill());
        }
        ScopedJoinHandle { handle, value, scope: PhantomData }
    }
}

impl fmt::Debug for Scope<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").field("alive", &self.members.alive.borrow().len()).finish()
    }
}

/// Holds a result until it is joined.
///
/// Dropped by the coroutine if the handle is gone, otherwise with the handle.
struct ResultSlot<T>(Cell<Option<T>>);

impl<T> Drop for ResultSlot<T> {
    fn drop(&mut self) {
        if let Some(value) = self.0.take() {
            drop_in_passing("the destructor of the result of a coroutine of a scope", value);
        }
    }
}

/// An owned permission to join a coroutine of a [`scope`].
pub struct ScopedJoinHandle<'scope, T> {
    handle: JoinHandle<()>,
    value: Rc<ResultSlot<T>>,
    scope: PhantomData<&'scope mut &'scope ()>,
}

impl<T> ScopedJoinHandle<'_, T> {
    /// Joins the coroutine, like [`JoinHandle::join`].
    ///
    /// # Errors
    ///
    /// Returns a [`JoinError`] if the coroutine was killed or panicked.
    ///
    /// # Panics
    ///
    /// Panics like [`JoinHandle::join`].
    ///
    /// # Switching
    ///
    /// May switch: if the coroutine has not ended. Any other coroutine may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The coroutine continues until the scope ends.
    #[track_caller]
    pub fn join(self) -> Result<T, JoinError> {
        self.handle.join()?;
        self.value.0.take().ok_or(JoinError::Taken)
    }

    /// Returns a handle to the coroutine.
    pub fn coroutine(&self) -> Coroutine {
        self.handle.coroutine()
    }
}

impl<T> fmt::Debug for ScopedJoinHandle<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ScopedJoinHandle").field(&self.handle).finish()
    }
}
