//! Locks, conditions and barriers.

use crate::support::Log;
use crate::{LONG, SHORT, settle};
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::TryLockError;
use std::time::{Duration, Instant};
use switchgrass::coroutine::{join_all, scope};
use switchgrass::sync::{Barrier, Condvar, Mutex, RLock, RwLock, Sharing};
use switchgrass::{Greenlet, GreenletExit, JoinError, current, sleep, spawn, timeout, yield_now};

/// {lock_tests test_acquire_contended, test_with}: one at a time, over switches, in the order of
/// coming.
#[test]
fn test_lock_contended() {
    fn check<S: Sharing>(mutex: &Mutex<Vec<usize>, S>) {
        let inside = Cell::new(0);
        scope(|scope| {
            for number in 0..5 {
                let inside = &inside;
                scope.spawn(move || {
                    let mut log = mutex.lock().unwrap();
                    inside.set(inside.get() + 1);
                    log.push(number);
                    yield_now();
                    assert_eq!(inside.replace(inside.get() - 1), 1);
                });
            }
        });
        assert_eq!(*mutex.lock().unwrap(), [0, 1, 2, 3, 4]);
    }
    check(&Mutex::new(Vec::new()));
    check(&Mutex::shared(Vec::new()));
}

/// {lock_tests test_try_acquire_contended}
#[test]
fn test_try_lock_contended() {
    let mutex = Mutex::new(5);
    let guard = mutex.try_lock().unwrap();
    let other = scope(|scope| {
        let other = scope.spawn(|| mutex.try_lock().is_err());
        other.join().unwrap()
    });
    assert!(other);
    assert!(matches!(mutex.try_lock(), Err(TryLockError::WouldBlock)));
    drop(guard);
    assert_eq!(*mutex.try_lock().unwrap(), 5);
}

/// {lock_tests test_acquire_timeout, test_timeout, test_state_after_timeout}
#[test]
fn test_state_after_timeout() {
    fn check<S: Sharing>(mutex: &Mutex<(), S>) {
        let guard = mutex.lock().unwrap();
        scope(|scope| {
            let late = scope.spawn(|| {
                let start = Instant::now();
                let result = mutex.lock_timeout(SHORT);
                assert!(matches!(result, Err(TryLockError::WouldBlock)));
                assert!(start.elapsed() >= SHORT);
            });
            late.join().unwrap();
        });
        drop(guard);
        drop(mutex.try_lock().unwrap());
        drop(mutex.lock_timeout(Duration::ZERO).unwrap());
    }
    check(&Mutex::new(()));
    check(&Mutex::shared(()));
}

/// {test_spin_lock_switches}: one that tries again and again, and lets others run, gets it.
#[test]
fn test_spin_lock_switches() {
    let mutex = Mutex::new(());
    scope(|scope| {
        scope.spawn(|| {
            let _guard = mutex.lock();
            sleep(SHORT);
        });
        yield_now();
        let mut tries = 0;
        while mutex.try_lock().is_err() {
            tries += 1;
            yield_now();
        }
        assert!(tries > 0);
    });
}

/// A holder that is killed lets go of it; and has left the value as it was, which is said.
#[test]
fn a_killed_holder_poisons() {
    fn check<S: Sharing>(mutex: &Mutex<u32, S>) {
        scope(|scope| {
            let holder = scope.spawn(|| {
                let mut value = mutex.lock().unwrap();
                *value = 1;
                sleep(LONG);
                *value = 2;
            });
            let next = scope.spawn(|| {
                let poisoned = mutex.lock().unwrap_err();
                assert_eq!(**poisoned.get_ref(), 1);
            });
            settle();
            holder.coroutine().kill();
            next.join().unwrap();
            assert!(matches!(holder.join(), Err(JoinError::Killed)));
        });
        assert!(mutex.is_poisoned());
        assert!(matches!(mutex.try_lock(), Err(TryLockError::Poisoned(_))));
        assert!(matches!(mutex.lock_timeout(SHORT), Err(TryLockError::Poisoned(_))));
        mutex.clear_poison();
        assert_eq!(*mutex.lock().unwrap(), 1);
    }
    check(&Mutex::new(0));
    check(&Mutex::shared(0));
}

