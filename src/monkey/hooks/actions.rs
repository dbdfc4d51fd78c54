//! What changes the action of a signal: the handler is wrapped on its way in, and unwrapped on its way out
//! (see `handlers.rs`). All threads' calls, patched or not.
//!
//! The functions beside `sigaction` are hooked since libc calls its own `sigaction` in them, not this one.

use crate::monkey::handlers::{unwrap, wrap};
use crate::monkey::originals;
use libc::{c_int, sighandler_t};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The signals whose handlers `signal` installs without `SA_RESTART`, as `siginterrupt` was told: a bit each.
static INTERRUPTING: AtomicU64 = AtomicU64::new(0);

fn bit(signal: c_int) -> u64 {
    match signal {
        1..=64 => 1 << (signal - 1),
        _ => 0,
    }
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn sigaction(
    signal: c_int,
    action: *const libc::sigaction,
    old: *mut libc::sigaction,
) -> c_int {
    // SAFETY: the caller's.
    let wrapped = unsafe { action.as_ref() }.map(|action| {
        let restarts = action.sa_flags & libc::SA_RESTART != 0;
        libc::sigaction { sa_sigaction: wrap(signal, action.sa_sigaction, restarts), ..*action }
    });
    let action = wrapped.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: the caller's; a trampoline calls the handler that it stands for.
    let result = unsafe { originals::sigaction::call(signal, action, old) };
    // SAFETY: the caller's; it was filled if the call has succeeded.
    if let (0, Some(old)) = (result, unsafe { old.as_mut() }) {
        old.sa_sigaction = unwrap(old.sa_sigaction);
    }
    result
}

macro_rules! setters {
    ($($name:ident($signal:ident) restarts $restarts:expr;)*) => {$(
        /// # Safety
        ///
        /// As libc's.
        pub(in crate::monkey) unsafe fn $name(
            $signal: c_int,
            handler: sighandler_t,
        ) -> sighandler_t {
            let wrapped = wrap($signal, handler, $restarts);
            // SAFETY: the caller's; a trampoline calls the handler that it stands for.
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
/// As libc's.
pub(in crate::monkey) unsafe fn siginterrupt(signal: c_int, flag: c_int) -> c_int {
    match flag {
        0 => INTERRUPTING.fetch_and(!bit(signal), Relaxed),
        _ => INTERRUPTING.fetch_or(bit(signal), Relaxed),
    };
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: room for the answer.
    if unsafe { originals::sigaction::call(signal, ptr::null(), action.as_mut_ptr()) } == 0 {
        // SAFETY: it was answered.
        let mut action = unsafe { action.assume_init() };
        let flags = match flag {
            0 => action.sa_flags | libc::SA_RESTART,
            _ => action.sa_flags & !libc::SA_RESTART,
        };
        if flags != action.sa_flags {
            action.sa_flags = flags;
            // SAFETY: the action that was there, with the other flag; what is wrapped is unwrapped first.
            unsafe { sigaction(signal, &action, ptr::null_mut()) };
        }
    }
    // Notes it for `signal`, and finds the action as it is to be.
    // SAFETY: the caller's.
    unsafe { originals::siginterrupt::call(signal, flag) }
}
