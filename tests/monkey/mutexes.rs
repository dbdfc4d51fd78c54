//! Mutexes, condition variables and semaphores of C.

use crate::scripts::{after, c, does, script, waits};
use crate::{BLOCK, patched, row};
use libc::{pthread_cond_t, pthread_mutex_t, timespec};
use std::cell::{Cell, UnsafeCell};
use std::mem::MaybeUninit;
use std::ptr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};
use switchgrass::coroutine::join_all;
use switchgrass::monkey::blocked_calls;
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

#[test]
fn sem_clockwait() {
    row(|| {
        let clock = libc::CLOCK_MONOTONIC;
        let semaphore = ptr::with_exposed_provenance_mut(semaphore());
        let error = || std::io::Error::last_os_error().raw_os_error();
        let mut until = after(clock, BLOCK);
        // SAFETY: a semaphore.
        let late = (unsafe { c::sem_clockwait(semaphore, clock, &until) }, error());
        // SAFETY: a semaphore.
        let by_none = (unsafe { c::sem_clockwait(semaphore, 77, &until) }, error());
        // SAFETY: a semaphore.
        assert_eq!(unsafe { libc::sem_post(semaphore) }, 0);
        until.tv_nsec = -1;
        // SAFETY: a semaphore.
        let never = (unsafe { c::sem_clockwait(semaphore, clock, &until) }, error());
        // SAFETY: a semaphore.
        (late, by_none, never, unsafe { c::sem_clockwait(semaphore, clock, &after(clock, BLOCK)) })
    });
}

/// One of those who arrive is told so, in coroutines of one thread, and of two.
#[test]
fn pthread_barrier_wait() {
    patched(|| {
        let barrier = Box::into_raw(Box::new(MaybeUninit::<libc::pthread_barrier_t>::uninit()));
        // SAFETY: room for it.
        assert_eq!(unsafe { libc::pthread_barrier_init(barrier.cast(), ptr::null(), 10) }, 0);
        let barrier = barrier.expose_provenance();
        let arrive = move || {
            let barrier = ptr::with_exposed_provenance_mut(barrier);
            // SAFETY: a barrier.
            (0..3).map(|_| unsafe { libc::pthread_barrier_wait(barrier) }).collect::<Vec<_>>()
        };
        let all = move || {
            let tasks = (0..5).map(|_| spawn(arrive)).collect::<Vec<_>>();
            join_all(tasks).into_iter().map(|task| task.unwrap()).collect::<Vec<_>>()
        };
        let others = thread::spawn(all);
        let mut results = all();
        results.extend(others.join().unwrap());
        for round in 0..3 {
            let serial = results.iter().filter(|all| all[round] != 0);
            let serial: Vec<_> = serial.map(|all| all[round]).collect();
            assert_eq!(serial, [libc::PTHREAD_BARRIER_SERIAL_THREAD]);
        }
        assert_eq!(blocked_calls(), []);
    });
}

type Join<'a> = &'a dyn Fn(libc::pthread_t, *mut *mut libc::c_void, Duration) -> i32;

/// Joins a thread in vain, and then not in vain.
fn join(join: Join<'_>) -> (i32, i32, usize, i32) {
    extern "C" fn body(argument: *mut libc::c_void) -> *mut libc::c_void {
        wait(argument.expose_provenance());
        ptr::without_provenance_mut(7)
    }
    let (semaphore, mut thread) = (semaphore(), MaybeUninit::uninit());
    let mut result = ptr::null_mut();
    let argument = ptr::with_exposed_provenance_mut(semaphore);
    // SAFETY: room for it.
    let error = unsafe { libc::pthread_create(thread.as_mut_ptr(), ptr::null(), body, argument) };
    assert_eq!(error, 0);
    // SAFETY: it was made.
    let thread = unsafe { thread.assume_init() };
    let late = join(thread, &mut result, BLOCK);
    post(semaphore);
    let in_time = join(thread, &mut result, 100 * BLOCK);
    // SAFETY: no preconditions.
    let own = join(unsafe { libc::pthread_self() }, &mut result, BLOCK);
    (late, in_time, result.addr(), own)
}

#[test]
fn pthread_timedjoin_np() {
    row(|| {
        // SAFETY: a thread that is not joined, and a place for what it returns.
        join(&|of, result, limit| unsafe {
            c::pthread_timedjoin_np(of, result, &after(libc::CLOCK_REALTIME, limit))
        })
    });
}

#[test]
fn pthread_clockjoin_np() {
    row(|| {
        let clock = libc::CLOCK_MONOTONIC;
        // SAFETY: a thread that is not joined, and a place for what it returns.
        join(&|of, result, limit| unsafe {
            c::pthread_clockjoin_np(of, result, clock, &after(clock, limit))
        })
    });
}

/// A file of C's, and its lock.
struct File(*mut libc::FILE);

// SAFETY: C's files may be used by all threads.
unsafe impl Send for File {}
// SAFETY: as above.
unsafe impl Sync for File {}

