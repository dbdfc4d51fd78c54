//! Functions that change the action of a signal.
//!
//! The handler is wrapped on its way in, and unwrapped on its way out (see `handlers.rs`). This holds for
//! calls of all threads, patched or not.
//!
//! The functions beside `sigaction` have hooks of their own because libc's versions call libc's internal
//! `sigaction`, which is not interposed.

use crate::monkey::handlers::{unwrap, wrap};
use crate::monkey::originals;
use libc::{c_int, sighandler_t};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The signals, one bit each, whose handlers `signal` installs without `SA_RESTART`: set by `siginterrupt`.
static INTERRUPTING: AtomicU64 = AtomicU64::new(0);

/// The bit of a signal in [`INTERRUPTING`]. 0 for an invalid signal.
fn bit(signal: c_int) -> u64 {
    match signal {
        1..=64 => 1 << (signal - 1),
        _ => 0,
    }
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn sigaction(
    signal: c_int,
    action: *const libc::sigaction,
    old: *mut libc::sigaction,
) -> c_int {
    // SAFETY: contract of a hook: the pointer is null or valid.
    let wrapped = unsafe { action.as_ref() }.map(|action| {
        let restarts = action.sa_flags & libc::SA_RESTART != 0;
        libc::sigaction { sa_sigaction: wrap(signal, action.sa_sigaction, restarts), ..*action }
    });
    let action = wrapped.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: contract of a hook; a trampoline takes the same arguments as the handler that it calls.
    let result = unsafe { originals::sigaction::call(signal, action, old) };
    // SAFETY: contract of a hook: null or valid, and libc has filled it in, since the call has succeeded.
    if let (0, Some(old)) = (result, unsafe { old.as_mut() }) {
        old.sa_sigaction = unwrap(old.sa_sigaction);
    }
    result
}

macro_rules! setters {
    ($($name:ident($signal:ident) restarts $restarts:expr;)*) => {$(
        /// # Safety
        ///
        /// Contract of a hook (`hooks/mod.rs`).
        pub(in crate::monkey) unsafe fn $name(
            $signal: c_int,
            handler: sighandler_t,
        ) -> sighandler_t {
            let wrapped = wrap($signal, handler, $restarts);
            // SAFETY: contract of a hook; a trampoline takes the same arguments as the handler that it calls.
            unwrap(unsafe { originals::$name::call($signal, wrapped) })
        }
    )*};
}

setters! {
    signal(signal) restarts INTERRUPTING.load(Relaxed) & bit(signal) == 0;
    bsd_signal(signal) restarts INTERRUPTING.load(Relaxed) & bit(signal) == 0;
    ssignal(signal) restarts INTERRUPTING.load(Relaxed) & bit(signal) == 0;
    sysv_signal(signal) restarts false;
    __sysv_signal(signal) restarts false;
    sigset(signal) restarts false;
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn siginterrupt(signal: c_int, flag: c_int) -> c_int {
    match flag {
        0 => INTERRUPTING.fetch_and(!bit(signal), Relaxed),
        _ => INTERRUPTING.fetch_or(bit(signal), Relaxed),
    };
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: `action` is valid for a write.
    if unsafe { originals::sigaction::call(signal, ptr::null(), action.as_mut_ptr()) } == 0 {
        // SAFETY: the call has succeeded, so it has filled in `action`.
        let mut action = unsafe { action.assume_init() };
        let flags = match flag {
            0 => action.sa_flags | libc::SA_RESTART,
            _ => action.sa_flags & !libc::SA_RESTART,
        };
        if flags != action.sa_flags {
            action.sa_flags = flags;
            // SAFETY: `action` is the current action with another flag; a wrapped handler is unwrapped first.
            unsafe { sigaction(signal, &action, ptr::null_mut()) };
        }
    }
    // libc's function records the flag for its `signal`, and finds the action already as requested.
    // SAFETY: no pointer is passed.
    unsafe { originals::siginterrupt::call(signal, flag) }
}
