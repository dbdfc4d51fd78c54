//! Time limits: which one passes, and when.

use crate::support::{LONG, Log, compute, ms, payload_of};
use std::cell::Cell;
use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};
use switchgrass::coroutine::{block_on, iwait, join_all, kill_all, scope};
use switchgrass::{
    Elapsed, Generator, Greenlet, JoinHandle, greenlet, sleep, spawn, timeout, yield_now,
};

/// {test_expires}: what it limits is unwound; the limit is kept.
#[test]
fn test_expires() {
    let log = Log::new();
    let start = Instant::now();
    let result = timeout(ms(10), || {
        let _guard = log.guard("unwound");
        sleep(LONG);
        log.add("not reached");
    });
    let error = result.unwrap_err();
    assert!(start.elapsed() >= ms(10));
    assert_eq!(error.limit(), ms(10));
    assert_eq!(error.to_string(), "the time limit of 10ms has passed");
    assert_eq!(log.take(), ["unwound"]);
}

/// {test_cancel}: left in time, it is gone.
#[test]
fn test_cancel() {
    assert_eq!(timeout(ms(5), || 7), Ok(7));
    let panicked = payload_of(|| timeout(ms(5), || panic!("expected")));
    assert_eq!(panicked.downcast_ref(), Some(&"expected"));
    sleep(ms(20));
    assert_eq!(timeout(LONG, yield_now), Ok(()));
    sleep(ms(20));
}

/// {test_api}: a limit that never passes, or cannot be said in what the clock has.
#[test]
fn a_limit_that_never_passes() {
    assert_eq!(timeout(Duration::MAX, || sleep(ms(1))), Ok(()));
    assert_eq!(timeout(LONG, || sleep(ms(1))), Ok(()));
}

/// A limit of zero passes where `f` waits first; without a wait it does not.
#[test]
fn a_limit_of_zero() {
    assert_eq!(timeout(ms(0), || 5), Ok(5));
    assert!(timeout(ms(0), || sleep(ms(1))).is_err());
    assert!(timeout(ms(0), || sleep(LONG)).is_err());
    let stuck = spawn(|| sleep(LONG));
    assert!(timeout(ms(0), || stuck.wait_end(None)).is_err());
    assert!(stuck.kill_wait(None));
}

/// {test_nested_timeout}, 1: the outer one is shorter; the inner one is unwound with the rest, and
/// does not pass later.
#[test]
fn test_nested_timeout_outer() {
    let log = Log::new();
    let start = Instant::now();
    let result = timeout(ms(10), || {
        let inner = timeout(ms(30), || sleep(LONG));
        log.add(format!("inner {inner:?}"));
    });
    assert_eq!(result.unwrap_err().limit(), ms(10));
    assert!(log.take().is_empty());
    sleep(ms(40));
    assert!(start.elapsed() >= ms(50));
}

/// {test_nested_timeout}, 2: the inner one is shorter; the outer one is as it was, and passes
/// later.
#[test]
fn test_nested_timeout_inner() {
    let start = Instant::now();
    let result = timeout(ms(60), || -> () {
        let inner = timeout(ms(10), || sleep(LONG));
        assert_eq!(inner.unwrap_err().limit(), ms(10));
        assert!(start.elapsed() >= ms(10));
        sleep(LONG);
        unreachable!("the outer limit passes");
    });
    assert_eq!(result.unwrap_err().limit(), ms(60));
    assert!(start.elapsed() >= ms(60));
}

/// {test_nested_timeout}, 3: three of them, the middle one of which is first; and each ends its
/// own, even if they are equal.
#[test]
fn test_nested_timeout_middle() {
    let middle = timeout(LONG, || {
        timeout(ms(10), || {
            let inner = timeout(ms(40), || sleep(LONG));
            unreachable!("unwound: {inner:?}");
        })
    });
    assert!(matches!(middle, Ok(Err::<(), Elapsed>(_))));
    // The outer one has begun before.
    let outer = timeout(ms(10), || timeout(ms(10), || sleep(LONG)));
    assert!(outer.is_err());
}

/// Both have passed when the coroutine is looked at: the inner one was first, and is raised first;
/// the outer one where it waits next, or not at all.
#[test]
fn both_have_passed() {
    let nested = |then: fn()| {
        timeout(ms(40), || {
            let inner = timeout(ms(2), || {
                let computes = spawn(|| compute(ms(60)));
                sleep(LONG);
                drop(computes);
            });
            assert!(inner.is_err());
            then();
            "no wait"
        })
    };
    assert_eq!(nested(|| ()), Ok("no wait"));
    // It is gone, although it had passed.
    sleep(ms(1));
    yield_now();
    assert!(nested(|| sleep(LONG)).is_err());
    sleep(ms(1));
}

