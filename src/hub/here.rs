//! The hub of the calling thread.
//!
//! One of the few places of the hub with `unsafe`: everything that waits passes here, and a thread-local
//! variable that has a destructor cannot be read in one load.

use super::state::Hub;
use std::cell::{Cell, OnceCell};
use std::ptr;

thread_local! {
    /// The hub, while it is there. Without a destructor.
    static HERE: Cell<*const Hub> = const { Cell::new(ptr::null()) };

    static OWNER: OnceCell<Owned> = const { OnceCell::new() };

    /// Registered after the other, so dropped before it: then everything still works.
    static END: End = const { End };
}

/// Keeps the hub, and takes it away.
struct Owned(Box<Hub>);

impl Drop for Owned {
    fn drop(&mut self) {
        HERE.set(ptr::null());
    }
}

struct End;

impl Drop for End {
    fn drop(&mut self) {
        try_with(Hub::end);
        // Who asks for it now is told that the thread is ending.
        HERE.set(ptr::null());
    }
}

/// Calls `f` with this thread's hub, which is made if need be. `f` may switch.
///
/// # Panics
///
/// When the thread is ending and has ended its coroutines.
#[inline(always)]
#[track_caller]
pub(super) fn with<R>(f: impl FnOnce(&Hub) -> R) -> R {
    let mut hub = HERE.get();
    if hub.is_null() {
        hub = make();
    }
    // SAFETY: it lives until the thread ends, that is until `Owned` is dropped. By then the greenlets of
    // this thread have ended, or are never gone on with: so this frame has, or is not.
    f(unsafe { &*hub })
}

/// Calls `f` with this thread's hub, if there is one.
pub(super) fn try_with<R>(f: impl FnOnce(&Hub) -> R) -> Option<R> {
    // SAFETY: as in `with`.
    unsafe { HERE.get().as_ref() }.map(f)
}

#[cold]
#[inline(never)]
#[track_caller]
fn make() -> *const Hub {
    let made = OWNER.try_with(|owner| {
        if owner.get().is_some() {
            return None;
        }
        let hub = Hub::new().unwrap_or_else(|error| panic!("there is no hub: {error}"));
        let hub = &raw const *owner.get_or_init(|| Owned(Box::new(hub))).0;
        HERE.set(hub);
        END.with(|_| ());
        Some(hub)
    });
    made.ok().flatten().expect("the thread is ending, and has ended its coroutines")
}
