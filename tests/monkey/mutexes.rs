//! Mutexes, condition variables and semaphores of C.

use crate::{BLOCK, patched, row};
use libc::{pthread_cond_t, pthread_mutex_t, timespec};
use std::cell::{Cell, UnsafeCell};
use std::mem::MaybeUninit;
use std::ptr;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use switchgrass::coroutine::join_all;
use switchgrass::{spawn, yield_now};

const SHORT: Duration = Duration::from_millis(5);

/// A mutex and a condition variable, as a library of C has them, and what they guard.
struct Monitor {
    mutex: UnsafeCell<pthread_mutex_t>,
    condition: UnsafeCell<pthread_cond_t>,
    count: UnsafeCell<usize>,
}

// SAFETY: that is what they are for.
unsafe impl Send for Monitor {}
// SAFETY: as above; the count is used by whoever has the mutex.
unsafe impl Sync for Monitor {}

impl Monitor {
    fn new() -> Arc<Self> {
        Arc::new(Monitor {
            mutex: UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER),
            condition: UnsafeCell::new(libc::PTHREAD_COND_INITIALIZER),
            count: UnsafeCell::new(0),
        })
    }

    fn lock(&self) {
        // SAFETY: a mutex.
        assert_eq!(unsafe { libc::pthread_mutex_lock(self.mutex.get()) }, 0);
    }

    fn unlock(&self) {
        // SAFETY: a mutex.
        assert_eq!(unsafe { libc::pthread_mutex_unlock(self.mutex.get()) }, 0);
    }

    fn lock_until(&self, until: timespec) -> i32 {
        // SAFETY: a mutex.
        unsafe { libc::pthread_mutex_timedlock(self.mutex.get(), &until) }
    }

    fn wait(&self) {
        // SAFETY: both are there.
        let result = unsafe { libc::pthread_cond_wait(self.condition.get(), self.mutex.get()) };
        assert_eq!(result, 0);
    }

    fn wait_until(&self, until: timespec) -> i32 {
        // SAFETY: both are there.
        unsafe { libc::pthread_cond_timedwait(self.condition.get(), self.mutex.get(), &until) }
    }

    fn signal(&self) {
        // SAFETY: it is there.
        assert_eq!(unsafe { libc::pthread_cond_signal(self.condition.get()) }, 0);
    }

    fn broadcast(&self) {
        // SAFETY: it is there.
        assert_eq!(unsafe { libc::pthread_cond_broadcast(self.condition.get()) }, 0);
    }

    /// To be called by whoever has the mutex.
    fn count(&self) -> usize {
        // SAFETY: the caller has the mutex.
        unsafe { *self.count.get() }
    }

    /// To be called by whoever has the mutex.
    fn set_count(&self, count: usize) {
        // SAFETY: the caller has the mutex.
        unsafe { *self.count.get() = count };
    }
}

fn after(clock: libc::clockid_t, limit: Duration) -> timespec {
    let mut now = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a place for the answer.
    unsafe { libc::clock_gettime(clock, &mut now) };
    let then = Duration::new(now.tv_sec as u64, now.tv_nsec as u32) + limit;
    timespec { tv_sec: then.as_secs() as _, tv_nsec: then.subsec_nanos().into() }
}

/// By one coroutine after the other, each of which sleeps with it.
#[test]
fn pthread_mutex_lock() {
    patched(|| {
        let monitor = Monitor::new();
        let tasks = (0..20).map(|number| {
            let monitor = Arc::clone(&monitor);
            spawn(move || {
                monitor.lock();
                assert_eq!(monitor.count(), number);
                thread::sleep(Duration::from_millis(1));
                monitor.set_count(number + 1);
                monitor.unlock();
            })
        });
        join_all(tasks.collect::<Vec<_>>()).into_iter().for_each(|task| task.unwrap());
    });
}

