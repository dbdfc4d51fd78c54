//! Locks, conditions, semaphores, futexes and threads.

use super::Call;
use crate::fixtures::MEMORY;
use crate::params::Param::One;
use crate::params::{LIMITS, Param, int, timespec, values};
use crate::world::{actor, error_name, outcome};
use libc::{c_int, clockid_t, pthread_cond_t, pthread_mutex_t, sem_t, timespec};
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst};

unsafe extern "C" {
    fn pthread_mutex_clocklock(m: *mut pthread_mutex_t, c: clockid_t, t: *const timespec) -> c_int;
    fn pthread_cond_clockwait(
        condition: *mut pthread_cond_t,
        mutex: *mut pthread_mutex_t,
        clock: clockid_t,
        until: *const timespec,
    ) -> c_int;
    fn sem_clockwait(semaphore: *mut sem_t, clock: clockid_t, until: *const timespec) -> c_int;
}

const KINDS: [c_int; 3] =
    [libc::PTHREAD_MUTEX_NORMAL, libc::PTHREAD_MUTEX_RECURSIVE, libc::PTHREAD_MUTEX_ERRORCHECK];
const MUTEX: Param = One(&[("normal", 0), ("recursive", 1), ("checking", 2)]);
pub(super) const CLOCK: Param = One(values![CLOCK_MONOTONIC, CLOCK_REALTIME]);

/// What all actors use.
pub(super) struct Shared {
    mutexes: [UnsafeCell<pthread_mutex_t>; 3],
    condition: UnsafeCell<pthread_cond_t>,
    semaphore: UnsafeCell<sem_t>,
    pub(super) readers: UnsafeCell<libc::pthread_rwlock_t>,
    pub(super) c11_mutex: UnsafeCell<pthread_mutex_t>,
    pub(super) c11_condition: UnsafeCell<pthread_cond_t>,
    pub(super) spinning: UnsafeCell<libc::pthread_spinlock_t>,
    pub(super) barrier: UnsafeCell<libc::pthread_barrier_t>,
}

// SAFETY: all of it is made to be used by several threads, by functions of C.
unsafe impl Sync for Shared {}
// SAFETY: as above; it stays where it is.
unsafe impl Send for Shared {}

pub(super) static SHARED: LazyLock<&'static Shared> = LazyLock::new(|| {
    let shared = Box::leak(Box::new(Shared {
        mutexes: [const { UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER) }; 3],
        condition: UnsafeCell::new(libc::PTHREAD_COND_INITIALIZER),
        // SAFETY: it is made below.
        semaphore: UnsafeCell::new(unsafe { MaybeUninit::zeroed().assume_init() }),
        readers: UnsafeCell::new(libc::PTHREAD_RWLOCK_INITIALIZER),
        // All-zero is a mutex of C11, and a condition.
        c11_mutex: UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER),
        c11_condition: UnsafeCell::new(libc::PTHREAD_COND_INITIALIZER),
        spinning: UnsafeCell::new(0),
        // SAFETY: it is made below.
        barrier: UnsafeCell::new(unsafe { MaybeUninit::zeroed().assume_init() }),
    }));
    for (kind, mutex) in KINDS.into_iter().zip(&shared.mutexes) {
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: attributes that are made first; a mutex that nothing uses yet.
        unsafe {
            libc::pthread_mutexattr_init(attributes.as_mut_ptr());
            libc::pthread_mutexattr_settype(attributes.as_mut_ptr(), kind);
            libc::pthread_mutex_init(mutex.get(), attributes.as_ptr());
        }
    }
    // SAFETY: room for it, which stays.
    unsafe {
        libc::sem_init(shared.semaphore.get(), 0, 1);
        libc::pthread_spin_init(shared.spinning.get(), libc::PTHREAD_PROCESS_PRIVATE);
        libc::pthread_barrier_init(shared.barrier.get(), ptr::null(), 2);
    }
    shared
});

static WORD: AtomicU32 = AtomicU32::new(0);

/// How often each actor holds each mutex, the lock for reading or writing, and what other modules have, in
/// this order.
static HELD: [[AtomicUsize; 7]; 4] = [const { [const { AtomicUsize::new(0) }; 7] }; 4];

pub(super) fn held(step: usize, lock: usize) -> &'static AtomicUsize {
    &HELD[actor(step)][lock]
}

fn mutex(which: i64) -> *mut pthread_mutex_t {
    SHARED.mutexes[which as usize].get()
}