/// {test_outer_timeout_is_not_lost}: whatever waits for a limit of its own lets an outer one
/// through.
#[test]
fn test_outer_timeout_is_not_lost() {
    fn passes<R>(what: &str, f: impl FnOnce() -> R) {
        let start = Instant::now();
        assert!(timeout(ms(5), || drop(f())).is_err(), "{what}");
        assert!(start.elapsed() >= ms(5), "{what}");
    }
    let stuck = || -> JoinHandle<()> { spawn(|| sleep(LONG)) };
    let mut kept = stuck();
    let one = kept.coroutine();
    passes("sleep", || sleep(LONG));
    passes("sleep for ever", || sleep(Duration::MAX));
    passes("join", || stuck().join().unwrap());
    passes("join_timeout", || kept.join_timeout(LONG));
    passes("wait_end", || one.wait_end(None));
    passes("wait_end with a limit", || one.wait_end(Some(LONG)));
    passes("iwait", || iwait([one.clone()]).next());
    passes("iwait with a limit", || iwait([one.clone()]).limit(LONG).next());
    passes("join_all", || drop(join_all([stuck(), stuck()])));
    passes("block_on", || block_on(pending::<()>()));
    passes("yield_now", || {
        loop {
            yield_now();
        }
    });
    passes("timeout", || timeout(LONG, || sleep(LONG)));
    passes("a scope", || scope(|scope| drop(scope.spawn(|| sleep(LONG)))));
    passes("a generator", || {
        Generator::<()>::new(|_| sleep(LONG)).next();
    });
    passes("a greenlet", || Greenlet::new(|()| sleep(LONG)).switch(()));
    let stubborn = || {
        let handle = spawn(|| catch_unwind(|| sleep(LONG)).unwrap_or_else(|_| sleep(ms(20))));
        yield_now();
        handle
    };
    passes("kill_wait", || stubborn().kill_wait(None));
    passes("kill_all", || kill_all([stubborn().coroutine()], Some(LONG)));
}

/// {test__sleep0}: it passes in one that never does more than yield, alone or not.
#[test]
fn it_passes_in_a_spin() {
    let spin = || -> () {
        loop {
            yield_now();
        }
    };
    let alone = timeout(ms(10), spin);
    assert!(alone.is_err());
    let other = spawn(spin);
    let together = timeout(ms(10), spin);
    assert!(together.is_err());
    assert!(other.kill_wait(None));
}

/// It passes while the coroutine waits. If it computes, then where it waits next.
#[test]
fn it_passes_at_the_first_wait() {
    let log = Log::new();
    let result = timeout(ms(5), || {
        compute(ms(20));
        log.add("computed");
        sleep(LONG);
        log.add("not reached");
    });
    assert!(result.is_err());
    let result = timeout(ms(5), || {
        compute(ms(20));
        "no wait"
    });
    assert_eq!(result, Ok("no wait"));
    // A wait that is shorter than what has been computed is a wait as well.
    assert!(
        timeout(ms(5), || {
            compute(ms(20));
            sleep(ms(1));
        })
        .is_err()
    );
    assert_eq!(log.take(), ["computed"]);
}

/// The limit of a generator's body passes while the body has yielded: it is not raised in the consumer, which has
/// none, but where the body next waits.
#[test]
fn a_limit_of_a_generator_that_has_yielded_is_not_its_consumers() {
    let mut generator = Generator::new(|y| {
        let result = timeout(ms(5), || {
            y.yield_(None);
            sleep(LONG);
        });
        y.yield_(Some(result.is_err()));
    });
    assert_eq!(generator.next(), Some(None));
    sleep(ms(20));
    assert_eq!(generator.next(), Some(Some(true)));
    assert_eq!(generator.next(), None);
}

/// Many quick turns, so that the clock is looked at rarely.
fn turn_quickly() {
    let other = spawn(|| (0..1000).for_each(|_| yield_now()));
    (0..1000).for_each(|_| yield_now());
    other.join().unwrap();
}

/// However quick the turns before were: one that takes long is noticed at its end.
#[test]
fn a_long_turn_after_quick_ones_delays_a_limit_by_one_turn() {
    for _ in 0..5 {
        turn_quickly();
        let turns = Cell::new(0);
        let result: Result<(), Elapsed> = timeout(ms(1), || {
            loop {
                compute(ms(3));
                turns.set(turns.get() + 1);
                yield_now();
            }
        });
        assert!(result.is_err());
        assert!(turns.get() <= 2, "{} turns of 3 ms", turns.get());
    }
}

/// The same for a coroutine that sleeps, beside one that computes in turns.
#[test]
fn long_turns_after_quick_ones_delay_a_sleeper_by_one_turn() {
    for _ in 0..5 {
        turn_quickly();
        let sleeper = spawn(|| sleep(ms(1)));
        turn_quickly();
        let mut turns = 0;
        while !sleeper.is_finished() {
            compute(ms(3));
            turns += 1;
            yield_now();
        }
        assert!(turns <= 2, "{turns} turns of 3 ms");
    }
}

