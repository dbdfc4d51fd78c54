//! Handles memory faults: an inspector looks at them first, then the previous handler.

use super::signal::call_handler;
use std::cell::UnsafeCell;
use std::mem::{self, MaybeUninit};
use std::ptr;
use std::sync::Once;

/// Inspects the address of a fault of the calling thread.
///
/// Ends the process if it recognises the fault, and returns otherwise. Runs as a signal handler: it must
/// not allocate, lock or unwind.
pub(crate) type Inspector = fn(address: usize);

/// The two signals that an invalid access raises.
const SIGNALS: [libc::c_int; 2] = [libc::SIGSEGV, libc::SIGBUS];

struct Handlers {
    inspector: UnsafeCell<Option<Inspector>>,
    previous: [UnsafeCell<MaybeUninit<libc::sigaction>>; 2],
}

// SAFETY: written inside `ONCE` before the handlers are installed, and only read after that.
unsafe impl Sync for Handlers {}

static ONCE: Once = Once::new();
static HANDLERS: Handlers = Handlers {
    inspector: UnsafeCell::new(None),
    previous: [const { UnsafeCell::new(MaybeUninit::uninit()) }; 2],
};

/// Installs `inspector` in front of the current handlers of memory faults, once per process.
pub(crate) fn install(inspector: Inspector) {
    ONCE.call_once(|| {
        // SAFETY: this runs once, and nothing reads `HANDLERS` before the handlers are installed. The
        // pointers passed to `sigaction` are null or to live structures, and all-zero is a valid
        // `sigaction`.
        unsafe {
            *HANDLERS.inspector.get() = Some(inspector);
            for (signal, previous) in SIGNALS.into_iter().zip(&HANDLERS.previous) {
                libc::sigaction(signal, ptr::null(), (*previous.get()).as_mut_ptr());
            }
            for signal in SIGNALS {
                let mut action: libc::sigaction = mem::zeroed();
                action.sa_sigaction = on_fault as *const () as usize;
                action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
                libc::sigaction(signal, &action, ptr::null_mut());
            }
        }
    });
}

unsafe extern "C" fn on_fault(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    // SAFETY: the kernel passes a valid `info`. `HANDLERS` was filled in before this handler was installed.
    unsafe {
        if (*info).si_code > 0 {
            // Raised by an access and not sent by `kill`: only then is there an address.
            if let Some(inspect) = *HANDLERS.inspector.get() {
                inspect((*info).si_addr().addr());
            }
        }
        let index = SIGNALS.iter().position(|known| *known == signal).unwrap_or(0);
        let previous = (*HANDLERS.previous[index].get()).assume_init_ref();
        pass_on(previous, signal, info, context);
    }
}

/// Does what would have happened without this module's handler.
///
/// # Safety
///
/// Called in a handler of `signal` with the arguments that the kernel passed; `previous` is the action that
/// this module replaced.
unsafe fn pass_on(
    previous: &libc::sigaction,
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    match previous.sa_sigaction {
        // SAFETY: the kernel passes a valid `info`, by this function's contract.
        libc::SIG_IGN if unsafe { (*info).si_code } <= 0 => {}
        libc::SIG_IGN | libc::SIG_DFL => {
            // The faulting instruction runs again when the handler returns, and then the kernel ends the
            // process as it would have. A signal that was sent has to be sent again.
            // SAFETY: `previous` was filled in by `sigaction`, the kernel passes a valid `info`, and
            // `raise` has no preconditions.
            unsafe {
                libc::sigaction(signal, previous, ptr::null_mut());
                if (*info).si_code <= 0 {
                    libc::raise(signal);
                }
            }
        }
        // SAFETY: the arguments are passed on unchanged, and `previous` is neither of the two cases above.
        _ => unsafe { call_handler(previous, signal, info, context) },
    }
}
