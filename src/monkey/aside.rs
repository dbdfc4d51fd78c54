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
use libc::c_int;
use std::sync::Arc;
use std::thread;

/// A call that another thread makes for the current coroutine.
pub(super) struct Aside<R> {
    purpose: &'static str,
    progress: Arc<Lock<Progress<R>>>,
    _registration: Registration,
}

struct Progress<R> {
    is_prepared: bool,
    /// With the errno that was there after it.
    result: Option<(R, c_int)>,
}

/// Has `call` made by another thread, and waits for what it returns, whatever is to be raised meanwhile.
/// Errno is as the call leaves it. `None`: there can be no more threads.
pub(super) fn aside<R: Send + 'static>(
    purpose: &'static str,
    call: impl FnOnce() -> R + Send + 'static,
) -> Option<R> {
    Aside::begin(purpose, || (), |()| call()).map(Aside::wait)
}

impl<R: Send + 'static> Aside<R> {
    /// Has `prepare` and then `call`, with what that has returned, made by another thread.
    pub(super) fn begin<P>(
        purpose: &'static str,
        prepare: impl FnOnce() -> P + Send + 'static,
        call: impl FnOnce(P) -> R + Send + 'static,
    ) -> Option<Self> {
        const STACK: usize = 64 << 10;
        let registration = Registration::new();
        let unparker = registration.unparker();
        let progress = Arc::new(Lock::new(Progress { is_prepared: false, result: None }));
        let place = Arc::clone(&progress);
        let body = move || {
            take_no_signals();
            let prepared = prepare();
            place.lock().is_prepared = true;
            unparker.unpark();
            let result = call(prepared);
            place.lock().result = Some((result, errno::get()));
            unparker.unpark();
        };
        thread::Builder::new().name(purpose.into()).stack_size(STACK).spawn(body).ok()?;
        Some(Aside { purpose, progress, _registration: registration })
    }

    /// Waits until the other thread has prepared the call, and begins to make it.
    pub(super) fn wait_prepared(&self) {
        while !self.progress.lock().is_prepared {
            park_quietly(self.purpose, None, Interrupts::Defer);
        }
    }

    /// Waits for what the call returns.
    pub(super) fn wait(self) -> R {
        loop {
            let done = self.progress.lock().result.take();
            if let Some((result, number)) = done {
                drop(self);
                errno::set(number);
                return result;
            }
            park_quietly(self.purpose, None, Interrupts::Defer);
        }
    }
}
