#![forbid(unsafe_code)]
//! A wait that only the kernel can do, made by a thread of its own.
//!
//! One thread per wait, without a bound: such a wait ends when a peer does something, which may be never, so
//! it must not take a place in a pool that other calls need. The thread has no hub, so that what it calls is
//! libc's, and it takes no signals of the program's.
//!
//! A wait that may be cut short is ended by a signal when its coroutine is killed: the call fails with
//! `EINTR`, and its thread ends. So no thread is left behind, and nothing happens later in the name of a
//! caller that is gone.

use super::elsewhere::take_no_signals;
use super::errno;
use crate::hub::{Deadline, Interrupts, Registration, Wake, park_quietly, tell_interrupts};
use crate::sys::interrupt::Target;
use crate::sys::lock::Lock;
use libc::c_int;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Between two signals to a thread whose call is to end.
const PAUSE: Duration = Duration::from_millis(1);

struct Wait<R> {
    /// With the errno that was there after the call.
    result: Lock<Option<(R, c_int)>>,
    target: Target,
}

/// Makes `call` on another thread, and waits for its result, also in a coroutine that is killed. Errno is as
/// the call leaves it. `None`: there can be no more threads.
pub(super) fn aside<R: Send + 'static>(
    purpose: &'static str,
    call: impl FnOnce() -> R + Send + 'static,
) -> Option<R> {
    make(purpose, Interrupts::Defer, call)
}

/// Like [`aside`], for a call that a signal ends: in a coroutine that is killed, or whose time is over, it
/// fails with `ECANCELED`, unless it has succeeded by then.
pub(super) fn aside_or_interrupted<R: Send + 'static>(
    purpose: &'static str,
    call: impl FnOnce() -> R + Send + 'static,
) -> Option<R> {
    make(purpose, Interrupts::Tell, call)
}

fn make<R: Send + 'static>(
    purpose: &'static str,
    interrupts: Interrupts,
    call: impl FnOnce() -> R + Send + 'static,
) -> Option<R> {
    const STACK: usize = 64 << 10;
    let registration = Registration::new();
    let unparker = registration.unparker();
    let wait = Arc::new(Wait { result: Lock::new(None), target: Target::default() });
    let there = Arc::clone(&wait);
    let body = move || {
        take_no_signals();
        if interrupts == Interrupts::Tell {
            there.target.enter();
        }
        errno::set(0);
        let result = call();
        let number = errno::get();
        there.target.leave();
        *there.result.lock() = Some((result, number));
        unparker.unpark();
    };
    thread::Builder::new().name(purpose.into()).stack_size(STACK).spawn(body).ok()?;
    let mut is_cut_short = false;
    loop {
        let done = wait.result.lock().take();
        if let Some((result, number)) = done {
            drop(registration);
            if is_cut_short && number == libc::EINTR {
                tell_interrupts();
                errno::set(libc::ECANCELED);
            } else {
                errno::set(number);
            }
            return Some(result);
        }
        if is_cut_short {
            wait.target.interrupt();
            park_quietly(purpose, Deadline::after(PAUSE), Interrupts::Defer);
        } else {
            is_cut_short = park_quietly(purpose, None, interrupts) == Wake::Interrupted;
        }
    }
}
