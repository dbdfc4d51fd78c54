//! Wraps the program's signal handlers in trampolines, which count them and record while they run.
//!
//! ```text
//!   the program: sigaction(USR1, f)      the kernel's action         a signal arrives
//!     f ──► HANDLERS[3] = f ───────────► TRAMPOLINES[3][restarts] ──► counts, then HANDLERS[3](..)
//!   the old action: TRAMPOLINES[5][..] is returned to the program as HANDLERS[5]
//! ```
//!
//! 1. A slot is filled once and never changed. So the only changing state is the kernel's action, which the
//!    kernel reads and writes as a whole. No lock is needed, whether threads change the same action, a
//!    handler interrupts the change, the process forks, or a child shares its parent's memory.
//! 2. The flags are passed on unchanged, and with them the kernel's behaviour: the stack, the mask,
//!    `SA_RESETHAND`.
//! 3. A handler for which no slot is left is installed unwrapped, and interrupts no call of a coroutine.
//! 4. Calls made by a wrapped handler go to libc, even on a thread with coroutines: see
//!    `sys/signal_counts.rs`.
//!
//! Handlers are wrapped from the start of the program, whatever is patched, so none has to be replaced later.

use super::errno;
use crate::sys::{lineage, signal, signal_counts, thread_probe};
use libc::{c_int, c_void, siginfo_t};
use std::mem::transmute;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{AcqRel, Acquire};

/// The number of distinct handlers that can be wrapped: more than a program usually has.
const SLOTS: usize = 64;

/// The wrapped handlers. 0: the slot is empty.
static HANDLERS: [AtomicUsize; SLOTS] = [const { AtomicUsize::new(0) }; SLOTS];

type Handler = unsafe extern "C-unwind" fn(c_int, *mut siginfo_t, *mut c_void);

macro_rules! trampolines {
    ($($slot:literal)*) => { [$([trampoline::<$slot, false>, trampoline::<$slot, true>]),*] };
}

/// Two trampolines per slot: for an action without `SA_RESTART`, and with it.
static TRAMPOLINES: [[Handler; 2]; SLOTS] = trampolines!(
    0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31
    32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63
);

/// Calls the handler in the slot. Installed in its place, and called by the kernel.
///
/// The handler may leave by `longjmp`, or unwind if it was compiled for that: this frame has nothing to drop.
///
/// # Safety
///
/// Called only by the kernel, for an action that [`wrap`] was called for.
unsafe extern "C-unwind" fn trampoline<const SLOT: usize, const RESTARTS: bool>(
    signal: c_int,
    info: *mut siginfo_t,
    context: *mut c_void,
) {
    // SAFETY: the slot was filled with a handler before this trampoline was installed. A handler that takes
    // only the number ignores the other arguments, which are passed in registers.
    let handler = unsafe { transmute::<usize, Handler>(HANDLERS[SLOT].load(Acquire)) };
    // The counts are the parent's, whose memory this is, and would stay wrong if the handler ends the child.
    if lineage::is_vfork_child() {
        // SAFETY: the handler gets the kernel's arguments.
        return unsafe { handler(signal, info, context) };
    }
    let before = errno::get();
    let outer = signal_counts::enter();
    if is_counted(signal) {
        signal_counts::count(RESTARTS);
    }
    errno::set(before);
    // SAFETY: the handler gets the kernel's arguments.
    unsafe { handler(signal, info, context) };
    signal_counts::leave(outer);
}

/// Whether handlers of a signal are counted.
///
/// Those of CPU-time clocks are not, since they interrupt a thread that computes rather than one that waits;
/// nor is that of `SIGPIPE`, which a coroutine's own write causes.
fn is_counted(signal: c_int) -> bool {
    !matches!(signal, libc::SIGPROF | libc::SIGVTALRM | libc::SIGPIPE)
}

/// Whether handlers of a signal are wrapped: not those of faults of the thread itself.
fn is_wrapped(signal: c_int) -> bool {
    !matches!(
        signal,
        libc::SIGSEGV | libc::SIGBUS | libc::SIGFPE | libc::SIGILL | libc::SIGTRAP | libc::SIGSYS
    )
}

/// Whether an address is a handler, and not one of the special values, such as `SIG_HOLD` of `sigset`.
fn is_handler(address: usize) -> bool {
    const SIG_HOLD: usize = 2;
    !matches!(address, libc::SIG_DFL | libc::SIG_IGN | SIG_HOLD | libc::SIG_ERR)
}

/// Returns the address to install for a handler of the program.
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

/// Returns the program's handler for an address in the kernel's action.
pub(super) fn unwrap(address: usize) -> usize {
    let is_this = |pair: &[Handler; 2]| pair.iter().any(|own| *own as usize == address);
    match TRAMPOLINES.iter().position(is_this) {
        Some(slot) => HANDLERS[slot].load(Acquire),
        None => address,
    }
}

/// Returns the slot of a handler, and fills one if necessary. `None` if all slots are taken.
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
