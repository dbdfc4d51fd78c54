//! Mutexes and condition variables of C.
//!
//! ```text
//!   the mutex is held by     a coroutine that wants it
//!
//!   nobody                   has it
//!   a sibling                waits among `addresses`: the kernel would wait for ever
//!   another thread           waits in the kernel: that thread needs no help of this one's
//! ```
//!
//! So nobody switches in a library that takes a mutex for some instructions, with something of the thread's
//! half changed: an allocator, for example.
//!
//! Only a plain mutex tells siblings apart. One that is recursive, that checks for errors or is robust
//! belongs to the *thread*, by its definition, and is left as it is: siblings get into a recursive one
//! together.

use crate::hub::Deadline;
use crate::monkey::addresses::{self, Waiting};
use crate::monkey::table;
use libc::{c_int, clockid_t, pthread_cond_t, pthread_mutex_t, timespec};
use std::mem::MaybeUninit;
use std::sync::OnceLock;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicI32, AtomicU8};
use std::time::Duration;

const ANY: u32 = u32::MAX;

/// The beginning of a mutex of glibc's, as programs are compiled with it.
#[repr(C)]
struct Layout {
    lock: AtomicI32,
    _count: AtomicI32,
    owner: AtomicI32,
    _users: AtomicI32,
    kind: AtomicI32,
}

const _: () = assert!(size_of::<Layout>() <= size_of::<pthread_mutex_t>());

/// # Safety
///
/// A mutex that is there.
unsafe fn layout<'a>(mutex: *mut pthread_mutex_t) -> &'a Layout {
    // SAFETY: the caller's. All parts are changed atomically, or read here as if.
    unsafe { &*mutex.cast::<Layout>() }
}

/// Whether it is of the simplest kind, or of that which spins, and of this process alone.
fn is_plain(mutex: &Layout) -> bool {
    const ADAPTIVE: c_int = 3;
    /// Whether hardware transactions may be tried has been decided: not.
    const WITHOUT_ELISION: c_int = 512;
    matches!(mutex.kind.load(Relaxed) & !WITHOUT_ELISION, libc::PTHREAD_MUTEX_NORMAL | ADAPTIVE)
}

