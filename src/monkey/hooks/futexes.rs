//! The waits of `std::sync` and `thread::park`: system calls by number, all of which pass here.
//!
//! `std` waits by `FUTEX_WAIT_BITSET`, always. `FUTEX_WAIT` is left to the kernel: the one who uses it,
//! `parking_lot`, keeps the node of the one who waits in a variable of the thread's, where two coroutines
//! would find each other's. What is shared with other processes is left to it as well, and what moves
//! waiters from one address to another.

use crate::hub::{Deadline, Place, place};
use crate::monkey::addresses::{self, Waiting};
use crate::monkey::{errno, parking, table};
use libc::{c_int, c_long, timespec};
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicU32, AtomicUsize};
use std::time::Duration;

/// So many threads wait in the kernel, by calls that have passed here.
static IN_KERNEL: AtomicUsize = AtomicUsize::new(0);

const BILLION: i64 = 1_000_000_000;
const ANY: u32 = u32::MAX;

/// The arguments of a system call.
type Arguments = [usize; 6];

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn syscall(
    number: c_long,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
    e: usize,
    f: usize,
) -> c_long {
    let all = [a, b, c, d, e, f];
    let operation = b as c_int;
    if number != libc::SYS_futex || operation & libc::FUTEX_PRIVATE_FLAG == 0 {
        // SAFETY: the caller's.
        return unsafe { pass_on(number, all) };
    }
    match operation & !(libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME) {
        // SAFETY: the caller's.
        libc::FUTEX_WAIT_BITSET => unsafe { wait(all) },
        // SAFETY: the caller's.
        libc::FUTEX_WAIT => unsafe { wait_in_kernel(all) },
        // SAFETY: the caller's.
        libc::FUTEX_WAKE => unsafe { wake(all, ANY) },
        // SAFETY: the caller's.
        libc::FUTEX_WAKE_BITSET => unsafe { wake(all, f as u32) },
        // SAFETY: the caller's.
        _ => unsafe { pass_on(number, all) },
    }
}

/// # Safety
///
/// As libc's `syscall`.
unsafe fn pass_on(number: c_long, [a, b, c, d, e, f]: Arguments) -> c_long {
    // SAFETY: the caller's.
    unsafe { table::syscall::original(number, a, b, c, d, e, f) }
}

/// # Safety
///
/// As libc's `syscall` of `FUTEX_WAIT` and `FUTEX_WAIT_BITSET`.
#[cold]
unsafe fn wait_in_kernel(all: Arguments) -> c_long {
    if place() != Place::Thread {
        table::syscall::ROW.count_blocked();
    }
    // Before the kernel looks at the word: as in `addresses.rs`.
    IN_KERNEL.fetch_add(1, SeqCst);
    // SAFETY: the caller's.
    let result = unsafe { pass_on(libc::SYS_futex, all) };
    IN_KERNEL.fetch_sub(1, Relaxed);
    result
}

/// # Safety
///
/// As libc's `syscall` of `FUTEX_WAIT_BITSET`.
unsafe fn wait(all: Arguments) -> c_long {
    let [address, operation, expected, time, _, bits] = all;
    let (expected, bits) = (expected as u32, bits as u32);
    let word = address as *const AtomicU32;
    // SAFETY: the caller's.
    let time = unsafe { (time as *const timespec).as_ref() };
    if expected == parking::PARKED && time.is_some() && parking::was_asked_for(word) {
        return fail(libc::ETIMEDOUT);
    }
    let is_valid = bits != 0 && address.is_multiple_of(4) && time.is_none_or(is_valid);
    if place() != Place::Task || !is_valid || addresses::is_inside() {
        // SAFETY: the caller's.
        return unsafe { wait_in_kernel(all) };
    }
    let deadline = time.and_then(|time| deadline(time, operation as c_int));
    if expected == parking::PARKED {
        // SAFETY: the caller's.
        let parked = unsafe { parking::park_at(word, time.is_some(), deadline) };
        if let Some(in_time) = parked {
            return if in_time { 0 } else { fail(libc::ETIMEDOUT) };
        }
    }
    // SAFETY: the caller's: it is there, until the call ends.
    let is_expected = || unsafe { &*word }.load(Relaxed) == expected;
    let waiting = Waiting::enqueue(address, bits, is_expected);
    match waiting.map(|waiting| waiting.wait("a lock of std::sync", deadline)) {
        None => fail(libc::EAGAIN),
        Some(false) => fail(libc::ETIMEDOUT),
        Some(true) => 0,
    }
}

fn is_valid(time: &timespec) -> bool {
    time.tv_sec >= 0 && (0..BILLION).contains(&time.tv_nsec)
}

/// When the clock that is meant says so.
fn deadline(time: &timespec, operation: c_int) -> Option<Deadline> {
    let clock = match operation & libc::FUTEX_CLOCK_REALTIME {
        0 => libc::CLOCK_MONOTONIC,
        _ => libc::CLOCK_REALTIME,
    };
    let mut now = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a place for the answer; a clock that is always there.
    unsafe { libc::clock_gettime(clock, &mut now) };
    let [time, now] =
        [*time, now].map(|time| Duration::new(time.tv_sec as u64, time.tv_nsec as u32));
    Deadline::after(time.saturating_sub(now))
}

/// Coroutines first, and the kernel for those who are left of the count.
///
/// A coroutine that was woken goes on when its thread comes to it. If that one is held up just now, by
/// something that is not cooperative, and what holds it up waits for a thread that sleeps at this address,
/// nobody would go on: so threads in the kernel are woken beside it. A wake-up too many does no harm:
/// whoever waits at a word looks at it again, since the kernel does not promise more either.
///
/// # Safety
///
/// As libc's `syscall` of `FUTEX_WAKE` and `FUTEX_WAKE_BITSET`.
unsafe fn wake(all: Arguments, bits: u32) -> c_long {
    let [address, operation, most, d, e, f] = all;
    let Some(most) = usize::try_from(most as c_int).ok().filter(|most| *most > 0) else {
        // SAFETY: the caller's.
        return unsafe { pass_on(libc::SYS_futex, all) };
    };
    let found = addresses::wake(address, bits, most);
    let left = match most - found {
        // There was a fence when some were found.
        0 if IN_KERNEL.load(SeqCst) == 0 => return found as c_long,
        0 => most,
        left => left,
    };
    // SAFETY: the caller's, or fewer.
    let more = unsafe { pass_on(libc::SYS_futex, [address, operation, left, d, e, f]) };
    match usize::try_from(more) {
        Ok(more) => (found + more).min(most) as c_long,
        Err(_) if found == 0 => more,
        Err(_) => found as c_long,
    }
}

#[cold]
fn fail(number: c_int) -> c_long {
    errno::fail(number).into()
}
