//! Terminals.
//!
//! `tcdrain` and the like wait until the output was sent. The kernel reports that in no other way, so a
//! dedicated thread waits. The time depends on the terminal's other end, and a stopped line delays it.
//!
//! A terminal in non-canonical mode may also be set to end a read without a byte, at once or after some time.

use crate::hub::{Interrupts, yield_if_due_nounwind};
use crate::monkey::blocking_pool::Lent;
use crate::monkey::dedicated::aside_or_interrupted;
use crate::monkey::{errno, originals};
use libc::{c_int, termios};
use std::mem::MaybeUninit;

/// How a terminal ends a read, other than by bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timing {
    /// In no other way.
    None,
    /// A read returns the available bytes at once.
    AtOnce,
    /// A read ends after some time (`VTIME`).
    ByClock,
}

impl Timing {
    /// The current setting of a terminal. Errno stays as it is.
    pub(super) fn of(fd: c_int) -> Self {
        let before = errno::get();
        let mut settings = MaybeUninit::<termios>::uninit();
        // SAFETY: `settings` is valid for a write.
        let asked = unsafe { libc::tcgetattr(fd, settings.as_mut_ptr()) };
        errno::set(before);
        if asked != 0 {
            return Timing::None;
        }
        // SAFETY: the call has succeeded, so it has filled in `settings`.
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
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn tcdrain(fd: c_int) -> c_int {
    yield_if_due_nounwind();
    // SAFETY: no pointer is passed.
    let drain = move || unsafe { originals::tcdrain::call(fd) };
    let drained = aside_or_interrupted("tcdrain", Interrupts::Tell, drain);
    // SAFETY: no pointer is passed.
    drained.unwrap_or_else(|| unsafe { originals::tcdrain::call_blocking(fd) })
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn tcsendbreak(fd: c_int, duration: c_int) -> c_int {
    yield_if_due_nounwind();
    // SAFETY: no pointer is passed.
    let call = move || unsafe { originals::tcsendbreak::call(fd, duration) };
    // SAFETY: no pointer is passed.
    aside_or_interrupted("tcsendbreak", Interrupts::Tell, call)
        .unwrap_or_else(|| unsafe { originals::tcsendbreak::call_blocking(fd, duration) })
}

/// Waits for the output first if `when` says so.
///
/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn tcsetattr(fd: c_int, when: c_int, to: *const termios) -> c_int {
    if !matches!(when, libc::TCSADRAIN | libc::TCSAFLUSH) {
        // SAFETY: contract of a hook: libc's `tcsetattr` gets the caller's pointers.
        return unsafe { originals::tcsetattr::call(fd, when, to) };
    }
    yield_if_due_nounwind();
    // SAFETY: contract of a hook: the pointers are valid on any thread until the suspended caller returns.
    let lent = unsafe { Lent::new(to) };
    // SAFETY: contract of a hook: the suspended caller lends the pointers to libc's `tcsetattr`.
    let call = move || unsafe { originals::tcsetattr::call(fd, when, lent.get()) };
    // SAFETY: contract of a hook: libc's `tcsetattr` gets the caller's pointers.
    aside_or_interrupted("tcsetattr", Interrupts::Tell, call)
        .unwrap_or_else(|| unsafe { originals::tcsetattr::call_blocking(fd, when, to) })
}
