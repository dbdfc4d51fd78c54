//! Signals, sent to the thread of an actor that is blocked; and sleeps, which they end.

use super::Call;
use super::polling::outcome_in;
use crate::fixtures::{ANY, CHILD, MEMORY, PATH, SIGNAL, told_signal};
use crate::params::Param::One;
use crate::params::{LIMITS, Param, SHORT, int, timespec, values};
use crate::world::{ALONE, error_name, outcome};
use libc::c_int;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

unsafe extern "C" {
    fn sigpause(mask: c_int) -> c_int;
    fn __xpg_sigpause(signal: c_int) -> c_int;
}

const TIME: Param = One(&[("0ms", 0), ("short", SHORT), ("long", 60_000)]);
const CLOCK: Param =
    One(&[("monotonic", 1), ("realtime", 0), ("boottime", 7), ("thread", 3), ("none", 99)]);

pub(super) const CALLS: &[Call] = &[
    Call::new(
        "signal",
        4,
        ANY | MEMORY | CHILD | PATH,
        &[One(values![SIGUSR1, SIGUSR2])],
        |_, a| {
            match ALONE.load(SeqCst) {
                0 => "nobody".into(),
                // SAFETY: no memory is involved.
                thread => outcome(unsafe {
                    libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, int(a[0]))
                })
                .text(),
            }
        },
    ),
    Call::new("pause", 2, MEMORY, &[], |_, _| {
        // SAFETY: no preconditions.
        outcome(unsafe { libc::pause() }).text()
    }),
    Call::new("sigsuspend", 2, MEMORY, &[], |_, _| {
        // SAFETY: a set, of signals that are blocked anyway.
        outcome(unsafe { libc::sigsuspend(&told_signal()) }).text()
    }),
    Call::new("sigpause", 1, MEMORY, &[], |_, _| {
        // SAFETY: no memory is involved.
        outcome(unsafe { sigpause(0) }).text()
    }),
    Call::new("__xpg_sigpause", 1, MEMORY, &[], |_, _| {
        // SAFETY: no memory is involved.
        outcome(unsafe { __xpg_sigpause(libc::SIGUSR2) }).text()
    }),
    Call::new("sigwait", 4, SIGNAL, &[], |_, _| {
        let mut signal = 0;
        // SAFETY: a set, and room for the answer.
        let error = unsafe { libc::sigwait(&told_signal(), &mut signal) };
        format!("{} {signal}", error_name(error))
    }),
    Call::new("sigwaitinfo", 4, SIGNAL, &[], |_, _| {
        // SAFETY: a set; no answer is asked for.
        outcome(unsafe { libc::sigwaitinfo(&told_signal(), std::ptr::null_mut()) }).text()
    }),
    Call::new("sigtimedwait", 4, SIGNAL, &[LIMITS], |_, a| {
        let time = timespec(a[0]);
        let time = if a[0] < 0 { std::ptr::null() } else { &raw const time };
        // SAFETY: a set, and a time; no answer is asked for.
        outcome(unsafe { libc::sigtimedwait(&told_signal(), std::ptr::null_mut(), time) }).text()
    }),
    Call::new("sleep", 4, MEMORY, &[One(&[("0s", 0), ("60s", 60)])], |_, a| {
        // SAFETY: no preconditions.
        let left = unsafe { libc::sleep(a[0] as u32) };
        format!("{} left", if left > 50 { "some".into() } else { left.to_string() })
    }),
    Call::new("usleep", 4, MEMORY, &[TIME], |_, a| {
        // SAFETY: no preconditions.
        slept(a[0], || unsafe { libc::usleep(a[0] as u32 * 1000) })
    }),
    Call::new("nanosleep", 5, MEMORY, &[TIME], |_, a| {
        let (time, mut left) = (timespec(a[0]), timespec(-7000));
        // SAFETY: times.
        let text = slept(a[0], || unsafe { libc::nanosleep(&time, &mut left) });
        text + rest(left)
    }),
    Call::new(
        "clock_nanosleep",
        5,
        MEMORY,
        &[TIME, CLOCK, One(&[("for", 0), ("until", 1)])],
        |_, a| {
            let (clock, mut left, mut now) = (int(a[1]), timespec(-7000), timespec(0));
            if a[2] == 1 {
                // SAFETY: room for the answer.
                unsafe { libc::clock_gettime(clock, &mut now) };
            }
            let mut time = timespec(a[0]);
            time.tv_sec += now.tv_sec + (time.tv_nsec + now.tv_nsec) / 1_000_000_000;
            time.tv_nsec = (time.tv_nsec + now.tv_nsec) % 1_000_000_000;
            let begin = Instant::now();
            // SAFETY: times.
            let error = unsafe { libc::clock_nanosleep(clock, int(a[2]), &time, &mut left) };
            let is_early = error == 0 && begin.elapsed() < Duration::from_millis(a[0] as u64);
            format!(
                "{}{}{}",
                error_name(error),
                if is_early { " TOO EARLY" } else { "" },
                rest(left)
            )
        },
    ),
    Call::new("nanosleep_odd", 2, MEMORY, &[One(&[("negative", 0), ("nanos", 1)])], |_, a| {
        let time = libc::timespec { tv_sec: a[0] - 1, tv_nsec: a[0] * 2_000_000_000 };
        // SAFETY: a time, and none.
        outcome(unsafe { libc::nanosleep(&time, std::ptr::null_mut()) }).text()
    }),
    Call::new("sched_yield", 1, MEMORY, &[], |_, _| {
        // SAFETY: no preconditions.
        outcome(unsafe { libc::sched_yield() }).text()
    }),
];

pub(super) fn slept(time: i64, call: impl FnOnce() -> c_int) -> String {
    let (got, early) = outcome_in(time, call);
    got.with(early)
}

/// What is said of the time that is left.
fn rest(left: libc::timespec) -> &'static str {
    match left.tv_sec {
        -7 => "",
        0 => ", little left",
        _ => ", much left",
    }
}
