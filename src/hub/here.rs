//! The hub of the calling thread, while the process is the one that has made it.
//!
//! A child that was forked without `fork.rs` has a copy of it, which must not run: its coroutines are the
//! parent's, and it shares its epoll instance with it. There every wait is refused:
//!
//! ```text
//!   parent: hub ── fork, clone ──► child: as if the hub had ended; what would wait or spawn panics
//!           │                             a thread that had no hub may have a new one (`sys::fork::own`)
//!           └──── vfork ─────────► child: the same, without a trace in the memory that it shares
//! ```
//!
//! One of the few places of the hub with `unsafe`: everything that waits passes here, and a thread-local
//! variable that has a destructor cannot be read in one load.

use super::state::Hub;
use crate::greenlet::scheduled;
use crate::sys::{alternate_stack, fork, lineage, process, stderr};
use std::cell::{Cell, OnceCell};
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::ptr::{self, NonNull};

thread_local! {
    /// The hub, while it is there. Without a destructor.
    static HERE: Cell<*const Hub> = const { Cell::new(ptr::null()) };

    /// The process is a copy of the one that has made this thread's hub.
    static IS_COPY: Cell<bool> = const { Cell::new(false) };

    static OWNER: OnceCell<Owned> = const { OnceCell::new() };

    /// Registered after the other, so dropped before it: then everything still works.
    static END: End = const { End };
}

/// Keeps the hub. If `exit` was called in a coroutine, it is left as it is: what it keeps may be user
/// values, whose destructors must not run in the middle of what main does.
struct Owned(ManuallyDrop<Box<Hub>>);

impl Drop for Owned {
    fn drop(&mut self) {
        if self.0.has_ended.get() {
            // SAFETY: not used again: `End` has come before, after which nobody names the hub.
            unsafe { ManuallyDrop::drop(&mut self.0) };
        }
    }
}

struct End;

impl Drop for End {
    fn drop(&mut self) {
        // Destructors of coroutines run now, and std's alternate stack is gone.
        alternate_stack::ensure();
        // Nothing is ended in a copy of the process: the coroutines are its parent's.
        try_with(Hub::end);
        HERE.set(ptr::null());
        // The frames of a greenlet that has not ended may name the hub, so none is resumed after this: not by
        // the greenlets' own end of the thread, nor by a destructor of user code.
        scheduled::close_thread();
    }
}

/// The calling thread's hub. It never leaves its thread, and nobody keeps it beyond the call that has
/// asked for it, which may switch.
#[derive(Clone, Copy)]
pub(super) struct Here(NonNull<Hub>);

impl Deref for Here {
    type Target = Hub;

    #[inline(always)]
    fn deref(&self) -> &Hub {
        // SAFETY: it lives until `Owned` is dropped. That is after `End`, which ends the greenlets of this
        // thread: so the frame that asked has been left, or is never resumed.
        unsafe { self.0.as_ref() }
    }
}

/// This thread's hub, which is made if need be.
///
/// Not a function that takes a closure: a closure that is large is not inlined into every caller, and one
/// that switches should be (see `arch/x86_64/switch.rs`).
///
/// # Panics
///
/// When the thread is ending and has ended its coroutines. In a copy of the process that has made the hub.
#[inline(always)]
#[track_caller]
pub(super) fn here() -> Here {
    match existing() {
        Some(hub) => hub,
        None => make(),
    }
}

/// As [`here`], but `None` when the thread has ended its coroutines, or these are of a parent's: for what
/// need not wait.
#[inline(always)]
#[track_caller]
pub(super) fn unless_ended() -> Option<Here> {
    match existing() {
        Some(hub) => Some(hub),
        None => make_unless_ended(),
    }
}

/// This thread's hub, if there is one and it is this process's.
#[inline(always)]
fn existing() -> Option<Here> {
    let hub = NonNull::new(HERE.get().cast_mut())?;
    if lineage::owns() { Some(Here(hub)) } else { let_go() }
}

/// In a child that was not made by `fork.rs`. (One that shares its parent's memory changes nothing there.)
#[cold]
#[inline(never)]
fn let_go() -> Option<Here> {
    if lineage::is_copy() {
        leave_to_parent();
        lineage::set_left();
    }
    None
}

/// The hub is the parent's, from now on.
fn leave_to_parent() {
    if !HERE.replace(ptr::null()).is_null() {
        IS_COPY.set(true);
    }
}

/// The hub is this process's, which `fork.rs` has made.
pub(super) fn keep(hub: Here) {
    HERE.set(hub.0.as_ptr());
    IS_COPY.set(false);
}

/// Whether this thread's hub is a copy of a parent's, or the parent's own: see above.
pub(crate) fn is_copied() -> bool {
    existing().is_none() && (IS_COPY.get() || lineage::is_vfork_child())
}

#[cold]
#[inline(never)]
#[track_caller]
fn make_unless_ended() -> Option<Here> {
    (!has_ended() && !is_copied()).then(make)
}

/// Calls `f` with this thread's hub, as [`here`].
#[inline(always)]
#[track_caller]
pub(super) fn with<R>(f: impl FnOnce(&Hub) -> R) -> R {
    f(&here())
}

/// Calls `f` with this thread's hub, if there is one and it is this process's.
#[inline(always)]
pub(super) fn try_with<R>(f: impl FnOnce(&Hub) -> R) -> Option<R> {
    existing().map(|hub| f(&hub))
}

/// Whether the thread is ending and has ended its coroutines, if it had any: there is no hub any more.
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
    let owns = fork::own().unwrap_or_else(|error| panic!("there is no hub: {error}"));
    assert!(owns, "{FORKED}");
    let made = OWNER.try_with(|owner| {
        if owner.get().is_some() {
            return None;
        }
        let hub = Hub::new().unwrap_or_else(|error| panic!("there is no hub: {error}"));
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
     nothing of this library can wait, spawn or register here; use Process::spawn, or exec";

/// Where the hub is a parent's. In a child that shares the memory of its parent a panic would unwind its
/// parent's frames: so it ends.
#[track_caller]
fn refuse_in_copy() {
    if lineage::is_vfork_child() {
        stderr::write(&["switchgrass: in a child of vfork: ", FORKED, "\n"]);
        process::exit_now(127);
    }
    assert!(!is_copied(), "{FORKED}");
}

/// Ends the process if it is a copy of the one that has made this hub: for where the hub's own greenlet, or
/// the end of a coroutine, would go on with those of the parent.
#[inline(always)]
pub(crate) fn end_copy(how: CopyEnd) {
    // Not only whether this process is an owner: another of its threads may have made it one since.
    if existing().is_none() {
        end_copy_now(how);
    }
}

/// What has come to its end in a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CopyEnd {
    /// The body of a coroutine has returned, as that of a thread might.
    Returned,
    /// It has panicked, or was killed.
    Failed,
    /// It has gone back to the hub otherwise.
    Hub,
}

#[cold]
#[inline(never)]
fn end_copy_now(how: CopyEnd) {
    if lineage::is_vfork_child() {
        process::exit_now(127);
    }
    match how {
        // As when the last thread of a process ends.
        CopyEnd::Returned => process::exit(0),
        CopyEnd::Failed => process::exit(1),
        CopyEnd::Hub => {
            stderr::write(&[
                "switchgrass: a process that was forked without Process::spawn comes back to its parent's \
                 hub, which does not run there: it ends\n",
            ]);
            process::exit_now(1);
        }
    }
}
