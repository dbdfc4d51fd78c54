//! Locks for reading and writing, those that spin, and what C11 has.

use super::Call;
use super::signals::slept;
use super::threads::{CLOCK, SHARED, held, in_time, locked, until};
use crate::fixtures::MEMORY;
use crate::params::Param::One;
use crate::params::{LIMITS, SHORT, int, timespec};
use crate::world::error_name;
use libc::{c_int, c_void, clockid_t, pthread_rwlock_t, pthread_t, timespec};
use std::ptr;

/// Where the actors' locks are counted.
const READERS: usize = 3;
const C11: usize = 4;
const SPINNING: usize = 5;

unsafe extern "C" {
    fn pthread_rwlock_timedrdlock(at: *mut pthread_rwlock_t, until: *const timespec) -> c_int;
    fn pthread_rwlock_timedwrlock(at: *mut pthread_rwlock_t, until: *const timespec) -> c_int;
    fn pthread_rwlock_clockrdlock(
        at: *mut pthread_rwlock_t,
        clock: clockid_t,
        until: *const timespec,
    ) -> c_int;
    fn pthread_rwlock_clockwrlock(
        at: *mut pthread_rwlock_t,
        clock: clockid_t,
        until: *const timespec,
    ) -> c_int;
    fn pthread_timedjoin_np(of: pthread_t, to: *mut *mut c_void, until: *const timespec) -> c_int;
    fn pthread_clockjoin_np(
        of: pthread_t,
        to: *mut *mut c_void,
        clock: clockid_t,
        until: *const timespec,
    ) -> c_int;
    fn mtx_lock(mutex: *mut c_void) -> c_int;
    fn mtx_timedlock(mutex: *mut c_void, until: *const timespec) -> c_int;
    fn mtx_trylock(mutex: *mut c_void) -> c_int;
    fn mtx_unlock(mutex: *mut c_void) -> c_int;
    fn cnd_wait(condition: *mut c_void, mutex: *mut c_void) -> c_int;
    fn cnd_timedwait(condition: *mut c_void, mutex: *mut c_void, until: *const timespec) -> c_int;
    fn cnd_signal(condition: *mut c_void) -> c_int;
    fn cnd_broadcast(condition: *mut c_void) -> c_int;
    fn thrd_join(of: pthread_t, status: *mut c_int) -> c_int;
    fn thrd_sleep(time: *const timespec, left: *mut timespec) -> c_int;
    fn thrd_yield();
}

fn readers() -> *mut pthread_rwlock_t {
    SHARED.readers.get()
}

/// Mutexes and conditions of C11 are those of POSIX, in their own ways of saying so.
fn mutex() -> *mut c_void {
    SHARED.c11_mutex.get().cast()
}

fn condition() -> *mut c_void {
    SHARED.c11_condition.get().cast()
}

/// As C11 says it.
fn said(step: usize, result: c_int, does_lock: bool) -> String {
    if result == 0 && does_lock {
        held(step, C11).fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    }
    result.to_string()
}

fn holds(step: usize, lock: usize) -> bool {
    held(step, lock).load(std::sync::atomic::Ordering::SeqCst) > 0
}

fn let_go(step: usize, lock: usize) {
    held(step, lock).fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
}

/// A thread that ends by itself, after a while or never.
fn thread(lives: bool) -> pthread_t {
    extern "C" fn run(lives: *mut c_void) -> *mut c_void {
        let time = if lives.is_null() { SHORT } else { 3_600_000 };
        std::thread::sleep(std::time::Duration::from_millis(time as u64));
        ptr::without_provenance_mut(5)
    }
    let mut made = 0;
    let lives = ptr::without_provenance_mut(usize::from(lives));
    // SAFETY: room for the answer; a function that takes anything.
    let error = unsafe { libc::pthread_create(&mut made, ptr::null(), run, lives) };
    assert_eq!(error, 0);
    made
}

const LIFE: crate::params::Param = One(&[("ends", 0), ("lives", 1)]);

