//! The end of the process.

use std::sync::OnceLock;

/// Has `f` called when the process ends by a return from `main` or by `exit`. Only the first call has an
/// effect. `f` must not unwind.
pub(crate) fn at_exit(f: fn()) {
    static FUNCTION: OnceLock<fn()> = OnceLock::new();
    extern "C" fn call() {
        if let Some(f) = FUNCTION.get() {
            f();
        }
    }
    FUNCTION.get_or_init(|| {
        // SAFETY: a function that lives as long as the process.
        unsafe { libc::atexit(call) };
        f
    });
}