/// A panic of another coroutine's, which is unwound while this one holds it, poisons nothing of
/// this one's.
#[test]
fn a_panic_elsewhere_does_not_poison() {
    let mutex = Mutex::new(());
    scope(|scope| {
        scope.spawn(|| {
            let _guard = mutex.lock().unwrap();
            settle();
        });
        let failing = scope.spawn(|| std::panic::resume_unwind(Box::new("expected")));
        let _: Result<(), _> = failing.join();
    });
    assert!(!mutex.is_poisoned());
}

/// {8.4}: a waiter that is killed around the hand-over leaves the lock to the next, not poisoned.
#[test]
fn a_killed_waiter_does_not_hold_it() {
    fn check<S: Sharing>(mutex: &Mutex<(), S>) {
        let guard = mutex.lock().unwrap();
        scope(|scope| {
            let [early, same_turn, patient] =
                [(); 3].map(|()| scope.spawn(|| drop(mutex.lock().unwrap())));
            settle();
            early.coroutine().kill_wait(None);
            same_turn.coroutine().kill();
            drop(guard);
            assert!(matches!(same_turn.join(), Err(JoinError::Killed)));
            patient.join().unwrap();
        });
        drop(mutex.try_lock().unwrap());
    }
    check(&Mutex::new(()));
    check(&Mutex::shared(()));
}

/// {lock_tests RLock test_reacquire, test_recursion_count, test__is_owned}
#[test]
fn test_reacquire() {
    fn check<S: Sharing>(lock: &RLock<S>) {
        let guards = [lock.lock(), lock.try_lock().unwrap(), lock.lock_timeout(SHORT).unwrap()];
        lock.acquire();
        assert_eq!(lock.depth(), 4);
        scope(|scope| {
            let other = scope.spawn(|| {
                assert_eq!(lock.depth(), 0);
                assert!(lock.try_lock().is_none());
                assert!(lock.lock_timeout(SHORT).is_none());
            });
            other.join().unwrap();
            let waiting = scope.spawn(|| drop(lock.lock()));
            lock.release().unwrap();
            for guard in guards {
                settle();
                assert!(!waiting.coroutine().is_finished());
                drop(guard);
            }
            waiting.join().unwrap();
        });
        assert_eq!(lock.depth(), 0);
    }
    check(&RLock::new());
    check(&RLock::shared());
}

/// {lock_tests RLock test_release_unacquired}
#[test]
fn test_release_unacquired() {
    let lock = RLock::new();
    lock.release().unwrap_err();
    lock.acquire();
    lock.acquire();
    lock.release().unwrap();
    lock.release().unwrap();
    let error = lock.release().unwrap_err();
    let said = "the lock is not held by the current coroutine, which therefore cannot release it";
    assert_eq!(error.to_string(), said);
}

/// {lock_tests RLock test_different_thread}: only its owner can release it.
#[test]
fn test_different_coroutine() {
    fn check<S: Sharing>(lock: &RLock<S>) {
        scope(|scope| {
            let owner = scope.spawn(|| {
                lock.acquire();
                settle();
                lock.release().unwrap();
            });
            yield_now();
            lock.release().unwrap_err();
            assert!(lock.try_lock().is_none(), "the release had no effect");
            owner.join().unwrap();
            drop(lock.try_lock().unwrap());
        });
    }
    check(&RLock::new());
    check(&RLock::shared());
}

/// {8.5}: a kill releases every guard of the holder.
#[test]
fn an_rlock_of_a_killed_holder() {
    fn check<S: Sharing>(lock: &RLock<S>) {
        scope(|scope| {
            let holder = scope.spawn(|| {
                let _guards = (lock.lock(), lock.lock());
                sleep(LONG);
            });
            let [dying, next] = [(); 2].map(|()| scope.spawn(|| drop(lock.lock())));
            settle();
            dying.coroutine().kill();
            holder.coroutine().kill();
            next.join().unwrap();
        });
        drop(lock.try_lock().unwrap());
    }
    check(&RLock::new());
    check(&RLock::shared());
}

/// The owner is the coroutine: a generator that it runs is the same one.
#[test]
fn an_rlock_in_a_generator() {
    let lock = Rc::new(RLock::new());
    let _guard = lock.lock();
    let inside = Rc::clone(&lock);
    let mut depths = switchgrass::Generator::new(move |y| {
        let _guard = inside.lock();
        y.yield_(inside.depth());
    });
    assert_eq!(depths.next(), Some(2));
    drop(depths);
    assert_eq!(lock.depth(), 1);
}

