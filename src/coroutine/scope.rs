//! Coroutines that may borrow from the one that makes them.
//!
//! One of the few places with `unsafe` above the engine: a body that borrows is given to the hub as one that
//! does not. It is sound since [`scope`] does not return before every body has ended and is gone: not by a
//! destructor that somebody could forget, but by its own frame, which nobody else can reach.

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

/// Calls `f` with a scope: coroutines that are spawned in it may borrow what lives longer than this call.
///
/// When `f` returns, its coroutines are joined. When `f` panics, or a panic is raised in the current
/// coroutine during the join, the scope is cancelled: its coroutines are killed and joined, and a coroutine
/// spawned in it later is killed before it begins. Each further panic raised during the join kills the
/// remaining coroutines again, up to 100 times in all: two scopes that wait for each other would otherwise
/// kill each other's coroutines endlessly. So no coroutine outlives the scope, and this is sound whatever is
/// forgotten.
///
/// A scope waits as long as its coroutines take. A deadlock is raised in main as in any other wait, and
/// cancels a scope of main, which raises it after its coroutines have ended. Coroutines that catch the kill
/// and deadlock again are killed again. After 100 such rounds the scope can neither end nor be left, since
/// its coroutines borrow: the process aborts, with a message that lists what each coroutine waits for.
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
/// A body may not borrow what ends before the scope:
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
/// With what `f` panics, or what is raised in the current coroutine meanwhile. Otherwise, with the panic of
/// the first coroutine of the scope that has panicked and was not joined. Further panics are only reported on
/// standard error.
///
/// Before `f` is called, where waits are refused: in a callback that runs in the hub, and in a comparison of
/// a priority queue.
///
/// # Switching
///
/// Switches, unless all have ended already. All others may run meanwhile.
///
/// # Cancellation
///
/// The coroutines of the scope are killed, and their ends waited for.
#[track_caller]
pub fn scope<'env, R>(f: impl for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> R) -> R {
    hub::refuse_in_callback(PURPOSE);
    let scope = Scope { members: Rc::default(), scope: PhantomData, env: PhantomData };
    let everybody = Everybody(&scope.members);
    let result = catch_unwind(AssertUnwindSafe(|| f(&scope)));
    let Raised { by_hub, by_body } = everybody.wait(result.is_err());
    std::mem::forget(everybody);
    let failed = scope.members.failed.take();
    let mut by_hub = by_hub.into_iter();
    let first = match &result {
        Ok(_) => by_hub.next(),
        Err(_) => None,
    };
    // One thing at a time: what else was raised is not this scope's to lose.
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
            drop_in_passing("the destructor of what a scope's body panicked with", other);
            resume_unwind(payload)
        }
    }
}

/// Where coroutines are spawned that may borrow. See [`scope`].
pub struct Scope<'scope, 'env: 'scope> {
    members: Rc<Members>,
    scope: PhantomData<&'scope mut &'scope ()>,
    env: PhantomData<&'env mut &'env ()>,
}

#[derive(Default)]
struct Members {
    /// Those that have not ended, by number.
    alive: RefCell<BTreeMap<u64, Coroutine>>,
    /// Coroutines spawned from now on never begin.
    is_cancelled: Cell<bool>,
    waiter: RefCell<Option<crate::greenlet::AnyWeakGreenlet>>,
    /// Those that have panicked, in the order of their ends. Who is joined has its panic taken.
    failed: RefCell<Vec<Coroutine>>,
}

/// What was raised in the one that waits for a scope.
#[derive(Default)]
struct Raised {
    /// Kills, time limits. A second kill or deadlock is not kept: it asks for nothing new.
    by_hub: Vec<Payload>,
    /// A panic of the destructor of a body that has not begun: the first.
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

/// Ends the process if it is dropped: then a scope would be left that bodies borrow from.
struct Everybody<'a>(&'a Members);

impl Everybody<'_> {
    /// Waits until all members have ended. Kills them if the scope is `cancelled` from the start, and for
    /// each of the first panics that are raised meanwhile. Returns those panics.
    ///
    /// Each round but the last either suspends this greenlet or is one of [`PATIENCE`]: a wait that is
    /// refused would be refused again, so it ends the process.
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
                leave_for_good();
            }
            if hub::is_deadlock(&payload) {
                deadlocks += 1;
                if deadlocks > PATIENCE {
                    abort(&format!("a scope can never end: {}", describe(&payload)));
                }
            }
            raised.add(payload);
            if kills < PATIENCE {
                kills += 1;
                self.kill_all(&mut raised);
            }
        }
        raised
    }

    /// Kills all members. Later ones never begin.
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