#[test]
fn pthread_mutex_unlock() {
    patched(|| {
        const ROUNDS: usize = 300;
        let monitor = Monitor::new();
        let work = |monitor: &Monitor| {
            for round in 0..ROUNDS {
                monitor.lock();
                let seen = monitor.count();
                if round % 8 == 0 {
                    thread::yield_now();
                }
                monitor.set_count(seen + 1);
                monitor.unlock();
            }
        };
        // Two hubs of ten, and two plain threads.
        let hubs = (0..2).map(|_| {
            let monitor = Arc::clone(&monitor);
            thread::spawn(move || {
                let tasks = (0..10).map(|_| {
                    let monitor = Arc::clone(&monitor);
                    spawn(move || work(&monitor))
                });
                join_all(tasks.collect::<Vec<_>>()).into_iter().for_each(|task| task.unwrap());
            })
        });
        let threads = (0..2).map(|_| {
            let monitor = Arc::clone(&monitor);
            thread::spawn(move || work(&monitor))
        });
        let all: Vec<_> = hubs.chain(threads).collect();
        all.into_iter().for_each(|thread| thread.join().unwrap());
        monitor.lock();
        assert_eq!(monitor.count(), 22 * ROUNDS);
        monitor.unlock();
    });
}

#[test]
fn pthread_mutex_timedlock() {
    patched(|| {
        let monitor = Monitor::new();
        monitor.lock();
        let waiters = [1, 4].map(|times| {
            let monitor = Arc::clone(&monitor);
            spawn(move || {
                let start = Instant::now();
                let limit = times * 10 * SHORT;
                let result = monitor.lock_until(after(libc::CLOCK_REALTIME, limit));
                if result == 0 {
                    monitor.unlock();
                } else {
                    assert!(start.elapsed() >= limit);
                }
                result
            })
        });
        thread::sleep(20 * SHORT);
        monitor.unlock();
        let results = join_all(waiters).into_iter().map(|waiter| waiter.unwrap());
        assert_eq!(results.collect::<Vec<_>>(), [libc::ETIMEDOUT, 0]);
    });
}

/// Who has it twice has it: what belongs to the thread is left as it is.
#[test]
fn a_recursive_mutex() {
    patched(|| {
        let mut monitor = Arc::into_inner(Monitor::new()).unwrap();
        monitor.mutex = UnsafeCell::new(libc::PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP);
        spawn(move || {
            (0..3).for_each(|_| monitor.lock());
            (0..3).for_each(|_| monitor.unlock());
        })
        .join()
        .unwrap();
    });
}

#[test]
fn pthread_cond_wait() {
    row(|| {
        let monitor = Monitor::new();
        let giver = Arc::clone(&monitor);
        thread::spawn(move || {
            thread::sleep(BLOCK + Duration::from_millis(2));
            giver.lock();
            giver.set_count(1);
            giver.unlock();
            giver.signal();
        });
        monitor.lock();
        while monitor.count() == 0 {
            monitor.wait();
        }
        monitor.unlock();
        true
    });
}

#[test]
fn pthread_cond_timedwait() {
    row(|| {
        let monitor = Monitor::new();
        monitor.lock();
        let result = monitor.wait_until(after(libc::CLOCK_REALTIME, BLOCK));
        monitor.unlock();
        result
    });
}

#[test]
fn pthread_cond_timedwait_by_the_other_clock() {
    row(|| {
        let monitor = Monitor::new();
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: room for both.
        unsafe {
            libc::pthread_condattr_init(attributes.as_mut_ptr());
            libc::pthread_condattr_setclock(attributes.as_mut_ptr(), libc::CLOCK_MONOTONIC);
            libc::pthread_cond_init(monitor.condition.get(), attributes.as_ptr());
        }
        monitor.lock();
        let result = monitor.wait_until(after(libc::CLOCK_MONOTONIC, BLOCK));
        monitor.unlock();
        result
    });
}

