//! Runs a function on another thread, in a signal handler, for instance to take a backtrace.
//!
//! ```text
//!   requester     IDLE ──► REQUESTED ── signal ──► the thread's handler: TAKEN, runs `look`, DONE
//!                   ▲        │ timeout                                              │
//!                   └────────┴──────────────────────────────────────────────────────┘
//! ```
//!
//! The signal is `SIGURG`, which is ignored by default.

use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::io;
use std::mem::{self, MaybeUninit};
use std::ptr;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicUsize};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

const SIGNAL: libc::c_int = libc::SIGURG;

/// The most frames recorded.
const FRAMES: usize = 64;

/// The innermost frames, which are the handler's and the kernel's signal trampoline.
const OWN_FRAMES: usize = 2;

/// The function to run on the target thread, in a signal handler: it must not allocate, lock or unwind.
///
/// Returns whether to take a backtrace, which is sound only where the unwind tables describe the stack.
pub(crate) type Look<'a> = &'a mut (dyn FnMut() -> bool + Send);

type LookPointer = *mut (dyn FnMut() -> bool + Send);

/// No request. Set by the requester, when it has read the result or given up.
const IDLE: u32 = 0;
/// A request that the target's handler has not seen. Set by the requester, which alone may withdraw it.
const REQUESTED: u32 = 1;
/// The handler runs `look`. Set by the handler; from here on the requester waits for [`DONE`].
const TAKEN: u32 = 2;
/// The result is complete. Set by the handler; the requester reads it and sets [`IDLE`].
const DONE: u32 = 3;

struct Request {
    state: AtomicU32,
    thread: AtomicI32,
    look: UnsafeCell<Option<LookPointer>>,
    frames: UnsafeCell<[*mut c_void; FRAMES]>,
    count: AtomicUsize,
}

// SAFETY: `look` and `frames` belong to the requester, and from TAKEN to DONE to the handler. There is one
// requester at a time, which holds `IS_INSTALLED`.
unsafe impl Sync for Request {}

static REQUEST: Request = Request {
    state: AtomicU32::new(IDLE),
    thread: AtomicI32::new(0),
    look: UnsafeCell::new(None),
    frames: UnsafeCell::new([ptr::null_mut(); FRAMES]),
    count: AtomicUsize::new(0),
};

/// Whether the handler is installed. A requester holds the lock until its request is over.
static IS_INSTALLED: Mutex<bool> = Mutex::new(false);

struct Previous(UnsafeCell<MaybeUninit<libc::sigaction>>);

// SAFETY: written before `HAS_PREVIOUS` is set, and only read after that.
unsafe impl Sync for Previous {}

static PREVIOUS: Previous = Previous(UnsafeCell::new(MaybeUninit::uninit()));
static HAS_PREVIOUS: AtomicBool = AtomicBool::new(false);

/// The kernel's ID of a thread, valid while the thread lives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Thread(libc::pid_t);

impl Thread {
    pub(crate) fn current() -> Self {
        // SAFETY: `gettid` has no preconditions.
        Thread(unsafe { libc::gettid() })
    }

    /// Runs `look` on the thread, between any two of its instructions.
    ///
    /// Returns the thread's backtrace, as addresses with the innermost first; empty if `look` returned
    /// `false`. `None` if the thread did not run `look` within `patience`.
    pub(crate) fn ask(self, look: Look<'_>, patience: Duration) -> io::Result<Option<Vec<usize>>> {
        let mut is_installed = IS_INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
        if !*is_installed {
            install()?;
            *is_installed = true;
        }
        let look: *mut (dyn FnMut() -> bool + Send + '_) = look;
        // SAFETY: the handler uses the pointer only between REQUESTED and DONE, and this function returns
        // only after the request is withdrawn or done: so it outlives its use. The two types differ only in
        // a lifetime.
        unsafe {
            *REQUEST.look.get() =
                Some(mem::transmute::<*mut (dyn FnMut() -> bool + Send + '_), LookPointer>(look))
        };
        REQUEST.thread.store(self.0, Relaxed);
        REQUEST.state.store(REQUESTED, Release);
        // SAFETY: `tgkill` accesses no memory of this process. If the thread has ended, it fails.
        unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), self.0, SIGNAL) };
        let begin = Instant::now();
        while REQUEST.state.load(Acquire) != DONE {
            let is_late = begin.elapsed() > patience;
            if is_late && REQUEST.state.compare_exchange(REQUESTED, IDLE, AcqRel, Relaxed).is_ok() {
                return Ok(None);
            }
            thread::sleep(Duration::from_micros(100));
        }
        // SAFETY: the state is DONE, so the handler has left the frames to the requester.
        let frames = unsafe { &*REQUEST.frames.get() };
        let frames = frames[..REQUEST.count.load(Relaxed)].iter().skip(OWN_FRAMES);
        let frames = frames.map(|frame| frame.addr()).collect();
        REQUEST.state.store(IDLE, Release);
        Ok(Some(frames))
    }
}

