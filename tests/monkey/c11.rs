//! The locks and threads of C11, by C11's results.

use crate::scripts::{after, c, does, script, waits};
use crate::{BLOCK, patched, row};
use libc::{c_int, c_void, pthread_cond_t, pthread_mutex_t, timespec};
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::ptr;
use std::thread;
use std::time::Duration;
use switchgrass::spawn;

const SHORT: Duration = Duration::from_millis(10);
const BUSY: c_int = 1;
const ERROR: c_int = 2;
const TIMEDOUT: c_int = 4;

struct Monitor {
    mutex: UnsafeCell<pthread_mutex_t>,
    condition: UnsafeCell<pthread_cond_t>,
}

// SAFETY: used by functions of libc only.
unsafe impl Send for Monitor {}
// SAFETY: as above.
unsafe impl Sync for Monitor {}

impl Monitor {
    fn of(kind: c_int) -> Self {
        let monitor = Monitor {
            mutex: UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER),
            condition: UnsafeCell::new(libc::PTHREAD_COND_INITIALIZER),
        };
        // SAFETY: room for them.
        unsafe {
            assert_eq!(c::mtx_init(monitor.mutex.get(), kind), 0);
            assert_eq!(c::cnd_init(monitor.condition.get()), 0);
        }
        monitor
    }

    fn timed() -> Self {
        Monitor::of(2)
    }

    fn recursive() -> Self {
        Monitor::of(1)
    }

    fn lock(&self) -> c_int {
        // SAFETY: it is there, and initialised.
        unsafe { c::mtx_lock(self.mutex.get()) }
    }

    fn timedlock(&self) -> c_int {
        // SAFETY: it is there, and initialised.
        unsafe { c::mtx_timedlock(self.mutex.get(), &after(libc::CLOCK_REALTIME, SHORT)) }
    }

    fn timedlock_badly(&self) -> c_int {
        let until = timespec { tv_sec: 1, tv_nsec: -1 };
        // SAFETY: it is there, and initialised.
        unsafe { c::mtx_timedlock(self.mutex.get(), &until) }
    }

    fn trylock(&self) -> c_int {
        // SAFETY: it is there, and initialised.
        unsafe { c::mtx_trylock(self.mutex.get()) }
    }

    fn unlock(&self) -> c_int {
        // SAFETY: it is there, and initialised.
        unsafe { c::mtx_unlock(self.mutex.get()) }
    }

    fn wait(&self) -> c_int {
        // SAFETY: it is there, and initialised.
        unsafe { c::cnd_wait(self.condition.get(), self.mutex.get()) }
    }

    fn timedwait(&self) -> c_int {
        let until = after(libc::CLOCK_REALTIME, SHORT);
        // SAFETY: it is there, and initialised.
        unsafe { c::cnd_timedwait(self.condition.get(), self.mutex.get(), &until) }
    }

    fn signal(&self) -> c_int {
        // SAFETY: it is there, and initialised.
        unsafe { c::cnd_signal(self.condition.get()) }
    }

    fn broadcast(&self) -> c_int {
        // SAFETY: it is there, and initialised.
        unsafe { c::cnd_broadcast(self.condition.get()) }
    }
}

#[test]
fn mtx_lock() {
    let steps = [
        does(0, Monitor::lock),
        does(0, Monitor::lock),
        waits(1, Monitor::lock),
        does(0, Monitor::unlock),
        does(0, Monitor::unlock),
        does(1, Monitor::unlock),
    ];
    script(Monitor::recursive, &steps, &[0; 6]);
}

#[test]
fn mtx_timedlock() {
    let steps = [
        does(0, Monitor::lock),
        does(1, Monitor::timedlock),
        does(1, Monitor::timedlock_badly),
        does(0, Monitor::unlock),
        does(1, Monitor::timedlock),
    ];
    script(Monitor::timed, &steps, &[0, TIMEDOUT, ERROR, 0, 0]);
}

