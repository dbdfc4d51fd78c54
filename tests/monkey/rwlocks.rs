//! Locks of readers and writers, and spin locks, of C.

use crate::patched;
use crate::scripts::{Call, after, c, compare_random, does, script, waits};
use libc::{c_int, pthread_rwlock_t, pthread_spinlock_t};
use std::cell::UnsafeCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;
use switchgrass::coroutine::join_all;
use switchgrass::monkey::blocked_calls;
use switchgrass::spawn;

const SHORT: Duration = Duration::from_millis(10);
const REAL: c_int = libc::CLOCK_REALTIME;
const MONOTONIC: c_int = libc::CLOCK_MONOTONIC;
const LATE: c_int = libc::ETIMEDOUT;
const BUSY: c_int = libc::EBUSY;
const DEAD: c_int = libc::EDEADLK;

struct Shared {
    lock: UnsafeCell<pthread_rwlock_t>,
    spin: UnsafeCell<pthread_spinlock_t>,
    count: AtomicUsize,
}

// SAFETY: used by functions of libc only.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    fn new() -> Self {
        let shared = Shared {
            lock: UnsafeCell::new(libc::PTHREAD_RWLOCK_INITIALIZER),
            spin: UnsafeCell::new(0),
            count: AtomicUsize::new(0),
        };
        // SAFETY: room for it.
        assert_eq!(unsafe { libc::pthread_spin_init(shared.spin.get(), 0) }, 0);
        shared
    }

    fn read(&self) -> c_int {
        // SAFETY: it is there, and initialised.
        unsafe { libc::pthread_rwlock_rdlock(self.lock.get()) }
    }

    fn write(&self) -> c_int {
        // SAFETY: it is there, and initialised.
        unsafe { libc::pthread_rwlock_wrlock(self.lock.get()) }
    }

    fn try_read(&self) -> c_int {
        // SAFETY: it is there, and initialised.
        unsafe { libc::pthread_rwlock_tryrdlock(self.lock.get()) }
    }

    fn try_write(&self) -> c_int {
        // SAFETY: it is there, and initialised.
        unsafe { libc::pthread_rwlock_trywrlock(self.lock.get()) }
    }

    fn timed_read(&self) -> c_int {
        // SAFETY: it is there, and initialised.
        unsafe { c::pthread_rwlock_timedrdlock(self.lock.get(), &after(REAL, SHORT)) }
    }

    fn timed_write(&self) -> c_int {
        // SAFETY: it is there, and initialised.
        unsafe { c::pthread_rwlock_timedwrlock(self.lock.get(), &after(REAL, SHORT)) }
    }

    fn clock_read(&self) -> c_int {
        let until = after(MONOTONIC, SHORT);
        // SAFETY: it is there, and initialised.
        unsafe { c::pthread_rwlock_clockrdlock(self.lock.get(), MONOTONIC, &until) }
    }

    fn clock_write(&self) -> c_int {
        let until = after(MONOTONIC, SHORT);
        // SAFETY: it is there, and initialised.
        unsafe { c::pthread_rwlock_clockwrlock(self.lock.get(), MONOTONIC, &until) }
    }

    /// By a clock that there is not, until a time that there is not, and until one long ago.
    fn badly(&self) -> c_int {
        let mut until = after(MONOTONIC, SHORT);
        // SAFETY: it is there, and initialised.
        let by = unsafe { c::pthread_rwlock_clockrdlock(self.lock.get(), 77, &until) };
        until.tv_nsec = -1;
        // SAFETY: it is there, and initialised.
        by * 100 + unsafe { c::pthread_rwlock_timedwrlock(self.lock.get(), &until) }
    }

    fn unlock(&self) -> c_int {
        // SAFETY: it is there, and initialised.
        unsafe { libc::pthread_rwlock_unlock(self.lock.get()) }
    }

    fn spin(&self) -> c_int {
        // SAFETY: it is there, and initialised.
        unsafe { libc::pthread_spin_lock(self.spin.get()) }
    }

    fn try_spin(&self) -> c_int {
        // SAFETY: it is there, and initialised.
        unsafe { libc::pthread_spin_trylock(self.spin.get()) }
    }

    fn unspin(&self) -> c_int {
        // SAFETY: it is there, and initialised.
        unsafe { libc::pthread_spin_unlock(self.spin.get()) }
    }
}