/// {lock_tests Condition test_notify}: one, then one more, then all, in the order of waiting.
#[test]
fn test_notify() {
    fn check<S: Sharing>(mutex: &Mutex<Vec<usize>, S>, condvar: &Condvar<S>) {
        scope(|scope| {
            for number in 0..6 {
                scope.spawn(move || {
                    let mut log = condvar.wait(mutex.lock().unwrap()).unwrap();
                    log.push(number);
                });
            }
            settle();
            let notified = || {
                settle();
                mutex.lock().unwrap().len()
            };
            condvar.notify_one();
            assert_eq!(notified(), 1);
            condvar.notify_one();
            condvar.notify_one();
            assert_eq!(notified(), 3);
            condvar.notify_all();
            assert_eq!(notified(), 6);
            // Nobody is left: it has no effect, now or later.
            condvar.notify_one();
        });
        assert_eq!(*mutex.lock().unwrap(), [0, 1, 2, 3, 4, 5]);
        let (_, result) = condvar.wait_timeout(mutex.lock().unwrap(), SHORT).unwrap();
        assert!(result.timed_out());
    }
    check(&Mutex::new(Vec::new()), &Condvar::new());
    check(&Mutex::shared(Vec::new()), &Condvar::shared());
}

/// {lock_tests Condition test_timeout}
#[test]
fn test_condvar_timeout() {
    let (mutex, condvar) = (Mutex::new(5), Condvar::new());
    let start = Instant::now();
    let (guard, result) = condvar.wait_timeout(mutex.lock().unwrap(), SHORT).unwrap();
    assert!(result.timed_out() && start.elapsed() >= SHORT);
    assert!(mutex.try_lock().is_err(), "it is locked again");
    assert_eq!(*guard, 5);
}

/// {lock_tests Condition test_waitfor}
#[test]
fn test_waitfor() {
    fn check<S: Sharing>(mutex: &Mutex<u32, S>, condvar: &Condvar<S>) {
        scope(|scope| {
            let waiting = scope.spawn(|| {
                let state = condvar.wait_while(mutex.lock().unwrap(), |state| *state < 4).unwrap();
                assert_eq!(*state, 4);
            });
            for _ in 0..4 {
                settle();
                assert!(!waiting.coroutine().is_finished());
                *mutex.lock().unwrap() += 1;
                condvar.notify_one();
            }
            waiting.join().unwrap();
        });
    }
    check(&Mutex::new(0), &Condvar::new());
    check(&Mutex::shared(0), &Condvar::shared());
}

/// One that waits holds the mutex no more, and is killed without poisoning it.
#[test]
fn a_kill_in_condvar_wait() {
    let (mutex, condvar) = (Mutex::new(()), Condvar::new());
    scope(|scope| {
        let waiting = scope.spawn(|| drop(condvar.wait(mutex.lock().unwrap())));
        settle();
        waiting.coroutine().kill_wait(None);
        assert!(matches!(waiting.join(), Err(JoinError::Killed)));
    });
    assert!(!mutex.is_poisoned());
    drop(mutex.try_lock().unwrap());
}

/// {8.4}: a notification for one that is killed before it goes on is the next one's.
#[test]
fn a_notification_of_one_that_dies() {
    fn check<S: Sharing>(mutex: &Mutex<(), S>, condvar: &Condvar<S>) {
        scope(|scope| {
            let [dying, waiting] =
                [(); 2].map(|()| scope.spawn(|| drop(condvar.wait(mutex.lock().unwrap()))));
            settle();
            dying.coroutine().kill();
            condvar.notify_one();
            assert!(matches!(dying.join(), Err(JoinError::Killed)));
            waiting.join().unwrap();
        });
        assert!(!mutex.is_poisoned());
    }
    check(&Mutex::new(()), &Condvar::new());
    check(&Mutex::shared(()), &Condvar::shared());
}

