//! Mutexes of C that belong to a thread: each coroutine is an owner, as a thread is.

use crate::patched;
use crate::scripts::{Call, after, c, compare, compare_random, does, script, waits};
use libc::{c_int, pthread_cond_t, pthread_mutex_t};
use std::cell::{Cell, UnsafeCell};
use std::mem::MaybeUninit;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;
use switchgrass::coroutine::join_all;
use switchgrass::monkey::blocked_calls;
use switchgrass::{spawn, yield_now};

const SHORT: Duration = Duration::from_millis(10);

const RECURSIVE: c_int = libc::PTHREAD_MUTEX_RECURSIVE;
const ERRORCHECK: c_int = libc::PTHREAD_MUTEX_ERRORCHECK;
const NORMAL: c_int = libc::PTHREAD_MUTEX_NORMAL;

/// How a mutex is made.
#[derive(Clone, Copy, Debug)]
struct Kind {
    kind: c_int,
    is_robust: bool,
    inherits: bool,
    is_shared: bool,
}

const fn kind(kind: c_int) -> Kind {
    Kind { kind, is_robust: false, inherits: false, is_shared: false }
}

/// A mutex, a condition variable, and how often it was locked.
pub(crate) struct Owned {
    mutex: UnsafeCell<pthread_mutex_t>,
    condition: UnsafeCell<pthread_cond_t>,
    shared: UnsafeCell<pthread_cond_t>,
    count: AtomicUsize,
}

// SAFETY: used by functions of libc only.
unsafe impl Send for Owned {}
// SAFETY: as above.
unsafe impl Sync for Owned {}

impl Owned {
    fn new(kind: Kind) -> Self {
        let owned = Owned {
            mutex: UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER),
            condition: UnsafeCell::new(libc::PTHREAD_COND_INITIALIZER),
            shared: UnsafeCell::new(libc::PTHREAD_COND_INITIALIZER),
            count: AtomicUsize::new(0),
        };
        let mut attributes = MaybeUninit::uninit();
        let mut of_condition = MaybeUninit::uninit();
        // SAFETY: room for them.
        unsafe {
            let at = attributes.as_mut_ptr();
            libc::pthread_mutexattr_init(at);
            libc::pthread_mutexattr_settype(at, kind.kind);
            let robust = [libc::PTHREAD_MUTEX_STALLED, libc::PTHREAD_MUTEX_ROBUST];
            libc::pthread_mutexattr_setrobust(at, robust[usize::from(kind.is_robust)]);
            c::pthread_mutexattr_setprotocol(at, kind.inherits.into());
            libc::pthread_mutexattr_setpshared(at, kind.is_shared.into());
            assert_eq!(libc::pthread_mutex_init(owned.mutex.get(), at), 0);
            let at = of_condition.as_mut_ptr();
            libc::pthread_condattr_init(at);
            libc::pthread_condattr_setpshared(at, libc::PTHREAD_PROCESS_SHARED);
            assert_eq!(libc::pthread_cond_init(owned.shared.get(), at), 0);
        }
        owned
    }

    fn lock(&self) -> c_int {
        // SAFETY: it is there, and initialised.
        unsafe { libc::pthread_mutex_lock(self.mutex.get()) }
    }

    fn trylock(&self) -> c_int {
        // SAFETY: it is there, and initialised.
        unsafe { libc::pthread_mutex_trylock(self.mutex.get()) }
    }

    fn timedlock(&self) -> c_int {
        let until = after(libc::CLOCK_REALTIME, SHORT);
        // SAFETY: it is there, and initialised.
        unsafe { libc::pthread_mutex_timedlock(self.mutex.get(), &until) }
    }

    fn clocklock(&self) -> c_int {
        let until = after(libc::CLOCK_MONOTONIC, SHORT);
        // SAFETY: it is there, and initialised.
        unsafe { c::pthread_mutex_clocklock(self.mutex.get(), libc::CLOCK_MONOTONIC, &until) }
    }

    /// By a clock that there is not, and until a time that there is not.
    fn clocklock_badly(&self) -> c_int {
        let mut until = after(libc::CLOCK_MONOTONIC, SHORT);
        // SAFETY: it is there, and initialised.
        let by = unsafe { c::pthread_mutex_clocklock(self.mutex.get(), 77, &until) };
        until.tv_nsec = 2_000_000_000;
        // SAFETY: it is there, and initialised.
        100 * by + unsafe { libc::pthread_mutex_timedlock(self.mutex.get(), &until) }
    }

    /// It ends before it has begun.
    fn timedlock_too_late(&self) -> c_int {
        let until = libc::timespec { tv_sec: -5, tv_nsec: 0 };
        // SAFETY: it is there, and initialised.
        unsafe { libc::pthread_mutex_timedlock(self.mutex.get(), &until) }
    }

    fn unlock(&self) -> c_int {
        // SAFETY: it is there, and initialised.
        unsafe { libc::pthread_mutex_unlock(self.mutex.get()) }
    }

    fn consistent(&self) -> c_int {
        // SAFETY: it is there, and initialised.
        unsafe { libc::pthread_mutex_consistent(self.mutex.get()) }
    }

    fn destroy(&self) -> c_int {
        // SAFETY: it is there, and initialised.
        unsafe { libc::pthread_mutex_destroy(self.mutex.get()) }
    }

    fn wait(&self) -> c_int {
        // SAFETY: it is there, and initialised.
        unsafe { libc::pthread_cond_wait(self.condition.get(), self.mutex.get()) }
    }

    fn timedwait(&self) -> c_int {
        let until = after(libc::CLOCK_REALTIME, SHORT);
        // SAFETY: it is there, and initialised.
        unsafe { libc::pthread_cond_timedwait(self.condition.get(), self.mutex.get(), &until) }
    }

    fn clockwait(&self) -> c_int {
        let (clock, mutex) = (libc::CLOCK_MONOTONIC, self.mutex.get());
        let until = after(clock, SHORT);
        // SAFETY: it is there, and initialised.
        unsafe { c::pthread_cond_clockwait(self.condition.get(), mutex, clock, &until) }
    }

    fn signal(&self) -> c_int {
        // SAFETY: it is there, and initialised.
        unsafe { libc::pthread_cond_signal(self.condition.get()) }
    }

    fn wait_shared(&self) -> c_int {
        // SAFETY: it is there, and initialised.
        unsafe { libc::pthread_cond_wait(self.shared.get(), self.mutex.get()) }
    }

    fn timedwait_shared(&self) -> c_int {
        let until = after(libc::CLOCK_REALTIME, SHORT);
        // SAFETY: it is there, and initialised.
        unsafe { libc::pthread_cond_timedwait(self.shared.get(), self.mutex.get(), &until) }
    }

    fn broadcast_shared(&self) -> c_int {
        // SAFETY: it is there, and initialised.
        unsafe { libc::pthread_cond_broadcast(self.shared.get()) }
    }
}

