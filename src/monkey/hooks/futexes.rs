//! The waits of `std::sync` and `thread::park`: system calls by number, all of which pass through this hook.
//!
//! `std` always waits by `FUTEX_WAIT_BITSET`. `FUTEX_WAIT` is left to the kernel: its user, `parking_lot`,
//! keeps the waiter's node in a thread-local variable, where two coroutines would use the same node. Also
//! left to the kernel are requeues to another address, priority inheritance, and waits at several addresses.
//! If such a wait blocks the thread of coroutines, it is counted.
//!
//! A futex that is shared with other processes, as the guards of C++'s static variables declare themselves
//! to be, is waited for here, since a sibling may be the one to wake it. A wake-up by another process is not
//! seen, so the futex is polled.

use crate::hub::{Deadline, Place, place};
use crate::monkey::addresses::{self, Waiting};
use crate::monkey::{errno, originals, parking};
use libc::{c_int, c_long, timespec};
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicU32, AtomicUsize};
use std::time::Duration;

/// The number of threads that wait in the kernel by calls made here.
static IN_KERNEL: AtomicUsize = AtomicUsize::new(0);

const BILLION: i64 = 1_000_000_000;
const ANY: u32 = u32::MAX;

/// Newer than the required version of the crate `libc`.
const FUTEX_LOCK_PI2: c_int = 13;
/// The same on all architectures.
const SYS_FUTEX_WAITV: c_long = 449;

/// The arguments of a system call.
type Arguments = [usize; 6];

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
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
    if number != libc::SYS_futex {
        if number == SYS_FUTEX_WAITV && place() != Place::Thread {
            originals::syscall::ROW.count_blocked();
        }
        // SAFETY: contract of a hook: `pass_on` has the same contract.
        return unsafe { pass_on(number, all) };
    }
    let operation = b as c_int;
    let is_shared = operation & libc::FUTEX_PRIVATE_FLAG == 0;
    match operation & !(libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME) {
        libc::FUTEX_WAIT | libc::FUTEX_WAIT_BITSET if is_shared => {
            // SAFETY: contract of a hook: `wait_shared` has the same contract.
            unsafe { wait_shared(all) }
        }
        // SAFETY: contract of a hook: `wait` has the same contract.
        libc::FUTEX_WAIT_BITSET => unsafe { wait(all) },
        // SAFETY: contract of a hook: `wait_in_kernel` has the same contract.
        libc::FUTEX_WAIT => unsafe { wait_in_kernel(all) },
        // SAFETY: contract of a hook: `wake` has the same contract.
        libc::FUTEX_WAKE => unsafe { wake(all, ANY) },
        // SAFETY: contract of a hook: `wake` has the same contract.
        libc::FUTEX_WAKE_BITSET => unsafe { wake(all, f as u32) },
        libc::FUTEX_LOCK_PI | FUTEX_LOCK_PI2 | libc::FUTEX_WAIT_REQUEUE_PI => {
            if place() != Place::Thread {
                originals::syscall::ROW.count_blocked();
            }
            // SAFETY: contract of a hook: `pass_on` has the same contract.
            unsafe { pass_on(number, all) }
        }
        // SAFETY: contract of a hook: `pass_on` has the same contract.
        _ => unsafe { pass_on(number, all) },
    }
}

/// Makes the call by libc.
///
/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`), as for libc's `syscall`.
unsafe fn pass_on(number: c_long, [a, b, c, d, e, f]: Arguments) -> c_long {
    // SAFETY: contract of a hook: libc's `syscall` gets the caller's pointers.
    unsafe { originals::syscall::call(number, a, b, c, d, e, f) }
}

/// Waits in the kernel, which blocks the thread.
///
/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`), as for libc's `syscall` with `FUTEX_WAIT` or `FUTEX_WAIT_BITSET`.
#[cold]
unsafe fn wait_in_kernel(all: Arguments) -> c_long {
    if place() != Place::Thread {
        originals::syscall::ROW.count_blocked();
    }
    // Before the kernel reads the futex: see the fences in `addresses.rs`.
    IN_KERNEL.fetch_add(1, SeqCst);
    // SAFETY: contract of a hook: `pass_on` has the same contract.
    let result = unsafe { pass_on(libc::SYS_futex, all) };
    IN_KERNEL.fetch_sub(1, Relaxed);
    result
}

