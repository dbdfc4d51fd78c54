//! The engine: control blocks, switches, creation and ends. Untyped inside, safe outside.
//!
//! The files from the bottom up. Each uses only files listed above it, except within the two groups in
//! bold, whose files use each other:
//!
//! - `types.rs`, `marks.rs`: types as small numbers; the scheduler's bits in a block;
//! - `dropping.rs`: runs user code where nothing may unwind;
//! - **`block.rs`, `slab.rs`, `thread.rs`**, the blocks of a thread: the control block, with the *reply
//!   key* that decides most switches; where blocks are allocated; the state of a thread: the slab, the
//!   *slow-path flag*, and what is delivered along with a value;
//! - `end_waiters.rs`: the waiters for an end;
//! - `report.rs`, `peek.rs`, `overflow.rs`: messages on standard error; what a signal handler may read; the
//!   message of a stack overflow;
//! - `sanitize.rs`: announces switches to AddressSanitizer;
//! - `handle.rs`, `line.rs`: counted handles; on whose behalf a greenlet runs;
//! - **`switch.rs`, `end.rs`, `run.rs`**, the passage: switch and throw, by the fast path and the slow
//!   path; ends, which are switches as well; what runs before and after a body;
//! - `create.rs`, `scoped.rs`, `scheduled.rs`: creation; greenlets that may borrow; what a scheduler needs.
//!
//! The rest of the crate uses what this file exports, all of it safe to call. Invariants by number: see
//! `block.rs` (1, 7), `handle.rs` (2), `end_waiters.rs` (20) and ARCHITECTURE.md (all).

mod block;
mod create;
pub(crate) mod dropping;
mod end;
mod end_waiters;
mod handle;
mod line;
pub(crate) mod marks;
mod overflow;
mod peek;
mod report;
mod run;
#[cfg(all(feature = "sanitizer", not(feature = "portable")))]
mod sanitize;
mod scheduled;
mod scoped;
mod slab;
mod switch;
mod thread;
mod types;

pub(crate) use self::block::{Core, Hold, Life, Locals, Owner};
pub(crate) use self::create::{DetachedSpec, Spec};
pub(crate) use self::dropping::{Payload, describe};
pub use self::handle::{AnyWeakGreenlet, Greenlet, Untyped, WeakGreenlet};
pub(crate) use self::peek::{Snapshot, peek};
pub(crate) use self::scheduled::{
    Resumed, close_thread, for_each_alive, made_count, main, panics, pin, running, set_scheduler,
    spawn, wind_up,
};
pub(crate) use self::scoped::scoped;
pub(crate) use self::switch::Unwinding;
pub(crate) use self::thread::{Trace, TraceKind, Tracer, has_ended};

use self::thread::Here;
use super::error::{BuildError, ParentError};
use crate::stack::Stack;
use std::borrow::Cow;
use std::rc::Rc;

/// Returns the current greenlet. `None` if the thread has unwound its greenlets.
pub(crate) fn current() -> Option<AnyWeakGreenlet> {
    Here::ready().map(|here| WeakGreenlet::untyped(here.running()))
}

/// Creates a greenlet with the current one as its parent.
#[inline]
pub(crate) fn create<In, Out, F>(body: F) -> Result<Greenlet<In, Out>, BuildError>
where
    In: 'static,
    Out: 'static,
    F: FnOnce(In) -> Out + 'static,
{
    // SAFETY: the body is `'static`, so it borrows nothing; the types of the handle are those of the body.
    unsafe { create::create(body).map(|block| Greenlet::from_counted(block)) }
}

/// Creates a greenlet as specified by `spec`. The default parent is the current greenlet.
pub(crate) fn build<In, Out, F>(spec: Spec, body: F) -> Result<Greenlet<In, Out>, BuildError>
where
    In: 'static,
    Out: 'static,
    F: FnOnce(In) -> Out + 'static,
{
    // SAFETY: the body is `'static`, so it borrows nothing; the types of the handle are those of the body.
    unsafe { create::build(spec, body).map(|block| Greenlet::from_counted(block)) }
}

/// Replaces the tracer, and returns the previous one.
pub(crate) fn set_tracer(tracer: Option<Tracer>) -> Option<Tracer> {
    let here = Here::ready()?;
    let old = here.tracer.replace(tracer);
    here.update_slow_path();
    old
}

/// Returns the tracer.
pub(crate) fn tracer() -> Option<Tracer> {
    Here::ready()?.tracer()
}

/// Returns the number of greenlets of this thread that are neither dead nor main.
pub(crate) fn live_count() -> usize {
    let Some(here) = Here::existing() else { return 0 };
    let scheduler = here.scheduler.take();
    let is_there = scheduler.as_ref().is_some_and(|scheduler| scheduler.is_alive());
    here.scheduler.set(scheduler);
    here.live.get() - usize::from(is_there)
}

/// Returns the memory of this thread's free stacks to the kernel.
///
/// The address space stays reserved. A thread keeps the stacks of dead greenlets for reuse, and for each
/// size the last 4,096 of them with the memory that they have touched. Call this after a peak.
///
/// A thread with coroutines trims its stacks by itself: when it waits, it returns the memory of the stacks
/// that were unused for some seconds, except for 64.
///
/// # Examples
///
/// ```
/// switchgrass::greenlet::trim_stacks();
/// ```
///
/// # Switching
///
/// Never switches.
pub fn trim_stacks() {
    if let Some(here) = Here::existing() {
        here.pool.borrow_mut().trim();
    }
}

