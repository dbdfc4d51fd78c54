//! The hub of the calling thread, as long as the process is the one that created it.
//!
//! A child that was forked without `fork.rs` has a copy of the hub, which must not run: the coroutines
//! belong to the parent, and the epoll instance is shared with it. In such a child every wait is refused:
//!
//! ```text
//!   parent: hub ── fork, clone ──► child: as if the hub had ended; waiting and spawning panic
//!           │                             a thread that had no hub may create one (`sys::fork::own`)
//!           └──── vfork ─────────► child: the same, without a change to the memory that it shares
//! ```
//!
//! One of the few files of the hub with `unsafe`: every wait passes through here, and a thread-local
//! variable with a destructor cannot be read in one load.

use super::state::Hub;
use crate::greenlet::scheduled;
use crate::sys::{alternate_stack, fork, lineage, process, stderr};
use std::cell::{Cell, OnceCell};
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::ptr::{self, NonNull};

thread_local! {
    /// The hub, while it exists. A variable without a destructor.
    static HERE: Cell<*const Hub> = const { Cell::new(ptr::null()) };

    /// Whether the process is a copy of the one that created this thread's hub.
    static IS_COPY: Cell<bool> = const { Cell::new(false) };

    static OWNER: OnceCell<Owned> = const { OnceCell::new() };

    /// Registered after `OWNER`, so dropped before it, while everything still works.
    static END: End = const { End };
}

/// Owns the hub. If `exit` was called in a coroutine, the hub is leaked: it holds user values, whose
/// destructors must not run in the middle of what main does.
struct Owned(ManuallyDrop<Box<Hub>>);

impl Drop for Owned {
    fn drop(&mut self) {
        if self.0.has_ended.get() {
            // SAFETY: the hub is dropped once, and not used after this: `End` was dropped before, has
            // cleared `HERE`, and has closed the thread, so no frame that refers to the hub is resumed.
            unsafe { ManuallyDrop::drop(&mut self.0) };
        }
    }
}

struct End;

impl Drop for End {
    fn drop(&mut self) {
        // Destructors of coroutines run below, but std's alternate signal stack is gone.
        alternate_stack::ensure();
        // Nothing is ended in a copy of the process: the coroutines belong to the parent.
        try_with(Hub::end);
        HERE.set(ptr::null());
        // Frames of greenlets that have not ended may refer to the hub, so none is resumed after this:
        // neither by the greenlets' own cleanup of the thread nor by a user destructor.
        scheduled::close_thread();
    }
}

/// A reference to the calling thread's hub.
///
/// It never leaves its thread, and is not stored beyond the call that obtained it, which may switch.
#[derive(Clone, Copy)]
pub(super) struct Here(NonNull<Hub>);

impl Deref for Here {
    type Target = Hub;

    #[inline(always)]
    fn deref(&self) -> &Hub {
        // SAFETY: the hub lives until `Owned` is dropped. `End` is dropped before that, and ends the
        // greenlets of this thread: the frame that holds this reference has returned, or is never resumed.
        unsafe { self.0.as_ref() }
    }
}

/// Returns this thread's hub, creating it if needed.
///
/// Returns a value instead of calling a closure: a large closure is not inlined into every caller, and one
/// that switches should be (see `arch/x86_64/switch.rs`).
///
/// # Panics
///
/// If the thread is ending and has ended its coroutines, or in a copy of the process that created the hub.
#[inline(always)]
#[track_caller]
pub(super) fn here() -> Here {
    match existing() {
        Some(hub) => hub,
        None => make(),
    }
}

/// Like [`here`], but returns `None` where that panics. For operations that need not wait.
#[inline(always)]
#[track_caller]
pub(super) fn unless_ended() -> Option<Here> {
    match existing() {
        Some(hub) => Some(hub),
        None => make_unless_ended(),
    }
}

/// Returns this thread's hub if it exists and belongs to this process.
#[inline(always)]
fn existing() -> Option<Here> {
    let hub = NonNull::new(HERE.get().cast_mut())?;
    if lineage::owns() { Some(Here(hub)) } else { give_up_copied() }
}

/// Gives up the hub in a child that was not made by `fork.rs`. A child that shares its parent's memory
/// changes nothing.
#[cold]
#[inline(never)]
fn give_up_copied() -> Option<Here> {
    if lineage::is_copy() {
        leave_to_parent();
        lineage::set_left();
    }
    None
}