fn is_held_by_sibling(mutex: &Layout) -> bool {
    // SAFETY: no preconditions.
    is_plain(mutex) && mutex.owner.load(Relaxed) == unsafe { libc::gettid() }
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn pthread_mutex_lock(mutex: *mut pthread_mutex_t) -> c_int {
    // SAFETY: the caller's.
    let result = unsafe { lock(mutex, None) };
    // SAFETY: the caller's.
    result.unwrap_or_else(|| unsafe { table::pthread_mutex_lock::original(mutex) })
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn pthread_mutex_timedlock(
    mutex: *mut pthread_mutex_t,
    until: *const timespec,
) -> c_int {
    // SAFETY: the caller's.
    let deadline = deadline(libc::CLOCK_REALTIME, unsafe { &*until });
    // SAFETY: the caller's.
    let result = deadline.and_then(|deadline| unsafe { lock(mutex, Some(deadline)) });
    result.unwrap_or_else(|| {
        // SAFETY: the caller's.
        let result = unsafe { table::pthread_mutex_timedlock::original(mutex, until) };
        if result != 0 {
            // Who has been woken for it and does not get it leaves that to the next.
            addresses::wake(mutex.addr(), ANY, 1);
        }
        result
    })
}

/// `None` if it is for the kernel.
///
/// # Safety
///
/// As libc's `pthread_mutex_lock`.
unsafe fn lock(mutex: *mut pthread_mutex_t, deadline: Option<Deadline>) -> Option<c_int> {
    loop {
        // SAFETY: the caller's.
        let result = unsafe { libc::pthread_mutex_trylock(mutex) };
        if result != libc::EBUSY {
            return Some(result);
        }
        // SAFETY: the caller's.
        let state = unsafe { layout(mutex) };
        if !is_held_by_sibling(state) {
            return None;
        }
        let is_held = || state.lock.load(Relaxed) != 0;
        let waiting = Waiting::enqueue(mutex.addr(), ANY, is_held);
        if waiting.is_some_and(|waiting| !waiting.wait("pthread_mutex_lock", deadline)) {
            return Some(libc::ETIMEDOUT);
        }
    }
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn pthread_mutex_unlock(mutex: *mut pthread_mutex_t) -> c_int {
    // SAFETY: the caller's.
    let result = unsafe { table::pthread_mutex_unlock::original(mutex) };
    // It may be gone by now: of interest is only where it was.
    addresses::wake(mutex.addr(), ANY, 1);
    result
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn pthread_cond_wait(
    condition: *mut pthread_cond_t,
    mutex: *mut pthread_mutex_t,
) -> c_int {
    // SAFETY: the caller's.
    if unsafe { is_ours(condition, mutex) } {
        // SAFETY: the caller's.
        return unsafe { wait(condition, mutex, None) };
    }
    // SAFETY: the caller's.
    unsafe { table::pthread_cond_wait::blocking(condition, mutex) }
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn pthread_cond_timedwait(
    condition: *mut pthread_cond_t,
    mutex: *mut pthread_mutex_t,
    until: *const timespec,
) -> c_int {
    let is_monotonic = traits().is_monotonic.is_some_and(|bit| {
        // SAFETY: the caller's.
        unsafe { bit.is_set(condition) }
    });
    let clock = if is_monotonic { libc::CLOCK_MONOTONIC } else { libc::CLOCK_REALTIME };
    // SAFETY: the caller's.
    let deadline = deadline(clock, unsafe { &*until });
    // SAFETY: the caller's.
    if deadline.is_some() && unsafe { is_ours(condition, mutex) } {
        // SAFETY: the caller's.
        return unsafe { wait(condition, mutex, deadline) };
    }
    // SAFETY: the caller's.
    unsafe { table::pthread_cond_timedwait::blocking(condition, mutex, until) }
}

/// Whether a coroutine can wait for it: all who wake it are of this process, and the mutex can be let go of.
///
/// # Safety
///
/// As libc's `pthread_cond_wait`.
unsafe fn is_ours(condition: *mut pthread_cond_t, mutex: *mut pthread_mutex_t) -> bool {
    let Traits { is_shared: Some(is_shared), is_monotonic: Some(_) } = traits() else {
        return false;
    };
    // SAFETY: the caller's.
    unsafe { !is_shared.is_set(condition) && is_plain(layout(mutex)) }
}

/// Whoever wakes it after the mutex was let go of finds it enqueued.
///
/// # Safety
///
/// As libc's `pthread_cond_wait`.
unsafe fn wait(
    condition: *mut pthread_cond_t,
    mutex: *mut pthread_mutex_t,
    deadline: Option<Deadline>,
) -> c_int {
    let Some(waiting) = Waiting::enqueue(condition.addr(), ANY, || true) else { return 0 };
    // SAFETY: the caller's, who holds it.
    unsafe { pthread_mutex_unlock(mutex) };
    let is_woken = waiting.wait("pthread_cond_wait", deadline);
    // SAFETY: the caller's.
    let result = unsafe { pthread_mutex_lock(mutex) };
    match result {
        0 if is_woken => 0,
        0 => libc::ETIMEDOUT,
        error => error,
    }
}

/// Wakes a coroutine, and beside it a thread: one of them for nothing, which a wait allows.
///
/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn pthread_cond_signal(condition: *mut pthread_cond_t) -> c_int {
    addresses::wake(condition.addr(), ANY, 1);
    // SAFETY: the caller's.
    unsafe { table::pthread_cond_signal::original(condition) }
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn pthread_cond_broadcast(condition: *mut pthread_cond_t) -> c_int {
    addresses::wake(condition.addr(), ANY, usize::MAX);
    // SAFETY: the caller's.
    unsafe { table::pthread_cond_broadcast::original(condition) }
}

/// `None` for what libc would not take.
fn deadline(clock: clockid_t, until: &timespec) -> Option<Deadline> {
    let time = |time: &timespec| {
        let is_valid = time.tv_sec >= 0 && (0..1_000_000_000).contains(&time.tv_nsec);
        is_valid.then(|| Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
    };
    let mut now = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a place for the answer; a clock that is always there.
    unsafe { libc::clock_gettime(clock, &mut now) };
    Deadline::after(time(until)?.saturating_sub(time(&now)?))
}

/// Where a condition variable says what it is. Not the same in all versions of glibc: so it is asked to make
/// one of each kind, and these are compared.
#[derive(Clone, Copy)]
struct Traits {
    is_shared: Option<Bit>,
    is_monotonic: Option<Bit>,
}

#[derive(Clone, Copy)]
struct Bit {
    offset: usize,
    mask: u8,
}

impl Bit {
    /// # Safety
    ///
    /// A condition variable that is there.
    unsafe fn is_set(self, condition: *mut pthread_cond_t) -> bool {
        // SAFETY: the caller's, and within it. Others may change bits beside this one.
        let byte = unsafe { &*condition.cast::<AtomicU8>().add(self.offset) };
        byte.load(Relaxed) & self.mask != 0
    }
}

fn traits() -> Traits {
    static TRAITS: OnceLock<Traits> = OnceLock::new();
    *TRAITS.get_or_init(|| {
        let plain = bytes(libc::CLOCK_REALTIME, libc::PTHREAD_PROCESS_PRIVATE);
        let differs = |other: Bytes| {
            let mut bits = plain.iter().zip(other).enumerate();
            let (offset, mask) = bits.find_map(|(at, (plain, other))| {
                (plain ^ other != 0).then_some((at, plain ^ other))
            })?;
            // One bit, and set: otherwise this is not understood.
            (mask.is_power_of_two()
                && other[offset] & mask != 0
                && bits.all(|(_, (plain, other))| *plain == other))
            .then_some(Bit { offset, mask })
        };
        Traits {
            is_shared: differs(bytes(libc::CLOCK_REALTIME, libc::PTHREAD_PROCESS_SHARED)),
            is_monotonic: differs(bytes(libc::CLOCK_MONOTONIC, libc::PTHREAD_PROCESS_PRIVATE)),
        }
    })
}

type Bytes = [u8; size_of::<pthread_cond_t>()];

/// Those of a condition variable that is made so.
fn bytes(clock: clockid_t, shared: c_int) -> Bytes {
    let mut attributes = MaybeUninit::<libc::pthread_condattr_t>::uninit();
    let mut made = MaybeUninit::<Bytes>::zeroed();
    // SAFETY: room for both, which are initialised before they are used; what is made is nothing but memory.
    unsafe {
        libc::pthread_condattr_init(attributes.as_mut_ptr());
        libc::pthread_condattr_setclock(attributes.as_mut_ptr(), clock);
        libc::pthread_condattr_setpshared(attributes.as_mut_ptr(), shared);
        libc::pthread_cond_init(made.as_mut_ptr().cast(), attributes.as_ptr());
        libc::pthread_condattr_destroy(attributes.as_mut_ptr());
        made.assume_init()
    }
}