/// Whatever is called that may be called: each step of reading or writing ends with an unlock if it got in.
#[test]
fn calls_of_a_lock_of_readers_and_writers_return_what_they_return_to_threads() {
    let calls: [Call<Shared>; 6] = [
        |shared| {
            let result = shared.timed_write();
            result * 100 + if result == 0 { shared.timed_read() + shared.unlock() } else { 0 }
        },
        |shared| {
            let result = shared.timed_read();
            result * 100 + if result == 0 { shared.unlock() } else { 0 }
        },
        |shared| {
            let result = shared.clock_write();
            result * 100 + if result == 0 { shared.write() + shared.unlock() } else { 0 }
        },
        |shared| {
            let result = shared.clock_read();
            result * 100 + if result == 0 { shared.try_write() + shared.unlock() } else { 0 }
        },
        |shared| {
            let result = shared.try_write();
            result * 100 + if result == 0 { shared.try_write() + shared.unlock() } else { 0 }
        },
        Shared::badly,
    ];
    patched(|| {
        for seed in 0..4 {
            compare_random("", Shared::new, &calls, seed);
        }
    });
}

#[test]
fn pthread_rwlock_rdlock() {
    let steps = [
        does(0, Shared::write),
        waits(1, Shared::read),
        does(0, Shared::read),
        does(0, Shared::unlock),
        does(0, Shared::read),
        does(0, Shared::unlock),
        does(1, Shared::unlock),
        does(0, Shared::try_write),
    ];
    script(Shared::new, &steps, &[0, 0, DEAD, 0, 0, 0, 0, 0]);
}

#[test]
fn pthread_rwlock_wrlock() {
    let steps = [
        does(0, Shared::read),
        waits(1, Shared::write),
        does(2, Shared::try_write),
        does(0, Shared::unlock),
        does(1, Shared::write),
        does(0, Shared::try_read),
        does(1, Shared::unlock),
        does(0, Shared::write),
    ];
    script(Shared::new, &steps, &[0, 0, BUSY, 0, DEAD, BUSY, 0, 0]);
}

/// All who wait to read get in together, and one of those who wait to write.
#[test]
fn pthread_rwlock_unlock() {
    let steps = [
        does(0, Shared::write),
        waits(1, Shared::read),
        waits(2, Shared::read),
        waits(3, Shared::write),
        does(0, Shared::unlock),
        does(0, Shared::try_write),
        does(1, Shared::unlock),
        does(2, Shared::unlock),
        does(3, Shared::unlock),
        does(0, Shared::try_write),
    ];
    script(Shared::new, &steps, &[0, 0, 0, 0, 0, BUSY, 0, 0, 0, 0]);
}

#[test]
fn pthread_rwlock_timedrdlock() {
    let steps = [
        does(0, Shared::try_write),
        does(1, Shared::timed_read),
        does(0, Shared::timed_read),
        does(0, Shared::unlock),
        does(1, Shared::timed_read),
        does(0, Shared::timed_read),
    ];
    script(Shared::new, &steps, &[0, LATE, DEAD, 0, 0, 0]);
}

#[test]
fn pthread_rwlock_timedwrlock() {
    let steps = [
        does(0, Shared::try_read),
        does(1, Shared::timed_write),
        does(0, Shared::timed_write),
        does(0, Shared::unlock),
        does(1, Shared::timed_write),
        does(1, Shared::timed_write),
    ];
    script(Shared::new, &steps, &[0, LATE, LATE, 0, 0, DEAD]);
}

