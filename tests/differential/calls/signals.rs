//! Signals, sent to the thread of an actor that is blocked; and sleeps, which they end.

use super::Call;
use super::polling::outcome_in;
use crate::fixtures::{ANY, CHILD, MEMORY, PATH};
use crate::params::Param::One;
use crate::params::{Param, SHORT, int, timespec, values};
use crate::world::{ALONE, error_name, outcome};
use libc::c_int;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

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

fn slept(time: i64, call: impl FnOnce() -> c_int) -> String {
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
