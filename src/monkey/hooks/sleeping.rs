//! Sleeping.
//!
//! A kill or a timeout ends a sleep early, as if its time were over: `std` panics on any error but EINTR. A
//! signal handler ends a sleep with EINTR.

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

/// How a sleep ended.
enum Slept {
    /// The whole time is over, or a kill or a timeout cut it short. `std` must not see the latter: it would
    /// panic.
    Enough,
    /// A signal handler has run. The time that is left.
    Interrupted(Duration),
}

/// Sleeps for `duration`. Errno stays as it is.
///
/// The kernel never restarts a sleep after a signal.
fn wait(duration: Duration) -> Slept {
    let before = errno::get();
    let slept = park_for(duration);
    errno::set(before);
    slept
}

/// Parks for `duration`.
fn park_for(duration: Duration) -> Slept {
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

/// `None` for a time that the kernel refuses.
pub(super) fn duration(time: &timespec) -> Option<Duration> {
    let is_valid = time.tv_sec >= 0 && (0..BILLION).contains(&time.tv_nsec);
    is_valid.then(|| Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
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
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn usleep(micros: c_uint) -> c_int {
    match wait(Duration::from_micros(micros.into())) {
        Slept::Enough => 0,
        Slept::Interrupted(_) => errno::fail(libc::EINTR),
    }
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn nanosleep(time: *const timespec, left: *mut timespec) -> c_int {
    // SAFETY: contract of a hook: a time if it can be read. The kernel refuses an invalid one.
    let Some(duration) = unsafe { user_memory::read(time) }.and_then(|time| duration(&time)) else {
        // SAFETY: contract of a hook: libc's `nanosleep` gets the caller's pointers.
        return unsafe { originals::nanosleep::call(time, left) };
    };
    match wait(duration) {
        Slept::Enough => 0,
        Slept::Interrupted(rest) => {
            // SAFETY: contract of a hook: `write_rest` has the same contract.
            errno::fail(unsafe { write_rest(left, rest) })
        }
    }
}

/// Writes the rest of a sleep that a handler has ended. Returns the error of the call.
///
/// # Safety
///
/// `left` is null, or may be overwritten with a time if it can be written.
unsafe fn write_rest(left: *mut timespec, rest: Duration) -> c_int {
    let rest = timespec { tv_sec: rest.as_secs() as _, tv_nsec: c_long::from(rest.subsec_nanos()) };
    // SAFETY: contract of a hook: a time if the memory is accessible.
    let is_reported = left.is_null() || unsafe { user_memory::write(left, rest) };
    if is_reported { libc::EINTR } else { libc::EFAULT }
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn clock_nanosleep(
    clock: clockid_t,
    flags: c_int,
    time: *const timespec,
    left: *mut timespec,
) -> c_int {
    // SAFETY: contract of a hook: a time if the memory is accessible.
    let wanted = unsafe { user_memory::read(time) }.and_then(|time| duration(&time));
    let advances_with_time = matches!(
        clock,
        libc::CLOCK_MONOTONIC | libc::CLOCK_REALTIME | libc::CLOCK_BOOTTIME | libc::CLOCK_TAI
    );
    let wanted = match wanted {
        Some(wanted) if advances_with_time => wanted,
        // A clock of processor time, or one that wakes the machine.
        Some(_) if may_sleep_by(clock) => {
            // SAFETY: contract of a hook: `sleep_aside` has the same contract.
            return unsafe { sleep_aside(clock, flags, time, left) };
        }
        // SAFETY: contract of a hook: libc's `clock_nanosleep` gets the caller's pointers.
        _ => return unsafe { originals::clock_nanosleep::call(clock, flags, time, left) },
    };
    let is_relative = flags & libc::TIMER_ABSTIME == 0;
    let mut now = timespec { tv_sec: 0, tv_nsec: 0 };
    if !is_relative {
        // SAFETY: `now` is valid for a write, and the clock exists.
        unsafe { libc::clock_gettime(clock, &mut now) };
    }
    match wait(wanted.saturating_sub(duration(&now).unwrap_or_default())) {
        Slept::Enough => 0,
        Slept::Interrupted(rest) => {
            if is_relative {
                // SAFETY: contract of a hook: `write_rest` has the same contract.
                return unsafe { write_rest(left, rest) };
            }
            libc::EINTR
        }
    }
}

/// Whether one can sleep by a clock that is not one of those above.
///
/// A sleep by the calling thread's own processor time fails at once.
fn may_sleep_by(clock: clockid_t) -> bool {
    // Clocks of processes and threads have negative numbers.
    const OF_PROCESSES: clockid_t = -1;
    matches!(
        clock,
        libc::CLOCK_PROCESS_CPUTIME_ID
            | libc::CLOCK_REALTIME_ALARM
            | libc::CLOCK_BOOTTIME_ALARM
            | clockid_t::MIN..=OF_PROCESSES
    )
}

/// Sleeps on a dedicated thread.
///
/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`), as for libc's `clock_nanosleep`.
unsafe fn sleep_aside(
    clock: clockid_t,
    flags: c_int,
    time: *const timespec,
    left: *mut timespec,
) -> c_int {
    // SAFETY: contract of a hook: the pointers are valid on any thread until the suspended caller returns.
    let lent = unsafe { Lent::new((time, left)) };
    let slept = aside_or_ended("clock_nanosleep", move || {
        let (time, left) = lent.get();
        // SAFETY: contract of a hook: the suspended caller lends the pointers to libc's `clock_nanosleep`.
        let error = unsafe { originals::clock_nanosleep::call(clock, flags, time, left) };
        errno::set(error);
        error
    });
    match slept {
        // A kill or a timeout ends a sleep as if its time were over.
        Some(libc::EINTR) if errno::get() == libc::ECANCELED => 0,
        Some(error) => error,
        // SAFETY: contract of a hook: libc's `clock_nanosleep` gets the caller's pointers.
        None => unsafe { originals::clock_nanosleep::call_blocking(clock, flags, time, left) },
    }
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn sched_yield() -> c_int {
    yield_nounwind();
    0
}
