//! Handlers, alarms, and what ends a wait that goes on.

use libc::{c_int, c_void, siginfo_t};
use std::io;
use std::mem::{MaybeUninit, zeroed};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

/// When the alarm comes, and when what is waited for comes: by far later.
pub(crate) const ALARM: Duration = Duration::from_millis(100);
const RELEASE: Duration = Duration::from_millis(1500);

/// How many handlers have run.
pub(crate) static HANDLED: AtomicUsize = AtomicUsize::new(0);
static IS_RELEASED: AtomicBool = AtomicBool::new(false);

unsafe extern "C" fn on_signal(_: c_int, _: *mut siginfo_t, _: *mut c_void) {
    HANDLED.fetch_add(1, SeqCst);
}

/// Installs the handler.
pub(crate) fn handle(signal: c_int, flags: c_int) {
    unsafe {
        let mut action: libc::sigaction = zeroed();
        action.sa_sigaction = on_signal as *const () as usize;
        action.sa_flags = flags | libc::SA_SIGINFO;
        assert_eq!(libc::sigaction(signal, &action, ptr::null_mut()), 0);
    }
}

pub(crate) fn set_of(signals: &[c_int]) -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in signals {
            libc::sigaddset(set.as_mut_ptr(), *signal);
        }
        set.assume_init()
    }
}

pub(crate) fn mask(how: c_int, signals: &[c_int]) {
    unsafe { libc::pthread_sigmask(how, &set_of(signals), ptr::null_mut()) };
}

/// Calls `f` later, on a thread that takes no signals.
pub(crate) fn later(after: Duration, f: impl FnOnce() + Send + 'static) {
    unsafe {
        let (mut all, mut before) = (set_of(&[]), set_of(&[]));
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_BLOCK, &all, &mut before);
        thread::spawn(move || {
            thread::sleep(after);
            f();
        });
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, ptr::null_mut());
    }
}

/// Has SIGALRM sent to the process, once.
pub(crate) fn alarm_after(after: Duration) {
    set_timer(after, Duration::ZERO);
}

/// Sends it at each interval; a zero interval ends that.
pub(crate) fn alarm_every(interval: Duration) {
    set_timer(interval, interval);
}

fn set_timer(first: Duration, then: Duration) {
    let [it_value, it_interval] = [first, then].map(|time| libc::timeval {
        tv_sec: time.as_secs() as _,
        tv_usec: time.subsec_micros() as _,
    });
    let timer = libc::itimerval { it_interval, it_value };
    unsafe extern "C" {
        fn setitimer(which: c_int, new: *const libc::itimerval, old: *mut libc::itimerval)
        -> c_int;
    }
    unsafe { assert_eq!(setitimer(0, &timer, ptr::null_mut()), 0) };
}

/// Makes a call that waits, with an alarm that comes soon and is handled with these flags, and `release` that is
/// called much later. Says what the call has returned, and whether that was before the release.
pub(crate) fn interrupted(
    flags: c_int,
    call: impl FnOnce() -> i64,
    release: impl FnOnce() + Send + 'static,
) -> String {
    handle(libc::SIGALRM, flags);
    later(RELEASE, move || {
        IS_RELEASED.store(true, SeqCst);
        release();
    });
    alarm_after(ALARM);
    said(call)
}

/// Makes a call, and says what it has returned.
pub(crate) fn said(call: impl FnOnce() -> i64) -> String {
    unsafe { *libc::__errno_location() = 0 };
    let result = call();
    // What succeeds may have left any number there.
    let error = io::Error::last_os_error().raw_os_error().filter(|_| result < 0);
    let is_released = IS_RELEASED.load(SeqCst);
    format!("{result}, errno {error:?}, released {is_released}, handled {}", HANDLED.load(SeqCst))
}
