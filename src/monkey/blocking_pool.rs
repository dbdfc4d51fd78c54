//! Thread pools for blocking calls that end by themselves: one for files, one for name look-ups.
//!
//! A pool has one thread per call in progress; a thread that is idle for some seconds ends. The pool for
//! files is bounded ([`MAX_FILE_CALLS`]), since more threads do not make a disk faster. The pool for
//! look-ups is not: a look-up waits for a server, up to the timeout of the resolver. Separate pools keep
//! files from waiting for look-ups. A call that may wait for a peer without a timeout must not be made here
//! (see `dedicated.rs`).
//!
//! The threads have no hub, so their calls go to libc. They block all signals, which are meant for the
//! program's own threads, except for those that a call itself causes, `SIGPIPE` and `SIGXFSZ`, if its caller
//! has them unblocked.

use super::{errno, originals};
use crate::hub::{
    Interrupts, Registration, Unparker, Wake, mark_interrupts_reported, park_nounwind,
};
use crate::pool::ThreadPool;
use libc::c_int;
use std::cell::Cell;
use std::mem::{MaybeUninit, replace, transmute};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering::Acquire, Ordering::Release};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

/// Maximum number of file calls in progress. Further calls wait for one of them to end.
const MAX_FILE_CALLS: usize = 512;

static FILES: LazyLock<ThreadPool> = LazyLock::new(|| ThreadPool::new(MAX_FILE_CALLS));

static NAMES: LazyLock<ThreadPool> = LazyLock::new(|| ThreadPool::new(usize::MAX));

thread_local! {
    /// The signals that [`take_only`] last left unblocked. `None` before the first call.
    static UNBLOCKED: Cell<Option<OwnSignals>> = const { Cell::new(None) };
}

/// The signals that the kernel sends to the thread whose call fails, if the caller has them unblocked.
///
/// The thread that makes the call takes them in its place.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct OwnSignals {
    broken_pipe: bool,
    file_size: bool,
}

impl OwnSignals {
    /// Reads the signal mask of the calling thread.
    pub(super) fn of_caller() -> Self {
        let mut mask = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: `mask` has room for the result; a null set changes nothing. `sigismember` reads it after it
        // was written.
        unsafe {
            libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), mask.as_mut_ptr());
            let takes = |signal| libc::sigismember(mask.as_ptr(), signal) == 0;
            OwnSignals { broken_pipe: takes(libc::SIGPIPE), file_size: takes(libc::SIGXFSZ) }
        }
    }
}

/// Pointers of a suspended caller, lent to the thread that makes its call.
#[derive(Clone, Copy)]
pub(super) struct Lent<P>(P);

// SAFETY: the contract of `Lent::new`: the pointers may be used on another thread.
unsafe impl<P> Send for Lent<P> {}

impl<P: Copy> Lent<P> {
    /// Lends pointers to another thread.
    ///
    /// # Safety
    ///
    /// `pointers` consists of raw pointers to memory that a C function may use on any thread. Nothing else
    /// uses this memory until the call is over.
    pub(super) unsafe fn new(pointers: P) -> Self {
        Lent(pointers)
    }

    pub(super) fn get(self) -> P {
        self.0
    }
}

struct Call<F, R> {
    state: Mutex<State<F, R>>,
    /// Set last, by the thread that makes the call, which does not access the state afterwards.
    is_over: AtomicBool,
}

enum State<F, R> {
    Pending(F),
    /// The result, and the errno that the call has set, or zero.
    Done(R, c_int),
    /// Moved out: while the call runs, and after its result was taken.
    Taken,
}

impl<F: FnOnce() -> R, R> Call<F, R> {
    /// Moves the state out, and leaves [`State::Taken`].
    fn take_state(&self) -> State<F, R> {
        replace(&mut *self.lock(), State::Taken)
    }

    fn lock(&self) -> MutexGuard<'_, State<F, R>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the call, on the pool's thread. Holds no lock meanwhile.
    fn make(&self) {
        if let State::Pending(f) = self.take_state() {
            errno::set(0);
            let result = f();
            let number = errno::get();
            *self.lock() = State::Done(result, number);
        }
    }