/// A mutex of each kind that has an owner.
fn kinds() -> Vec<Kind> {
    let mut all = Vec::new();
    for kind in [NORMAL, RECURSIVE, ERRORCHECK] {
        for bits in 0..8 {
            let (is_robust, inherits, is_shared) = (bits & 1 != 0, bits & 2 != 0, bits & 4 != 0);
            if kind != NORMAL || is_robust || inherits {
                all.push(Kind { kind, is_robust, inherits, is_shared });
            }
        }
    }
    all
}

/// Whatever two coroutines call, in whatever order, returns what it returns to two threads.
fn as_threads_get(kinds: impl Iterator<Item = Kind>) {
    let calls: [Call<Owned>; 9] = [
        Owned::trylock,
        Owned::trylock,
        Owned::timedlock,
        Owned::unlock,
        Owned::unlock,
        Owned::unlock,
        Owned::timedlock_too_late,
        Owned::clocklock_badly,
        Owned::timedlock,
    ];
    patched(|| {
        for (seed, kind) in (1..).zip(kinds) {
            compare_random(kind, || Owned::new(kind), &calls, seed);
        }
        assert_eq!(blocked_calls(), []);
    });
}

#[test]
fn calls_of_recursive_mutexes_return_what_they_return_to_threads() {
    as_threads_get(kinds().into_iter().filter(|kind| kind.kind == RECURSIVE));
}

#[test]
fn calls_of_error_checking_mutexes_return_what_they_return_to_threads() {
    as_threads_get(kinds().into_iter().filter(|kind| kind.kind == ERRORCHECK));
}

#[test]
fn calls_of_robust_and_inheriting_mutexes_return_what_they_return_to_threads() {
    as_threads_get(kinds().into_iter().filter(|kind| kind.kind == NORMAL));
}

