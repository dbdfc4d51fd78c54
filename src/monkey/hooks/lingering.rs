//! Closing sockets that linger: with `SO_LINGER` and a timeout, `close` waits until the peer has received
//! what was sent. A dedicated thread makes that wait.
//!
//! ```text
//!   Held: a duplicate of the descriptor ──► the program's number is closed at once, as it is not the last
//!                                       ──► a thread closes the duplicate, and lingers
//! ```
//!
//! No socket is queried unless the program has set such a timeout for any.

use crate::monkey::dedicated::aside;
use crate::monkey::gate::{Row, is_cooperative};
use crate::monkey::{errno, originals};
use libc::{c_int, c_void, linger, socklen_t};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Whether the program has set a lingering timeout for any socket.
static ANY: AtomicBool = AtomicBool::new(false);

/// A duplicate of a socket whose number is about to be closed.
///
/// Dropping it closes the socket, and waits for that.
pub(super) struct Held(c_int);

/// Notes an option that the program has set for a socket.
///
/// # Safety
///
/// The arguments of a call of `setsockopt` that has succeeded.
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
        // SAFETY: the kernel has just read the value, which is long enough.
        let value = unsafe { value.cast::<linger>().read_unaligned() };
        if value.l_onoff != 0 && value.l_linger > 0 {
            ANY.store(true, Relaxed);
        }
    }
}

/// Whether a call that closes descriptors may linger. Does not look at any descriptor.
pub(super) fn may_linger() -> bool {
    ANY.load(Relaxed)
}

/// Duplicates a socket that lingers, before a call that closes its number.
///
/// `None` if that call does not wait, or has to block the thread.
#[inline]
pub(super) fn hold(row: &Row, fd: c_int) -> Option<Held> {
    if may_linger() { hold_lingering(row, fd) } else { None }
}

/// Like [`hold`], once any socket may linger.
#[cold]
fn hold_lingering(row: &Row, fd: c_int) -> Option<Held> {
    let before = errno::get();
    let mut held = None;
    if lingers(fd) && is_cooperative(row) {
        // Not one of the numbers 0 to 2, which programs expect to get from `open`.
        const FIRST: usize = 3;
        // SAFETY: no pointer is passed.
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
    // SAFETY: `place` is valid for a write of `length` bytes.
    let result =
        unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_LINGER, place, &mut length) };
    result == 0 && value.l_onoff != 0 && value.l_linger > 0
}

impl Drop for Held {
    fn drop(&mut self) {
        let before = errno::get();
        let fd = self.0;
        // SAFETY: only `self` uses this descriptor.
        let closed = aside("close", move || unsafe { originals::close::call(fd) });
        if closed.is_none() {
            // SAFETY: only `self` uses this descriptor.
            unsafe { originals::close::call_blocking(fd) };
        }
        errno::set(before);
    }
}
