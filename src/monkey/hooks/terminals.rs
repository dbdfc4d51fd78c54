//! Terminals: waiting until what was written has been sent. The kernel tells of that in no other way, so
//! a thread of its own waits. What the terminal's other end takes, or a line that is stopped, decides
//! how long.
//!
//! A terminal that is not read by lines may also be set to end a read without a byte, at once or after some
//! time.

use crate::hub::{Interrupts, yield_if_due_nounwind};
use crate::monkey::blocking_pool::Lent;
use crate::monkey::dedicated::aside_or_interrupted;
use crate::monkey::{errno, originals};
use libc::{c_int, termios};
use std::mem::MaybeUninit;

/// How a terminal ends a read beside by bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timing {
    /// In no other way.
    None,
    /// A read returns what there is, at once.
    AtOnce,
    /// After some time (`VTIME`).
    ByClock,
}

impl Timing {
    /// What a terminal is set to now. Errno stays as it is.
    pub(super) fn of(fd: c_int) -> Self {
        let before = errno::get();
        let mut settings = MaybeUninit::<termios>::uninit();
        // SAFETY: room for the answer.
        let asked = unsafe { libc::tcgetattr(fd, settings.as_mut_ptr()) };
        errno::set(before);
        if asked != 0 {
            return Timing::None;
        }
        // SAFETY: it was answered.
        let settings = unsafe { settings.assume_init() };
        match (settings.c_cc[libc::VMIN], settings.c_cc[libc::VTIME]) {
            _ if settings.c_lflag & libc::ICANON != 0 => Timing::None,
            (0, 0) => Timing::AtOnce,
            (_, 0) => Timing::None,
            _ => Timing::ByClock,
        }
    }
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn tcdrain(fd: c_int) -> c_int {
    yield_if_due_nounwind();
    // SAFETY: no memory is involved.
    let drain = move || unsafe { originals::tcdrain::call(fd) };
    let drained = aside_or_interrupted("tcdrain", Interrupts::Tell, drain);
    // SAFETY: no memory is involved.
    drained.unwrap_or_else(|| unsafe { originals::tcdrain::call_blocking(fd) })
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn tcsendbreak(fd: c_int, duration: c_int) -> c_int {
    yield_if_due_nounwind();
    // SAFETY: no memory is involved.
    let call = move || unsafe { originals::tcsendbreak::call(fd, duration) };
    // SAFETY: no memory is involved.
    aside_or_interrupted("tcsendbreak", Interrupts::Tell, call)
        .unwrap_or_else(|| unsafe { originals::tcsendbreak::call_blocking(fd, duration) })
}

/// Some ways of setting wait for the output first.
///
/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn tcsetattr(fd: c_int, when: c_int, to: *const termios) -> c_int {
    if !matches!(when, libc::TCSADRAIN | libc::TCSAFLUSH) {
        // SAFETY: the caller's.
        return unsafe { originals::tcsetattr::call(fd, when, to) };
    }
    yield_if_due_nounwind();
    // SAFETY: the caller's, who is suspended until the call is over.
    let lent = unsafe { Lent::new(to) };
    // SAFETY: the caller's.
    let call = move || unsafe { originals::tcsetattr::call(fd, when, lent.get()) };
    // SAFETY: the caller's.
    aside_or_interrupted("tcsetattr", Interrupts::Tell, call)
        .unwrap_or_else(|| unsafe { originals::tcsetattr::call_blocking(fd, when, to) })
}
