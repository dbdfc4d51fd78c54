#![forbid(unsafe_code)]
//! A wait that only the kernel can do, made by a thread of its own.
//!
//! A thread for each: how long such a wait takes nobody knows, so no pool should be kept busy with it. The
//! thread has no hub, so that what it calls is libc's, and it takes no signals: those are for the program's
//! own.

use super::elsewhere::take_no_signals;
use super::errno;
use crate::hub::{Interrupts, Registration, park_quietly};
use crate::sys::lock::Lock;
use std::sync::Arc;
use std::thread;

/// Has `call` made by another thread, and waits for what it returns, whatever is to be raised meanwhile.
/// Errno is as the call leaves it. `None`: there can be no more threads.
pub(super) fn aside<R: Send + 'static>(
    purpose: &'static str,
    call: impl FnOnce() -> R + Send + 'static,
) -> Option<R> {
    const STACK: usize = 64 << 10;
    let registration = Registration::new();
    let unparker = registration.unparker();
    let result = Arc::new(Lock::new(None));
    let place = Arc::clone(&result);
    let body = move || {
        take_no_signals();
        let result = call();
        *place.lock() = Some((result, errno::get()));
        unparker.unpark();
    };
    thread::Builder::new().name(purpose.into()).stack_size(STACK).spawn(body).ok()?;
    loop {
        let done = result.lock().take();
        if let Some((result, number)) = done {
            drop(registration);
            errno::set(number);
            return Some(result);
        }
        park_quietly(purpose, None, Interrupts::Defer);
    }
}
