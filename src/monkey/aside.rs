//! A wait that only the kernel can do, made by a thread of its own.
//!
//! A thread for each: how long such a wait takes nobody knows, so no pool should be kept busy with it. The
//! thread has no hub, so that what it calls is libc's, and it takes no signals: those are for the program's
//! own.

use super::errno;
use crate::hub::{Interrupts, Registration, park_quietly};
use crate::sys::lock::Lock;
use std::mem::MaybeUninit;
use std::ptr;
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

/// But those that mean the thread itself.
fn take_no_signals() {
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: room for a set, which is filled first; a null pointer asks for nothing.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        for own in [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGSYS] {
            libc::sigdelset(all.as_mut_ptr(), own);
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), ptr::null_mut());
    }
}
