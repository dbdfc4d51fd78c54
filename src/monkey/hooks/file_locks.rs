//! The locks of C streams that a program takes itself, by `flockfile`.
//!
//! They are recursive. For libc they belong to the thread; here, to the coroutine. The locks that `fread`,
//! `printf` and others take are internal to libc and not seen: these functions do not switch, and a coroutine
//! that calls them may use a stream that a sibling has locked.

use super::acquire::{ANY, Attempt, Limit, Wanted};
use crate::hub::{Place, place};
use crate::monkey::owners::{self, Owner};
use crate::monkey::{addresses, originals};
use libc::{FILE, c_int};

/// Attempts to lock a stream without waiting.
///
/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`), as for libc's `ftrylockfile`.
unsafe fn attempt(file: *mut FILE, me: Owner) -> Attempt {
    if owners::owner_of(file.addr()).is_some_and(|owner| owner != me) {
        return Attempt::Sibling;
    }
    // SAFETY: contract of a hook: libc's `ftrylockfile` gets the caller's pointers.
    match unsafe { originals::ftrylockfile::call(file) } {
        0 => Attempt::Over(0),
        _ => Attempt::Foreign,
    }
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn flockfile(file: *mut FILE) {
    let (address, me) = (file.addr(), Owner::current());
    // SAFETY: contract of a hook: `attempt` has the same contract.
    let attempt = || unsafe { attempt(file, me) };
    match place() {
        Place::Task if !addresses::is_inside() => {
            let (purpose, limit) = ("flockfile", Limit::Never);
            Wanted { address, bits: ANY, purpose, limit }.acquire(attempt);
        }
        here => {
            if here == Place::Hub && !matches!(attempt(), Attempt::Over(_)) {
                originals::flockfile::ROW.count_blocked();
            }
            // SAFETY: contract of a hook: libc's `flockfile` gets the caller's pointers.
            unsafe { originals::flockfile::call(file) };
        }
    }
    // Also on threads without a hub: a lock that main holds when the first coroutine starts is then known.
    owners::record(address, me);
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn ftrylockfile(file: *mut FILE) -> c_int {
    let me = Owner::current();
    // SAFETY: contract of a hook: `attempt` has the same contract.
    match unsafe { attempt(file, me) } {
        Attempt::Over(_) => {
            owners::record(file.addr(), me);
            0
        }
        _ => libc::EBUSY,
    }
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn funlockfile(file: *mut FILE) {
    let address = file.addr();
    // Before another owner can lock it.
    owners::release(address);
    // SAFETY: contract of a hook: libc's `funlockfile` gets the caller's pointers.
    unsafe { originals::funlockfile::call(file) };
    addresses::wake(address, ANY, 1);
}

/// Whether the current task has locked the stream.
pub(super) fn is_callers(file: *mut FILE) -> bool {
    owners::owner_of(file.addr()) == Some(Owner::current())
}

/// Unlocks a stream that another thread is about to close for the caller: that thread would wait for it.
///
/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`), as for libc's `funlockfile`; the stream is not used afterwards.
pub(super) unsafe fn give_up(file: *mut FILE) {
    while is_callers(file) {
        // SAFETY: contract of a hook; the current task has locked the stream.
        unsafe { funlockfile(file) };
    }
}