/// As a library does that has one connection: each call locks it twice, and waits inside.
#[test]
fn a_recursive_mutex_keeps_siblings_out() {
    patched(|| {
        let connection = Arc::new(Owned::new(kind(RECURSIVE)));
        let inside = Rc::new(Cell::new(0));
        let rows = Rc::new(Cell::new(0));
        let tasks = (0..8).map(|_| {
            let (connection, inside, rows) =
                (Arc::clone(&connection), Rc::clone(&inside), Rc::clone(&rows));
            spawn(move || {
                for _ in 0..15 {
                    assert_eq!(connection.lock(), 0);
                    assert_eq!(connection.lock(), 0);
                    inside.set(inside.get() + 1);
                    let seen = rows.get();
                    thread::sleep(Duration::from_micros(200));
                    assert_eq!(inside.get(), 1);
                    rows.set(seen + 1);
                    inside.set(0);
                    assert_eq!(connection.unlock(), 0);
                    thread::yield_now();
                    assert_eq!(connection.unlock(), 0);
                }
            })
        });
        join_all(tasks.collect::<Vec<_>>()).into_iter().for_each(|task| task.unwrap());
        assert_eq!(rows.get(), 120);
        assert_eq!(blocked_calls(), []);
    });
}

/// Coroutines of two hubs, and plain threads.
#[test]
fn a_recursive_mutex_of_hubs_and_threads() {
    patched(|| {
        const ROUNDS: usize = 100;
        let owned = Arc::new(Owned::new(kind(RECURSIVE)));
        let work = |owned: &Owned| {
            for round in 0..ROUNDS {
                assert_eq!(owned.lock(), 0);
                assert_eq!(owned.lock(), 0);
                let seen = owned.count.load(SeqCst);
                if round % 16 == 0 {
                    thread::sleep(Duration::from_micros(50));
                }
                owned.count.store(seen + 1, SeqCst);
                assert_eq!(owned.unlock(), 0);
                assert_eq!(owned.unlock(), 0);
            }
        };
        let hubs = (0..2).map(|_| {
            let owned = Arc::clone(&owned);
            thread::spawn(move || {
                let tasks = (0..6).map(|_| {
                    let owned = Arc::clone(&owned);
                    spawn(move || work(&owned))
                });
                join_all(tasks.collect::<Vec<_>>()).into_iter().for_each(|task| task.unwrap());
            })
        });
        let threads = (0..2).map(|_| {
            let owned = Arc::clone(&owned);
            thread::spawn(move || work(&owned))
        });
        let all: Vec<_> = hubs.chain(threads).collect();
        all.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(owned.count.load(SeqCst), 14 * ROUNDS);
    });
}

/// While another thread has it, siblings of the one that waits go on, whatever that thread waits for.
#[test]
fn siblings_run_while_another_thread_has_the_mutex() {
    patched(|| {
        for kind in [kind(RECURSIVE), kind(ERRORCHECK), kind(NORMAL)] {
            let owned = Arc::new(Owned::new(kind));
            let (theirs, (told, tell)) = (Arc::clone(&owned), std::sync::mpsc::channel());
            let (go, gone) = std::sync::mpsc::channel();
            let holder = thread::spawn(move || {
                assert_eq!(theirs.lock(), 0);
                told.send(()).unwrap();
                gone.recv().unwrap();
                assert_eq!(theirs.unlock(), 0);
            });
            tell.recv().unwrap();
            let waiter = spawn(move || {
                assert_eq!(owned.lock(), 0);
                assert_eq!(owned.unlock(), 0);
            });
            // Not before this coroutine has run is it unlocked.
            let sibling = spawn(move || {
                (0..20).for_each(|_| thread::sleep(Duration::from_millis(1)));
                go.send(()).unwrap();
            });
            sibling.join().unwrap();
            waiter.join().unwrap();
            holder.join().unwrap();
        }
        // The plain one, for a while: an allocator may have one.
        assert_eq!(blocked_calls(), [("pthread_mutex_lock", 1)]);
    });
}

