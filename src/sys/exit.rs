//! The end of the process.

use super::lock::{Lock, Locked};
use std::ptr;

static FUNCTIONS: Lock<Vec<fn()>> = Lock::new(Vec::new());

/// Has `f` called, once, when the process ends by a return from `main` or by `exit`: what was said last comes
/// first. `f` must not unwind.
pub(crate) fn at_exit(f: fn()) {
    extern "C" fn call() {
        run();
    }
    let mut functions = FUNCTIONS.lock();
    if functions.iter().any(|known| ptr::fn_addr_eq(*known, f)) {
        return;
    }
    if functions.is_empty() {
        // SAFETY: a function that lives as long as the process.
        unsafe { libc::atexit(call) };
    }
    functions.push(f);
}

/// What is to be called. Nobody adds anything meanwhile.
pub(super) fn functions() -> Locked<'static, Vec<fn()>> {
    FUNCTIONS.lock()
}

/// Calls what is to be called at the end.
pub(super) fn run() {
    loop {
        let f = FUNCTIONS.lock().pop();
        let Some(f) = f else { return };
        f();
    }
}
