#![forbid(unsafe_code)]
//! Dedicated threads for waits that only the kernel can do.
//!
//! One thread per wait, without a bound: such a wait ends when a peer acts, which may be never, so it must
//! not take a place in a pool that other calls need. The thread has no hub, so its calls go to libc. It
//! blocks the program's signals, except for those that the call itself causes.
//!
//! A wait that may be cut short is ended by a signal when its coroutine is killed: the call fails with
//! `EINTR`, and its thread ends. So no thread is left behind, and the call has no late effect after its
//! caller is gone.

use super::blocking_pool::{OwnSignals, take_only};
use super::errno;
use crate::hub::{
    Deadline, Interrupts, Registration, Wake, mark_interrupts_reported, park_nounwind,
};
use crate::sys::interrupt::Target;
use crate::sys::lock::Lock;
use libc::c_int;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Time between two signals to a thread whose call is being ended.
const PAUSE: Duration = Duration::from_millis(1);

/// A call that a dedicated thread makes for the current coroutine.
pub(super) struct Aside<R> {
    purpose: &'static str,
    /// Counted from the start of the call, which was before the thread was started.
    interrupts: Interrupts,
    shared: Arc<Shared<R>>,
    _registration: Registration,
}

struct Shared<R> {
    progress: Lock<Progress<R>>,
    target: Target,
}

struct Progress<R> {
    is_prepared: bool,
    /// The result, and the errno that the call has set, or zero.
    result: Option<(R, c_int)>,
}

/// Makes `call` on a dedicated thread, and waits for its result. Sets errno as the call left it.
///
/// A kill or a timeout is deferred. `None` if no thread could be started.
pub(super) fn aside<R: Send + 'static>(
    purpose: &'static str,
    call: impl FnOnce() -> R + Send + 'static,
) -> Option<R> {
    Aside::begin(purpose, || (), |()| call()).map(Aside::wait)
}

/// Like [`aside`], for a call that can be ended by a signal.
///
/// After a kill or a timeout it fails with `ECANCELED`, unless it has succeeded by then. `interrupts` selects
/// the handlers of the program that end it: `ReportAnySignal` for a call that the kernel never restarts.
///
/// Called after `yield_if_due_nounwind`, which begins the call: a handler that has run since then ends it.
pub(super) fn aside_or_interrupted<R: Send + 'static>(
    purpose: &'static str,
    interrupts: Interrupts,
    call: impl FnOnce() -> R + Send + 'static,
) -> Option<R> {
    Aside::begin_with(purpose, interrupts, || (), |()| call()).map(Aside::wait)
}

/// Like [`aside`], for a call that handlers of the program end, but a kill does not.
///
/// If `is_restarted`, as the kernel restarts the call, handlers without `SA_RESTART` end it; otherwise all
/// handlers do.
///
/// Called after `yield_if_due_nounwind`, which begins the call.
pub(super) fn aside_or_signalled<R: Send + 'static>(
    purpose: &'static str,
    is_restarted: bool,
    call: impl FnOnce() -> R + Send + 'static,
) -> Option<R> {
    let interrupts = match is_restarted {
        true => Interrupts::Signals,
        false => Interrupts::any_signal_since_call_began(),
    };
    Aside::begin_with(purpose, interrupts, || (), |()| call()).map(Aside::wait)
}

/// Like [`aside_or_interrupted`], for a call that the kernel never restarts.
///
/// Any handler of the program ends it.
pub(super) fn aside_or_ended<R: Send + 'static>(
    purpose: &'static str,
    call: impl FnOnce() -> R + Send + 'static,
) -> Option<R> {
    aside_or_interrupted(purpose, Interrupts::ReportAnySignal, call)
}

impl<R: Send + 'static> Aside<R> {
    /// Starts a dedicated thread that runs `prepare`, and passes its result to `call`.
    ///
    /// `None` if no thread could be started.
    pub(super) fn begin<P>(
        purpose: &'static str,
        prepare: impl FnOnce() -> P + Send + 'static,
        call: impl FnOnce(P) -> R + Send + 'static,
    ) -> Option<Self> {
        Self::begin_with(purpose, Interrupts::Defer, prepare, call)
    }

    fn begin_with<P>(
        purpose: &'static str,
        interrupts: Interrupts,
        prepare: impl FnOnce() -> P + Send + 'static,
        call: impl FnOnce(P) -> R + Send + 'static,
    ) -> Option<Self> {
        const STACK: usize = 64 << 10;
        let interrupts = interrupts.since_call_began();
        let registration = Registration::new();
        let unparker = registration.unparker();
        let progress = Lock::new(Progress { is_prepared: false, result: None });
        let shared = Arc::new(Shared { progress, target: Target::default() });
        let there = Arc::clone(&shared);
        let signals = OwnSignals::of_caller();
        let body = move || {
            take_only(signals);
            let prepared = prepare();
            there.progress.lock().is_prepared = true;
            unparker.unpark();
            if interrupts != Interrupts::Defer {
                there.target.enter();
            }
            errno::set(0);
            let result = call(prepared);
            let number = errno::get();
            there.target.leave();
            there.progress.lock().result = Some((result, number));
            unparker.unpark();
        };
        thread::Builder::new().name(purpose.into()).stack_size(STACK).spawn(body).ok()?;
        Some(Aside { purpose, interrupts, shared, _registration: registration })
    }

    /// Waits until the other thread has prepared the call, and is about to make it.
    pub(super) fn wait_prepared(&self) {
        while !self.shared.progress.lock().is_prepared {
            park_nounwind(self.purpose, None, Interrupts::Defer);
        }
    }

    /// Waits for the result of the call. Sets errno as the call left it.
    pub(super) fn wait(self) -> R {
        let mut cut_short = None;
        loop {
            let done = self.shared.progress.lock().result.take();
            if let Some((result, number)) = done {
                drop(self);
                if cut_short == Some(Wake::Interrupted) && number == libc::EINTR {
                    mark_interrupts_reported();
                    errno::set(libc::ECANCELED);
                } else if number != 0 {
                    errno::set(number);
                }
                return result;
            }
            if cut_short.is_some() {
                self.shared.target.interrupt();
                park_nounwind(self.purpose, Deadline::after(PAUSE), Interrupts::Defer);
            } else {
                let wake = park_nounwind(self.purpose, None, self.interrupts);
                cut_short = (wake != Wake::Unparked).then_some(wake);
            }
        }
    }
}
