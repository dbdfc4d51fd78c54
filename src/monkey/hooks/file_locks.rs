//! The locks of C's files that a program takes itself: `flockfile`. They are recursive, and belong to the
//! thread as libc sees it; here, to the coroutine. Those that `fread`, `printf` and others take are libc's
//! own and not seen: these functions do not switch, and in a coroutine they are let into a file that a
//! sibling has locked.

use super::acquire::{ANY, Attempt, Limit, Wanted};
use crate::hub::{Place, place};
use crate::monkey::owners::{self, Owner};
use crate::monkey::{addresses, originals};
use libc::{FILE, c_int};

/// # Safety
///
/// As libc's `ftrylockfile`.
unsafe fn attempt(file: *mut FILE, me: Owner) -> Attempt {
    if owners::owner_of(file.addr()).is_some_and(|owner| owner != me) {
        return Attempt::Sibling;
    }
    // SAFETY: the caller's.
    match unsafe { originals::ftrylockfile::call(file) } {
        0 => Attempt::Over(0),
        _ => Attempt::Foreign,
    }
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn flockfile(file: *mut FILE) {
    let (address, me) = (file.addr(), Owner::current());
    // SAFETY: the caller's.
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
            // SAFETY: the caller's.
            unsafe { originals::flockfile::call(file) };
        }
    }
    // On threads without a hub, too: what main holds when the first coroutine begins is known so.
    owners::record(address, me);
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn ftrylockfile(file: *mut FILE) -> c_int {
    let me = Owner::current();
    // SAFETY: the caller's.
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
/// As libc's.
pub(in crate::monkey) unsafe fn funlockfile(file: *mut FILE) {
    let address = file.addr();
    // Before it is another's.
    owners::release(address);
    // SAFETY: the caller's.
    unsafe { originals::funlockfile::call(file) };
    addresses::wake(address, ANY, 1);
}

/// Whether the current task has locked it.
pub(super) fn is_callers(file: *mut FILE) -> bool {
    owners::owner_of(file.addr()) == Some(Owner::current())
}

/// Unlocks a file that another thread is about to close in the caller's stead: that thread would wait for it.
///
/// # Safety
///
/// As libc's `funlockfile`, of a file that nobody uses afterwards.
pub(super) unsafe fn give_up(file: *mut FILE) {
    while is_callers(file) {
        // SAFETY: the caller's; the current task has locked it.
        unsafe { funlockfile(file) };
    }
}
