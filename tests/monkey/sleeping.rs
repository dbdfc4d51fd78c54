//! Sleeping.

use crate::{BLOCK, patched, row};
use std::ptr;
use std::thread;
use std::time::{Duration, Instant};
use switchgrass::{JoinError, sleep as cooperative_sleep, spawn, timeout, yield_now};

fn time(duration: Duration) -> libc::timespec {
    libc::timespec { tv_sec: duration.as_secs() as _, tv_nsec: duration.subsec_nanos().into() }
}

#[test]
fn clock_nanosleep() {
    row(|| thread::sleep(BLOCK));
}

#[test]
fn clock_nanosleep_until() {
    row(|| {
        let mut now = time(Duration::ZERO);
        // SAFETY: a place for the answer.
        unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &mut now) };
        let until = time(Duration::new(now.tv_sec as u64, now.tv_nsec as u32) + BLOCK);
        // SAFETY: a valid time.
        unsafe {
            libc::clock_nanosleep(
                libc::CLOCK_REALTIME,
                libc::TIMER_ABSTIME,
                &until,
                ptr::null_mut(),
            )
        }
    });
}

#[test]
fn nanosleep() {
    // SAFETY: a valid time.
    row(|| unsafe { libc::nanosleep(&time(BLOCK), ptr::null_mut()) });
}

#[test]
fn usleep() {
    // SAFETY: no preconditions.
    row(|| unsafe { libc::usleep(BLOCK.as_micros() as u32) });
}

#[test]
fn sleep() {
    // SAFETY: no preconditions.
    row(|| unsafe { libc::sleep(1) });
}

#[test]
fn sched_yield() {
    patched(|| {
        let other = spawn(|| 1);
        assert!(!other.is_finished());
        thread::yield_now();
        assert!(other.is_finished());
    });
}

/// A sleep that is cut short does not panic, and the kill comes where the coroutine waits next.
#[test]
fn a_kill_ends_a_sleep_early() {
    patched(|| {
        let start = Instant::now();
        let sleeper = spawn(|| {
            thread::sleep(Duration::from_secs(50));
            // Told once: a loop that sleeps does not spin.
            let again = Instant::now();
            thread::sleep(Duration::from_millis(20));
            assert!(again.elapsed() >= Duration::from_millis(20));
            yield_now();
            unreachable!("it was killed");
        });
        yield_now();
        sleeper.kill();
        assert!(matches!(sleeper.join(), Err(JoinError::Killed)));
        assert!(start.elapsed() < Duration::from_secs(25));
    });
}

#[test]
fn a_limit_ends_a_sleep_early() {
    patched(|| {
        let start = Instant::now();
        let limit = Duration::from_millis(5);
        timeout(limit, || thread::sleep(Duration::from_secs(50))).unwrap_err();
        assert!(start.elapsed() < Duration::from_secs(25));
        // Nothing of it is left.
        thread::sleep(limit);
        cooperative_sleep(limit);
        assert_eq!(timeout(Duration::from_secs(50), || thread::sleep(limit)), Ok(()));
    });
}