#[test]
fn pthread_rwlock_clockrdlock() {
    let steps = [
        does(0, Shared::clock_read),
        does(1, Shared::clock_read),
        does(0, Shared::unlock),
        does(1, Shared::unlock),
        does(1, Shared::write),
        does(0, Shared::clock_read),
        does(1, Shared::clock_read),
    ];
    script(Shared::new, &steps, &[0, 0, 0, 0, 0, LATE, DEAD]);
}

#[test]
fn pthread_rwlock_clockwrlock() {
    let steps = [
        does(0, Shared::clock_write),
        does(1, Shared::clock_write),
        does(0, Shared::clock_write),
        does(0, Shared::unlock),
        does(1, Shared::clock_write),
    ];
    script(Shared::new, &steps, &[0, LATE, DEAD, 0, 0]);
}

#[test]
fn pthread_rwlock_tryrdlock() {
    let steps = [
        does(0, Shared::try_read),
        does(1, Shared::try_read),
        does(0, Shared::unlock),
        does(1, Shared::unlock),
        does(0, Shared::write),
        does(1, Shared::try_read),
        does(0, Shared::try_read),
    ];
    script(Shared::new, &steps, &[0, 0, 0, 0, 0, BUSY, BUSY]);
}

#[test]
fn pthread_rwlock_trywrlock() {
    let steps = [
        does(0, Shared::try_write),
        does(1, Shared::try_write),
        does(0, Shared::try_write),
        does(1, Shared::timed_read),
        does(0, Shared::read),
        does(0, Shared::unlock),
        does(1, Shared::try_write),
    ];
    script(Shared::new, &steps, &[0, BUSY, BUSY, LATE, DEAD, 0, 0]);
}

/// One that is made where another was is nobody's.
#[test]
fn pthread_rwlock_destroy() {
    patched(|| {
        let shared = Arc::new(Shared::new());
        let first = Arc::clone(&shared);
        let first = spawn(move || {
            assert_eq!(first.write(), 0);
            // SAFETY: nobody uses it any more.
            unsafe {
                libc::pthread_rwlock_destroy(first.lock.get());
                *first.lock.get() = libc::PTHREAD_RWLOCK_INITIALIZER;
            }
        });
        first.join().unwrap();
        let mut others = Vec::new();
        for _ in 0..2 {
            let shared = Arc::clone(&shared);
            others.push(spawn(move || {
                assert_eq!(shared.write(), 0);
                thread::sleep(Duration::from_millis(1));
                assert_eq!(shared.unlock(), 0);
            }));
        }
        join_all(others).into_iter().for_each(|other| other.unwrap());
    });
}

/// What main has locked before there were coroutines is main's.
#[test]
fn what_main_writes_from_before() {
    patched(|| {
        let shared = Arc::new(Shared::new());
        assert_eq!((shared.write(), shared.read()), (0, DEAD));
        let sibling = Arc::clone(&shared);
        let waiter = spawn(move || {
            assert_eq!((sibling.timed_read(), sibling.timed_write()), (LATE, LATE));
            assert_eq!((sibling.read(), sibling.unlock()), (0, 0));
        });
        (0..10).for_each(|_| thread::sleep(SHORT / 2));
        assert_eq!((shared.write(), shared.clock_read()), (DEAD, DEAD));
        assert_eq!(shared.unlock(), 0);
        waiter.join().unwrap();
    });
}

/// Coroutines of two hubs, and plain threads, each of which switches with it now and then.
fn are_kept_apart(lock: fn(&Shared), unlock: fn(&Shared)) {
    const ROUNDS: usize = 200;
    let shared = Arc::new(Shared::new());
    let work = move |shared: &Shared| {
        for round in 0..ROUNDS {
            lock(shared);
            let seen = shared.count.load(SeqCst);
            if round % 16 == 0 {
                thread::yield_now();
            }
            shared.count.store(seen + 1, SeqCst);
            unlock(shared);
            if round % 8 == 0 && shared.try_read() == 0 {
                thread::yield_now();
                assert_eq!(shared.unlock(), 0);
            }
        }
    };
    let hubs = (0..2).map(|_| {
        let shared = Arc::clone(&shared);
        thread::spawn(move || {
            let tasks = (0..6).map(|_| {
                let shared = Arc::clone(&shared);
                spawn(move || work(&shared))
            });
            join_all(tasks.collect::<Vec<_>>()).into_iter().for_each(|task| task.unwrap());
        })
    });
    let threads = (0..2).map(|_| {
        let shared = Arc::clone(&shared);
        thread::spawn(move || work(&shared))
    });
    let all: Vec<_> = hubs.chain(threads).collect();
    all.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(shared.count.load(SeqCst), 14 * ROUNDS);
}

