//! The end of sockets that linger: with `SO_LINGER` and a time, `close` waits until the peer has taken
//! what was sent. A thread of its own waits for that.
//!
//! ```text
//!   held: a copy of the descriptor ──► the program's number is closed at once: it is not the last one
//!                                  ──► a thread closes the copy, and lingers
//! ```
//!
//! Nothing is asked about a socket unless the program has set such a time for any.

use crate::monkey::dedicated::aside;
use crate::monkey::gate::{Row, is_cooperative};
use crate::monkey::{errno, originals};
use libc::{c_int, c_void, linger, socklen_t};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Whether the program has set a socket so that its end waits.
static ANY: AtomicBool = AtomicBool::new(false);

/// A copy of a socket whose number is about to be closed. Its end is waited for when this is dropped.
pub(super) struct Held(c_int);

/// The program sets an option of a socket.
///
/// # Safety
///
/// As `setsockopt`, which has returned without an error.
pub(super) unsafe fn option_set(
    level: c_int,
    name: c_int,
    value: *const c_void,
    length: socklen_t,
) {
    if level == libc::SOL_SOCKET
        && name == libc::SO_LINGER
        && length as usize >= size_of::<linger>()
        && !ANY.load(Relaxed)
    {
        // SAFETY: the caller's: the kernel has read it.
        let value = unsafe { value.cast::<linger>().read_unaligned() };
        if value.l_onoff != 0 && value.l_linger > 0 {
            ANY.store(true, Relaxed);
        }
    }
}

/// Whether a call that closes numbers may wait, for all that is known without looking at each.
pub(super) fn may_linger() -> bool {
    ANY.load(Relaxed)
}

/// To be called before a call that closes a number. `None` if that does not wait, or has to hold up the
/// thread.
#[inline]
pub(super) fn hold(row: &Row, fd: c_int) -> Option<Held> {
    if may_linger() { hold_lingering(row, fd) } else { None }
}

#[cold]
fn hold_lingering(row: &Row, fd: c_int) -> Option<Held> {
    let before = errno::get();
    let mut held = None;
    if lingers(fd) && is_cooperative(row) {
        // Not among the numbers that programs count on getting.
        const FIRST: usize = 3;
        // SAFETY: no memory is involved.
        let copy = unsafe { originals::fcntl::call(fd, libc::F_DUPFD_CLOEXEC, FIRST) };
        if copy < 0 {
            row.count_blocked();
        } else {
            held = Some(Held(copy));
        }
    }
    errno::set(before);
    held
}

/// Whether the last `close` of a socket waits.
fn lingers(fd: c_int) -> bool {
    let mut value = linger { l_onoff: 0, l_linger: 0 };
    let mut length = size_of::<linger>() as socklen_t;
    let place = (&raw mut value).cast();
    // SAFETY: room for the answer, of the size that is said.
    let result =
        unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_LINGER, place, &mut length) };
    result == 0 && value.l_onoff != 0 && value.l_linger > 0
}

impl Drop for Held {
    fn drop(&mut self) {
        let before = errno::get();
        let fd = self.0;
        // SAFETY: a descriptor that is nobody else's.
        let closed = aside("close", move || unsafe { originals::close::call(fd) });
        if closed.is_none() {
            // SAFETY: a descriptor that is nobody else's.
            unsafe { originals::close::call_blocking(fd) };
        }
        errno::set(before);
    }
}
