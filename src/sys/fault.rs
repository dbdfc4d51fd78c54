//! Memory faults: a handler that looks first, and passes on what it does not know.

use super::signal::call_handler;
use std::cell::UnsafeCell;
use std::mem::{self, MaybeUninit};
use std::ptr;
use std::sync::Once;

/// Looks at the address of a fault of the calling thread. Ends the process if it knows what happened,
/// and otherwise returns. Runs as a signal handler: it must not allocate, lock or unwind.
pub(crate) type Inspector = fn(address: usize);

/// The two signals that a forbidden access raises.
const SIGNALS: [libc::c_int; 2] = [libc::SIGSEGV, libc::SIGBUS];

struct Handlers {
    inspector: UnsafeCell<Option<Inspector>>,
    previous: [UnsafeCell<MaybeUninit<libc::sigaction>>; 2],
}

// SAFETY: written inside `ONCE` before the handlers are in place, and only read after that.
unsafe impl Sync for Handlers {}

static ONCE: Once = Once::new();
static HANDLERS: Handlers = Handlers {
    inspector: UnsafeCell::new(None),
    previous: [const { UnsafeCell::new(MaybeUninit::uninit()) }; 2],
};

/// Puts `inspector` before whoever handles memory faults now, once for the process.
pub(crate) fn install(inspector: Inspector) {
    ONCE.call_once(|| {
        // SAFETY: nobody reads before the handlers are in place, and this runs once. The pointers
        // given to sigaction are to live structures, all-zero being a valid one.
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
    // SAFETY: the kernel hands over a valid `info`; the handlers were stored before this one was.
    unsafe {
        if (*info).si_code > 0 {
            // Raised by an access, not sent by `kill`: only then is there an address.
            if let Some(inspect) = *HANDLERS.inspector.get() {
                inspect((*info).si_addr().addr());
            }
        }
        let index = SIGNALS.iter().position(|known| *known == signal).unwrap_or(0);
        let previous = (*HANDLERS.previous[index].get()).assume_init_ref();
        pass_on(previous, signal, info, context);
    }
}

/// Does what would have been done without us.
///
/// # Safety
///
/// Called in a handler of `signal` with the arguments that the kernel gave; `previous` was in place.
unsafe fn pass_on(
    previous: &libc::sigaction,
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    match previous.sa_sigaction {
        // SAFETY: the kernel hands over a valid `info`.
        libc::SIG_IGN if unsafe { (*info).si_code } <= 0 => {}
        libc::SIG_IGN | libc::SIG_DFL => {
            // The faulting instruction runs again when we return, and the kernel ends the process as
            // it would have done. A signal that was sent has to be sent again.
            // SAFETY: a structure that sigaction filled in, a valid `info`; raise has no preconditions.
            unsafe {
                libc::sigaction(signal, previous, ptr::null_mut());
                if (*info).si_code <= 0 {
                    libc::raise(signal);
                }
            }
        }
        // SAFETY: handed on as they came; it is neither of the two above.
        _ => unsafe { call_handler(previous, signal, info, context) },
    }
}