/// When a limit is over, by a clock. What is without limit is over in a year.
pub(super) fn until(clock: clockid_t, millis: i64) -> timespec {
    let mut now = timespec(0);
    // SAFETY: room for the answer.
    unsafe { libc::clock_gettime(clock, &mut now) };
    let limit = timespec(if millis < 0 { 31_536_000_000 } else { millis });
    let nanos = now.tv_nsec + limit.tv_nsec;
    let seconds = now.tv_sec + limit.tv_sec + nanos / 1_000_000_000;
    libc::timespec { tv_sec: seconds, tv_nsec: nanos % 1_000_000_000 }
}

/// With whether it ended before its time.
pub(super) fn in_time(
    clock: clockid_t,
    until: timespec,
    call: impl FnOnce(*const timespec) -> c_int,
) -> (c_int, &'static str) {
    let error = call(&until);
    let mut now = timespec(0);
    // SAFETY: room for the answer.
    unsafe { libc::clock_gettime(clock, &mut now) };
    let is_early = (now.tv_sec, now.tv_nsec) < (until.tv_sec, until.tv_nsec);
    (error, if error == libc::ETIMEDOUT && is_early { " TOO EARLY" } else { "" })
}

/// Counts a lock that was taken.
pub(super) fn locked(step: usize, lock: usize, (error, early): (c_int, &str)) -> String {
    if error == 0 {
        held(step, lock).fetch_add(1, SeqCst);
    }
    error_name(error) + early
}

