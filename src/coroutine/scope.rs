//! Coroutines that may borrow from the one that makes them.
//!
//! One of the few places with `unsafe` above the engine: a body that borrows is given to the hub as one that
//! does not. It is sound since [`scope`] does not return before every body has ended and is gone: not by a
//! destructor that somebody could forget, but by its own frame, which nobody else can reach.

use super::error::JoinError;
use super::join::{Coroutine, JoinHandle};
use super::packet::Link;
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
/// When `f` returns, they are joined. When it panics, or something is raised in the current coroutine while
/// they are joined, they are killed, and joined. So none of them is left on any way out, and this is sound
/// whatever is forgotten.
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
/// the first coroutine of the scope that has panicked and was not joined.
///
/// # Switching
///
/// Switches, unless all have ended already. All others may run meanwhile.
///
/// # Cancellation
///
/// The coroutines of the scope are killed, and their ends waited for.
pub fn scope<'env, R>(f: impl for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> R) -> R {
    let scope = Scope { members: Rc::default(), scope: PhantomData, env: PhantomData };
    let everybody = Everybody(&scope.members);
    let result = catch_unwind(AssertUnwindSafe(|| f(&scope)));
    let Raised { by_hub, by_body } = everybody.wait(result.is_err());
    std::mem::forget(everybody);
    let failed = scope.members.failed.take();
    let failed = failed.iter().find_map(Coroutine::take_panic);
    let mut by_hub = by_hub.into_iter();
    let (result, first) = match result {
        Ok(result) => (Some(result), by_hub.next().or(by_body).or(failed)),
        Err(payload) => (None, Some(payload)),
    };
    // One thing at a time: what else was raised is not this scope's to lose.
    hub::raise_later(by_hub);
    match (result, first) {
        (Some(result), None) => result,
        (_, first) => resume_unwind(first.expect("a scope without a result has panicked")),
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
    waiter: RefCell<Option<crate::greenlet::AnyWeakGreenlet>>,
    /// Those that have panicked, in the order of their ends. Who is joined has its panic taken.
    failed: RefCell<Vec<Coroutine>>,
}

/// What was raised in the one that waits for a scope.
#[derive(Default)]
struct Raised {
    /// Kills, time limits.
    by_hub: Vec<Box<dyn std::any::Any + Send>>,
    /// A panic of the destructor of a body that has not begun: the first.
    by_body: Option<Box<dyn std::any::Any + Send>>,
}

/// Ends the process if it is dropped: then a scope would be left that bodies borrow from.
struct Everybody<'a>(&'a Members);

impl Everybody<'_> {
    /// Waits until all have ended. Once something is raised meanwhile, or if `cancelled` from the start, they
    /// are killed, and so are those that come later; once more with each thing that is raised. Returns
    /// what was.
    fn wait(&self, mut cancelled: bool) -> Raised {
        let mut raised = Raised::default();
        // Those from this number on have not been killed.
        let mut first = 0;
        loop {
            while let Some(coroutine) = self.from(first).filter(|_| cancelled) {
                first = coroutine.id() + 1;
                let killed = catch_unwind(AssertUnwindSafe(|| coroutine.kill()));
                raised.by_body = raised.by_body.or(killed.err());
            }
            if self.0.alive.borrow().is_empty() {
                return raised;
            }
            let waiter = self.0.waiter.replace(Some(hub::current_greenlet()));
            drop(waiter);
            let woken = catch_unwind(AssertUnwindSafe(|| hub::park("the end of a scope", None)));
            if let Err(payload) = woken {
                raised.by_hub.push(payload);
                (cancelled, first) = (true, 0);
            }
        }
    }

    /// The first that has not ended, from a number on.
    fn from(&self, first: u64) -> Option<Coroutine> {
        self.0.alive.borrow().range(first..).next().map(|(_, coroutine)| coroutine.clone())
    }
}

impl Drop for Everybody<'_> {
    fn drop(&mut self) {
        stderr::write(&["switchgrass: a scope was left with coroutines that borrow from it\n"]);
        process::abort();
    }
}

impl<'scope> Scope<'scope, '_> {
    /// Makes a coroutine that may borrow what lives longer than the scope. See [`spawn`](crate::spawn).
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
        let value = Rc::new(Cell::new(None));
        let place = Rc::clone(&value);
        let body: Box<dyn FnOnce() + 'scope> = Box::new(move || place.set(Some(body())));
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
        ScopedJoinHandle { handle, value, scope: PhantomData }
    }
}

impl fmt::Debug for Scope<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").field("alive", &self.members.alive.borrow().len()).finish()
    }
}

/// The handle of a coroutine of a [`scope`].
pub struct ScopedJoinHandle<'scope, T> {
    handle: JoinHandle<()>,
    value: Rc<Cell<Option<T>>>,
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
        self.value.take().ok_or(JoinError::Taken)
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
