//! Terminals: waiting until what was written has been sent. The kernel tells of that in no other way, so
//! a thread of its own waits. What the terminal's other end takes, or a line that is stopped, decides
//! how long.

use crate::monkey::aside::aside_or_interrupted;
use crate::monkey::elsewhere::Lent;
use crate::monkey::table;
use libc::{c_int, termios};

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn tcdrain(fd: c_int) -> c_int {
    // SAFETY: no memory is involved.
    let drained = aside_or_interrupted("tcdrain", move || unsafe { table::tcdrain::original(fd) });
    // SAFETY: no memory is involved.
    drained.unwrap_or_else(|| unsafe { table::tcdrain::blocking(fd) })
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn tcsendbreak(fd: c_int, duration: c_int) -> c_int {
    // SAFETY: no memory is involved.
    let call = move || unsafe { table::tcsendbreak::original(fd, duration) };
    // SAFETY: no memory is involved.
    aside_or_interrupted("tcsendbreak", call)
        .unwrap_or_else(|| unsafe { table::tcsendbreak::blocking(fd, duration) })
}

/// Some ways of setting wait for the output first.
///
/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn tcsetattr(fd: c_int, when: c_int, to: *const termios) -> c_int {
    if !matches!(when, libc::TCSADRAIN | libc::TCSAFLUSH) {
        // SAFETY: the caller's.
        return unsafe { table::tcsetattr::original(fd, when, to) };
    }
    // SAFETY: the caller's, who is suspended until the call is over.
    let lent = unsafe { Lent::new(to) };
    // SAFETY: the caller's.
    let call = move || unsafe { table::tcsetattr::original(fd, when, lent.get()) };
    // SAFETY: the caller's.
    aside_or_interrupted("tcsetattr", call)
        .unwrap_or_else(|| unsafe { table::tcsetattr::blocking(fd, when, to) })
}