pub(super) const CALLS: &[Call] = &[
    Call::new("mutex_lock", 8, MEMORY, &[MUTEX], |step, a| {
        // SAFETY: a mutex that stays.
        locked(step, a[0] as usize, (unsafe { libc::pthread_mutex_lock(mutex(a[0])) }, ""))
    }),
    Call::new("mutex_trylock", 4, MEMORY, &[MUTEX], |step, a| {
        // SAFETY: a mutex that stays.
        locked(step, a[0] as usize, (unsafe { libc::pthread_mutex_trylock(mutex(a[0])) }, ""))
    }),
    Call::new("mutex_timedlock", 4, MEMORY, &[MUTEX, LIMITS], |step, a| {
        let clock = libc::CLOCK_REALTIME;
        // SAFETY: a mutex that stays, and a time.
        let got = in_time(clock, until(clock, a[1]), |until| unsafe {
            libc::pthread_mutex_timedlock(mutex(a[0]), until)
        });
        locked(step, a[0] as usize, got)
    }),
    Call::new("mutex_clocklock", 3, MEMORY, &[MUTEX, LIMITS, CLOCK], |step, a| {
        let clock = int(a[2]);
        // SAFETY: a mutex that stays, and a time.
        let got = in_time(clock, until(clock, a[1]), |until| unsafe {
            pthread_mutex_clocklock(mutex(a[0]), clock, until)
        });
        locked(step, a[0] as usize, got)
    }),
    Call::new("mutex_unlock", 10, MEMORY, &[MUTEX], |step, a| {
        let held = held(step, a[0] as usize);
        // The one that checks may be given to any.
        if a[0] != 2 && held.load(SeqCst) == 0 {
            return "not held".into();
        }
        if held.load(SeqCst) > 0 {
            held.fetch_sub(1, SeqCst);
        }
        // SAFETY: a mutex that this actor holds, or that says that it does not.
        error_name(unsafe { libc::pthread_mutex_unlock(mutex(a[0])) })
    }),
    Call::new("mutex_destroy", 1, MEMORY, &[MUTEX], |step, a| {
        // One that is free is not to be used afterwards.
        if held(step, a[0] as usize).load(SeqCst) == 0 {
            return "not held".into();
        }
        // SAFETY: a mutex that this actor holds: it stays.
        error_name(unsafe { libc::pthread_mutex_destroy(mutex(a[0])) })
    }),
    Call::new("cond_wait", 6, MEMORY, &[], |step, _| {
        if held(step, 0).load(SeqCst) == 0 {
            return "not held".into();
        }
        // SAFETY: a mutex that this actor holds.
        error_name(unsafe { libc::pthread_cond_wait(SHARED.condition.get(), mutex(0)) })
    }),
    Call::new("cond_timedwait", 4, MEMORY, &[LIMITS], |step, a| {
        if held(step, 0).load(SeqCst) == 0 {
            return "not held".into();
        }
        let clock = libc::CLOCK_REALTIME;
        // SAFETY: a mutex that this actor holds, and a time.
        let (error, early) = in_time(clock, until(clock, a[0]), |until| unsafe {
            libc::pthread_cond_timedwait(SHARED.condition.get(), mutex(0), until)
        });
        error_name(error) + early
    }),
    Call::new("cond_clockwait", 4, MEMORY, &[LIMITS, CLOCK], |step, a| {
        if held(step, 0).load(SeqCst) == 0 {
            return "not held".into();
        }
        let clock = int(a[1]);
        // SAFETY: a mutex that this actor holds, and a time.
        let (error, early) = in_time(clock, until(clock, a[0]), |until| unsafe {
            pthread_cond_clockwait(SHARED.condition.get(), mutex(0), clock, until)
        });
        error_name(error) + early
    }),
    Call::new("cond_signal", 5, MEMORY, &[], |_, _| {
        // SAFETY: it stays.
        error_name(unsafe { libc::pthread_cond_signal(SHARED.condition.get()) })
    }),
    Call::new("cond_broadcast", 4, MEMORY, &[], |_, _| {
        // SAFETY: it stays.
        error_name(unsafe { libc::pthread_cond_broadcast(SHARED.condition.get()) })
    }),
    Call::new("sem_wait", 6, MEMORY, &[], |_, _| {
        // SAFETY: it stays.
        outcome(unsafe { libc::sem_wait(SHARED.semaphore.get()) }).text()
    }),
    Call::new("sem_timedwait", 4, MEMORY, &[LIMITS], |_, a| {
        let time = until(libc::CLOCK_REALTIME, a[0]);
        // SAFETY: it stays; a time.
        outcome(unsafe { libc::sem_timedwait(SHARED.semaphore.get(), &time) }).text()
    }),
    Call::new("sem_clockwait", 4, MEMORY, &[LIMITS, CLOCK], |_, a| {
        let time = until(int(a[1]), a[0]);
        // SAFETY: it stays; a time.
        outcome(unsafe { sem_clockwait(SHARED.semaphore.get(), int(a[1]), &time) }).text()
    }),
    Call::new("sem_post", 6, MEMORY, &[], |_, _| {
        // SAFETY: it stays.
        outcome(unsafe { libc::sem_post(SHARED.semaphore.get()) }).text()
    }),
    Call::new("rwlock_rdlock", 4, MEMORY, &[], |step, _| {
        // SAFETY: it stays.
        locked(step, 3, (unsafe { libc::pthread_rwlock_rdlock(SHARED.readers.get()) }, ""))
    }),
    Call::new("rwlock_wrlock", 4, MEMORY, &[], |step, _| {
        // SAFETY: it stays.
        locked(step, 3, (unsafe { libc::pthread_rwlock_wrlock(SHARED.readers.get()) }, ""))
    }),
    Call::new("rwlock_unlock", 6, MEMORY, &[], |step, _| {
        if held(step, 3).load(SeqCst) == 0 {
            return "not held".into();
        }
        held(step, 3).fetch_sub(1, SeqCst);
        // SAFETY: this actor holds it.
        error_name(unsafe { libc::pthread_rwlock_unlock(SHARED.readers.get()) })
    }),
    Call::new("futex_wait", 5, MEMORY, &[One(&[("same", 0), ("other", 1)]), LIMITS], |_, a| {
        let operation = libc::FUTEX_WAIT_BITSET | libc::FUTEX_PRIVATE_FLAG;
        let time = until(libc::CLOCK_MONOTONIC, a[1]);
        let time = if a[1] < 0 { ptr::null() } else { &raw const time };
        let none = ptr::null::<u32>();
        // SAFETY: a word that stays, and a time.
        outcome(unsafe {
            libc::syscall(libc::SYS_futex, WORD.as_ptr(), operation, a[0], time, none, u32::MAX)
        })
        .text()
    }),
    Call::new("futex_wake", 5, MEMORY, &[One(&[("one", 1), ("all", i32::MAX as i64)])], |_, a| {
        let operation = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
        // SAFETY: a word that stays.
        outcome(unsafe { libc::syscall(libc::SYS_futex, WORD.as_ptr(), operation, a[0]) }).text()
    }),
    Call::new("join", 3, MEMORY, &[One(&[("ended", 0), ("alive", 1)])], |_, a| {
        let is_alive = a[0] == 1;
        let thread = std::thread::spawn(move || {
            if is_alive {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            5
        });
        thread.join().map_or("panicked".into(), |five| five.to_string())
    })
    .timed(),
];
