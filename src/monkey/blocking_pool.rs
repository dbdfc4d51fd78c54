//! A call that blocks and ends by itself, made by a pool of threads: one for files, one for look-ups of
//! names.
//!
//! A pool has one thread per call under way, and those that are idle for some seconds end. That for
//! files has a bound ([`MOST`]), as more threads do not make a disk faster. A look-up waits for a
//! server, up to the time limit of the resolver, so that pool has none, and files wait for no look-up. A
//! call that waits for a peer without a limit must not be made here (see `dedicated.rs`). The threads have
//! no hub, so that what they call is libc's. They take no signals, which are for the program's own threads,
//! but those that a call itself brings about, if its caller takes them: `SIGPIPE` and `SIGXFSZ`.

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

/// Calls for files under way at once. Further ones wait for one of them to end.
const MOST: usize = 512;

static FILES: LazyLock<ThreadPool> = LazyLock::new(|| ThreadPool::new(MOST));

static NAMES: LazyLock<ThreadPool> = LazyLock::new(|| ThreadPool::new(usize::MAX));

thread_local! {
    /// `None` before the first call.
    static TAKEN: Cell<Option<OwnSignals>> = const { Cell::new(None) };
}

/// Whether a caller takes the signals that the kernel sends to the thread whose call fails: the thread that
/// makes the call takes them in its place.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct OwnSignals {
    broken_pipe: bool,
    file_size: bool,
}

impl OwnSignals {
    pub(super) fn of_caller() -> Self {
        let mut mask = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: room for the answer, which is looked at afterwards; nothing is changed.
        unsafe {
            libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), mask.as_mut_ptr());
            let takes = |signal| libc::sigismember(mask.as_ptr(), signal) == 0;
            OwnSignals { broken_pipe: takes(libc::SIGPIPE), file_size: takes(libc::SIGXFSZ) }
        }
    }
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
    /// With the errno that it has set, or zero.
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
            errno::set(0);
            let result = f();
            let number = errno::get();
            *self.lock() = State::Made(result, number);
        }
    }

    /// What it has brought, once it is over.
    fn take(&self, purpose: &'static str) -> R {
        match self.state() {
            State::Made(result, number) => {
                if number != 0 {
                    errno::set(number);
                }
                result
            }
            // No thread could be made for it.
            State::ToBeMade(f) => {
                originals::count_blocked(purpose);
                f()
            }
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

/// Makes a call for a file on another thread. The coroutine waits for it, whatever is to be raised meanwhile.
/// Errno is as the call leaves it.
pub(super) fn elsewhere<'a, R: Send + 'a>(
    purpose: &'static str,
    f: impl FnOnce() -> R + Send + 'a,
) -> R {
    wait(&FILES, purpose, f)
}

/// As [`elsewhere`], for a look-up of a name.
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
    // SAFETY: this function does not end before the call is over: nothing unwinds below, and a greenlet that
    // never comes back from a wait in which nothing is raised keeps its stack for ever.
    let call = unsafe { begin(pool, f, registration.unparker()) };
    while !call.is_over.load(Acquire) {
        park_nounwind(purpose, None, Interrupts::Defer);
    }
    // The last switch is behind us.
    drop(registration);
    call.take(purpose)
}

/// As [`look_up_elsewhere`]. `None` if a kill or a limit has come first: the call goes on, and what it
/// brings is dropped.
pub(super) fn look_up_or_interrupted<R: Send + 'static>(
    purpose: &'static str,
    f: impl FnOnce() -> R + Send + 'static,
) -> Option<R> {
    let registration = Registration::new();
    // SAFETY: nothing is borrowed.
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

/// # Safety
///
/// What the call borrows lives until it is over.
unsafe fn begin<'a, F, R>(pool: &'static ThreadPool, f: F, waiter: Unparker) -> Arc<Call<F, R>>
where
    F: FnOnce() -> R + Send + 'a,
    R: Send + 'a,
{
    let call =
        Arc::new(Call { state: Mutex::new(State::ToBeMade(f)), is_over: AtomicBool::new(false) });
    let signals = OwnSignals::of_caller();
    let finish = Finish { call: Arc::clone(&call), waiter };
    let job: Box<dyn FnOnce() + Send + 'a> = Box::new(move || {
        take_only(signals);
        finish.call.make();
    });
    // SAFETY: a longer life is claimed for what lives long enough, as the caller says: after `is_over`
    // nothing is left in the call that borrows.
    let job = unsafe {
        transmute::<Box<dyn FnOnce() + Send + 'a>, Box<dyn FnOnce() + Send + 'static>>(job)
    };
    // On an error the job was dropped, so the call is over and was not made: see `Call::take`.
    let _ = pool.try_run(job);
    call
}

/// Blocks all signals but those that mean the thread itself.
pub(super) fn take_only(signals: OwnSignals) {
    if TAKEN.replace(Some(signals)) == Some(signals) {
        return;
    }
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: room for a set, which is filled first; a null pointer asks for nothing.
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