#[test]
fn writers_of_hubs_and_threads() {
    patched(|| {
        are_kept_apart(
            |shared| assert_eq!(shared.write(), 0),
            |shared| assert_eq!(shared.unlock(), 0),
        );
    });
}

/// While another thread writes, siblings of those that wait go on.
#[test]
fn siblings_run_while_another_thread_writes() {
    patched(|| {
        let shared = Arc::new(Shared::new());
        let theirs = Arc::clone(&shared);
        let (told, tell) = std::sync::mpsc::channel();
        let (go, gone) = std::sync::mpsc::channel();
        let writer = thread::spawn(move || {
            assert_eq!(theirs.write(), 0);
            told.send(()).unwrap();
            gone.recv().unwrap();
            assert_eq!(theirs.unlock(), 0);
        });
        tell.recv().unwrap();
        let calls: [Call<Shared>; 2] = [Shared::read, Shared::write];
        let waiters = calls.map(|call| {
            let shared = Arc::clone(&shared);
            spawn(move || assert_eq!((call(&shared), shared.unlock()), (0, 0)))
        });
        // Not before this coroutine has run is it unlocked.
        let sibling = spawn(move || {
            (0..20).for_each(|_| thread::sleep(Duration::from_millis(1)));
            go.send(()).unwrap();
        });
        sibling.join().unwrap();
        join_all(waiters).into_iter().for_each(|waiter| waiter.unwrap());
        writer.join().unwrap();
        assert_eq!(blocked_calls(), []);
    });
}

/// Against a sibling nobody spins.
#[test]
fn pthread_spin_lock() {
    let steps = [
        does(0, Shared::spin),
        waits(1, Shared::spin),
        does(0, Shared::try_spin),
        does(0, Shared::unspin),
        does(1, Shared::unspin),
        does(0, Shared::spin),
    ];
    script(Shared::new, &steps, &[0, 0, BUSY, 0, 0, 0]);
    patched(|| {
        let shared = Arc::new(Shared::new());
        assert_eq!(shared.spin(), 0);
        let theirs = Arc::clone(&shared);
        spawn(move || assert_eq!(theirs.spin(), 0));
        thread::sleep(SHORT);
        assert_eq!(blocked_calls(), []);
    });
}

#[test]
fn pthread_spin_trylock() {
    let steps = [
        does(0, Shared::try_spin),
        does(1, Shared::try_spin),
        waits(1, Shared::spin),
        does(0, Shared::unspin),
        does(0, Shared::try_spin),
    ];
    script(Shared::new, &steps, &[0, BUSY, 0, 0, BUSY]);
}

#[test]
fn pthread_spin_unlock() {
    patched(|| {
        are_kept_apart(
            |shared| assert_eq!(shared.spin(), 0),
            |shared| assert_eq!(shared.unspin(), 0),
        );
    });
}

#[test]
fn pthread_spin_destroy() {
    patched(|| {
        let shared = Arc::new(Shared::new());
        let theirs = Arc::clone(&shared);
        spawn(move || {
            assert_eq!(theirs.spin(), 0);
            // SAFETY: nobody uses it any more.
            unsafe {
                assert_eq!(libc::pthread_spin_destroy(theirs.spin.get()), 0);
                assert_eq!(libc::pthread_spin_init(theirs.spin.get(), 0), 0);
            }
        })
        .join()
        .unwrap();
        assert_eq!((shared.spin(), shared.unspin()), (0, 0));
    });
}