    /// Returns the result of a call that is over, and sets errno as the call left it.
    ///
    /// Makes the call here, and counts it, if the pool could not start a thread for it.
    fn take(&self, purpose: &'static str) -> R {
        match self.take_state() {
            State::Done(result, number) => {
                if number != 0 {
                    errno::set(number);
                }
                result
            }
            State::Pending(f) => {
                originals::count_blocked(purpose);
                f()
            }
            State::Taken => unreachable!("a call is made once and taken once"),
        }
    }
}

/// Ends the call when dropped, even if it was never made.
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

/// Makes a file call on a pool thread, and waits for its result. Sets errno as the call left it.
///
/// A kill or a timeout is deferred.
pub(super) fn elsewhere<'a, R: Send + 'a>(
    purpose: &'static str,
    f: impl FnOnce() -> R + Send + 'a,
) -> R {
    wait(&FILES, purpose, f)
}

/// Like [`elsewhere`], but for a name look-up, which has a pool of its own.
pub(super) fn look_up_elsewhere<'a, R: Send + 'a>(
    purpose: &'static str,
    f: impl FnOnce() -> R + Send + 'a,
) -> R {
    wait(&NAMES, purpose, f)
}

fn wait<'a, R: Send + 'a>(
    pool: &'static ThreadPool,
    purpose: &'static str,
    f: impl FnOnce() -> R + Send + 'a,
) -> R {
    let registration = Registration::new();
    // SAFETY: what `f` borrows outlives the call: this function returns after the call is over and does not
    // unwind before, and the stack of a greenlet that never resumes from a non-unwinding wait is never freed.
    let call = unsafe { begin(pool, f, registration.unparker()) };
    while !call.is_over.load(Acquire) {
        park_nounwind(purpose, None, Interrupts::Defer);
    }
    // No switch follows.
    drop(registration);
    call.take(purpose)
}

/// Like [`look_up_elsewhere`], but returns `None` after a kill or a timeout.
///
/// The call then continues on its thread, and its result is dropped.
pub(super) fn look_up_or_interrupted<R: Send + 'static>(
    purpose: &'static str,
    f: impl FnOnce() -> R + Send + 'static,
) -> Option<R> {
    let registration = Registration::new();
    // SAFETY: `f` borrows nothing: it is `'static`.
    let call = unsafe { begin(&NAMES, f, registration.unparker()) };
    while !call.is_over.load(Acquire) {
        if park_nounwind(purpose, None, Interrupts::Tell) == Wake::Interrupted
            && !call.is_over.load(Acquire)
        {
            mark_interrupts_reported();
            return None;
        }
    }
    drop(registration);
    Some(call.take(purpose))
}

/// Queues a call for the pool. When it is over, `is_over` is set and `waiter` is unparked.
///
/// # Safety
///
/// What `f` and its result borrow must live until the call is over and its result was taken.
unsafe fn begin<'a, F, R>(pool: &'static ThreadPool, f: F, waiter: Unparker) -> Arc<Call<F, R>>
where
    F: FnOnce() -> R + Send + 'a,
    R: Send + 'a,
{
    let call =
        Arc::new(Call { state: Mutex::new(State::Pending(f)), is_over: AtomicBool::new(false) });
    let signals = OwnSignals::of_caller();
    let finish = Finish { call: Arc::clone(&call), waiter };
    let job: Box<dyn FnOnce() + Send + 'a> = Box::new(move || {
        take_only(signals);
        finish.call.make();
    });
    // SAFETY: only the lifetime changes. The contract of this function: what `f` borrows lives until
    // `is_over`, after which the job touches nothing that is borrowed.
    let job = unsafe {
        transmute::<Box<dyn FnOnce() + Send + 'a>, Box<dyn FnOnce() + Send + 'static>>(job)
    };
    // On an error the job was dropped: the call is over without being made, see `Call::take`.
    let _ = pool.try_run(job);
    call
}

/// Blocks all signals except `signals` and those that report a fault of the thread itself.
pub(super) fn take_only(signals: OwnSignals) {
    if UNBLOCKED.replace(Some(signals)) == Some(signals) {
        return;
    }
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `all` has room for a set, and is filled before it is read; a null pointer requests no old mask.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        for own in [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGSYS] {
            libc::sigdelset(all.as_mut_ptr(), own);
        }
        if signals.broken_pipe {
            libc::sigdelset(all.as_mut_ptr(), libc::SIGPIPE);
        }
        if signals.file_size {
            libc::sigdelset(all.as_mut_ptr(), libc::SIGXFSZ);
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), ptr::null_mut());
    }
}
