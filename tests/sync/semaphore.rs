//! Semaphores.

use crate::support::Log;
use crate::{LONG, SHORT, settle};
use std::cell::Cell;
use std::time::{Duration, Instant};
use switchgrass::coroutine::scope;
use switchgrass::sync::{BoundedSemaphore, Semaphore, Sharing};
use switchgrass::{JoinError, yield_now};

/// {test_acquire_returns_false_after_timeout, lock_tests test_acquire_timeout}
#[test]
fn test_acquire_returns_false_after_timeout() {
    fn check<S: Sharing>(semaphore: &Semaphore<S>) {
        let start = Instant::now();
        assert!(!semaphore.acquire_timeout(SHORT));
        assert!(start.elapsed() >= SHORT);
        assert!(!semaphore.acquire_timeout(Duration::ZERO));
        semaphore.release();
        assert!(semaphore.acquire_timeout(Duration::ZERO));
        assert_eq!((semaphore.permits(), semaphore.waiting()), (0, 0));
    }
    check(&Semaphore::new(0));
    check(&Semaphore::shared(0));
}

/// {test_release_twice}: two permits, for two that wait.
#[test]
fn test_release_twice() {
    fn check<S: Sharing>(semaphore: &Semaphore<S>) {
        let log = Log::new();
        scope(|scope| {
            for name in ["a", "b"] {
                let log = &log;
                scope.spawn(move || {
                    semaphore.acquire();
                    log.add(name);
                });
            }
            settle();
            assert_eq!(semaphore.waiting(), 2);
            semaphore.release();
            semaphore.release();
            assert!(log.take().is_empty());
        });
        assert_eq!(log.take(), ["a", "b"]);
        assert_eq!((semaphore.permits(), semaphore.waiting()), (0, 0));
    }
    check(&Semaphore::new(0));
    check(&Semaphore::shared(0));
}

/// {lock_tests test_acquire, test_acquire_destroy, test_try_acquire}
#[test]
fn test_acquire() {
    let semaphore = Semaphore::new(2);
    semaphore.acquire();
    assert!(semaphore.try_acquire());
    assert!(!semaphore.try_acquire());
    semaphore.release();
    assert!(semaphore.try_acquire());
    drop(semaphore);
    Semaphore::new(0).release();
}

/// {lock_tests test_acquire_contended}: seven permits of ten are given to ten that wait, then the
/// others.
#[test]
fn test_acquire_contended() {
    fn check<S: Sharing>(semaphore: &Semaphore<S>) {
        let done = Cell::new(0);
        scope(|scope| {
            for _ in 0..5 {
                scope.spawn(|| {
                    for _ in 0..2 {
                        semaphore.acquire();
                        done.set(done.get() + 1);
                    }
                });
            }
            settle();
            assert_eq!(done.get(), 6);
            for _ in 0..3 {
                semaphore.release();
            }
            settle();
            assert_eq!((done.get(), semaphore.waiting()), (9, 1));
            semaphore.release();
        });
        assert_eq!((done.get(), semaphore.permits()), (10, 0));
    }
    check(&Semaphore::new(6));
    check(&Semaphore::shared(6));
}

