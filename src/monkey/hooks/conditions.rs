//! Condition variables of C, with mutexes of every kind. A coroutine waits for one among `addresses`, where
//! those who signal look, and the mutex is unlocked and locked by this module's functions for that.
//!
//! One that is shared by processes is waited for by another thread, since others signal it in the kernel.
//! That thread waits with a mutex of its own, so that it can be known to be enqueued before the caller's is
//! unlocked.

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
/// As libc's.
pub(in crate::monkey) unsafe fn pthread_cond_wait(
    condition: *mut pthread_cond_t,
    mutex: *mut pthread_mutex_t,
) -> c_int {
    if place() != Place::Task {
        unlock_is_near(mutex, &originals::pthread_cond_wait::ROW);
        // SAFETY: the caller's.
        return unsafe { originals::pthread_cond_wait::call(condition, mutex) };
    }
    // SAFETY: the caller's.
    let result = match unsafe { is_shared(condition) } {
        // SAFETY: the caller's.
        Some(false) => Some(unsafe { wait(condition, mutex, Limit::Never) }),
        Some(true) => {
            // SAFETY: the caller's, of the condition variable; the mutex is locked.
            let call =
                |condition, own| unsafe { originals::pthread_cond_wait::call(condition, own) };
            // SAFETY: the caller's.
            unsafe { wait_aside(condition, mutex, call) }
        }
        None => None,
    };
    // SAFETY: the caller's.
    result
        .unwrap_or_else(|| unsafe { originals::pthread_cond_wait::call_blocking(condition, mutex) })
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn pthread_cond_timedwait(
    condition: *mut pthread_cond_t,
    mutex: *mut pthread_mutex_t,
    until: *const timespec,
) -> c_int {
    if place() != Place::Task {
        unlock_is_near(mutex, &originals::pthread_cond_timedwait::ROW);
        // SAFETY: the caller's.
        return unsafe { originals::pthread_cond_timedwait::call(condition, mutex, until) };
    }
    let is_monotonic = traits().is_monotonic.is_some_and(|bit| {
        // SAFETY: the caller's.
        unsafe { bit.is_set(condition) }
    });
    let clock = if is_monotonic { libc::CLOCK_MONOTONIC } else { libc::CLOCK_REALTIME };
    // SAFETY: the caller's.
    let limit = unsafe { Limit::until(clock, until) };
    if limit == Limit::Invalid {
        // SAFETY: the caller's. libc complains at once.
        return unsafe { originals::pthread_cond_timedwait::call(condition, mutex, until) };
    }
    // SAFETY: the caller's.
    let result = match unsafe { is_shared(condition) } {
        // SAFETY: the caller's.
        Some(false) => Some(unsafe { wait(condition, mutex, limit) }),
        Some(true) => {
            // SAFETY: the caller's: a time that is valid.
            let time = unsafe { *until };
            let call = move |condition, own| {
                // SAFETY: the caller's, of the condition variable; the mutex is locked.
                unsafe { originals::pthread_cond_timedwait::call(condition, own, &time) }
            };
            // SAFETY: the caller's.
            unsafe { wait_aside(condition, mutex, call) }
        }
        None => None,
    };
    result.unwrap_or_else(|| {
        // SAFETY: the caller's.
        unsafe { originals::pthread_cond_timedwait::call_blocking(condition, mutex, until) }
    })
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn pthread_cond_clockwait(
    condition: *mut pthread_cond_t,
    mutex: *mut pthread_mutex_t,
    clock: clockid_t,
    until: *const timespec,
) -> c_int {
    if place() != Place::Task {
        unlock_is_near(mutex, &originals::pthread_cond_clockwait::ROW);
        // SAFETY: the caller's.
        return unsafe { originals::pthread_cond_clockwait::call(condition, mutex, clock, until) };
    }
    // SAFETY: the caller's.
    let limit = unsafe { Limit::until(clock, until) };
    if limit == Limit::Invalid {
        // SAFETY: the caller's. libc complains at once.
        return unsafe { originals::pthread_cond_clockwait::call(condition, mutex, clock, until) };
    }
    // SAFETY: the caller's.
    let result = match unsafe { is_shared(condition) } {
        // SAFETY: the caller's.
        Some(false) => Some(unsafe { wait(condition, mutex, limit) }),
        Some(true) => {
            // SAFETY: the caller's: a time that is valid.
            let time = unsafe { *until };
            let call = move |condition, own| {
                // SAFETY: the caller's, of the condition variable; the mutex is locked.
                unsafe { originals::pthread_cond_clockwait::call(condition, own, clock, &time) }
            };
            // SAFETY: the caller's.
            unsafe { wait_aside(condition, mutex, call) }
        }
        None => None,
    };
    result.unwrap_or_else(|| {
        // SAFETY: the caller's.
        unsafe { originals::pthread_cond_clockwait::call_blocking(condition, mutex, clock, until) }
    })
}

/// libc is about to unlock a mutex, and no hook is told: its waiters look at it often for a while.
fn unlock_is_near(mutex: *mut pthread_mutex_t, row: &Row) {
    if place() == Place::Hub {
        row.count_blocked();
    }
    addresses::wake(mutex.addr(), ANY, 1);
}

/// Whether another process may signal it. `None` if that is not known.
///
/// # Safety
///
/// As libc's `pthread_cond_wait`.
unsafe fn is_shared(condition: *mut pthread_cond_t) -> Option<bool> {
    let Traits { is_shared, is_monotonic: Some(_) } = traits() else { return None };
    // SAFETY: the caller's.
    is_shared.map(|bit| unsafe { bit.is_set(condition) })
}

/// Those who signal after the mutex was unlocked find the caller enqueued.
///
/// # Safety
///
/// As libc's `pthread_cond_wait`.
unsafe fn wait(condition: *mut pthread_cond_t, mutex: *mut pthread_mutex_t, limit: Limit) -> c_int {
    let Some(waiting) = Waiting::enqueue(condition.addr(), ANY, || true) else { return 0 };
    // SAFETY: the caller's.
    let result = unsafe { pthread_mutex_unlock(mutex) };
    if result != 0 {
        // It is not the caller's.
        waiting.leave();
        return result;
    }
    let is_woken = waiting.wait("pthread_cond_wait", limit.deadline());
    // SAFETY: the caller's.
    let result = unsafe { pthread_mutex_lock(mutex) };
    match result {
        0 if !is_woken => libc::ETIMEDOUT,
        result => result,
    }
}

/// As [`wait`], by another thread, which waits by `call`. `None`: there can be no more threads.
///
/// # Safety
///
/// As libc's `pthread_cond_wait`, by which the pointers may be used on any thread.
unsafe fn wait_aside(
    condition: *mut pthread_cond_t,
    mutex: *mut pthread_mutex_t,
    call: impl FnOnce(*mut pthread_cond_t, *mut pthread_mutex_t) -> c_int + Send + 'static,
) -> Option<c_int> {
    let own = Arc::new(Own(UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER)));
    let (theirs, address) = (Arc::clone(&own), condition.expose_provenance());
    let prepare = move || {
        // SAFETY: a mutex.
        unsafe { originals::pthread_mutex_lock::call(theirs.0.get()) };
        theirs
    };
    let wait = move |theirs: Arc<Own>| {
        let result = call(ptr::with_exposed_provenance_mut(address), theirs.0.get());
        // SAFETY: a mutex, which is this thread's: libc has unlocked it and locked it again.
        unsafe { originals::pthread_mutex_unlock::call(theirs.0.get()) };
        result
    };
    let aside = Aside::begin("pthread_cond_wait", prepare, wait)?;
    aside.wait_prepared();
    // SAFETY: a mutex. It is unlocked when the other thread is enqueued, in some instructions.
    unsafe {
        originals::pthread_mutex_lock::call(own.0.get());
        originals::pthread_mutex_unlock::call(own.0.get());
    }
    // SAFETY: the caller's.
    let refused = unsafe { pthread_mutex_unlock(mutex) };
    if refused != 0 {
        // It is not the caller's. The other thread is called back, and all others may wake for nothing.
        // SAFETY: the caller's.
        unsafe { originals::pthread_cond_broadcast::call(condition) };
    }
    let result = aside.wait();
    if refused != 0 {
        return Some(refused);
    }
    // SAFETY: the caller's.
    let locked = unsafe { pthread_mutex_lock(mutex) };
    Some(if locked == 0 { result } else { locked })
}

/// A mutex of the thread that waits in a coroutine's stead.
struct Own(UnsafeCell<pthread_mutex_t>);

// SAFETY: used by libc's functions only.
unsafe impl Send for Own {}
// SAFETY: as above.
unsafe impl Sync for Own {}

/// Wakes a coroutine, and beside it a thread: one of them for nothing, which a wait allows.
///
/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn pthread_cond_signal(condition: *mut pthread_cond_t) -> c_int {
    addresses::wake(condition.addr(), ANY, 1);
    // SAFETY: the caller's.
    unsafe { originals::pthread_cond_signal::call(condition) }
}

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn pthread_cond_broadcast(condition: *mut pthread_cond_t) -> c_int {
    addresses::wake(condition.addr(), ANY, usize::MAX);
    // SAFETY: the caller's.
    unsafe { originals::pthread_cond_broadcast::call(condition) }
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