/// Also of one that is killed while it waits for the mutex: it has done nothing about it yet.
#[test]
fn a_notification_of_one_that_dies_while_it_locks_again() {
    fn check<S: Sharing>(mutex: &Mutex<(), S>, condvar: &Condvar<S>) {
        scope(|scope| {
            let [dying, waiting] =
                [(); 2].map(|()| scope.spawn(|| drop(condvar.wait(mutex.lock().unwrap()))));
            settle();
            let guard = mutex.lock().unwrap();
            condvar.notify_one();
            settle();
            dying.coroutine().kill_wait(None);
            drop(guard);
            assert!(matches!(dying.join(), Err(JoinError::Killed)));
            assert!(waiting.coroutine().wait_end(Some(50 * SHORT)), "it was notified");
        });
    }
    check(&Mutex::new(()), &Condvar::new());
    check(&Mutex::shared(()), &Condvar::shared());
}

/// What `notify_all` was for one that is killed is nobody else's: all others were notified too, and
/// one that has come later has no reason to wake.
#[test]
fn a_notification_of_all_is_not_passed_on() {
    fn check<S: Sharing>(mutex: &Mutex<(), S>, condvar: &Condvar<S>) {
        scope(|scope| {
            let dying = scope.spawn(|| drop(condvar.wait(mutex.lock().unwrap())));
            settle();
            dying.coroutine().kill();
            condvar.notify_all();
            let (_, late) = condvar.wait_timeout(mutex.lock().unwrap(), SHORT).unwrap();
            assert!(dying.coroutine().is_finished());
            assert!(late.timed_out(), "nobody is woken without a reason");
        });
    }
    check(&Mutex::new(()), &Condvar::new());
    check(&Mutex::shared(()), &Condvar::shared());
}

/// Readers are in together, a writer alone.
#[test]
fn readers_together_and_writers_alone() {
    fn check<S: Sharing>(lock: &RwLock<u32, S>) {
        {
            let readers = (lock.read().unwrap(), lock.try_read().unwrap());
            assert!(matches!(lock.try_write(), Err(TryLockError::WouldBlock)));
            assert!(matches!(lock.write_timeout(SHORT), Err(TryLockError::WouldBlock)));
            drop(lock.read_timeout(SHORT).unwrap());
            drop(readers);
        }
        let mut writer = lock.write().unwrap();
        *writer += 1;
        assert!(lock.try_read().is_err() && lock.try_write().is_err());
        assert!(matches!(lock.read_timeout(SHORT), Err(TryLockError::WouldBlock)));
        drop(writer);
        assert_eq!(*lock.read_timeout(Duration::ZERO).unwrap(), 1);
    }
    check(&RwLock::new(0));
    check(&RwLock::shared(0));
}

/// In the order of coming: a stream of readers does not starve a writer, nor writers a reader.
#[test]
fn rwlock_is_fair() {
    fn check<S: Sharing>(lock: &RwLock<(), S>) {
        let log = Log::new();
        scope(|scope| {
            let first = lock.read().unwrap();
            for name in ["r1", "r2", "w1", "r3", "r4", "w2", "w3", "r5"] {
                let log = &log;
                scope.spawn(move || {
                    let reader = name.starts_with('r').then(|| lock.read().unwrap());
                    let writer = name.starts_with('w').then(|| lock.write().unwrap());
                    log.add(name);
                    yield_now();
                    drop((reader, writer));
                    log.add("-");
                });
            }
            settle();
            // The first writer waits, so that readers that come later wait behind it.
            assert_eq!(log.take(), ["r1", "r2", "-", "-"]);
            assert!(lock.try_read().is_err());
            drop(first);
        });
        let expected = ["w1", "-", "r3", "r4", "-", "-", "w2", "-", "w3", "-", "r5", "-"];
        assert_eq!(log.take(), expected);
    }
    check(&RwLock::new(()));
    check(&RwLock::shared(()));
}

/// A writer that gives up, in whichever way, lets the readers in that waited behind it.
#[test]
fn a_writer_that_gives_up_lets_readers_in() {
    fn check<S: Sharing>(lock: &RwLock<(), S>) {
        let first = lock.read().unwrap();
        for way in 0..3 {
            scope(|scope| {
                let writer = scope.spawn(move || match way {
                    0 => drop(lock.write()),
                    1 => drop(lock.write_timeout(SHORT)),
                    _ => drop(timeout(SHORT, || drop(lock.write()))),
                });
                let readers = [(); 2].map(|()| scope.spawn(|| drop(lock.read().unwrap())));
                settle();
                assert!(readers.iter().all(|reader| !reader.coroutine().is_finished()));
                if way == 0 {
                    writer.coroutine().kill();
                }
                readers.into_iter().for_each(|reader| reader.join().unwrap());
                let _: Result<(), JoinError> = writer.join();
            });
        }
        drop(first);
        drop(lock.try_write().unwrap());
    }
    check(&RwLock::new(()));
    check(&RwLock::shared(()));
}