#[test]
fn mtx_trylock() {
    let steps = [
        does(0, Monitor::trylock),
        does(1, Monitor::trylock),
        does(0, Monitor::trylock),
        does(0, Monitor::unlock),
        does(0, Monitor::unlock),
        does(1, Monitor::trylock),
    ];
    script(Monitor::recursive, &steps, &[0, BUSY, 0, 0, 0, 0]);
}

#[test]
fn mtx_unlock() {
    let steps = [
        does(0, Monitor::lock),
        does(1, Monitor::unlock),
        does(0, Monitor::unlock),
        does(0, Monitor::unlock),
    ];
    script(Monitor::recursive, &steps, &[0, ERROR, 0, ERROR]);
}

#[test]
fn mtx_destroy() {
    patched(|| {
        for _ in 0..2 {
            let monitor = Monitor::recursive();
            spawn(move || {
                assert_eq!((monitor.lock(), monitor.unlock()), (0, 0));
                // SAFETY: nobody uses it any more.
                unsafe { c::mtx_destroy(monitor.mutex.get()) };
            })
            .join()
            .unwrap();
        }
    });
}

#[test]
fn cnd_wait() {
    let steps = [
        does(0, Monitor::lock),
        waits(0, Monitor::wait),
        does(1, Monitor::lock),
        does(1, Monitor::signal),
        does(1, Monitor::unlock),
        does(1, Monitor::trylock),
        does(0, Monitor::unlock),
    ];
    script(Monitor::timed, &steps, &[0, 0, 0, 0, 0, BUSY, 0]);
}

#[test]
fn cnd_timedwait() {
    let steps = [
        does(0, Monitor::lock),
        does(0, Monitor::timedwait),
        does(1, Monitor::trylock),
        does(0, Monitor::unlock),
    ];
    script(Monitor::recursive, &steps, &[0, TIMEDOUT, BUSY, 0]);
}

/// Of two that wait, one goes on.
#[test]
fn cnd_signal() {
    let steps = [
        does(0, Monitor::lock),
        waits(0, Monitor::wait),
        does(1, Monitor::lock),
        waits(1, Monitor::wait),
        does(2, Monitor::signal),
        does(0, Monitor::unlock),
        does(2, Monitor::signal),
        does(1, Monitor::unlock),
    ];
    script(Monitor::timed, &steps, &[0; 8]);
}

/// Both that wait go on, in whichever order.
#[test]
fn cnd_broadcast() {
    let wait = |monitor: &Monitor| monitor.wait() + monitor.unlock();
    let steps = [
        does(0, Monitor::lock),
        waits(0, wait),
        does(1, Monitor::lock),
        waits(1, wait),
        does(2, Monitor::lock),
        does(2, Monitor::broadcast),
        waits(2, Monitor::unlock),
    ];
    script(Monitor::timed, &steps, &[0; 7]);
}

extern "C" fn sleep_and_return(number: *mut c_void) -> c_int {
    thread::sleep(BLOCK + Duration::from_millis(2));
    number.addr() as c_int
}

#[test]
fn thrd_join() {
    row(|| {
        let (mut thread, mut status) = (MaybeUninit::uninit(), 0);
        let argument = ptr::without_provenance_mut(7);
        // SAFETY: room for both; joined once.
        unsafe {
            assert_eq!(c::thrd_create(thread.as_mut_ptr(), sleep_and_return, argument), 0);
            (c::thrd_join(thread.assume_init(), &mut status), status)
        }
    });
}

#[test]
fn thrd_sleep() {
    row(|| {
        let time = timespec { tv_sec: 0, tv_nsec: BLOCK.subsec_nanos().into() };
        let bad = timespec { tv_sec: 0, tv_nsec: -1 };
        // SAFETY: two times.
        unsafe { (c::thrd_sleep(&time, ptr::null_mut()), c::thrd_sleep(&bad, ptr::null_mut())) }
    });
}

#[test]
fn thrd_yield() {
    patched(|| {
        let other = spawn(|| ());
        // SAFETY: no preconditions.
        unsafe { c::thrd_yield() };
        assert!(other.is_finished());
    });
}