impl File {
    fn new() -> Self {
        // SAFETY: two strings.
        File(unsafe { libc::fopen(c"/dev/null".as_ptr(), c"w".as_ptr()) })
    }

    fn lock(&self) -> i32 {
        // SAFETY: a file.
        unsafe { c::flockfile(self.0) };
        0
    }

    /// Whether it was not locked.
    fn trylock(&self) -> i32 {
        // SAFETY: a file.
        i32::from(unsafe { c::ftrylockfile(self.0) } != 0)
    }

    fn unlock(&self) -> i32 {
        // SAFETY: a file.
        unsafe { c::funlockfile(self.0) };
        0
    }
}

#[test]
fn flockfile() {
    let steps = [
        does(0, File::lock),
        does(0, File::lock),
        waits(1, File::lock),
        does(0, File::unlock),
        does(0, File::unlock),
        does(0, File::trylock),
        does(1, File::unlock),
        does(0, File::trylock),
    ];
    script(File::new, &steps, &[0, 0, 0, 0, 0, 1, 0, 0]);
}

#[test]
fn ftrylockfile() {
    let steps = [
        does(0, File::trylock),
        does(1, File::trylock),
        does(0, File::trylock),
        does(0, File::unlock),
        does(1, File::trylock),
        does(0, File::unlock),
        does(1, File::trylock),
    ];
    script(File::new, &steps, &[0, 1, 0, 0, 1, 0, 0]);
}

/// What main has locked before there were coroutines is main's.
#[test]
fn funlockfile() {
    patched(|| {
        let file = Arc::new(File::new());
        assert_eq!(file.lock(), 0);
        let turns = Rc::new(Cell::new(0));
        let tasks = (0..3).map(|_| {
            let (file, turns) = (Arc::clone(&file), Rc::clone(&turns));
            spawn(move || {
                assert_eq!(file.trylock(), 1);
                assert_eq!(file.lock(), 0);
                turns.set(turns.get() + 1);
                let turn = turns.get();
                thread::sleep(SHORT);
                assert_eq!(turns.get(), turn);
                assert_eq!(file.unlock(), 0);
            })
        });
        let tasks: Vec<_> = tasks.collect();
        thread::sleep(2 * SHORT);
        assert_eq!((turns.get(), file.trylock()), (0, 0));
        assert_eq!(file.unlock() + file.unlock(), 0);
        join_all(tasks).into_iter().for_each(|task| task.unwrap());
        assert_eq!(turns.get(), 3);
    });
}

/// One runs it, and waits in it; who comes meanwhile waits for that one, and then nobody runs it again.
fn once(call: fn(*mut i32, unsafe extern "C-unwind" fn())) {
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    unsafe extern "C-unwind" fn initialise() {
        thread::sleep(2 * SHORT);
        RUNS.fetch_add(1, SeqCst);
    }
    patched(|| {
        let control = Box::into_raw(Box::new(0)).expose_provenance();
        let enter = move || {
            call(ptr::with_exposed_provenance_mut(control), initialise);
            assert_eq!(RUNS.load(SeqCst), 1);
        };
        // This thread's, and then those of a second one.
        let tasks: Vec<_> = (0..4).map(|_| spawn(enter)).collect();
        yield_now();
        let others = thread::spawn(move || {
            let tasks: Vec<_> = (0..4).map(|_| spawn(enter)).collect();
            join_all(tasks).into_iter().for_each(|task| task.unwrap());
        });
        join_all(tasks).into_iter().for_each(|task| task.unwrap());
        others.join().unwrap();
        assert_eq!(blocked_calls(), []);
    });
}

#[test]
fn pthread_once() {
    // SAFETY: a control, and a function.
    once(|control, f| assert_eq!(unsafe { c::pthread_once(control, f) }, 0));
}

#[test]
fn call_once() {
    // SAFETY: a control, and a function.
    once(|control, f| unsafe { c::call_once(control, f) });
}

/// As exceptions of C++ do: then it is run by the next.
#[test]
fn an_initialiser_that_unwinds() {
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    unsafe extern "C-unwind" fn initialise() {
        thread::sleep(SHORT);
        assert_eq!(RUNS.fetch_add(1, SeqCst), 1, "the first fails");
    }
    let enter = |control: usize| {
        let control = ptr::with_exposed_provenance_mut(control);
        // SAFETY: a control, and a function.
        std::panic::catch_unwind(|| unsafe { c::pthread_once(control, initialise) }).ok()
    };
    patched(|| {
        let control = Box::into_raw(Box::new(0)).expose_provenance();
        let tasks: Vec<_> = (0..3).map(|_| spawn(move || enter(control))).collect();
        let results: Vec<_> = join_all(tasks).into_iter().map(|task| task.unwrap()).collect();
        assert_eq!(results, [None, Some(0), Some(0)]);
        // On a thread it is so, too.
        RUNS.store(0, SeqCst);
        let control = Box::into_raw(Box::new(0)).expose_provenance();
        let results = thread::spawn(move || [enter(control), enter(control)]).join().unwrap();
        assert_eq!(results, [None, Some(0)]);
    });
}