/// Killed in the turn in which it is let in: it has left again, and is not in for ever.
#[test]
fn a_kill_in_the_turn_in_which_it_is_let_in() {
    fn check<S: Sharing>(lock: &RwLock<(), S>) {
        for writes in [true, false] {
            let held = lock.write().unwrap();
            scope(|scope| {
                let dying = scope
                    .spawn(move || if writes { drop(lock.write()) } else { drop(lock.read()) });
                let next = scope.spawn(|| drop(lock.write().unwrap()));
                settle();
                dying.coroutine().kill();
                drop(held);
                next.join().unwrap();
                assert!(matches!(dying.join(), Err(JoinError::Killed)));
            });
            drop(lock.try_write().unwrap());
        }
    }
    check(&RwLock::new(()));
    check(&RwLock::shared(()));
}

/// A writer that is killed poisons it, a reader does not.
#[test]
fn rwlock_poisoning() {
    fn check<S: Sharing>(lock: &RwLock<u32, S>) {
        for writes in [false, true] {
            scope(|scope| {
                let holder = scope.spawn(move || {
                    let _writer = writes.then(|| lock.write().unwrap());
                    let _reader = (!writes).then(|| lock.read().unwrap());
                    sleep(LONG);
                });
                settle();
                holder.coroutine().kill_wait(None);
            });
            assert_eq!(lock.is_poisoned(), writes);
        }
        assert!(lock.read().is_err() && lock.write().is_err());
        assert!(matches!(lock.try_read(), Err(TryLockError::Poisoned(_))));
        lock.clear_poison();
        assert!(lock.read().is_ok() && lock.try_write().is_ok());
    }
    check(&RwLock::new(0));
    check(&RwLock::shared(0));
}

/// {lock_tests Barrier test_barrier}: nobody goes on before all are there, round after round.
#[test]
fn test_barrier() {
    fn check<S: Sharing>(barrier: &Barrier<S>) {
        let arrived = Cell::new(0);
        scope(|scope| {
            for _ in 0..5 {
                scope.spawn(|| {
                    for round in 1..=10 {
                        arrived.set(arrived.get() + 1);
                        barrier.wait().unwrap();
                        assert!(arrived.get() >= 5 * round);
                        barrier.wait().unwrap();
                        assert!(arrived.get() <= 5 * (round + 1));
                    }
                });
            }
        });
        assert_eq!(arrived.get(), 50);
    }
    check(&Barrier::new(5));
    check(&Barrier::shared(5));
}

/// {lock_tests Barrier test_wait_return}: one of them leads, the last that came. And
/// {test_single_thread}: one that waits for itself alone goes on at once.
#[test]
fn test_wait_return() {
    let barrier = Rc::new(Barrier::new(3));
    let all = (0..3).map(|_| {
        let barrier = Rc::clone(&barrier);
        spawn(move || barrier.wait().unwrap().is_leader())
    });
    let leads: Vec<_> = join_all(all).into_iter().map(Result::unwrap).collect();
    assert_eq!(leads, [false, false, true]);
    let alone = Barrier::new(1);
    assert!(alone.wait().unwrap().is_leader() && alone.wait().unwrap().is_leader());
}

/// {lock_tests Barrier test_abort}: one that is killed breaks it for those that wait, and those
/// that come.
#[test]
fn test_abort() {
    fn check<S: Sharing>(barrier: &Barrier<S>) {
        scope(|scope| {
            let [dying, waiting] = [(); 2].map(|()| scope.spawn(|| barrier.wait()));
            settle();
            assert!(!barrier.is_broken());
            dying.coroutine().kill();
            waiting.join().unwrap().unwrap_err();
            assert!(matches!(dying.join(), Err(JoinError::Killed)));
        });
        assert!(barrier.is_broken());
        barrier.wait().unwrap_err();
        barrier.wait_timeout(LONG).unwrap_err();
    }
    check(&Barrier::new(3));
    check(&Barrier::shared(3));
}