pub(super) const CALLS: &[Call] = &[
    Call::new("rwlock_tryrdlock", 3, MEMORY, &[], |step, _| {
        // SAFETY: it stays.
        locked(step, READERS, (unsafe { libc::pthread_rwlock_tryrdlock(readers()) }, ""))
    }),
    Call::new("rwlock_trywrlock", 3, MEMORY, &[], |step, _| {
        // SAFETY: it stays.
        locked(step, READERS, (unsafe { libc::pthread_rwlock_trywrlock(readers()) }, ""))
    }),
    Call::new("rwlock_timedrdlock", 3, MEMORY, &[LIMITS], |step, a| {
        let clock = libc::CLOCK_REALTIME;
        // SAFETY: it stays; a time.
        let got = in_time(clock, until(clock, a[0]), |until| unsafe {
            pthread_rwlock_timedrdlock(readers(), until)
        });
        locked(step, READERS, got)
    }),
    Call::new("rwlock_timedwrlock", 3, MEMORY, &[LIMITS], |step, a| {
        let clock = libc::CLOCK_REALTIME;
        // SAFETY: it stays; a time.
        let got = in_time(clock, until(clock, a[0]), |until| unsafe {
            pthread_rwlock_timedwrlock(readers(), until)
        });
        locked(step, READERS, got)
    }),
    Call::new("rwlock_clockrdlock", 3, MEMORY, &[LIMITS, CLOCK], |step, a| {
        // SAFETY: it stays; a time.
        let got = in_time(int(a[1]), until(int(a[1]), a[0]), |until| unsafe {
            pthread_rwlock_clockrdlock(readers(), int(a[1]), until)
        });
        locked(step, READERS, got)
    }),
    Call::new("rwlock_clockwrlock", 3, MEMORY, &[LIMITS, CLOCK], |step, a| {
        // SAFETY: it stays; a time.
        let got = in_time(int(a[1]), until(int(a[1]), a[0]), |until| unsafe {
            pthread_rwlock_clockwrlock(readers(), int(a[1]), until)
        });
        locked(step, READERS, got)
    }),
    Call::new("spin_trylock", 3, MEMORY, &[], |step, _| {
        // SAFETY: it stays.
        locked(step, SPINNING, (unsafe { libc::pthread_spin_trylock(SHARED.spinning.get()) }, ""))
    }),
    Call::new("spin_lock", 3, MEMORY, &[], |step, _| {
        // A thread that spins never comes to rest.
        // SAFETY: it stays.
        match unsafe { libc::pthread_spin_trylock(SHARED.spinning.get()) } {
            // SAFETY: taken just now, and no other call goes on.
            0 => unsafe { libc::pthread_spin_unlock(SHARED.spinning.get()) },
            _ => return "would spin".into(),
        };
        // SAFETY: it stays.
        locked(step, SPINNING, (unsafe { libc::pthread_spin_lock(SHARED.spinning.get()) }, ""))
    }),
    Call::new("spin_unlock", 4, MEMORY, &[], |step, _| {
        if !holds(step, SPINNING) {
            return "not held".into();
        }
        let_go(step, SPINNING);
        // SAFETY: this actor holds it.
        error_name(unsafe { libc::pthread_spin_unlock(SHARED.spinning.get()) })
    }),
    Call::new("mtx_lock", 4, MEMORY, &[], |step, _| {
        // SAFETY: it stays.
        said(step, unsafe { mtx_lock(mutex()) }, true)
    }),
    Call::new("mtx_trylock", 3, MEMORY, &[], |step, _| {
        // SAFETY: it stays.
        said(step, unsafe { mtx_trylock(mutex()) }, true)
    }),
    Call::new("mtx_timedlock", 4, MEMORY, &[LIMITS], |step, a| {
        let time = until(libc::CLOCK_REALTIME, a[0]);
        // SAFETY: it stays; a time.
        said(step, unsafe { mtx_timedlock(mutex(), &time) }, true)
    }),
    Call::new("mtx_unlock", 6, MEMORY, &[], |step, _| {
        if !holds(step, C11) {
            return "not held".into();
        }
        let_go(step, C11);
        // SAFETY: this actor holds it.
        said(step, unsafe { mtx_unlock(mutex()) }, false)
    }),
    Call::new("cnd_wait", 4, MEMORY, &[], |step, _| {
        if !holds(step, C11) {
            return "not held".into();
        }
        // SAFETY: both stay; this actor holds the mutex.
        said(step, unsafe { cnd_wait(condition(), mutex()) }, false)
    }),
    Call::new("cnd_timedwait", 4, MEMORY, &[LIMITS], |step, a| {
        if !holds(step, C11) {
            return "not held".into();
        }
        let time = until(libc::CLOCK_REALTIME, a[0]);
        // SAFETY: as above; a time.
        said(step, unsafe { cnd_timedwait(condition(), mutex(), &time) }, false)
    }),
    Call::new("cnd_signal", 4, MEMORY, &[], |step, _| {
        // SAFETY: it stays.
        said(step, unsafe { cnd_signal(condition()) }, false)
    }),
    Call::new("cnd_broadcast", 3, MEMORY, &[], |step, _| {
        // SAFETY: it stays.
        said(step, unsafe { cnd_broadcast(condition()) }, false)
    }),
    Call::new("barrier_wait", 3, MEMORY, &[], |_, _| {
        // SAFETY: it stays.
        unsafe { libc::pthread_barrier_wait(SHARED.barrier.get()) }.to_string()
    }),
    Call::new("thrd_join", 2, MEMORY, &[], |_, _| {
        let mut status = 0;
        // SAFETY: a thread that nobody else joins, and room for the answer.
        format!("{} {status}", unsafe { thrd_join(thread(false), &mut status) })
    })
    .timed(),
    Call::new("thrd_sleep", 3, MEMORY, &[One(&[("0ms", 0), ("short", SHORT)])], |_, a| {
        let (time, mut left) = (timespec(a[0]), timespec(0));
        // SAFETY: times.
        slept(a[0], || unsafe { thrd_sleep(&time, &mut left) })
    }),
    Call::new("thrd_yield", 1, MEMORY, &[], |_, _| {
        // SAFETY: no preconditions.
        unsafe { thrd_yield() };
        "ok".into()
    }),
    Call::new("timedjoin", 3, MEMORY, &[LIFE, LIMITS], |_, a| {
        let (mut value, clock) = (ptr::null_mut(), libc::CLOCK_REALTIME);
        let thread = thread(a[0] == 1);
        // SAFETY: a thread that nobody else joins, room for the answer, and a time.
        let (error, early) = in_time(clock, until(clock, a[1]), |until| unsafe {
            pthread_timedjoin_np(thread, &mut value, until)
        });
        format!("{}{early} {}", error_name(error), value.addr())
    })
    .timed(),
    Call::new("clockjoin", 3, MEMORY, &[LIFE, LIMITS, CLOCK], |_, a| {
        let (mut value, clock) = (ptr::null_mut(), int(a[2]));
        let thread = thread(a[0] == 1);
        // SAFETY: as above.
        let (error, early) = in_time(clock, until(clock, a[1]), |until| unsafe {
            pthread_clockjoin_np(thread, &mut value, clock, until)
        });
        format!("{}{early} {}", error_name(error), value.addr())
    })
    .timed(),
];
