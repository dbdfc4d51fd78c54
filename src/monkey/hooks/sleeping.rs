//! Sleeping. A kill or a limit ends a sleep early, as a signal would; `std` would panic if it were told of an
//! error, and is told of none.

use crate::hub::{Deadline, Interrupts, Wake, park_quietly, tell_interrupts, yield_quietly};
use crate::monkey::table::{
    clock_nanosleep as original_clock_nanosleep, nanosleep as original_nanosleep,
};
use crate::sys::clock;
use libc::{c_int, c_uint, clockid_t, timespec};
use std::time::Duration;

const BILLION: i64 = 1_000_000_000;

/// Waits for `duration`. What is left of it: more than nothing only if it was cut short.
fn wait(duration: Duration) -> Duration {
    let begin = clock::now();
    let deadline = Deadline::after(duration);
    loop {
        match park_quietly("sleep", deadline, Interrupts::Tell) {
            Wake::Unparked => {}
            Wake::TimedOut => return Duration::ZERO,
            Wake::Interrupted => {
                tell_interrupts();
                return duration.saturating_sub(Duration::from_nanos(clock::now() - begin));
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
    let left = wait(Duration::from_secs(seconds.into()));
    // What has begun counts.
    left.as_secs() as c_uint + c_uint::from(left.subsec_nanos() > 0)
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn usleep(micros: c_uint) -> c_int {
    wait(Duration::from_micros(micros.into()));
    0
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn nanosleep(time: *const timespec, left: *mut timespec) -> c_int {
    // SAFETY: the caller's. It is for the kernel to complain of a null pointer.
    match unsafe { time.as_ref() }.and_then(duration) {
        // SAFETY: the caller's.
        None => unsafe { original_nanosleep::original(time, left) },
        Some(duration) => {
            wait(duration);
            0
        }
    }
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
    let wanted = unsafe { time.as_ref() }.and_then(duration);
    let is_known =
        matches!(clock, libc::CLOCK_MONOTONIC | libc::CLOCK_REALTIME | libc::CLOCK_BOOTTIME);
    let (Some(wanted), true) = (wanted, is_known) else {
        // SAFETY: the caller's.
        return unsafe { original_clock_nanosleep::original(clock, flags, time, left) };
    };
    if flags & libc::TIMER_ABSTIME == 0 {
        wait(wanted);
    } else {
        let mut now = timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: a place for the answer; a clock that was asked for.
        unsafe { libc::clock_gettime(clock, &mut now) };
        wait(wanted.saturating_sub(duration(&now).unwrap_or_default()));
    }
    0
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn sched_yield() -> c_int {
    yield_quietly();
    0
}