/// {lock_tests Barrier test_timeout}
#[test]
fn test_barrier_timeout() {
    fn check<S: Sharing>(barrier: &Barrier<S>) {
        scope(|scope| {
            let waiting = scope.spawn(|| barrier.wait());
            let start = Instant::now();
            barrier.wait_timeout(SHORT).unwrap_err();
            assert!(start.elapsed() >= SHORT);
            waiting.join().unwrap().unwrap_err();
        });
        assert!(barrier.is_broken());
    }
    check(&Barrier::new(3));
    check(&Barrier::shared(3));
}

/// An outer limit breaks it as well, and comes out as what it is.
#[test]
fn an_outer_limit_breaks_the_barrier() {
    let barrier = Barrier::new(2);
    assert!(timeout(SHORT, || barrier.wait_timeout(LONG)).is_err());
    assert!(barrier.is_broken());
}

/// {lock_tests Barrier test_reset}: those that wait get an error; it is not broken.
#[test]
fn test_reset() {
    fn check<S: Sharing>(barrier: &Barrier<S>) {
        scope(|scope| {
            let waiting = [(); 2].map(|()| scope.spawn(|| barrier.wait()));
            settle();
            barrier.reset();
            for waiting in waiting {
                waiting.join().unwrap().unwrap_err();
            }
            assert!(!barrier.is_broken());
            let all = [(); 3].map(|()| scope.spawn(|| barrier.wait()));
            for one in all {
                one.join().unwrap().unwrap();
            }
        });
    }
    check(&Barrier::new(3));
    check(&Barrier::shared(3));
}

/// {lock_tests Barrier test_abort_and_reset}
#[test]
fn test_abort_and_reset() {
    let barrier = Barrier::new(2);
    barrier.wait_timeout(Duration::ZERO).unwrap_err();
    barrier.wait().unwrap_err();
    barrier.reset();
    assert!(!barrier.is_broken());
    scope(|scope| {
        let other = scope.spawn(|| barrier.wait().unwrap());
        assert_ne!(barrier.wait().unwrap(), other.join().unwrap(), "one of them leads");
    });
}

/// One that is killed after the round was completed has not given up: nothing is broken.
#[test]
fn a_kill_after_the_round_was_completed() {
    fn check<S: Sharing>(barrier: &Barrier<S>) {
        scope(|scope| {
            let dying = scope.spawn(|| barrier.wait());
            settle();
            dying.coroutine().kill();
            barrier.wait().unwrap();
            assert!(matches!(dying.join(), Err(JoinError::Killed)));
        });
        assert!(!barrier.is_broken());
    }
    check(&Barrier::new(2));
    check(&Barrier::shared(2));
}

/// Nor one that is killed after the barrier was reset: that has ended its wait.
#[test]
fn a_kill_after_the_reset() {
    fn check<S: Sharing>(barrier: &Barrier<S>) {
        scope(|scope| {
            let dying = scope.spawn(|| barrier.wait());
            settle();
            dying.coroutine().kill();
            barrier.reset();
            assert!(matches!(dying.join(), Err(JoinError::Killed)));
        });
        assert!(!barrier.is_broken(), "it was reset after the kill was under way");
    }
    check(&Barrier::new(2));
    check(&Barrier::shared(2));
}

/// A holder may catch its kill, and go on with what it holds.
#[test]
fn a_holder_that_catches_its_kill() {
    let mutex = Mutex::new(0);
    let log = RefCell::new(Vec::new());
    scope(|scope| {
        let holder = scope.spawn(|| {
            let mut value = mutex.lock().unwrap();
            let exit = catch_unwind(AssertUnwindSafe(|| sleep(LONG))).unwrap_err();
            assert!(exit.is::<GreenletExit>());
            *value += 1;
            yield_now();
            log.borrow_mut().push("done");
        });
        settle();
        holder.coroutine().kill();
        assert_eq!(*mutex.lock().unwrap(), 1);
        assert_eq!(*log.borrow(), ["done"]);
        holder.join().unwrap();
    });
}