/// libc unlocks it inside, where nobody is told.
#[test]
fn a_mutex_that_a_thread_gives_back_where_it_waits_for_a_condition() {
    patched(|| {
        for kind in [kind(RECURSIVE), kind(NORMAL)] {
            let owned = Arc::new(Owned::new(kind));
            let theirs = Arc::clone(&owned);
            let waiter = thread::spawn(move || {
                assert_eq!(theirs.lock(), 0);
                theirs.count.store(1, SeqCst);
                thread::sleep(3 * SHORT);
                while theirs.count.load(SeqCst) != 2 {
                    assert_eq!(theirs.wait(), 0);
                }
                assert_eq!(theirs.unlock(), 0);
            });
            let tasks = (0..3).map(|_| {
                let owned = Arc::clone(&owned);
                spawn(move || {
                    while owned.count.load(SeqCst) == 0 {
                        thread::sleep(Duration::from_millis(1));
                    }
                    assert_eq!(owned.lock(), 0);
                    owned.count.store(2, SeqCst);
                    assert_eq!(owned.signal(), 0);
                    assert_eq!(owned.unlock(), 0);
                })
            });
            join_all(tasks.collect::<Vec<_>>()).into_iter().for_each(|task| task.unwrap());
            waiter.join().unwrap();
        }
    });
}

#[test]
fn pthread_mutex_trylock() {
    let steps = [
        does(0, Owned::lock),
        does(1, Owned::trylock),
        does(0, Owned::trylock),
        does(0, Owned::unlock),
        does(1, Owned::trylock),
        does(0, Owned::unlock),
        does(1, Owned::trylock),
        does(0, Owned::trylock),
        does(1, Owned::unlock),
    ];
    let results = [0, libc::EBUSY, 0, 0, libc::EBUSY, 0, 0, libc::EBUSY, 0];
    script(|| Owned::new(kind(RECURSIVE)), &steps, &results);
}

#[test]
fn pthread_mutex_clocklock() {
    let steps = [
        does(0, Owned::lock),
        does(1, Owned::clocklock),
        does(0, Owned::clocklock),
        does(0, Owned::unlock),
        does(1, Owned::clocklock),
        does(1, Owned::unlock),
        does(1, Owned::unlock),
    ];
    let (late, dead) = (libc::ETIMEDOUT, libc::EDEADLK);
    script(|| Owned::new(kind(ERRORCHECK)), &steps, &[0, late, dead, 0, 0, 0, libc::EPERM]);
}

/// A new one at the same place is nobody's.
#[test]
fn pthread_mutex_destroy() {
    patched(|| {
        let owned = Arc::new(Owned::new(kind(RECURSIVE)));
        assert_eq!(owned.lock(), 0);
        let first = Arc::clone(&owned);
        spawn(move || assert_eq!(first.destroy(), libc::EBUSY)).join().unwrap();
        assert_eq!((owned.unlock(), owned.destroy()), (0, 0));
        // The memory is given back by one who holds it, and used for another.
        let holder = Arc::clone(&owned);
        for _ in 0..2 {
            let new = Owned::new(kind(RECURSIVE));
            // SAFETY: nobody uses the mutex that is overwritten.
            unsafe { *holder.mutex.get() = new.mutex.into_inner() };
            let holder = Arc::clone(&holder);
            spawn(move || assert_eq!(holder.lock(), 0)).join().unwrap();
        }
        assert_eq!(owned.trylock(), libc::EBUSY);
    });
}

/// The one that waits gets it when the owner has unlocked it as often as it was locked.
#[test]
fn a_sibling_that_waits_for_a_recursive_mutex_gets_it_last() {
    let steps = [
        does(0, Owned::lock),
        does(0, Owned::lock),
        waits(1, Owned::lock),
        does(0, Owned::unlock),
        does(0, Owned::trylock),
        does(0, Owned::unlock),
        does(0, Owned::unlock),
        does(1, Owned::unlock),
    ];
    script(|| Owned::new(kind(RECURSIVE)), &steps, &[0; 8]);
}

#[test]
fn an_error_checking_mutex_is_unlocked_by_its_owner_only() {
    let steps = [
        does(0, Owned::lock),
        does(1, Owned::unlock),
        does(0, Owned::lock),
        waits(1, Owned::lock),
        does(0, Owned::unlock),
        does(0, Owned::unlock),
        does(1, Owned::unlock),
    ];
    let results = [0, libc::EPERM, libc::EDEADLK, 0, 0, libc::EPERM, 0];
    script(|| Owned::new(kind(ERRORCHECK)), &steps, &results);
}