/// {lock_tests test_try_acquire_contended}
#[test]
fn test_try_acquire_contended() {
    let semaphore = Semaphore::new(3);
    let results = scope(|scope| {
        let all: Vec<_> = (0..5)
            .map(|_| {
                scope.spawn(|| {
                    let has = semaphore.try_acquire();
                    yield_now();
                    has
                })
            })
            .collect();
        all.into_iter().map(|one| one.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(results, [true, true, true, false, false]);
}

/// More permits than in the beginning.
#[test]
fn release_beyond_the_initial_value() {
    let semaphore = Semaphore::new(1);
    semaphore.release();
    semaphore.release();
    assert_eq!(semaphore.permits(), 3);
    for _ in 0..3 {
        semaphore.acquire();
    }
    assert!(!semaphore.try_acquire());
}

/// {TestSemaphoreFair test_fair_or_hangs}: two pass it to and fro, and a third gets it all the
/// same.
#[test]
fn test_fair_or_hangs() {
    fn check<S: Sharing>(semaphore: &Semaphore<S>) {
        let keep_going = Cell::new(true);
        let rounds = Cell::new(0);
        scope(|scope| {
            let to_and_fro = || {
                while keep_going.get() {
                    semaphore.acquire();
                    rounds.set(rounds.get() + 1);
                    yield_now();
                    semaphore.release();
                }
            };
            scope.spawn(to_and_fro);
            scope.spawn(to_and_fro);
            settle();
            scope.spawn(|| {
                semaphore.acquire();
                keep_going.set(false);
                semaphore.release();
            });
            let before = rounds.get();
            while keep_going.get() {
                yield_now();
                assert!(rounds.get() <= before + 2, "overtaken more than once by each");
            }
        });
        assert_eq!((semaphore.permits(), semaphore.waiting()), (1, 0));
    }
    check(&Semaphore::new(1));
    check(&Semaphore::shared(1));
}

/// Releasing and acquiring again at once does not overtake those that wait: it was handed over.
#[test]
fn a_release_hands_over() {
    fn check<S: Sharing>(semaphore: &Semaphore<S>) {
        let log = Log::new();
        scope(|scope| {
            for name in ["a", "b"] {
                let log = &log;
                scope.spawn(move || {
                    for _ in 0..3 {
                        semaphore.acquire();
                        log.add(name);
                        semaphore.release();
                    }
                });
            }
            semaphore.acquire();
            settle();
            semaphore.release();
            assert!(!semaphore.try_acquire(), "it is the first one's already");
        });
        assert_eq!(log.take(), ["a", "b", "a", "b", "a", "b"]);
        assert_eq!(semaphore.permits(), 1);
    }
    check(&Semaphore::new(1));
    check(&Semaphore::shared(1));
}

/// A permit that one has been given and does not live to use goes to the next.
#[test]
fn two_waiters_one_dies() {
    fn check<S: Sharing>(semaphore: &Semaphore<S>) {
        for kill_first in [true, false] {
            scope(|scope| {
                let [dying, waiting] = [(); 2].map(|()| scope.spawn(|| semaphore.acquire()));
                settle();
                if kill_first {
                    dying.coroutine().kill();
                    semaphore.release();
                    assert!(matches!(dying.join(), Err(JoinError::Killed)));
                    waiting.join().unwrap();
                } else {
                    // Then it runs before it is killed, and has its permit.
                    semaphore.release();
                    dying.coroutine().kill();
                    dying.join().unwrap();
                    assert!(!waiting.coroutine().is_finished());
                    semaphore.release();
                    waiting.join().unwrap();
                }
                assert_eq!((semaphore.permits(), semaphore.waiting()), (0, 0));
            });
        }
    }
    check(&Semaphore::new(0));
    check(&Semaphore::shared(0));
}

/// The limit passes and the permit comes in the same turn: either it has the permit, or it is still
/// there.
#[test]
fn a_limit_that_passes_in_the_turn_of_the_release() {
    fn check<S: Sharing>(semaphore: &Semaphore<S>) {
        for release_first in [true, false] {
            let has = scope(|scope| {
                let waiting = scope.spawn(|| semaphore.acquire_timeout(SHORT));
                settle();
                let start = Instant::now();
                if release_first {
                    semaphore.release();
                }
                while start.elapsed() < SHORT {
                    std::hint::spin_loop();
                }
                if !release_first {
                    semaphore.release();
                }
                waiting.join().unwrap()
            });
            assert!(has, "it was handed over while it waited");
            assert_eq!((semaphore.permits(), semaphore.waiting()), (0, 0));
        }
    }
    check(&Semaphore::new(0));
    check(&Semaphore::shared(0));
}

/// One in the middle gives up: the others keep their places.
#[test]
fn order_of_those_that_are_left() {
    fn check<S: Sharing>(semaphore: &Semaphore<S>) {
        let log = Log::new();
        scope(|scope| {
            let all: Vec<_> = (0..5)
                .map(|number| {
                    let log = &log;
                    scope.spawn(move || {
                        semaphore.acquire();
                        log.add(number);
                    })
                })
                .collect();
            settle();
            all[1].coroutine().kill();
            all[3].coroutine().kill();
            settle();
            assert_eq!(semaphore.waiting(), 3);
            for _ in 0..3 {
                semaphore.release();
            }
        });
        assert_eq!(log.take(), ["0", "2", "4"]);
    }
    check(&Semaphore::new(0));
    check(&Semaphore::shared(0));
}

/// {lock_tests test_release_unacquired}
#[test]
fn test_release_unacquired() {
    fn check<S: Sharing>(semaphore: &BoundedSemaphore<S>) {
        semaphore.release().unwrap_err();
        semaphore.acquire();
        assert!(semaphore.try_acquire() && !semaphore.try_acquire());
        semaphore.release().unwrap();
        assert!(semaphore.acquire_timeout(SHORT));
        assert!(!semaphore.acquire_timeout(SHORT));
        semaphore.release().unwrap();
        semaphore.release().unwrap();
        let error = semaphore.release().unwrap_err();
        assert_eq!(error.to_string(), "the semaphore was released more often than it was acquired");
        assert_eq!(semaphore.permits(), 2);
    }
    check(&BoundedSemaphore::new(2));
    check(&BoundedSemaphore::shared(2));
}

/// Of a bounded one a killed waiter neither takes nor adds a permit.
#[test]
fn a_bounded_one_with_waiters_that_die() {
    fn check<S: Sharing>(semaphore: &BoundedSemaphore<S>) {
        semaphore.acquire();
        scope(|scope| {
            let [early, same_turn, patient] = [(); 3].map(|()| scope.spawn(|| semaphore.acquire()));
            settle();
            early.coroutine().kill_wait(None);
            same_turn.coroutine().kill();
            semaphore.release().unwrap();
            assert!(matches!(same_turn.join(), Err(JoinError::Killed)));
            patient.join().unwrap();
        });
        semaphore.release().unwrap();
        semaphore.release().unwrap_err();
        assert_eq!(semaphore.permits(), 1);
    }
    check(&BoundedSemaphore::new(1));
    check(&BoundedSemaphore::shared(1));
}

/// {lock_tests test_multirelease}, of one that many wait for with limits.
#[test]
fn test_multirelease() {
    let semaphore = Semaphore::new(0);
    let got = scope(|scope| {
        let all: Vec<_> =
            (0..7).map(|_| scope.spawn(|| semaphore.acquire_timeout(4 * SHORT))).collect();
        settle();
        for _ in 0..5 {
            semaphore.release();
        }
        all.into_iter().map(|one| one.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(got, [true, true, true, true, true, false, false]);
    assert!(!semaphore.acquire_timeout(Duration::ZERO));
    semaphore.release();
    assert!(semaphore.acquire_timeout(LONG));
}

/// It used to wrap to none, in release builds.
#[test]
fn one_permit_too_many_is_refused_in_every_build() {
    fn check<S: Sharing>(semaphore: &Semaphore<S>) {
        let said = crate::support::panic_message(|| semaphore.release());
        assert!(said.contains("cannot release a permit"), "{said}");
        assert_eq!(semaphore.permits(), usize::MAX);
        semaphore.acquire();
        semaphore.release();
        assert_eq!(semaphore.permits(), usize::MAX);
    }
    check(&Semaphore::new(usize::MAX));
    check(&Semaphore::shared(usize::MAX));
    let bounded = switchgrass::sync::BoundedSemaphore::new(usize::MAX);
    bounded.release().expect_err("it was not acquired");
    bounded.acquire();
    bounded.release().unwrap();
    assert_eq!(bounded.permits(), usize::MAX);
}
