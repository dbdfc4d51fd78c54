//! The engine: control blocks, the switch, life and death. Untyped inside, safe outside.
//!
//! From the bottom up; each file knows only those above it, but for two knots, which are one thing each:
//!
//! - `types.rs`, `marks.rs`: types as small numbers; the bits that a scheduler keeps in a block;
//! - `dropping.rs`: runs user code where nothing may unwind;
//! - **`block.rs`, `slab.rs`, `thread.rs`**, the blocks of a thread: the control block, with the *door* that
//!   decides most switches; where blocks live; what a thread keeps: the slab, the *alarm*, and what is handed
//!   over beside a value;
//! - `end_waiters.rs`: who waits for an end;
//! - `report.rs`, `peek.rs`, `overflow.rs`: messages on standard error; what a signal handler may see; the
//!   message when a stack is full;
//! - `sanitize.rs`: switches, told to AddressSanitizer;
//! - `handle.rs`, `line.rs`: counted handles; which greenlets one runs for;
//! - **`switch.rs`, `end.rs`, `run.rs`**, the passage: switch and throw, short way and long; ends, which are
//!   switches as well; what runs before and after a body;
//! - `create.rs`, `scoped.rs`, `scheduled.rs`: beginnings; greenlets that may borrow; what a scheduler needs.
//!
//! The rest of the crate sees what this file exports, all of it safe to call. Invariants by number:
//! see `block.rs` (1), `handle.rs` (2) and ARCHITECTURE.md (all).

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

/// The greenlet that runs. `None` when the thread has unwound its greenlets.
pub(crate) fn current() -> Option<AnyWeakGreenlet> {
    Here::ready().map(|here| WeakGreenlet::untyped(here.running()))
}

/// Makes a greenlet, the current one its parent.
#[inline]
pub(crate) fn create<In, Out, F>(body: F) -> Result<Greenlet<In, Out>, BuildError>
where
    In: 'static,
    Out: 'static,
    F: FnOnce(In) -> Out + 'static,
{
    // SAFETY: a body that borrows nothing; the types are those it was declared with.
    unsafe { create::create(body).map(|block| Greenlet::from_counted(block)) }
}

/// Makes a greenlet as `spec` says, the current one its parent.
pub(crate) fn build<In, Out, F>(spec: Spec, body: F) -> Result<Greenlet<In, Out>, BuildError>
where
    In: 'static,
    Out: 'static,
    F: FnOnce(In) -> Out + 'static,
{
    // SAFETY: as in `create`.
    unsafe { create::build(spec, body).map(|block| Greenlet::from_counted(block)) }
}

/// Puts a tracer in the place of the one that there is, which is returned.
pub(crate) fn set_tracer(tracer: Option<Tracer>) -> Option<Tracer> {
    let here = Here::ready()?;
    let old = here.tracer.replace(tracer);
    here.update_slow_path();
    old
}

/// The tracer that there is.
pub(crate) fn tracer() -> Option<Tracer> {
    Here::ready()?.tracer()
}

/// How many greenlets of this thread are neither dead nor main.
pub(crate) fn live_count() -> usize {
    let Some(here) = Here::existing() else { return 0 };
    let scheduler = here.scheduler.take();
    let is_there = scheduler.as_ref().is_some_and(|scheduler| scheduler.is_alive());
    here.scheduler.set(scheduler);
    here.live.get() - usize::from(is_there)
}

/// Gives the memory of this thread's free stacks back to the kernel. Their address space is kept.
///
/// A thread keeps the stacks of dead greenlets to use them again, and the last 4,096 of a size with the
/// memory that they have touched. This is for after a peak. A thread with coroutines does it by itself: of
/// what it has not used for some seconds, by the time that it waits for something, it keeps the memory of
/// 64.
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

/// Whether this thread has so many free stacks with memory that some may be unused.
pub(crate) fn may_have_unused_stacks() -> bool {
    Here::existing().is_some_and(|here| here.pool.borrow().may_have_unused())
}

/// From now on it is counted anew how many free stacks are not used.
pub(crate) fn begin_stack_period() {
    if let Some(here) = Here::existing() {
        here.pool.borrow_mut().begin_period();
    }
}

/// Gives the memory of some free stacks that were not used in this period back to the kernel. Whether there
/// were any.
pub(crate) fn trim_unused_stacks(most: usize) -> bool {
    Here::existing().is_some_and(|here| here.pool.borrow_mut().trim_unused(most))
}

/// Ends all greenlets of this thread, but the current one and main: those that are suspended are unwound,
/// the bodies of those that have not begun are dropped.
///
/// A thread does this by itself when it ends. But then it is late: by the time the destructors of
/// `thread_local!` variables run, some of these are gone already, and a greenlet that was suspended
/// *inside* [`LocalKey::with`](std::thread::LocalKey::with) would find a variable destroyed that it has
/// borrowed. A thread that may end with such greenlets calls this first.
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
/// Never: panics of greenlets that are unwound are reported on standard error.
///
/// # Switching
///
/// Switches to each greenlet that is suspended. Everybody may run meanwhile.
///
/// # Cancellation
///
/// What is thrown into the current greenlet meanwhile is reported like the panics.
pub fn unwind_all() {
    if let Some(here) = Here::ready() {
        end::unwind_all(here);
    }
}

/// The current greenlet's locals, made if need be. `None` when the thread has unwound its greenlets.
pub(crate) fn locals() -> Option<Rc<Locals>> {
    Here::ready().map(|here| here.running().locals())
}

/// Drops the current greenlet's locals, and those that their destructors make. Called by a body just before
/// its end: the greenlet still has its owner then.
#[inline]
pub(crate) fn drop_current_locals() {
    let here = Here::of_a_block();
    if here.running().cold().locals.borrow().is_some() {
        run::drop_locals(here.running());
    }
}

/// What the rest of the crate may see of a block.
impl Core {
    pub(crate) fn life(&self) -> Life {
        self.life.get()
    }

    pub(crate) fn is_current(&self) -> bool {
        thread::current().is_some_and(|current| std::ptr::eq(current.as_ptr(), self))
    }

    /// Whether it is a main greenlet, dead or alive.
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
        // SAFETY: a block holds its parent's.
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
        // SAFETY: a block holds its parent's.
        drop(old.map(|old| unsafe { Hold::from_block(old) }));
        Ok(())
    }

    /// Size of its stack in bytes. `None` when it has none of ours.
    pub(crate) fn stack_size(&self) -> Option<usize> {
        self.cold().stack.get().map(Stack::size)
    }

    /// Bytes used at most of its stack. `None` when it has none of ours.
    pub(crate) fn stack_high_water(&self) -> Option<usize> {
        // SAFETY: this thread's greenlets do not write to their stacks meanwhile: this one is
        // suspended, or is the current one and writes below what is found in use.
        self.cold().stack.get().map(|stack| unsafe { stack.high_water() })
    }
}