/// Marks the hub as the parent's.
fn leave_to_parent() {
    if !HERE.replace(ptr::null()).is_null() {
        IS_COPY.set(true);
    }
}

/// Marks the hub as this process's, in a child made by `fork.rs`.
pub(super) fn adopt(hub: Here) {
    HERE.set(hub.0.as_ptr());
    IS_COPY.set(false);
}

/// Whether this thread's hub belongs to a parent: a copy of it or, in a child of vfork, the original.
pub(crate) fn is_copied() -> bool {
    existing().is_none() && (IS_COPY.get() || lineage::is_vfork_child())
}

#[cold]
#[inline(never)]
#[track_caller]
fn make_unless_ended() -> Option<Here> {
    (!has_ended() && !is_copied()).then(make)
}

/// Calls `f` with this thread's hub, which it creates if needed. Panics where [`here`] does.
#[inline(always)]
#[track_caller]
pub(super) fn with<R>(f: impl FnOnce(&Hub) -> R) -> R {
    f(&here())
}

/// Calls `f` with this thread's hub if it exists and belongs to this process.
#[inline(always)]
pub(super) fn try_with<R>(f: impl FnOnce(&Hub) -> R) -> Option<R> {
    existing().map(|hub| f(&hub))
}

/// Whether there is no hub any more: the thread is ending, and has ended its coroutines, if it had any.
pub(crate) fn has_ended() -> bool {
    existing().is_none()
        && (scheduled::has_ended() || OWNER.try_with(|owner| owner.get().is_some()).unwrap_or(true))
}

#[cold]
#[inline(never)]
#[track_caller]
fn make() -> Here {
    refuse_in_copy();
    lineage::at_copy(leave_to_parent);
    let owns =
        fork::own().unwrap_or_else(|error| panic!("cannot create the hub of this thread: {error}"));
    assert!(owns, "{FORKED}");
    let made = OWNER.try_with(|owner| {
        if owner.get().is_some() {
            return None;
        }
        let hub = Hub::new()
            .unwrap_or_else(|error| panic!("cannot create the hub of this thread: {error}"));
        let hub = NonNull::from(&**owner.get_or_init(|| Owned(ManuallyDrop::new(Box::new(hub)))).0);
        HERE.set(hub.as_ptr());
        END.with(|_| ());
        Some(Here(hub))
    });
    let here = made.ok().flatten().expect("the thread is ending, and has ended its coroutines");
    here.start();
    here
}

const FORKED: &str = "this process was forked without Process::spawn, and its coroutines are its parent's: \
     nothing can wait, be spawned or be registered here; use Process::spawn, or exec";

/// Panics if the hub belongs to a parent. A child of vfork exits instead: a panic would unwind the frames
/// of its parent.
#[track_caller]
fn refuse_in_copy() {
    if lineage::is_vfork_child() {
        stderr::write(&["switchgrass: in a child of vfork: ", FORKED, "\n"]);
        process::exit_now(127);
    }
    assert!(!is_copied(), "{FORKED}");
}

/// Ends the process if it is a copy of the one that created this hub.
///
/// To be called where the hub's own greenlet, or the end of a coroutine, would continue with the coroutines
/// of the parent.
#[inline(always)]
pub(crate) fn end_copy(how: CopyEnd) {
    // It is not enough to check that this process is an owner: another of its threads may have made it one
    // since.
    if existing().is_none() {
        end_copy_now(how);
    }
}

/// What has ended in a copy of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CopyEnd {
    /// The body of a coroutine has returned, which ends the process like the return of a last thread.
    Returned,
    /// The body has panicked, or was killed.
    Failed,
    /// Control has returned to the hub in another way.
    Hub,
}

#[cold]
#[inline(never)]
fn end_copy_now(how: CopyEnd) {
    if lineage::is_vfork_child() {
        process::exit_now(127);
    }
    match how {
        // Like the end of the last thread of a process.
        CopyEnd::Returned => process::exit(0),
        CopyEnd::Failed => process::exit(1),
        CopyEnd::Hub => {
            stderr::write(&[
                "switchgrass: a process that was forked without Process::spawn returned to its parent's \
                 hub, which does not run there; the process ends\n",
            ]);
            process::exit_now(1);
        }
    }
}
