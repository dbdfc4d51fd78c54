//! A look at what another thread does, by a handler of a signal that is sent to it.
//!
//! ```text
//!   who asks      NONE ──► ASKED ── signal ──► the thread's handler: TAKEN, looks, ANSWERED
//!                   ▲        │ it does not come                               │
//!                   └────────┴────────────────────────────────────────────────┘
//! ```
//!
//! The signal is `SIGURG`, which nobody minds who does not handle it.

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

/// So many frames are noted.
const FRAMES: usize = 64;

/// Those of the handler, and of the kernel's way into it.
const OWN_FRAMES: usize = 2;

/// What the thread that is asked does, in a signal handler: it must not allocate, lock or unwind. Returns
/// whether a backtrace is to be taken. That is only right where the unwind tables describe the stack.
pub(crate) type Look<'a> = &'a mut (dyn FnMut() -> bool + Send);

type LookPointer = *mut (dyn FnMut() -> bool + Send);

const NONE: u32 = 0;
const ASKED: u32 = 1;
const TAKEN: u32 = 2;
const ANSWERED: u32 = 3;

struct Question {
    state: AtomicU32,
    thread: AtomicI32,
    look: UnsafeCell<Option<LookPointer>>,
    frames: UnsafeCell<[*mut c_void; FRAMES]>,
    count: AtomicUsize,
}

// SAFETY: `look` and `frames` belong to who asks, and from TAKEN to ANSWERED to the handler; one asks at
// a time.
unsafe impl Sync for Question {}

static QUESTION: Question = Question {
    state: AtomicU32::new(NONE),
    thread: AtomicI32::new(0),
    look: UnsafeCell::new(None),
    frames: UnsafeCell::new([ptr::null_mut(); FRAMES]),
    count: AtomicUsize::new(0),
};

/// One asks at a time. Whether the handler is there.
static ASKING: Mutex<bool> = Mutex::new(false);

struct Previous(UnsafeCell<MaybeUninit<libc::sigaction>>);

// SAFETY: written before `IS_KNOWN` is set, and only read after that.
unsafe impl Sync for Previous {}

static PREVIOUS: Previous = Previous(UnsafeCell::new(MaybeUninit::uninit()));
static IS_KNOWN: AtomicBool = AtomicBool::new(false);

/// A thread's number, while it lives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Thread(libc::pid_t);

impl Thread {
    pub(crate) fn current() -> Self {
        // SAFETY: no preconditions.
        Thread(unsafe { libc::gettid() })
    }

    /// Has the thread look, between any two of its instructions, and say where it is if `look` wants that:
    /// addresses, the innermost first. `None` if it did not look within `patience`.
    pub(crate) fn ask(self, look: Look<'_>, patience: Duration) -> io::Result<Option<Vec<usize>>> {
        let mut is_there = ASKING.lock().unwrap_or_else(PoisonError::into_inner);
        if !*is_there {
            install()?;
            *is_there = true;
        }
        let look: *mut (dyn FnMut() -> bool + Send + '_) = look;
        // SAFETY: the handler does not touch it before ASKED nor after ANSWERED. What it points to outlives
        // that: this function returns after it was withdrawn or answered. The types differ in a lifetime.
        unsafe {
            *QUESTION.look.get() =
                Some(mem::transmute::<*mut (dyn FnMut() -> bool + Send + '_), LookPointer>(look))
        };
        QUESTION.thread.store(self.0, Relaxed);
        QUESTION.state.store(ASKED, Release);
        // SAFETY: no memory is involved. A thread that has ended does not get it.
        unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), self.0, SIGNAL) };
        let begin = Instant::now();
        while QUESTION.state.load(Acquire) != ANSWERED {
            let is_late = begin.elapsed() > patience;
            if is_late && QUESTION.state.compare_exchange(ASKED, NONE, AcqRel, Relaxed).is_ok() {
                return Ok(None);
            }
            thread::sleep(Duration::from_micros(100));
        }
        // SAFETY: it was answered.
        let frames = unsafe { &*QUESTION.frames.get() };
        let frames = frames[..QUESTION.count.load(Relaxed)].iter().skip(OWN_FRAMES);
        let frames = frames.map(|frame| frame.addr()).collect();
        QUESTION.state.store(NONE, Release);
        Ok(Some(frames))
    }
}

/// Whether this is the address of this module's handler.
#[cfg(feature = "monkey")]
pub(crate) fn is_own_handler(address: usize) -> bool {
    address == on_signal as *const () as usize
}

fn install() -> io::Result<()> {
    // Its first call may load a library, which is nothing to be done in a handler.
    frames();
    // SAFETY: pointers to live structures, all-zero being a valid one. What was there before is not read
    // before it is known.
    unsafe {
        if libc::sigaction(SIGNAL, ptr::null(), (*PREVIOUS.0.get()).as_mut_ptr()) != 0 {
            return Err(io::Error::last_os_error());
        }
        IS_KNOWN.store(true, Release);
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = on_signal as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
        if libc::sigaction(SIGNAL, &action, ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Notes where the calling thread is. How many frames there are.
#[inline(always)]
fn frames() -> usize {
    #[cfg(all(target_env = "gnu", not(switchgrass_no_unwind_tables)))]
    {
        // SAFETY: room for so many, which is this thread's at the moment.
        let count = unsafe { libc::backtrace(QUESTION.frames.get().cast(), FRAMES as libc::c_int) };
        usize::try_from(count).unwrap_or(0)
    }
    #[cfg(any(not(target_env = "gnu"), switchgrass_no_unwind_tables))]
    0
}

/// Runs between any two instructions: it neither allocates nor locks.
unsafe extern "C" fn on_signal(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut c_void,
) {
    // SAFETY: a thread-local variable that is always there.
    let errno = unsafe { *libc::__errno_location() };
    // SAFETY: no preconditions.
    let is_meant = QUESTION.thread.load(Relaxed) == unsafe { libc::gettid() };
    if is_meant && QUESTION.state.compare_exchange(ASKED, TAKEN, AcqRel, Relaxed).is_ok() {
        // SAFETY: set before it was ASKED; who has asked waits, and does not touch it.
        let wants = unsafe { (*QUESTION.look.get()).is_some_and(|look| (*look)()) };
        QUESTION.count.store(if wants { frames() } else { 0 }, Relaxed);
        QUESTION.state.store(ANSWERED, Release);
    } else if IS_KNOWN.load(Acquire) {
        // SAFETY: it is known. The arguments are handed on as they came.
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
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_thread_looks_itself_and_says_where_it_is() {
        let (sender, receiver) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        let asked = thread::spawn(move || {
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
        asked.join().unwrap();
        // It has ended, and answers no more.
        let answer = thread.ask(&mut || unreachable!("nobody is there"), Duration::from_millis(1));
        assert_eq!(answer.unwrap(), None);
    }
}