/// Whether this is the address of this module's handler.
#[cfg(feature = "monkey")]
pub(crate) fn is_own_handler(address: usize) -> bool {
    address == on_signal as *const () as usize
}

fn install() -> io::Result<()> {
    // The first call of `backtrace` may load a library, which must not happen in a handler.
    frames();
    // SAFETY: the pointers are null or to live structures, and all-zero is a valid `sigaction`. `PREVIOUS`
    // is not read before `HAS_PREVIOUS` is set.
    unsafe {
        if libc::sigaction(SIGNAL, ptr::null(), (*PREVIOUS.0.get()).as_mut_ptr()) != 0 {
            return Err(io::Error::last_os_error());
        }
        HAS_PREVIOUS.store(true, Release);
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = on_signal as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
        if libc::sigaction(SIGNAL, &action, ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Records the calling thread's frames in [`REQUEST`], and returns their number.
#[inline(always)]
fn frames() -> usize {
    #[cfg(all(target_env = "gnu", not(switchgrass_no_unwind_tables)))]
    {
        // SAFETY: `frames` has room for `FRAMES` addresses, and belongs to this thread now: it is the
        // handler, or `install` before the first request.
        let count = unsafe { libc::backtrace(REQUEST.frames.get().cast(), FRAMES as libc::c_int) };
        usize::try_from(count).unwrap_or(0)
    }
    #[cfg(any(not(target_env = "gnu"), switchgrass_no_unwind_tables))]
    0
}

/// The signal handler. It may run between any two instructions, so it neither allocates nor locks.
unsafe extern "C" fn on_signal(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut c_void,
) {
    // SAFETY: the location of the calling thread's errno, which is always valid.
    let errno = unsafe { *libc::__errno_location() };
    // SAFETY: `gettid` has no preconditions.
    let is_target = REQUEST.thread.load(Relaxed) == unsafe { libc::gettid() };
    if is_target && REQUEST.state.compare_exchange(REQUESTED, TAKEN, AcqRel, Relaxed).is_ok() {
        // SAFETY: `look` was set before REQUESTED, and the requester does not touch it before DONE.
        let wants_frames = unsafe { (*REQUEST.look.get()).is_some_and(|look| (*look)()) };
        REQUEST.count.store(if wants_frames { frames() } else { 0 }, Relaxed);
        REQUEST.state.store(DONE, Release);
    } else if HAS_PREVIOUS.load(Acquire) {
        // SAFETY: `PREVIOUS` is filled in. Its handler gets the kernel's arguments unchanged.
        unsafe {
            let previous = (*PREVIOUS.0.get()).assume_init_ref();
            if !matches!(previous.sa_sigaction, libc::SIG_DFL | libc::SIG_IGN) {
                #[cfg(feature = "monkey")]
                let outer = super::signal_counts::enter();
                #[cfg(feature = "monkey")]
                super::signal_counts::count(previous.sa_flags & libc::SA_RESTART != 0);
                super::signal::call_handler(previous, signal, info, context);
                #[cfg(feature = "monkey")]
                super::signal_counts::leave(outer);
            }
        }
    }
    // SAFETY: the location of the calling thread's errno, which is always valid.
    unsafe { *libc::__errno_location() = errno };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_probe_runs_on_its_target_and_returns_frames() {
        let (sender, receiver) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        let probed = thread::spawn(move || {
            sender.send(Thread::current()).unwrap();
            ended.recv().unwrap();
        });
        let thread = receiver.recv().unwrap();
        let mut seen = None;
        let frames = thread.ask(
            &mut || {
                seen = Some(Thread::current().0);
                true
            },
            Duration::from_secs(10),
        );
        assert!(frames.unwrap().is_some_and(|frames| !frames.is_empty()));
        assert_eq!(seen, Some(thread.0));
        end.send(()).unwrap();
        probed.join().unwrap();
        // It has ended, so it does not run the probe.
        let answer = thread.ask(&mut || unreachable!("the thread ended"), Duration::from_millis(1));
        assert_eq!(answer.unwrap(), None);
    }
}