/// What a scope waits for, in words.
const PURPOSE: &str = "the end of a scope";

/// Ends the process if the current greenlet must not wait here.
fn abort_if_refused() {
    let refused = catch_unwind(|| hub::refuse_in_callback(PURPOSE));
    if let Err(payload) = refused {
        abort(&format!("a scope can never end: {}", describe(&payload)));
    }
}

/// Suspends the current greenlet for good. The thread has ended its hub while members of a scope were still
/// alive. They never run again, but what they borrow must stay: so the frame of the scope does.
fn leave_for_good() -> ! {
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

/// How often the members of a scope are killed because of what is raised in the one that waits for them. More
/// than once: a member may have caught a kill in an inner layer of its code. Bounded: a member's own scope
/// may hand each kill on, and so may what it waits for, back to this one.
const PATIENCE: usize = 100;

impl Drop for Everybody<'_> {
    fn drop(&mut self) {
        abort("a scope was left with coroutines that borrow from it");
    }
}

fn abort(message: &str) -> ! {
    stderr::write(&["switchgrass: ", message, "\n"]);
    process::abort();
}

impl<'scope> Scope<'scope, '_> {
    /// Makes a coroutine that may borrow what lives longer than the scope. See [`spawn`](crate::spawn).
    ///
    /// In a cancelled scope the coroutine is killed at once: its body is dropped here and never begins.
    ///
    /// # Panics
    ///
    /// When there is no stack for it.
    ///
    /// # Switching
    ///
    /// Never switches.
    #[track_caller]
    pub fn spawn<T: 'scope>(
        &'scope self,
        body: impl FnOnce() -> T + 'scope,
    ) -> ScopedJoinHandle<'scope, T> {
        let value = Rc::new(Place(Cell::new(None)));
        let place = Rc::clone(&value);
        let body: Box<dyn FnOnce() + 'scope> = Box::new(move || place.0.set(Some(body())));
        // SAFETY: `scope` returns, and 'scope ends, only when the coroutine has ended; by then the body is
        // gone, called or dropped. A coroutine that never ends on a thread that does leaves the frame of
        // `scope` suspended for ever, or ends the process.
        let body: Box<dyn FnOnce() + 'static> = unsafe { std::mem::transmute(body) };
        let handle = super::spawn::spawn_at(Location::caller(), body);
        let members = Rc::clone(&self.members);
        let id = handle.id();
        self.members.alive.borrow_mut().insert(id, handle.coroutine());
        handle.add(Link::Tell(Box::new(move || {
            let ended = members.alive.borrow_mut().remove(&id);
            let failed = ended.filter(|ended| !ended.is_successful());
            members.failed.borrow_mut().extend(failed);
            if let Some(waiter) = &*members.waiter.borrow() {
                hub::unpark(waiter);
            }
        })));
        if self.members.is_cancelled.get() {
            run_in_passing("the destructor of a body that has not begun", || handle.kill());
        }
        ScopedJoinHandle { handle, value, scope: PhantomData }
    }
}

impl fmt::Debug for Scope<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").field("alive", &self.members.alive.borrow().len()).finish()
    }
}

/// Holds a result until it is joined. Dropped by the coroutine if the handle is gone, else with the handle.
struct Place<T>(Cell<Option<T>>);

impl<T> Drop for Place<T> {
    fn drop(&mut self) {
        if let Some(value) = self.0.take() {
            drop_in_passing("the destructor of the result of a coroutine of a scope", value);
        }
    }
}

/// The handle of a coroutine of a [`scope`].
pub struct ScopedJoinHandle<'scope, T> {
    handle: JoinHandle<()>,
    value: Rc<Place<T>>,
    scope: PhantomData<&'scope mut &'scope ()>,
}

impl<T> ScopedJoinHandle<'_, T> {
    /// As [`JoinHandle::join`].
    ///
    /// # Errors
    ///
    /// The cases of [`JoinError`].
    ///
    /// # Panics
    ///
    /// As [`JoinHandle::join`].
    ///
    /// # Switching
    ///
    /// As [`JoinHandle::join`].
    ///
    /// # Cancellation
    ///
    /// The coroutine goes on, until the scope ends.
    #[track_caller]
    pub fn join(self) -> Result<T, JoinError> {
        self.handle.join()?;
        self.value.0.take().ok_or(JoinError::Taken)
    }

    /// The coroutine.
    pub fn coroutine(&self) -> Coroutine {
        self.handle.coroutine()
    }
}

impl<T> fmt::Debug for ScopedJoinHandle<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ScopedJoinHandle").field(&self.handle).finish()
    }
}