/// Waits for a private futex: in `addresses`, or for `thread::park` as in `parking.rs`.
///
/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`), as for libc's `syscall` with `FUTEX_WAIT_BITSET`.
unsafe fn wait(all: Arguments) -> c_long {
    let [address, operation, expected, time, _, bits] = all;
    let (expected, bits) = (expected as u32, bits as u32);
    let word = address as *const AtomicU32;
    // SAFETY: contract of a hook: the pointer is null or valid.
    let time = unsafe { (time as *const timespec).as_ref() };
    if expected == parking::PARKED && time.is_some() && parking::was_asked_for(word) {
        return fail(libc::ETIMEDOUT);
    }
    let is_valid = bits != 0 && address.is_multiple_of(4) && time.is_none_or(is_valid);
    if place() != Place::Task || !is_valid || addresses::is_inside() {
        // SAFETY: contract of a hook: `wait_in_kernel` has the same contract.
        return unsafe { wait_in_kernel(all) };
    }
    let deadline = time.and_then(|time| deadline(time, operation as c_int));
    if expected == parking::PARKED {
        // SAFETY: contract of a hook: `park_at` has the same contract.
        let parked = unsafe { parking::park_at(word, time.is_some(), deadline) };
        if let Some(in_time) = parked {
            return if in_time { 0 } else { fail(libc::ETIMEDOUT) };
        }
    }
    // SAFETY: contract of a hook: the futex stays valid until the call ends.
    let is_expected = || unsafe { &*word }.load(Relaxed) == expected;
    let waiting = Waiting::enqueue(address, bits, is_expected);
    match waiting.map(|waiting| waiting.wait("a lock of std::sync", deadline)) {
        None => fail(libc::EAGAIN),
        Some(false) => fail(libc::ETIMEDOUT),
        Some(true) => 0,
    }
}

/// Waits for wake-ups from this process, and polls for changes by other processes.
///
/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`), as for libc's `syscall` with `FUTEX_WAIT` or `FUTEX_WAIT_BITSET`.
#[cold]
unsafe fn wait_shared(all: Arguments) -> c_long {
    const FIRST: Duration = Duration::from_micros(50);
    const LONGEST: Duration = Duration::from_millis(100);
    let [address, operation, expected, time, _, bits] = all;
    // SAFETY: contract of a hook: the pointer is null or valid.
    let time = unsafe { (time as *const timespec).as_ref() };
    let is_simple = operation as c_int & !libc::FUTEX_CLOCK_REALTIME == libc::FUTEX_WAIT;
    let bits = if is_simple { ANY } else { bits as u32 };
    let is_valid = bits != 0 && address.is_multiple_of(4) && time.is_none_or(is_valid);
    if place() != Place::Task || !is_valid || addresses::is_inside() {
        // SAFETY: contract of a hook: `wait_in_kernel` has the same contract.
        return unsafe { wait_in_kernel(all) };
    }
    let deadline = time.and_then(|time| match is_simple {
        true => Deadline::after(Duration::new(time.tv_sec as u64, time.tv_nsec as u32)),
        false => deadline(time, operation as c_int),
    });
    // SAFETY: contract of a hook: the futex stays valid until the call ends.
    let word = unsafe { &*(address as *const AtomicU32) };
    let is_expected = || word.load(Relaxed) == expected as u32;
    let mut pause = FIRST;
    let mut waiting = Waiting::enqueue(address, bits, is_expected);
    if waiting.is_none() {
        return fail(libc::EAGAIN);
    }
    while let Some(now) = waiting {
        let look = Deadline::after(pause);
        if now.wait("a shared futex", deadline.into_iter().chain(look).min()) {
            return 0;
        }
        if deadline.is_some_and(Deadline::has_passed) {
            return fail(libc::ETIMEDOUT);
        }
        // Another process may have woken the futex without changing it: return at last, perhaps spuriously.
        if pause >= LONGEST {
            return 0;
        }
        pause *= 2;
        waiting = Waiting::enqueue(address, bits, is_expected);
    }
    // The futex has changed.
    0
}

fn is_valid(time: &timespec) -> bool {
    time.tv_sec >= 0 && (0..BILLION).contains(&time.tv_nsec)
}

/// The deadline for a time of the clock that `operation` selects.
fn deadline(time: &timespec, operation: c_int) -> Option<Deadline> {
    let clock = match operation & libc::FUTEX_CLOCK_REALTIME {
        0 => libc::CLOCK_MONOTONIC,
        _ => libc::CLOCK_REALTIME,
    };
    let mut now = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is valid for a write, and these clocks always exist.
    unsafe { libc::clock_gettime(clock, &mut now) };
    let [time, now] =
        [*time, now].map(|time| Duration::new(time.tv_sec as u64, time.tv_nsec as u32));
    Deadline::after(time.saturating_sub(now))
}

/// Wakes coroutines first, and threads in the kernel for the rest of the count.
///
/// A woken coroutine resumes when its thread gets to it. That thread may be blocked just now by an
/// uncooperative call, whose end may depend on a thread that sleeps at this address; then neither would
/// resume. So threads in the kernel are woken as well. An extra wake-up is harmless: the kernel allows
/// spurious ones, so every waiter re-checks its futex.
///
/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`), as for libc's `syscall` with `FUTEX_WAKE` or `FUTEX_WAKE_BITSET`.
unsafe fn wake(all: Arguments, bits: u32) -> c_long {
    let [address, operation, most, d, e, f] = all;
    let Some(most) = usize::try_from(most as c_int).ok().filter(|most| *most > 0) else {
        // SAFETY: contract of a hook: `pass_on` has the same contract.
        return unsafe { pass_on(libc::SYS_futex, all) };
    };
    let is_shared = operation as c_int & libc::FUTEX_PRIVATE_FLAG == 0;
    let found = addresses::wake(address, bits, most);
    let left = match most - found {
        // If coroutines were found, `addresses::wake` has made a fence.
        0 if !is_shared && IN_KERNEL.load(SeqCst) == 0 => return found as c_long,
        0 => most,
        left => left,
    };
    // SAFETY: contract of a hook; only the count differs.
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