/// {test_timeout_calls_update_now}: what was computed before does not shorten it.
#[test]
fn test_timeout_calls_update_now() {
    sleep(ms(1));
    compute(ms(60));
    assert_eq!(timeout(ms(50), || sleep(ms(1))), Ok(()));
    compute(ms(60));
    let start = Instant::now();
    assert!(timeout(ms(20), || sleep(LONG)).is_err());
    assert!(start.elapsed() >= ms(20));
}

/// Code that catches everything and raises it again lets it through, to the limit that it is of.
#[test]
fn code_that_catches_and_raises_again() {
    let log = Log::new();
    let tidy = |name: &str| {
        let caught = catch_unwind(AssertUnwindSafe(|| sleep(LONG))).unwrap_err();
        log.add(name);
        sleep(ms(1));
        resume_unwind(caught);
    };
    let outer: Result<(), _> = timeout(ms(10), || {
        let inner = timeout(LONG, || tidy("outer passes"));
        unreachable!("unwound: {inner:?}");
    });
    assert!(outer.is_err());
    let inner = timeout(LONG, || timeout(ms(10), || tidy("inner passes")));
    assert!(matches!(inner, Ok(Err::<(), _>(_))));
    assert_eq!(log.take(), ["outer passes", "inner passes"]);
}

/// Code that catches it and does not raise it again has kept it from passing: it comes once.
#[test]
fn code_that_catches_and_goes_on() {
    let result = timeout(ms(5), || {
        payload_of(|| sleep(LONG));
        sleep(ms(20));
        "goes on"
    });
    assert_eq!(result, Ok("goes on"));
}

/// It is the one of the coroutine that has set it: others do not notice, and what is spawned inside
/// is not limited.
#[test]
fn it_is_of_one_coroutine() {
    let limited = spawn(move || {
        let child = spawn(|| sleep(LONG));
        let result = timeout(ms(5), || child.wait_end(None));
        assert!(result.is_err());
        child
    });
    let start = Instant::now();
    sleep(ms(20));
    assert!(start.elapsed() >= ms(20));
    let child = limited.join().unwrap();
    assert!(!child.is_finished());
    assert!(child.kill_wait(None));
    assert_eq!(greenlet::live_count(), 0);
}

/// It passes in a generator, where its own body has set it, or whoever asks.
#[test]
fn it_passes_in_a_generator() {
    let own = Generator::new(|y| {
        y.yield_(timeout(ms(5), || sleep(LONG)).is_err());
        y.yield_(timeout(LONG, || sleep(ms(1))).is_err());
    });
    assert_eq!(own.collect::<Vec<_>>(), [true, false]);
    let log = Log::new();
    let guard = log.guard("unwound");
    let mut numbers = Generator::new(move |y| {
        y.yield_(1);
        let _guard = guard;
        sleep(LONG);
        y.yield_(2);
    });
    assert_eq!(timeout(ms(5), || numbers.next()), Ok(Some(1)));
    assert!(timeout(ms(5), || numbers.next()).is_err());
    assert_eq!(log.take(), ["unwound"]);
    assert_eq!(numbers.next(), None);
}

/// Many at once, each for its own coroutine, and most of them in time.
#[test]
fn a_thousand_limits() {
    let all: Vec<_> = (0..1000_u64)
        .map(|number| {
            spawn(move || {
                let is_slow = number % 10 == 0;
                let limit = if is_slow { ms(5 + number % 7) } else { LONG };
                let wait = if is_slow { LONG } else { ms(number % 13) };
                let start = Instant::now();
                let result = timeout(limit, || sleep(wait));
                assert_eq!(result.is_err(), is_slow);
                assert!(start.elapsed() >= limit.min(wait));
            })
        })
        .collect();
    assert!(join_all(all).iter().all(Result::is_ok));
}

/// A destructor that waits, while a limit unwinds: another limit that passes meanwhile is not lost,
/// and does not disturb the destructor.
#[test]
fn a_limit_that_passes_in_a_destructor() {
    struct Slow(Log);
    impl Drop for Slow {
        fn drop(&mut self) {
            let start = Instant::now();
            sleep(ms(80));
            self.0.add(start.elapsed() >= ms(80));
        }
    }
    let log = Log::new();
    let outer: Result<(), _> = timeout(ms(50), || {
        let inner = timeout(ms(5), || {
            let _slow = Slow(log.clone());
            sleep(LONG);
        });
        log.add(inner.is_err());
        sleep(LONG);
        unreachable!("the outer limit passes");
    });
    assert!(outer.is_err());
    assert_eq!(log.take(), ["true", "true"]);
}
