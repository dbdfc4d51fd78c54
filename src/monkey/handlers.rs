//! The signal handlers of the program, called by functions of this module, which count them first, and know
//! for how long they run.
//!
//! ```text
//!   the program: sigaction(USR1, f)      the kernel's action         a signal comes
//!     f ──► HANDLERS[3] = f ───────────► TRAMPOLINES[3][restarts] ──► counts, then HANDLERS[3](..)
//!   the old action: TRAMPOLINES[5][..] is said to the program as HANDLERS[5]
//! ```
//!
//! 1. A slot is filled once and never changed: so the kernel's action, which it changes and reads as a
//!    whole, is the only state there is. Threads that change one action, a handler that comes in the middle
//!    of that, `fork`, and a child that shares its parent's memory need no lock.
//! 2. The flags are as the program has set them, so what the kernel does is unchanged: which stack, which
//!    mask, `SA_RESETHAND`.
//! 3. What cannot be wrapped (no slot is left) is installed as it is, and interrupts no call of a coroutine.
//! 4. What a wrapped handler calls is libc's, also on the thread of coroutines: see `sys/signal_counts.rs`.
//!
//! This is so from the beginning, whatever is patched: so no handler has to be found and replaced later.

use super::errno;
use crate::sys::{lineage, signal, signal_counts, thread_probe};
use libc::{c_int, c_void, siginfo_t};
use std::mem::transmute;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{AcqRel, Acquire};

/// More than one program has different handlers.
const SLOTS: usize = 64;

/// 0 where there is none yet.
static HANDLERS: [AtomicUsize; SLOTS] = [const { AtomicUsize::new(0) }; SLOTS];

type Handler = unsafe extern "C-unwind" fn(c_int, *mut siginfo_t, *mut c_void);

macro_rules! trampolines {
    ($($slot:literal)*) => { [$([trampoline::<$slot, false>, trampoline::<$slot, true>]),*] };
}

/// Of each slot: the one without `SA_RESTART`, and the one with it.
static TRAMPOLINES: [[Handler; 2]; SLOTS] = trampolines!(
    0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31
    32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63
);

/// What the kernel calls.
///
/// The program's handler may leave by `longjmp`, or unwind where it was built for that: there is nothing here
/// that would have to be dropped.
unsafe extern "C-unwind" fn trampoline<const SLOT: usize, const RESTARTS: bool>(
    signal: c_int,
    info: *mut siginfo_t,
    context: *mut c_void,
) {
    // SAFETY: the slot was filled before this was installed, with a handler. One that takes the number alone
    // ignores the other arguments, which are passed in registers.
    let handler = unsafe { transmute::<usize, Handler>(HANDLERS[SLOT].load(Acquire)) };
    // What is noted would be so of the parent, whose memory it is, and stay if the handler ends the child.
    if lineage::is_vfork_child() {
        // SAFETY: what the kernel has called this with.
        return unsafe { handler(signal, info, context) };
    }
    let before = errno::get();
    let outer = signal_counts::enter();
    if is_counted(signal) {
        signal_counts::count(RESTARTS);
    }
    errno::set(before);
    // SAFETY: what the kernel has called this with.
    unsafe { handler(signal, info, context) };
    signal_counts::leave(outer);
}

/// Whether handlers of a signal are counted. Not of the clocks of processor time: those interrupt a thread
/// that computes, and no call that waits. Nor of `SIGPIPE`, which comes of a coroutine's own write.
fn is_counted(signal: c_int) -> bool {
    !matches!(signal, libc::SIGPROF | libc::SIGVTALRM | libc::SIGPIPE)
}

/// Whether handlers of a signal are wrapped. Not of what a thread raises by its own instructions.
fn is_wrapped(signal: c_int) -> bool {
    !matches!(
        signal,
        libc::SIGSEGV | libc::SIGBUS | libc::SIGFPE | libc::SIGILL | libc::SIGTRAP | libc::SIGSYS
    )
}

/// `SIG_ERR` of `signal`, and `SIG_HOLD` of `sigset`, are no handlers either.
fn is_handler(address: usize) -> bool {
    const SIG_HOLD: usize = 2;
    !matches!(address, libc::SIG_DFL | libc::SIG_IGN | SIG_HOLD | libc::SIG_ERR)
}

/// What is to be installed for a handler of the program.
pub(super) fn wrap(signal: c_int, handler: usize, restarts: bool) -> usize {
    let handler = unwrap(handler);
    let is_own = signal::is_own_handler(handler) || thread_probe::is_own_handler(handler);
    if !is_handler(handler) || is_own || !is_wrapped(signal) {
        return handler;
    }
    match slot_of(handler) {
        Some(slot) => TRAMPOLINES[slot][usize::from(restarts)] as usize,
        None => handler,
    }
}

/// The handler of the program that an address in the kernel's action stands for.
pub(super) fn unwrap(address: usize) -> usize {
    let is_this = |pair: &[Handler; 2]| pair.iter().any(|own| *own as usize == address);
    match TRAMPOLINES.iter().position(is_this) {
        Some(slot) => HANDLERS[slot].load(Acquire),
        None => address,
    }
}

/// The slot of a handler, which is filled if need be. `None` if all are taken.
fn slot_of(handler: usize) -> Option<usize> {
    HANDLERS.iter().position(|slot| {
        let there = slot.load(Acquire);
        there == handler
            || there == 0
                && match slot.compare_exchange(0, handler, AcqRel, Acquire) {
                    Ok(_) => true,
                    Err(other) => other == handler,
                }
    })
}