/// Of a condition, with each kind of mutex: the mutex is given back, and got again.
#[test]
fn a_condition_with_a_mutex_that_has_an_owner() {
    let steps = [
        does(0, Owned::lock),
        waits(0, Owned::wait),
        does(1, Owned::lock),
        does(1, Owned::signal),
        does(1, Owned::unlock),
        does(0, Owned::timedwait),
        does(0, Owned::clockwait),
        does(1, Owned::trylock),
        does(0, Owned::unlock),
        does(1, Owned::trylock),
    ];
    let late = libc::ETIMEDOUT;
    patched(|| {
        for kind in kinds() {
            compare(
                kind,
                || Owned::new(kind),
                &steps,
                &[0, 0, 0, 0, 0, late, late, libc::EBUSY, 0, 0],
            );
        }
        assert_eq!(blocked_calls(), []);
    });
}

/// libc unlocks it once: one that is locked twice stays locked, and one that is another's is not waited with.
#[test]
fn a_condition_with_a_mutex_that_is_not_given_back() {
    let steps = [
        does(0, Owned::lock),
        does(0, Owned::trylock),
        waits(0, Owned::timedwait),
        does(1, Owned::trylock),
        does(0, Owned::unlock),
        does(1, Owned::timedwait),
        does(0, Owned::unlock),
    ];
    patched(|| {
        for kind in kinds().into_iter().filter(|kind| kind.kind == RECURSIVE) {
            let (late, busy, other) = (libc::ETIMEDOUT, libc::EBUSY, libc::EPERM);
            compare(kind, || Owned::new(kind), &steps, &[0, 0, late, busy, 0, other, 0]);
        }
    });
}

#[test]
fn pthread_cond_clockwait() {
    let steps = [
        does(0, Owned::lock),
        does(0, Owned::clockwait),
        waits(0, Owned::wait),
        does(1, Owned::lock),
        does(1, Owned::clockwait),
        does(1, Owned::signal),
        does(1, Owned::unlock),
        does(0, Owned::unlock),
    ];
    let late = libc::ETIMEDOUT;
    script(|| Owned::new(kind(NORMAL)), &steps, &[0, late, 0, 0, late, 0, 0, 0]);
}

/// A condition variable that other processes may signal.
#[test]
fn a_shared_condition_variable() {
    let steps = [
        does(0, Owned::lock),
        does(0, Owned::timedwait_shared),
        waits(0, Owned::wait_shared),
        does(1, Owned::lock),
        does(1, Owned::broadcast_shared),
        does(1, Owned::unlock),
    ];
    patched(|| {
        for kind in [kind(NORMAL), kind(RECURSIVE)] {
            compare(kind, || Owned::new(kind), &steps, &[0, libc::ETIMEDOUT, 0, 0, 0, 0]);
        }
        let kind = kind(ERRORCHECK);
        let foreign =
            [does(0, Owned::lock), does(1, Owned::timedwait_shared), does(0, Owned::unlock)];
        compare(kind, || Owned::new(kind), &foreign, &[0, libc::EPERM, 0]);
        assert_eq!(blocked_calls(), []);
    });
}

/// A coroutine that ends with a robust mutex is to it what a thread is that does.
#[test]
fn a_robust_mutex_of_a_coroutine_that_has_ended() {
    let steps: [_; 7] = [
        does(0, Owned::lock),
        does(1, Owned::timedlock),
        does(1, Owned::consistent),
        does(1, Owned::consistent),
        does(1, Owned::unlock),
        does(1, Owned::lock),
        does(1, Owned::unlock),
    ];
    let lost: [_; 5] = [
        does(0, Owned::lock),
        waits(1, Owned::lock),
        does(1, Owned::unlock),
        does(1, Owned::lock),
        does(1, Owned::trylock),
    ];
    patched(|| {
        for kind in kinds().into_iter().filter(|kind| kind.is_robust) {
            let died = libc::EOWNERDEAD;
            compare(kind, || Owned::new(kind), &steps, &[0, died, 0, libc::EINVAL, 0, 0, 0]);
            let gone = libc::ENOTRECOVERABLE;
            compare(kind, || Owned::new(kind), &lost, &[0, died, 0, gone, gone]);
        }
    });
}

