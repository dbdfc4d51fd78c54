//! Condition variables of C, with mutexes of every kind.
//!
//! A coroutine waits for a condition variable in `addresses`, where the signalling hooks look for waiters.
//! The mutex is unlocked and locked by the hooks of `mutexes.rs`.
//!
//! A condition variable that processes share is signalled in the kernel, so a dedicated thread waits for it.
//! That thread waits with a private mutex, by which the caller can tell that the thread is enqueued before
//! the caller unlocks its own mutex.

use super::acquire::{ANY, Limit};
use super::mutexes::{pthread_mutex_lock, pthread_mutex_unlock};
use crate::hub::{Place, place};
use crate::monkey::addresses::{self, Waiting};
use crate::monkey::dedicated::Aside;
use crate::monkey::gate::Row;
use crate::monkey::originals;
use libc::{c_int, clockid_t, pthread_cond_t, pthread_mutex_t, timespec};
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn pthread_cond_wait(
    condition: *mut pthread_cond_t,
    mutex: *mut pthread_mutex_t,
) -> c_int {
    if place() != Place::Task {
        unlock_is_near(mutex, &originals::pthread_cond_wait::ROW);
        // SAFETY: contract of a hook: libc's `pthread_cond_wait` gets the caller's pointers.
        return unsafe { originals::pthread_cond_wait::call(condition, mutex) };
    }
    // SAFETY: contract of a hook: `is_shared` has the same contract.
    let result = match unsafe { is_shared(condition) } {
        // SAFETY: contract of a hook: `wait` has the same contract.
        Some(false) => Some(unsafe { wait(condition, mutex, Limit::Never) }),
        Some(true) => {
            // SAFETY: contract of a hook, for the condition variable; the mutex `own` is locked by this
            // thread.
            let call =
                |condition, own| unsafe { originals::pthread_cond_wait::call(condition, own) };
            // SAFETY: contract of a hook: `wait_aside` has the same contract.
            unsafe { wait_aside(condition, mutex, call) }
        }
        None => None,
    };
    // SAFETY: contract of a hook: libc's `pthread_cond_wait` gets the caller's pointers.
    result
        .unwrap_or_else(|| unsafe { originals::pthread_cond_wait::call_blocking(condition, mutex) })
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn pthread_cond_timedwait(
    condition: *mut pthread_cond_t,
    mutex: *mut pthread_mutex_t,
    until: *const timespec,
) -> c_int {
    if place() != Place::Task {
        unlock_is_near(mutex, &originals::pthread_cond_timedwait::ROW);
        // SAFETY: contract of a hook: libc's `pthread_cond_timedwait` gets the caller's pointers.
        return unsafe { originals::pthread_cond_timedwait::call(condition, mutex, until) };
    }
    let is_monotonic = traits().is_monotonic.is_some_and(|bit| {
        // SAFETY: contract of a hook: the condition variable is initialised.
        unsafe { bit.is_set(condition) }
    });
    let clock = if is_monotonic { libc::CLOCK_MONOTONIC } else { libc::CLOCK_REALTIME };
    // SAFETY: contract of a hook: the time is null or valid.
    let limit = unsafe { Limit::until(clock, until) };
    if limit == Limit::Invalid {
        // SAFETY: contract of a hook: libc's `pthread_cond_timedwait` gets the caller's pointers. It fails at
        // once.
        return unsafe { originals::pthread_cond_timedwait::call(condition, mutex, until) };
    }
    // SAFETY: contract of a hook: `is_shared` has the same contract.
    let result = match unsafe { is_shared(condition) } {
        // SAFETY: contract of a hook: `wait` has the same contract.
        Some(false) => Some(unsafe { wait(condition, mutex, limit) }),
        Some(true) => {
            // SAFETY: contract of a hook: the time is valid, since `limit` is not `Invalid`.
            let time = unsafe { *until };
            let call = move |condition, own| {
                // SAFETY: contract of a hook, for the condition variable; the mutex `own` is locked by this
                // thread.
                unsafe { originals::pthread_cond_timedwait::call(condition, own, &time) }
            };
            // SAFETY: contract of a hook: `wait_aside` has the same contract.
            unsafe { wait_aside(condition, mutex, call) }
        }
        None => None,
    };
    result.unwrap_or_else(|| {
        // SAFETY: contract of a hook: libc's `pthread_cond_timedwait` gets the caller's pointers.
        unsafe { originals::pthread_cond_timedwait::call_blocking(condition, mutex, until) }
    })
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn pthread_cond_clockwait(
    condition: *mut pthread_cond_t,
    mutex: *mut pthread_mutex_t,
    clock: clockid_t,
    until: *const timespec,
) -> c_int {
    if place() != Place::Task {
        unlock_is_near(mutex, &originals::pthread_cond_clockwait::ROW);
        // SAFETY: contract of a hook: libc's `pthread_cond_clockwait` gets the caller's pointers.
        return unsafe { originals::pthread_cond_clockwait::call(condition, mutex, clock, until) };
    }
    // SAFETY: contract of a hook: the time is null or valid.
    let limit = unsafe { Limit::until(clock, until) };
    if limit == Limit::Invalid {
        // SAFETY: contract of a hook: libc's `pthread_cond_clockwait` gets the caller's pointers. It fails at
        // once.
        return unsafe { originals::pthread_cond_clockwait::call(condition, mutex, clock, until) };
    }
    // SAFETY: contract of a hook: `is_shared` has the same contract.
    let result = match unsafe { is_shared(condition) } {
        // SAFETY: contract of a hook: `wait` has the same contract.
        Some(false) => Some(unsafe { wait(condition, mutex, limit) }),
        Some(true) => {
            // SAFETY: contract of a hook: the time is valid, since `limit` is not `Invalid`.
            let time = unsafe { *until };
            let call = move |condition, own| {
                // SAFETY: contract of a hook, for the condition variable; the mutex `own` is locked by this
                // thread.
                unsafe { originals::pthread_cond_clockwait::call(condition, own, clock, &time) }
            };
            // SAFETY: contract of a hook: `wait_aside` has the same contract.
            unsafe { wait_aside(condition, mutex, call) }
        }
        None => None,
    };
    result.unwrap_or_else(|| {
        // SAFETY: contract of a hook: libc's `pthread_cond_clockwait` gets the caller's pointers.
        unsafe { originals::pthread_cond_clockwait::call_blocking(condition, mutex, clock, until) }
    })
}

/// Makes the waiters of a mutex poll often for a while.
///
/// Called before libc unlocks the mutex internally, which no hook sees.
fn unlock_is_near(mutex: *mut pthread_mutex_t, row: &Row) {
    if place() == Place::Hub {
        row.count_blocked();
    }
    addresses::wake(mutex.addr(), ANY, 1);
}

/// Whether another process may signal the condition variable. `None` if that is unknown.
///
/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`), as for libc's `pthread_cond_wait`.
unsafe fn is_shared(condition: *mut pthread_cond_t) -> Option<bool> {
    let Traits { is_shared, is_monotonic: Some(_) } = traits() else { return None };
    // SAFETY: contract of a hook: the condition variable is initialised.
    is_shared.map(|bit| unsafe { bit.is_set(condition) })
}

/// Waits in `addresses`.
///
/// The caller is enqueued before it unlocks the mutex, so a later signal finds it.
///
/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`), as for libc's `pthread_cond_wait`.
unsafe fn wait(condition: *mut pthread_cond_t, mutex: *mut pthread_mutex_t, limit: Limit) -> c_int {
    let Some(waiting) = Waiting::enqueue(condition.addr(), ANY, || true) else { return 0 };
    // SAFETY: contract of a hook: `pthread_mutex_unlock` has the same contract.
    let result = unsafe { pthread_mutex_unlock(mutex) };
    if result != 0 {
        // The mutex is not the caller's.
        waiting.leave();
        return result;
    }
    let is_woken = waiting.wait("pthread_cond_wait", limit.deadline());
    // SAFETY: contract of a hook: `pthread_mutex_lock` has the same contract.
    let result = unsafe { pthread_mutex_lock(mutex) };
    match result {
        0 if !is_woken => libc::ETIMEDOUT,
        result => result,
    }
}

/// Like [`wait`], but a dedicated thread waits, by `call`.
///
/// `None`: no thread can be created.
///
/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`), as for libc's `pthread_cond_wait`.
unsafe fn wait_aside(
    condition: *mut pthread_cond_t,
    mutex: *mut pthread_mutex_t,
    call: impl FnOnce(*mut pthread_cond_t, *mut pthread_mutex_t) -> c_int + Send + 'static,
) -> Option<c_int> {
    let own = Arc::new(Own(UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER)));
    let (theirs, address) = (Arc::clone(&own), condition.expose_provenance());
    let prepare = move || {
        // SAFETY: `theirs` is an initialised mutex.
        unsafe { originals::pthread_mutex_lock::call(theirs.0.get()) };
        theirs
    };
    let wait = move |theirs: Arc<Own>| {
        let result = call(ptr::with_exposed_provenance_mut(address), theirs.0.get());
        // SAFETY: `theirs` is an initialised mutex that this thread holds: `call` has unlocked it and locked
        // it again.
        unsafe { originals::pthread_mutex_unlock::call(theirs.0.get()) };
        result
    };
    let aside = Aside::begin("pthread_cond_wait", prepare, wait)?;
    aside.wait_prepared();
    // SAFETY: `own` is an initialised mutex. The other thread unlocks it, within a few instructions, once it
    // is enqueued at the condition variable.
    unsafe {
        originals::pthread_mutex_lock::call(own.0.get());
        originals::pthread_mutex_unlock::call(own.0.get());
    }
    // SAFETY: contract of a hook: `pthread_mutex_unlock` has the same contract.
    let refused = unsafe { pthread_mutex_unlock(mutex) };
    if refused != 0 {
        // The mutex is not the caller's. Ends the other thread's wait; other waiters may wake spuriously.
        // SAFETY: contract of a hook: libc's `pthread_cond_broadcast` gets the caller's pointers.
        unsafe { originals::pthread_cond_broadcast::call(condition) };
    }
    let result = aside.wait();
    if refused != 0 {
        return Some(refused);
    }
    // SAFETY: contract of a hook: `pthread_mutex_lock` has the same contract.
    let locked = unsafe { pthread_mutex_lock(mutex) };
    Some(if locked == 0 { result } else { locked })
}

/// The private mutex of a thread that waits for a coroutine.
struct Own(UnsafeCell<pthread_mutex_t>);

// SAFETY: only libc's mutex functions use the content, and those allow any thread.
unsafe impl Send for Own {}
// SAFETY: only libc's mutex functions use the content, and those allow concurrent use.
unsafe impl Sync for Own {}

/// Wakes one coroutine and one thread.
///
/// One of the two wakes spuriously, which the contract of a wait allows.
///
/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn pthread_cond_signal(condition: *mut pthread_cond_t) -> c_int {
    addresses::wake(condition.addr(), ANY, 1);
    // SAFETY: contract of a hook: libc's `pthread_cond_signal` gets the caller's pointers.
    unsafe { originals::pthread_cond_signal::call(condition) }
}

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn pthread_cond_broadcast(condition: *mut pthread_cond_t) -> c_int {
    addresses::wake(condition.addr(), ANY, usize::MAX);
    // SAFETY: contract of a hook: libc's `pthread_cond_broadcast` gets the caller's pointers.
    unsafe { originals::pthread_cond_broadcast::call(condition) }
}

/// Where a condition variable stores its attributes.
///
/// That differs between versions of glibc. So one condition variable of each kind is created, and they are
/// compared.
#[derive(Clone, Copy)]
struct Traits {
    is_shared: Option<Bit>,
    is_monotonic: Option<Bit>,
}

/// One bit of a condition variable.
#[derive(Clone, Copy)]
struct Bit {
    offset: usize,
    mask: u8,
}

impl Bit {
    /// Whether the bit is set in a condition variable.
    ///
    /// # Safety
    ///
    /// `condition` is initialised.
    unsafe fn is_set(self, condition: *mut pthread_cond_t) -> bool {
        // SAFETY: the contract of this function; the offset lies inside. Other bits of the byte may change,
        // so it is read atomically.
        let byte = unsafe { &*condition.cast::<AtomicU8>().add(self.offset) };
        byte.load(Relaxed) & self.mask != 0
    }
}

/// The positions of the attributes, found out once.
fn traits() -> Traits {
    static TRAITS: OnceLock<Traits> = OnceLock::new();
    *TRAITS.get_or_init(|| {
        let plain = bytes(libc::CLOCK_REALTIME, libc::PTHREAD_PROCESS_PRIVATE);
        let differs = |other: Bytes| {
            let mut bits = plain.iter().zip(other).enumerate();
            let (offset, mask) = bits.find_map(|(at, (plain, other))| {
                (plain ^ other != 0).then_some((at, plain ^ other))
            })?;
            // Exactly one bit differs, and is set. Any other difference is not understood.
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

/// The bytes of a condition variable with these attributes.
fn bytes(clock: clockid_t, shared: c_int) -> Bytes {
    let mut attributes = MaybeUninit::<libc::pthread_condattr_t>::uninit();
    let mut made = MaybeUninit::<Bytes>::zeroed();
    // SAFETY: both are valid for writes and initialised before use; dropping an initialised condition
    // variable without destroying it leaks nothing.
    unsafe {
        libc::pthread_condattr_init(attributes.as_mut_ptr());
        libc::pthread_condattr_setclock(attributes.as_mut_ptr(), clock);
        libc::pthread_condattr_setpshared(attributes.as_mut_ptr(), shared);
        libc::pthread_cond_init(made.as_mut_ptr().cast(), attributes.as_ptr());
        libc::pthread_condattr_destroy(attributes.as_mut_ptr());
        made.assume_init()
    }
}