/// Python's condition over its default lock: all levels are given up while it waits, and taken again.
#[test]
fn a_condvar_releases_all_levels_of_a_reentrant_lock() {
    fn check<S: Sharing>(lock: &RLock<S>, condvar: &Condvar<S>) {
        let (ready, log) = (Cell::new(false), Log::new());
        scope(|scope| {
            scope.spawn(|| {
                let _outer = lock.lock();
                lock.acquire();
                let mut inner = lock.lock();
                while !ready.get() {
                    inner = condvar.wait_reentrant(inner);
                    log.add(format!("woken at depth {}", lock.depth()));
                }
                drop(inner);
                lock.release().unwrap();
                assert_eq!(lock.depth(), 1);
            });
            yield_now();
            let held = lock.try_lock().expect("it is free at all levels");
            condvar.notify_one();
            yield_now();
            log.add("still held by the notifier");
            ready.set(true);
            drop(held);
        });
        assert_eq!(log.take(), ["still held by the notifier", "woken at depth 3"]);
        assert_eq!(lock.depth(), 0);
        assert!(lock.try_lock().is_some());
    }
    check(&RLock::new(), &Condvar::new());
    check(&RLock::shared(), &Condvar::shared());
}

#[test]
fn a_condvar_over_a_reentrant_lock_keeps_its_limit() {
    let (lock, condvar) = (RLock::new(), Condvar::new());
    let outer = lock.lock();
    let start = Instant::now();
    let (inner, result) = condvar.wait_reentrant_timeout(lock.lock(), SHORT);
    assert!(result.timed_out() && start.elapsed() >= SHORT);
    assert_eq!(lock.depth(), 2);
    drop((outer, inner));
    assert!(lock.try_lock().is_some());
}

/// Killed while it waits: the lock is not held, its guards do no harm, and its notification goes on.
#[test]
fn one_that_is_killed_in_a_condvar_over_a_reentrant_lock() {
    fn check<S: Sharing>(lock: &RLock<S>, condvar: &Condvar<S>) {
        let log = Log::new();
        scope(|scope| {
            let wait = |name: &'static str| {
                let _outer = lock.lock();
                drop(condvar.wait_reentrant(lock.lock()));
                log.add(name);
            };
            let killed = scope.spawn(move || wait("killed"));
            scope.spawn(move || wait("other"));
            settle();
            let held = lock.lock();
            condvar.notify_one();
            yield_now();
            killed.coroutine().kill();
            assert!(matches!(killed.join(), Err(JoinError::Killed)));
            assert_eq!(lock.depth(), 1, "it is the notifier's");
            drop(held);
        });
        assert_eq!(log.take(), ["other"]);
        assert!(lock.try_lock().is_some());
    }
    check(&RLock::new(), &Condvar::new());
    check(&RLock::shared(), &Condvar::shared());
}

/// A guard that came from another coroutine says nothing about the one that waits.
#[test]
fn a_condvar_refuses_the_guard_of_another_coroutine() {
    let (lock, condvar) = (RLock::new(), Condvar::new());
    scope(|scope| {
        let guard = scope.spawn(|| lock.lock()).join().unwrap();
        let said = crate::support::panic_message(|| condvar.wait_reentrant(guard));
        assert!(said.contains("the current coroutine does not hold the lock"), "{said}");
    });
    assert!(lock.try_lock().is_some(), "the guard was dropped");
}

/// A greenlet made by hand waits for a lock, and works for another coroutine by the time that it has it: the lock is
/// of that one, and is given up with the guard.
#[test]
fn a_lock_again_that_is_taken_for_another_by_the_time_it_is_had_is_given_up() {
    let lock = Rc::new(RLock::new());
    let held = lock.lock();
    let made: Rc<RefCell<Option<Greenlet<(), ()>>>> = Rc::default();
    let (inside, slot) = (Rc::clone(&lock), Rc::clone(&made));
    let maker = spawn(move || {
        let waits = Greenlet::new(move |()| drop(inside.lock()));
        slot.replace(Some(waits.clone()));
        waits.switch(());
    });
    yield_now();
    let waits = made.take().unwrap();
    waits.set_parent(&current()).unwrap();
    drop(held);
    sleep(Duration::from_millis(1));
    assert!(waits.is_dead());
    let other = Rc::clone(&lock);
    assert!(spawn(move || other.try_lock().is_some()).join().unwrap());
    maker.kill();
    assert!(maker.join().is_err());
}