/// Returns whether this thread has enough free stacks with memory that some may be unused.
pub(crate) fn may_have_unused_stacks() -> bool {
    Here::existing().is_some_and(|here| here.pool.borrow().may_have_unused())
}

/// Starts a new period for counting the unused free stacks.
pub(crate) fn begin_stack_period() {
    if let Some(here) = Here::existing() {
        here.pool.borrow_mut().begin_period();
    }
}

/// Returns the memory of up to `most` free stacks that were unused in this period to the kernel. Returns
/// whether there were any.
pub(crate) fn trim_unused_stacks(most: usize) -> bool {
    Here::existing().is_some_and(|here| here.pool.borrow_mut().trim_unused(most))
}

/// Ends all greenlets of this thread except the current one and main.
///
/// Suspended greenlets are unwound; the bodies of greenlets that have not started are dropped.
///
/// A thread does this by itself when it ends, but late: when the destructors of `thread_local!` variables
/// run, some of the variables are already destroyed. A greenlet that was suspended *inside*
/// [`LocalKey::with`](std::thread::LocalKey::with) could then use a destroyed variable that it has
/// borrowed. A thread that may end with such greenlets must call this first.
///
/// # Examples
///
/// ```
/// use switchgrass::{Greenlet, current, greenlet};
///
/// let greenlet = Greenlet::new(|()| -> () { current().parent().unwrap().switch_any(()) });
/// greenlet.switch(());
/// greenlet::unwind_all();
/// assert!(greenlet.is_dead());
/// ```
///
/// # Panics
///
/// Never: panics of the unwound greenlets are reported on standard error.
///
/// # Switching
///
/// May switch: to each suspended greenlet. Any greenlet may run meanwhile.
///
/// # Cancellation
///
/// What is thrown into the current greenlet meanwhile is reported, like the panics.
pub fn unwind_all() {
    if let Some(here) = Here::ready() {
        end::unwind_all(here);
    }
}

/// Returns the current greenlet's locals, creating the list if necessary. `None` if the thread has unwound
/// its greenlets.
pub(crate) fn locals() -> Option<Rc<Locals>> {
    Here::ready().map(|here| here.running().locals())
}

/// Drops the current greenlet's locals, and those that their destructors create. A body calls this just
/// before its end, while the greenlet still has its owner.
#[inline]
pub(crate) fn drop_current_locals() {
    let here = Here::of_a_block();
    if here.running().cold().locals.borrow().is_some() {
        run::drop_locals(here.running());
    }
}

/// The parts of a block that the rest of the crate may use.
impl Core {
    pub(crate) fn life(&self) -> Life {
        self.life.get()
    }

    pub(crate) fn is_current(&self) -> bool {
        thread::current().is_some_and(|current| std::ptr::eq(current.as_ptr(), self))
    }

    /// Returns whether it is a main greenlet, dead or alive.
    pub(crate) fn has_no_parent(&self) -> bool {
        self.cold().parent.get().is_none()
    }

    pub(crate) fn id(&self) -> u64 {
        self.cold().id.get()
    }

    pub(crate) fn name(&self) -> Option<Cow<'static, str>> {
        self.cold().name.borrow().clone()
    }

    pub(crate) fn parent(&self) -> Option<AnyWeakGreenlet> {
        if let Some(waiter) = self.end_waiter() {
            return Some(WeakGreenlet::untyped(waiter));
        }
        // SAFETY: a block has a hold of its parent.
        self.cold().parent.get().map(|parent| WeakGreenlet::untyped(unsafe { parent.as_ref() }))
    }

    pub(crate) fn set_parent<T, R>(&self, parent: &WeakGreenlet<T, R>) -> Result<(), ParentError> {
        if self.has_no_parent() {
            return Err(ParentError::Main);
        }
        if Here::of_a_block().is_scheduler(self) {
            return Err(ParentError::Scheduler);
        }
        // Its end would lead out of the callback.
        let here = Here::of_a_block();
        if here.is_barred(parent.core()) && !here.is_barred(self) {
            return Err(ParentError::InCallback);
        }
        let mut ancestor = Some(parent.core().hold());
        while let Some(node) = ancestor {
            if std::ptr::eq(&*node, self) {
                let (greenlet, parent) = (self.title(), parent.core().title());
                return Err(ParentError::Cycle { greenlet, parent });
            }
            ancestor = node.parent_hold();
        }
        let old = self.cold().parent.replace(Some(parent.core().hold().into_block()));
        // SAFETY: the block had a hold of this parent, which was just taken out.
        drop(old.map(|old| unsafe { Hold::from_block(old) }));
        Ok(())
    }

    /// Returns the size of its stack in bytes. `None` if it has no stack of this library.
    pub(crate) fn stack_size(&self) -> Option<usize> {
        self.cold().stack.get().map(Stack::size)
    }

    /// Returns the largest number of bytes used of its stack. `None` if it has no stack of this library.
    pub(crate) fn stack_high_water(&self) -> Option<usize> {
        // SAFETY: no greenlet writes to the scanned part of the stack meanwhile: this one is suspended, or
        // is the current one and writes below what is found in use.
        self.cold().stack.get().map(|stack| unsafe { stack.high_water() })
    }
}