/// What main has locked before there were coroutines is main's.
#[test]
fn what_main_holds_from_before() {
    patched(|| {
        let (recursive, checking) = (Owned::new(kind(RECURSIVE)), Owned::new(kind(ERRORCHECK)));
        let both = Arc::new([recursive, checking]);
        for owned in &*both {
            assert_eq!(owned.lock(), 0);
        }
        assert_eq!(both[0].lock(), 0);
        let sibling = Arc::clone(&both);
        let waiter = spawn(move || {
            for owned in &*sibling {
                assert_eq!(owned.trylock(), libc::EBUSY);
                assert_eq!(owned.timedlock(), libc::ETIMEDOUT);
                assert_eq!(owned.unlock(), libc::EPERM);
            }
            for owned in &*sibling {
                assert_eq!(owned.lock(), 0);
                assert_eq!(owned.unlock(), 0);
            }
        });
        (0..10).for_each(|_| thread::sleep(SHORT / 2));
        assert_eq!((both[0].lock(), both[1].lock()), (0, libc::EDEADLK));
        assert_eq!((both[0].unlock(), both[0].unlock(), both[0].unlock()), (0, 0, 0));
        assert_eq!((both[0].unlock(), both[1].unlock()), (libc::EPERM, 0));
        waiter.join().unwrap();
    });
}

/// It goes on to its end, and leaves nothing behind.
#[test]
fn a_kill_while_waiting_for_a_mutex_with_an_owner() {
    patched(|| {
        let owned = Arc::new(Owned::new(kind(RECURSIVE)));
        assert_eq!(owned.lock(), 0);
        let theirs = Arc::clone(&owned);
        let waiter = spawn(move || {
            assert_eq!(theirs.lock(), 0);
            theirs.count.fetch_add(1, SeqCst);
            assert_eq!(theirs.unlock(), 0);
            yield_now();
            theirs.count.fetch_add(100, SeqCst);
        });
        yield_now();
        waiter.kill();
        yield_now();
        assert_eq!(owned.count.load(SeqCst), 0);
        assert_eq!(owned.unlock(), 0);
        let _ = waiter.join();
        assert_eq!(owned.count.load(SeqCst), 1);
        assert_eq!((owned.trylock(), owned.unlock()), (0, 0));
    });
}

/// In a callback of the hub, which cannot wait, nobody is let in.
#[test]
fn a_callback_in_the_hub_is_no_owner() {
    patched(|| {
        let owned = Arc::new(Owned::new(kind(RECURSIVE)));
        let theirs = Arc::clone(&owned);
        let ended = spawn(|| ());
        let seen = Rc::new(Cell::new((0, 0, 0)));
        let told = Rc::clone(&seen);
        assert_eq!(owned.lock(), 0);
        ended.link_in_hub(move || told.set((theirs.trylock(), theirs.lock(), theirs.unlock())));
        ended.join().unwrap();
        (0..3).for_each(|_| yield_now());
        assert_eq!(seen.get(), (libc::EBUSY, libc::EDEADLK, libc::EPERM));
        assert_eq!(blocked_calls(), [("pthread_mutex_lock", 1)]);
        assert_eq!(owned.unlock(), 0);
    });
}

/// A system call about a word that other processes may have, as the guards of C++'s static variables make.
fn futex(word: &AtomicI32, operation: c_int, value: c_int, limit: Option<Duration>) -> i64 {
    let time = limit.map(|limit| libc::timespec {
        tv_sec: limit.as_secs() as _,
        tv_nsec: limit.subsec_nanos().into(),
    });
    let time = time.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: a word, and a time.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation, value, time, 0, 0) }
}

/// The word is what it was until a sibling has changed it, which wakes nobody in the kernel.
#[test]
fn a_futex_that_is_shared_by_processes() {
    patched(|| {
        let word = Arc::new(AtomicI32::new(1));
        let tasks = [true, false].map(|is_woken| {
            let word = Arc::clone(&word);
            spawn(move || {
                let mut rounds = 0;
                while word.load(SeqCst) == 1 {
                    assert_eq!(futex(&word, libc::FUTEX_WAIT, 1, None), 0);
                    rounds += 1;
                }
                (is_woken, rounds)
            })
        });
        let late = spawn({
            let word = Arc::clone(&word);
            move || {
                let result = futex(&word, libc::FUTEX_WAIT, 1, Some(SHORT));
                (result, std::io::Error::last_os_error().raw_os_error())
            }
        });
        assert_eq!(late.join().unwrap(), (-1, Some(libc::ETIMEDOUT)));
        assert_eq!(futex(&word, libc::FUTEX_WAIT, 7, None), -1);
        word.store(2, SeqCst);
        assert_eq!(futex(&word, libc::FUTEX_WAKE, 1, None), 1);
        join_all(tasks).into_iter().for_each(|task| assert!(task.unwrap().1 > 0));
        assert_eq!(blocked_calls(), []);
    });
}
