#![forbid(unsafe_code)]
//! Hooks around each fork: they keep state that threads share consistent in the child.
//!
//! A thread that is changing shared state does not exist in the child. So each owner of such state registers
//! a hook, which holds the lock of the state during the fork and resets the state in the child.
//!
//! ```text
//!   fork ──► hook 1: lock ──► hook 2: lock ──► the kernel ──┬─► parent:         unlock 2,          unlock 1
//!                                                           └─► child: reset 2, unlock 2, reset 1, unlock 1
//! ```

use super::lock::Lock;
use std::io;
use std::ptr;

/// The process in which a fork has returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The parent, with the process ID of the child.
    Parent(u32),
    Child,
}

/// The rest of a fork: the inner hooks, and then the system call.
pub(crate) type Fork<'a> = &'a mut dyn FnMut() -> io::Result<Side>;

/// Calls the fork that it is given once, and returns its result.
pub(crate) type Hook = fn(Fork<'_>) -> io::Result<Side>;

static HOOKS: Lock<Vec<Hook>> = Lock::new(Vec::new());

/// Registers a hook for all forks from now on, once. It must neither unwind nor switch.
pub(crate) fn around_fork(hook: Hook) {
    let mut hooks = HOOKS.lock();
    if !hooks.iter().any(|known| ptr::fn_addr_eq(*known, hook)) {
        hooks.push(hook);
    }
}

/// Calls `fork` inside all hooks.
pub(super) fn run(fork: Fork<'_>) -> io::Result<Side> {
    run_all(&HOOKS.lock(), fork)
}

fn run_all(hooks: &[Hook], fork: Fork<'_>) -> io::Result<Side> {
    match hooks {
        [first, others @ ..] => first(&mut || run_all(others, fork)),
        [] => fork(),
    }
}
