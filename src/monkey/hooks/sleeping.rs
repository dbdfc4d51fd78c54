//! Sleeping. A kill or a limit ends a sleep early, as if its time were over: `std` panics if it is told of
//! any error but EINTR. A signal handler ends it with EINTR.

use crate::hub::{
    Deadline, Interrupts, Wake, mark_interrupts_reported, park_nounwind, yield_nounwind,
};
use crate::monkey::blocking_pool::Lent;
use crate::monkey::dedicated::aside_or_ended;
use crate::monkey::{errno, originals};
use crate::sys::{clock, user_memory};
use libc::{c_int, c_long, c_uint, clockid_t, timespec};
use std::time::Duration;

const BILLION: i64 = 1_000_000_000;

/// How a sleep has ended.
enum Slept {
    /// To its end, or until a kill or a limit has cut it short. `std` would panic if it were told of that.
    Enough,
    /// A signal handler has run. What is left.
    Interrupted(Duration),
}

/// Sleeps for `duration`. The kernel never restarts a sleep after a signal. Errno stays as it is.
fn wait(duration: Duration) -> Slept {
    let before = errno::get();
    let slept = wait_anyhow(duration);
    errno::set(before);
    slept
}

fn wait_anyhow(duration: Duration) -> Slept {
    let begin = clock::now();
    let deadline = Deadline::after(duration);
    let interrupts = Interrupts::ReportAnySignal.begun();
    loop {
        match park_nounwind("sleep", deadline, interrupts) {
            Wake::Unparked => {}
            Wake::TimedOut => return Slept::Enough,
            Wake::Signalled => {
                let slept = Duration::from_nanos(clock::now() - begin);
                return Slept::Interrupted(duration.saturating_sub(slept));
            }
            Wake::Interrupted => {
                mark_interrupts_reported();
                return Slept::Enough;
            }
        }
    }
}

/// `None` for what the kernel would not take.
pub(super) fn duration(time: &timespec) -> Option<Duration> {
    let is_valid = time.tv_sec >= 0 && (0..BILLION).contains(&time.tv_nsec);
    is_valid.then(|| Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn sleep(seconds: c_uint) -> c_uint {
    match wait(Duration::from_secs(seconds.into())) {
        Slept::Enough => 0,
        Slept::Interrupted(left) => {
            errno::set(libc::EINTR);
            left.as_secs() as c_uint
        }
    }
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn usleep(micros: c_uint) -> c_int {
    match wait(Duration::from_micros(micros.into())) {
        Slept::Enough => 0,
        Slept::Interrupted(_) => errno::fail(libc::EINTR),
    }
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn nanosleep(time: *const timespec, left: *mut timespec) -> c_int {
    // SAFETY: the caller's. It is for the kernel to complain of what is no time.
    let Some(duration) = unsafe { user_memory::read(time) }.and_then(|time| duration(&time)) else {
        // SAFETY: the caller's.
        return unsafe { originals::nanosleep::call(time, left) };
    };
    match wait(duration) {
        Slept::Enough => 0,
        Slept::Interrupted(rest) => {
            // SAFETY: the caller's.
            errno::fail(unsafe { tell_rest(left, rest) })
        }
    }
}

/// Writes what is left of a sleep that a handler has ended. The error that it fails with.
///
/// # Safety
///
/// A place for a time, or null.
unsafe fn tell_rest(left: *mut timespec, rest: Duration) -> c_int {
    let rest = timespec { tv_sec: rest.as_secs() as _, tv_nsec: c_long::from(rest.subsec_nanos()) };
    // SAFETY: the caller's.
    let is_reported = left.is_null() || unsafe { user_memory::write(left, rest) };
    if is_reported { libc::EINTR } else { libc::EFAULT }
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn clock_nanosleep(
    clock: clockid_t,
    flags: c_int,
    time: *const timespec,
    left: *mut timespec,
) -> c_int {
    // SAFETY: the caller's.
    let wanted = unsafe { user_memory::read(time) }.and_then(|time| duration(&time));
    let goes_by_itself = matches!(
        clock,
        libc::CLOCK_MONOTONIC | libc::CLOCK_REALTIME | libc::CLOCK_BOOTTIME | libc::CLOCK_TAI
    );
    let wanted = match wanted {
        Some(wanted) if goes_by_itself => wanted,
        // Of processor time, or one that wakes the machine.
        Some(_) if may_sleep_by(clock) => {
            // SAFETY: the caller's.
            return unsafe { sleep_aside(clock, flags, time, left) };
        }
        // SAFETY: the caller's.
        _ => return unsafe { originals::clock_nanosleep::call(clock, flags, time, left) },
    };
    let is_relative = flags & libc::TIMER_ABSTIME == 0;
    let mut now = timespec { tv_sec: 0, tv_nsec: 0 };
    if !is_relative {
        // SAFETY: a place for the answer; a clock that was asked for.
        unsafe { libc::clock_gettime(clock, &mut now) };
    }
    match wait(wanted.saturating_sub(duration(&now).unwrap_or_default())) {
        Slept::Enough => 0,
        Slept::Interrupted(rest) => {
            if is_relative {
                // SAFETY: the caller's.
                return unsafe { tell_rest(left, rest) };
            }
            libc::EINTR
        }
    }
}

/// Whether a sleep by a clock that was not known above is one: not by that of the calling thread's own
/// processor time, of which a sleep fails at once.
fn may_sleep_by(clock: clockid_t) -> bool {
    // The clocks of processes and threads have negative numbers.
    const OF_PROCESSES: clockid_t = -1;
    matches!(
        clock,
        libc::CLOCK_PROCESS_CPUTIME_ID
            | libc::CLOCK_REALTIME_ALARM
            | libc::CLOCK_BOOTTIME_ALARM
            | clockid_t::MIN..=OF_PROCESSES
    )
}

/// By a thread of its own.
///
/// # Safety
///
/// As libc's `clock_nanosleep`.
unsafe fn sleep_aside(
    clock: clockid_t,
    flags: c_int,
    time: *const timespec,
    left: *mut timespec,
) -> c_int {
    // SAFETY: the caller's, who is suspended until the call is over.
    let lent = unsafe { Lent::new((time, left)) };
    let slept = aside_or_ended("clock_nanosleep", move || {
        let (time, left) = lent.get();
        // SAFETY: the caller's.
        let error = unsafe { originals::clock_nanosleep::call(clock, flags, time, left) };
        errno::set(error);
        error
    });
    match slept {
        // A kill or a limit ends a sleep as if its time were over.
        Some(libc::EINTR) if errno::get() == libc::ECANCELED => 0,
        Some(error) => error,
        // SAFETY: the caller's.
        None => unsafe { originals::clock_nanosleep::call_blocking(clock, flags, time, left) },
    }
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn sched_yield() -> c_int {
    yield_nounwind();
    0
}