/// As many as are given are taken, by coroutines and threads, from coroutines and threads.
fn give_and_take(tell: impl Fn(&Monitor) + Copy + Send + 'static) {
    patched(move || {
        const EACH: usize = 100;
        const TASKS: usize = 12;
        let monitor = Monitor::new();
        let take = |monitor: &Monitor| {
            for _ in 0..EACH {
                monitor.lock();
                while monitor.count() == 0 {
                    monitor.wait();
                }
                monitor.set_count(monitor.count() - 1);
                monitor.unlock();
            }
        };
        let give = move |monitor: &Monitor| {
            for round in 0..(TASKS + 2) * EACH / 2 {
                monitor.lock();
                monitor.set_count(monitor.count() + 1);
                monitor.unlock();
                tell(monitor);
                if round % 32 == 0 {
                    thread::sleep(Duration::from_micros(100));
                }
            }
        };
        let mut threads = Vec::new();
        for work in [0, 1, 2] {
            let monitor = Arc::clone(&monitor);
            threads.push(thread::spawn(
                move || if work == 0 { give(&monitor) } else { take(&monitor) },
            ));
        }
        let takers = (0..TASKS).map(|_| {
            let monitor = Arc::clone(&monitor);
            spawn(move || take(&monitor))
        });
        let mut tasks: Vec<_> = takers.collect();
        let giver = Arc::clone(&monitor);
        tasks.push(spawn(move || give(&giver)));
        join_all(tasks).into_iter().for_each(|task| task.unwrap());
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        monitor.lock();
        assert_eq!(monitor.count(), 0);
        monitor.unlock();
    });
}

#[test]
fn pthread_cond_signal() {
    give_and_take(Monitor::signal);
}

#[test]
fn pthread_cond_broadcast() {
    give_and_take(Monitor::broadcast);
}

/// Zero to begin with; never destroyed.
fn semaphore() -> usize {
    let semaphore = Box::into_raw(Box::new(MaybeUninit::<libc::sem_t>::uninit()));
    // SAFETY: room for it.
    assert_eq!(unsafe { libc::sem_init(semaphore.cast(), 0, 0) }, 0);
    semaphore.expose_provenance()
}

fn post(semaphore: usize) {
    // SAFETY: a semaphore.
    assert_eq!(unsafe { libc::sem_post(ptr::with_exposed_provenance_mut(semaphore)) }, 0);
}

fn wait(semaphore: usize) -> i32 {
    // SAFETY: a semaphore.
    unsafe { libc::sem_wait(ptr::with_exposed_provenance_mut(semaphore)) }
}

#[test]
fn sem_wait() {
    row(|| {
        let semaphore = semaphore();
        thread::spawn(move || {
            thread::sleep(BLOCK + Duration::from_millis(2));
            post(semaphore);
        });
        wait(semaphore)
    });
}

/// What is there is taken at once, and who posts may be a coroutine.
#[test]
fn sem_wait_for_a_sibling() {
    patched(|| {
        let (first, second) = (semaphore(), semaphore());
        let turns = Rc::new(Cell::new(0));
        let counted = Rc::clone(&turns);
        let other = spawn(move || {
            for _ in 0..50 {
                assert_eq!(wait(first), 0);
                counted.set(counted.get() + 1);
                post(second);
            }
        });
        yield_now();
        for round in 0..50 {
            assert_eq!(turns.get(), round);
            post(first);
            assert_eq!(wait(second), 0);
        }
        other.join().unwrap();
    });
}

#[test]
fn sem_timedwait() {
    row(|| {
        let until = after(libc::CLOCK_REALTIME, BLOCK);
        let semaphore = ptr::with_exposed_provenance_mut(semaphore());
        // SAFETY: a semaphore.
        let result = unsafe { libc::sem_timedwait(semaphore, &until) };
        (result, std::io::Error::last_os_error().raw_os_error())
    });
}
