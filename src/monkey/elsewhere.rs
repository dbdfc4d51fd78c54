//! A call that cannot but block, made by another thread.
//!
//! The threads are this module's own, so that a look-up that is stuck keeps nobody's job waiting: there is
//! one for each call under way, up to [`MOST`], and those that are idle for some seconds end. They have no
//! hub, so that what they call is libc's. They take no signals: those are for the program's own threads.

use super::errno;
use crate::hub::{Interrupts, Registration, Unparker, Wake, park_quietly, tell_interrupts};
use crate::pool::ThreadPool;
use libc::c_int;
use std::cell::Cell;
use std::mem::{MaybeUninit, replace, transmute};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering::Acquire, Ordering::Release};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

/// So many calls are under way at once. Those that are too many wait for one of them to be done.
const MOST: usize = 512;

static THREADS: LazyLock<ThreadPool> = LazyLock::new(|| ThreadPool::new(MOST));

thread_local! {
    static TAKES_SIGNALS: Cell<bool> = const { Cell::new(true) };
}

/// Pointers of a suspended caller, for a call that another thread makes.
#[derive(Clone, Copy)]
pub(super) struct Lent<P>(P);

// SAFETY: whoever has made it has promised that the pointers may be used on another thread.
unsafe impl<P> Send for Lent<P> {}

impl<P: Copy> Lent<P> {
    /// Lends pointers to another thread.
    ///
    /// # Safety
    ///
    /// `pointers` consists of raw pointers to what a function of C may use on any thread, and nothing else
    /// uses that until the call is over.
    pub(super) unsafe fn new(pointers: P) -> Self {
        Lent(pointers)
    }

    pub(super) fn get(self) -> P {
        self.0
    }
}

struct Call<F, R> {
    state: Mutex<State<F, R>>,
    /// Set last: then nobody else looks at the state any more.
    is_over: AtomicBool,
}

enum State<F, R> {
    ToBeMade(F),
    /// With the errno that was there after it.
    Made(R, c_int),
    Taken,
}

impl<F: FnOnce() -> R, R> Call<F, R> {
    /// What there is now; from now on it is taken.
    fn state(&self) -> State<F, R> {
        replace(&mut *self.lock(), State::Taken)
    }

    fn lock(&self) -> MutexGuard<'_, State<F, R>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the call, on the thread that is to make it. Nothing is locked meanwhile.
    fn make(&self) {
        if let State::ToBeMade(f) = self.state() {
            let result = f();
            let number = errno::get();
            *self.lock() = State::Made(result, number);
        }
    }

    /// What it has brought, once it is over.
    fn take(&self) -> R {
        match self.state() {
            State::Made(result, number) => {
                errno::set(number);
                result
            }
            // No thread could be made for it.
            State::ToBeMade(f) => f(),
            State::Taken => unreachable!("a call is made once and taken once"),
        }
    }
}

/// What is left to do after the call, also if it was never made.
struct Finish<F: FnOnce() -> R, R> {
    call: Arc<Call<F, R>>,
    waiter: Unparker,
}

impl<F: FnOnce() -> R, R> Drop for Finish<F, R> {
    fn drop(&mut self) {
        self.call.is_over.store(true, Release);
        self.waiter.unpark();
    }
}

/// Makes a call on another thread. The coroutine waits for it, whatever is to be raised meanwhile. Errno is
/// as the call leaves it.
pub(super) fn elsewhere<'a, R: Send + 'a>(
    purpose: &'static str,
    f: impl FnOnce() -> R + Send + 'a,
) -> R {
    let registration = Registration::new();
    // SAFETY: this function does not end before the call is over: nothing unwinds below, and a greenlet that
    // never comes back from a wait in which nothing is raised keeps its stack for ever.
    let call = unsafe { begin(f, registration.unparker()) };
    while !call.is_over.load(Acquire) {
        park_quietly(purpose, None, Interrupts::Defer);
    }
    // The last switch is behind us.
    drop(registration);
    call.take()
}

/// As [`elsewhere`]. `None` if a kill or a limit has come first: the call goes on, and what it brings is
/// dropped.
pub(super) fn elsewhere_or_interrupted<R: Send + 'static>(
    purpose: &'static str,
    f: impl FnOnce() -> R + Send + 'static,
) -> Option<R> {
    elsewhere_until(purpose, Interrupts::Tell, |wake| wake == Wake::Interrupted, f).ok()
}

/// As [`elsewhere_or_interrupted`]. Also a signal handler without `SA_RESTART` ends it. `Err`: what the
/// call is to fail with.
pub(super) fn elsewhere_or_signalled<R: Send + 'static>(
    purpose: &'static str,
    f: impl FnOnce() -> R + Send + 'static,
) -> Result<R, c_int> {
    let ends = |wake| matches!(wake, Wake::Interrupted | Wake::Signalled);
    elsewhere_until(purpose, Interrupts::Tell.begun(), ends, f).map_err(|wake| match wake {
        Wake::Interrupted => libc::ECANCELED,
        _ => libc::EINTR,
    })
}

/// As [`elsewhere`]. `Err` if a wake-up that `ends` it has come first.
fn elsewhere_until<R: Send + 'static>(
    purpose: &'static str,
    interrupts: Interrupts,
    ends: impl Fn(Wake) -> bool,
    f: impl FnOnce() -> R + Send + 'static,
) -> Result<R, Wake> {
    let registration = Registration::new();
    // SAFETY: nothing is borrowed.
    let call = unsafe { begin(f, registration.unparker()) };
    while !call.is_over.load(Acquire) {
        let wake = park_quietly(purpose, None, interrupts);
        if ends(wake) && !call.is_over.load(Acquire) {
            if wake == Wake::Interrupted {
                tell_interrupts();
            }
            return Err(wake);
        }
    }
    drop(registration);
    Ok(call.take())
}

/// # Safety
///
/// What the call borrows lives until it is over.
unsafe fn begin<'a, F, R>(f: F, waiter: Unparker) -> Arc<Call<F, R>>
where
    F: FnOnce() -> R + Send + 'a,
    R: Send + 'a,
{
    let call =
        Arc::new(Call { state: Mutex::new(State::ToBeMade(f)), is_over: AtomicBool::new(false) });
    let finish = Finish { call: Arc::clone(&call), waiter };
    let job: Box<dyn FnOnce() + Send + 'a> = Box::new(move || {
        take_no_signals();
        finish.call.make();
    });
    // SAFETY: a longer life is claimed for what lives long enough, as the caller says: after `is_over`
    // nothing is left in the call that borrows.
    let job = unsafe {
        transmute::<Box<dyn FnOnce() + Send + 'a>, Box<dyn FnOnce() + Send + 'static>>(job)
    };
    // If no thread can be made, and there is none, it panics, and the job is dropped: so it is over.
    let _ = catch_unwind(AssertUnwindSafe(|| THREADS.run(job, |_| ())));
    call
}

/// But those that mean the thread itself.
pub(super) fn take_no_signals() {
    if !TAKES_SIGNALS.replace(false) {
        return;
    }
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
