//! The hub of the calling thread.
//!
//! One of the few places of the hub with `unsafe`: everything that waits passes here, and a thread-local
//! variable that has a destructor cannot be read in one load.

use super::state::Hub;
use crate::greenlet::scheduled;
use crate::sys::alternate_stack;
use std::cell::{Cell, OnceCell};
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::ptr::{self, NonNull};

thread_local! {
    /// The hub, while it is there. Without a destructor.
    static HERE: Cell<*const Hub> = const { Cell::new(ptr::null()) };

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
/// When the thread is ending and has ended its coroutines.
#[inline(always)]
#[track_caller]
pub(super) fn here() -> Here {
    match NonNull::new(HERE.get().cast_mut()) {
        Some(hub) => Here(hub),
        None => make(),
    }
}

/// As [`here`], but `None` when the thread has ended its coroutines: for what need not wait.
#[inline(always)]
#[track_caller]
pub(super) fn unless_ended() -> Option<Here> {
    match NonNull::new(HERE.get().cast_mut()) {
        Some(hub) => Some(Here(hub)),
        None => make_unless_ended(),
    }
}

#[cold]
#[inline(never)]
#[track_caller]
fn make_unless_ended() -> Option<Here> {
    (!has_ended()).then(make)
}

/// Calls `f` with this thread's hub, as [`here`].
#[inline(always)]
#[track_caller]
pub(super) fn with<R>(f: impl FnOnce(&Hub) -> R) -> R {
    f(&here())
}

/// Calls `f` with this thread's hub, if there is one.
pub(super) fn try_with<R>(f: impl FnOnce(&Hub) -> R) -> Option<R> {
    // SAFETY: as for `Here`.
    unsafe { HERE.get().as_ref() }.map(f)
}

/// Whether the thread is ending and has ended its coroutines, if it had any: there is no hub any more.
pub(crate) fn has_ended() -> bool {
    HERE.get().is_null()
        && (scheduled::has_ended() || OWNER.try_with(|owner| owner.get().is_some()).unwrap_or(true))
}

#[cold]
#[inline(never)]
#[track_caller]
fn make() -> Here {
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
