//! Pools: so many at a time.

use crate::support::{LONG, Log, brief, message, ms, panic_message};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant};
use switchgrass::pool::Pool;
use switchgrass::sync::Event;
use switchgrass::{JoinError, sleep, spawn, timeout, yield_now};

/// {TestPool, TestPool2, TestPool3, TestPool10}
const SIZES: [usize; 4] = [1, 2, 3, 10];

/// Reproducibly all sorts of numbers below `limit`.
fn random(seed: u64, limit: u64) -> u64 {
    seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407) % limit
}

/// Waits for an event that is never set.
fn block() {
    sleep(LONG);
}

// --------------------------------------------------------------------------------------- basics

/// {test_execute_async}: two run, the third waits until one has ended.
#[test]
fn test_execute_async() {
    let (pool, log) = (Pool::new(2), Log::new());
    let job = |name: &'static str| {
        let log = log.clone();
        move || {
            log.add(format!("{name} begins"));
            yield_now();
            log.add(format!("{name} ends"));
        }
    };
    assert_eq!((pool.size(), pool.free(), pool.len()), (2, 2, 0));
    pool.spawn(job("a"));
    pool.spawn(job("b"));
    assert_eq!((pool.size(), pool.free(), pool.len()), (2, 0, 2));
    log.add("full");
    pool.spawn(job("c"));
    log.add("there is room");
    pool.join();
    assert_eq!((pool.free(), pool.len()), (2, 0));
    let expected =
        ["full", "a begins", "b begins", "a ends", "b ends", "there is room", "c begins", "c ends"];
    assert_eq!(log.take(), expected);
}

#[test]
fn counts() {
    let (pool, event) = (Pool::new(3), Rc::new(Event::new()));
    let members: Vec<_> = (1..=3)
        .map(|number| {
            let event = Rc::clone(&event);
            let member = pool.spawn(move || event.wait());
            assert_eq!((pool.free(), pool.len(), pool.size()), (3 - number, number, 3));
            assert!(pool.contains(&member) && !pool.is_empty());
            member
        })
        .collect();
    assert_eq!(format!("{pool:?}"), "Pool { size: 3, len: 3, .. }");
    event.set();
    pool.join();
    assert!(pool.is_empty() && pool.free() == 3);
    assert!(members.iter().all(|member| member.is_finished() && !pool.contains(member)));
}

/// {TestPool0}: here it is an error from the start.
#[test]
fn test_pool0() {
    assert!(panic_message(|| Pool::new(0)).contains("at least 1, got 0"));
}

/// {test_add_method_non_blocking}: the body comes back.
#[test]
fn test_add_method_non_blocking() {
    let pool = Pool::new(1);
    let member = pool.try_spawn(|| 1).ok().expect("there is room");
    let Err(body) = pool.try_spawn(|| 2) else { panic!("there is none") };
    assert_eq!((pool.len(), body()), (1, 2));
    assert_eq!(member.join().unwrap(), 1);
    assert_eq!(pool.try_spawn(|| 3).ok().expect("there is room").join().unwrap(), 3);
}

/// {test_add_method_timeout, test_start_method_timeout}
#[test]
fn test_add_method_timeout() {
    let (pool, event) = (Pool::new(1), Rc::new(Event::new()));
    let waiting = Rc::clone(&event);
    pool.spawn(move || waiting.wait());
    let start = Instant::now();
    let Err(body) = pool.spawn_timeout(|| 2, ms(3)) else { panic!("there is no room") };
    assert!(start.elapsed() >= ms(3) && body() == 2);
    assert!(pool.spawn_timeout(|| 2, Duration::ZERO).is_err());
    event.set();
    // A limit of zero lets the others run: one ends, and there is room.
    let member = pool.spawn_timeout(|| 3, Duration::ZERO).ok().expect("there is room by then");
    assert_eq!(member.join().unwrap(), 3);
    assert_eq!((pool.free(), pool.len()), (1, 0));
}

/// {TestSpawn.test}: who spawns waits, and so many wait in order.
#[test]
fn those_who_wait_for_room_come_in_order() {
    let (pool, log) = (Pool::new(1), Log::new());
    let spawners: Vec<_> = (0..4)
        .map(|number| {
            let (pool, log) = (pool.clone(), log.clone());
            spawn(move || {
                let inside = log.clone();
                pool.spawn(move || {
                    inside.add(format!("{number} runs"));
                    yield_now();
                });
                log.add(format!("{number} spawned"));
            })
        })
        .collect();
    spawners.into_iter().for_each(|spawner| spawner.join().unwrap());
    pool.join();
    let expected = [
        "0 spawned",
        "0 runs",
        "1 spawned",
        "1 runs",
        "2 spawned",
        "2 runs",
        "3 spawned",
        "3 runs",
    ];
    assert_eq!(log.take(), expected);
}

/// {TestSpawn.testSpawnAndWait}: a limit around `spawn` leaves the room as it was.
#[test]
fn test_spawn_and_wait() {
    let pool = Pool::new(1);
    let member = pool.spawn(block);
    assert!(timeout(ms(2), || pool.spawn(|| ())).is_err());
    let killed = spawn({
        let pool = pool.clone();
        move || drop(pool.spawn(|| ()))
    });
    yield_now();
    assert!(killed.kill_wait(None));
    assert_eq!((pool.len(), pool.free()), (1, 0));
    assert!(member.kill_wait(None));
    assert_eq!((pool.len(), pool.free()), (0, 1));
    pool.spawn(|| ()).join().unwrap();
}

/// One that has been given its place, and is killed before it has used that, gives it to the next.
#[test]
fn a_place_is_not_lost_with_the_one_it_was_given_to() {
    let (pool, event) = (Pool::new(1), Rc::new(Event::new()));
    let waiting = Rc::clone(&event);
    pool.spawn(move || waiting.wait());
    let spawner = |name: &'static str| {
        let pool = pool.clone();
        spawn(move || pool.spawn(move || name).join().unwrap())
    };
    let (first, second) = (spawner("first"), spawner("second"));
    yield_now();
    // The kill is in the queue before the member's end is.
    first.kill();
    event.set();
    assert!(matches!(first.join(), Err(JoinError::Killed)));
    assert_eq!(second.join().unwrap(), "second");
    assert_eq!((pool.free(), pool.len()), (1, 0));
}

/// A member that was killed before it began frees its place.
#[test]
fn one_killed_before_it_began_frees_its_place() {
    let (pool, log) = (Pool::new(1), Log::new());
    let guard = log.guard("body dropped");
    let member = pool.spawn(move || drop(guard));
    let spawner = spawn({
        let (pool, log) = (pool.clone(), log.clone());
        move || {
            log.add("waits");
            let inside = log.clone();
            pool.spawn(move || inside.add("runs")).join().unwrap();
        }
    });
    member.kill();
    log.add("killed");
    assert_eq!((pool.free(), pool.len()), (1, 0));
    spawner.join().unwrap();
    assert_eq!(log.take(), ["body dropped", "killed", "waits", "runs"]);
    assert!(matches!(member.join(), Err(JoinError::Killed)));
}

/// So does one that fails.
#[test]
fn a_failing_member_frees_its_place() {
    let pool = Pool::new(1);
    let failing = pool.spawn(|| panic!("failing"));
    let next = pool.spawn(|| 1);
    assert_eq!(brief(failing.join().map(|()| 0)), "panicked: failing");
    assert_eq!(next.join().unwrap(), 1);
    assert_eq!(pool.free(), 1);
}

/// {TestJoinSleep}
#[test]
fn test_join_sleep() {
    let pool = Pool::new(10);
    let members = [ms(2), ms(4)].map(|delay| pool.spawn(move || sleep(delay)));
    let start = Instant::now();
    assert!(!pool.join_timeout(Duration::ZERO));
    pool.join();
    assert!(start.elapsed() >= ms(2) && pool.is_empty());
    assert!(members.iter().all(|member| member.is_finished()));
    assert!(pool.join_timeout(LONG));
}

/// {TestJoinEmpty}
#[test]
fn test_join_empty() {
    Pool::new(1).join();
}

/// {test_terminate}: those that are under way end, and so do those that come by it.
#[test]
fn test_terminate() {
    let (pool, log) = (Pool::new(1), Log::new());
    let guard = log.guard("first unwound");
    pool.spawn(move || {
        let _guard = guard;
        block();
    });
    let spawner = spawn({
        let (pool, guard) = (pool.clone(), log.guard("second dropped"));
        move || {
            pool.spawn(move || {
                let _guard = guard;
                block();
            })
        }
    });
    yield_now();
    assert!(pool.kill(None));
    assert!(spawner.is_finished(), "it has got the place of the first");
    assert_eq!(log.take(), ["first unwound", "second dropped"]);
    assert_eq!((pool.free(), pool.len()), (1, 0));
    assert!(pool.kill(Some(Duration::ZERO)));
}

/// A stubborn member is waited for, for so long.
#[test]
fn kill_within_a_limit() {
    let (pool, event) = (Pool::new(2), Rc::new(Event::new()));
    let waiting = Rc::clone(&event);
    pool.spawn(block);
    pool.spawn(move || {
        catch_unwind(AssertUnwindSafe(block)).unwrap_err();
        waiting.wait();
    });
    yield_now();
    assert!(!pool.kill(Some(ms(2))));
    assert_eq!((pool.len(), pool.free()), (1, 1));
    event.set();
    pool.join();
}

// ---------------------------------------------------------------------------------------- apply

/// {test_apply}
#[test]
fn test_apply() {
    for size in SIZES {
        let pool = Pool::new(size);
        let own = switchgrass::coroutine::current();
        let (sum, who) =
            pool.apply(|| (1 + 2, switchgrass::coroutine::current())).expect("it does not fail");
        assert!(sum == 3 && who != own);
        assert_eq!(brief(pool.apply(|| -> u32 { panic!("failing") })), "panicked: failing");
        assert_eq!(pool.free(), size);
    }
}

/// {test_multiple_coros}
#[test]
fn test_multiple_coros() {
    let (pool, event, log) = (Pool::new(2), Rc::new(Event::new()), Log::new());
    let (waiting, inside) = (Rc::clone(&event), log.clone());
    let consumer = pool.spawn(move || {
        inside.add("consumer waits");
        waiting.wait();
        inside.add("consumer goes on");
    });
    let inside = log.clone();
    pool.apply(move || {
        inside.add("producer");
        event.set();
    })
    .unwrap();
    consumer.join().unwrap();
    assert_eq!(log.take(), ["consumer waits", "producer", "consumer goes on"]);
}

/// {test_reentrant}: in one of its own coroutines it runs there and then, so that one is enough.
#[test]
fn test_reentrant() {
    let pool = Pool::new(1);
    let inner = pool.clone();
    let depth = pool.apply(move || {
        let own = switchgrass::coroutine::current();
        let again = inner.clone();
        inner.apply(move || {
            assert!(switchgrass::coroutine::current() == own);
            assert_eq!(again.map(0..3, |n: u32| n + 1).unwrap(), [1, 2, 3]);
            again.apply(|| 3).unwrap()
        })
    });
    assert_eq!(depth.unwrap().unwrap(), 3);

    // A coroutine that a member has spawned is not a member.
    let (one, waiting) = (Pool::new(1), Pool::new(2));
    let inner = one.clone();
    let outcome = waiting.apply(move || inner.apply(|| 4));
    assert_eq!(outcome.unwrap().unwrap(), 4);
}

/// There what it panics with goes through its caller.
#[test]
fn apply_within_panics_through() {
    let pool = Pool::new(1);
    let inner = pool.clone();
    let told = pool.spawn(move || {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            inner.apply(|| -> u32 { std::panic::resume_unwind(Box::new("within")) })
        }));
        message(outcome.expect_err("it panicked"))
    });
    assert_eq!(told.join().unwrap(), "within");
}

/// {test_apply_async}: waits for room only; the callback takes none, and comes after the end.
#[test]
fn test_apply_async() {
    let (pool, log) = (Pool::new(1), Log::new());
    let told: Vec<_> = (0..3)
        .map(|number| {
            let (body, callback) = (log.clone(), log.clone());
            let told = pool.apply_async(
                move || {
                    body.add(format!("{number} runs"));
                    assert!(number != 1, "failing");
                    number
                },
                move |result| callback.add(format!("{number} told: {}", brief(result))),
            );
            log.add(format!("{number} spawned"));
            told
        })
        .collect();
    log.add("all spawned");
    told.into_iter().for_each(|told| told.join().unwrap());
    let log = log.take();
    // Each callback comes after its body; bodies come in order.
    let at = |entry: &str| {
        log.iter().position(|there| there == entry).unwrap_or_else(|| panic!("{entry}: {log:?}"))
    };
    assert!(at("0 spawned") < at("0 runs") && at("0 runs") < at("1 spawned"), "{log:?}");
    assert!(at("1 runs") < at("2 spawned") && at("2 spawned") < at("2 runs"), "{log:?}");
    assert!(at("0 runs") < at("0 told: 0"), "{log:?}");
    assert!(at("0 told: 0") < at("1 told: panicked: failing"), "{log:?}");
    assert!(at("1 told: panicked: failing") < at("2 told: 2"), "{log:?}");
    assert_eq!(log.len(), 10);
}

/// Told in the order of the ends, when those differ from that of the spawns.
#[test]
fn callbacks_come_in_the_order_of_the_ends() {
    let (pool, log) = (Pool::new(3), Log::new());
    let told: Vec<_> = [3, 1, 2]
        .map(|turns| {
            let log = log.clone();
            let body = move || (0..turns).for_each(|_| yield_now());
            pool.apply_async(body, move |_| log.add(turns))
        })
        .into();
    assert_eq!(pool.free(), 0);
    pool.join();
    told.into_iter().for_each(|told| told.join().unwrap());
    assert_eq!(log.take(), ["1", "2", "3"]);
}

// ------------------------------------------------------------------------------------------ map

/// {test_map}
#[test]
fn test_map() {
    for size in SIZES {
        let pool = Pool::new(size);
        let (now, most) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let (running, highest) = (Rc::clone(&now), Rc::clone(&most));
        let results = pool.map(0..20, move |n: u64| {
            running.set(running.get() + 1);
            highest.set(highest.get().max(running.get()));
            (0..random(n, 4)).for_each(|_| yield_now());
            running.set(running.get() - 1);
            n * n
        });
        assert_eq!(results.unwrap(), (0..20).map(|n| n * n).collect::<Vec<_>>());
        assert!(most.get() <= size && (size > 1 || most.get() == 1), "{}", most.get());
        assert_eq!(pool.map(0..100, |n: u64| n).unwrap(), (0..100).collect::<Vec<_>>());
        assert_eq!((pool.free(), pool.len()), (size, 0));
    }
}

/// {TestErrorInHandler.test_map}: of several, the first in the order of the items; all have run.
#[test]
fn test_error_in_handler_map() {
    for size in SIZES {
        let (pool, ran) = (Pool::new(size), Rc::new(Cell::new(0)));
        let counter = Rc::clone(&ran);
        let results = pool.map(0..5, move |n: u32| {
            (n..5).for_each(|_| yield_now());
            counter.set(counter.get() + 1);
            assert!(n == 0, "item {n}");
        });
        assert_eq!(brief(results.map(|_| "ok")), "panicked: item 1");
        assert_eq!((ran.get(), pool.free()), (5, size));
    }
}

/// A failing input raises at once, and those go on that have begun.
#[test]
fn map_of_a_failing_input() {
    let (pool, log) = (Pool::new(2), Log::new());
    let inside = log.clone();
    let items = (0..5).inspect(|n| assert!(*n < 2, "input"));
    let said = panic_message(|| pool.map(items, move |n: u32| inside.add(n)));
    assert_eq!(said, "input");
    pool.join();
    assert_eq!(log.take(), ["0", "1"]);
}

/// {test_imap_list_small, test_imap_it_small, test_imap_it_large}
#[test]
fn test_imap() {
    for size in SIZES {
        let pool = Pool::new(size);
        for count in [1, 10, 1000] {
            let list: Vec<u64> = (0..count).collect();
            let expected: Vec<u64> = list.iter().map(|n| n * n).collect();
            let results: Result<Vec<u64>, _> = pool.imap(list, |n| n * n).collect();
            assert_eq!(results.unwrap(), expected);
            let results: Result<Vec<u64>, _> = pool.imap(0..count, |n| n * n).collect();
            assert_eq!(results.unwrap(), expected);
            let results: Result<Vec<u64>, _> = pool.imap_unordered(0..count, |n| n * n).collect();
            let mut results = results.unwrap();
            results.sort();
            assert_eq!(results, expected);
        }
        assert_eq!((pool.free(), pool.len()), (size, 0));
    }
}

/// {test_imap_random, test_imap_unordered_random}
#[test]
fn test_imap_random() {
    for size in SIZES {
        let pool = Pool::new(size);
        let body = |n: u64| {
            sleep(Duration::from_micros(random(n, 500)));
            n
        };
        let results: Result<Vec<u64>, _> = pool.imap(0..30, body).collect();
        assert_eq!(results.unwrap(), (0..30).collect::<Vec<_>>());
        let results: Result<Vec<u64>, _> = pool.imap_unordered(0..30, body).collect();
        let mut results = results.unwrap();
        results.sort();
        assert_eq!(results, (0..30).collect::<Vec<_>>());
    }
}

/// {test_imap_unordered}: in the order of the ends.
#[test]
fn test_imap_unordered() {
    let pool = Pool::new(4);
    let body = |turns: u64| {
        (0..turns).for_each(|_| yield_now());
        turns
    };
    let results: Result<Vec<u64>, _> = pool.imap_unordered([9, 1, 5, 3], body).collect();
    assert_eq!(results.unwrap(), [1, 3, 5, 9]);
    let results: Result<Vec<u64>, _> = pool.imap([9, 1, 5, 3], body).collect();
    assert_eq!(results.unwrap(), [9, 1, 5, 3]);
}

/// {test_empty_imap, test_empty_imap_unordered}: no switch, and `None` again and again.
#[test]
fn test_empty_imap() {
    let pool = Pool::new(2);
    let log = Log::new();
    let inside = log.clone();
    let other = spawn(move || inside.add("other"));
    let mut ordered = pool.imap(Vec::<u32>::new(), |n| n);
    let mut unordered = pool.imap_unordered(Vec::<u32>::new(), |n| n);
    for _ in 0..2 {
        assert!(ordered.next().is_none() && unordered.next().is_none());
    }
    assert!(log.take().is_empty());
    other.join().unwrap();
}

/// {test_imap_unordered_bounded_queue}: no more items are taken ahead than there is room for, none before
/// somebody asks, and none while there is a result.
#[test]
fn test_imap_unordered_bounded_queue() {
    // For more turns than it takes to begin all.
    let waits = |n: u32| {
        (0..20).for_each(|_| yield_now());
        n
    };
    for size in SIZES {
        for unordered in [false, true] {
            let (pool, taken) = (Pool::new(size), Rc::new(Cell::new(0)));
            let counter = Rc::clone(&taken);
            let items = (0..50).inspect(move |_| counter.set(counter.get() + 1));
            let mut results: Box<dyn Iterator<Item = Result<u32, JoinError>>> = if unordered {
                Box::new(pool.imap_unordered(items, waits))
            } else {
                Box::new(pool.imap(items, waits))
            };
            assert_eq!((taken.get(), pool.len()), (0, 0));
            for asked in 1..=20 {
                results.next().unwrap().unwrap();
                let case = format!("size {size}, unordered: {unordered}, asked {asked}");
                let expected = size.max(asked).next_multiple_of(size);
                assert_eq!(taken.get(), expected, "{case}");
                // Those under way do end, but make no room for more before somebody asks.
                while !pool.is_empty() {
                    yield_now();
                }
                (0..10).for_each(|_| yield_now());
                assert_eq!(taken.get(), expected, "{case}");
            }
            assert_eq!(results.count(), 30);
            assert_eq!(taken.get(), 50);
        }
    }
}

/// {TestErrorInIterator}: after what came before it.
#[test]
fn test_error_in_iterator() {
    for size in SIZES {
        let pool = Pool::new(size);
        let items = || (0..).inspect(|n| assert!(*n < 3, "input"));
        let mut results = pool.imap(items(), |n: u32| n);
        for expected in 0..3 {
            assert_eq!(results.next().unwrap().unwrap(), expected);
        }
        assert_eq!(panic_message(|| results.next()), "input");
        assert!(results.next().is_none());
        assert_eq!(pool.free(), size);
    }
}

/// {TestErrorInIterator.test_unordered}
#[test]
fn test_error_in_iterator_unordered() {
    for size in SIZES {
        let pool = Pool::new(size);
        let items = || (0..).inspect(|n| assert!(*n < 3, "input"));
        let mut results = pool.imap_unordered(items(), |n: u32| n);
        let mut before: Vec<u32> = (0..3).map(|_| results.next().unwrap().unwrap()).collect();
        before.sort();
        assert_eq!(before, [0, 1, 2]);
        assert_eq!(panic_message(|| results.next()), "input");
        assert!(results.next().is_none());
        assert_eq!(pool.free(), size);
    }
}

/// {TestErrorInHandler.test_imap, test_imap_unordered}: in its place, and the others come as well.
#[test]
fn test_error_in_handler_imap() {
    for size in SIZES {
        let pool = Pool::new(size);
        let body = |n: u32| {
            assert!(n != 1, "item {n}");
            n
        };
        let results: Vec<String> = pool.imap(0..4, body).map(brief).collect();
        assert_eq!(results, ["0", "panicked: item 1", "2", "3"]);
        let mut results: Vec<String> = pool.imap_unordered(0..4, body).map(brief).collect();
        results.sort();
        assert_eq!(results, ["0", "2", "3", "panicked: item 1"]);
        assert_eq!(pool.free(), size);
    }
}

/// Where other members take the room, `imap` waits for it like others.
#[test]
fn imap_in_a_pool_that_others_use() {
    let (pool, event) = (Pool::new(2), Rc::new(Event::new()));
    let waiting = Rc::clone(&event);
    let other = pool.spawn(move || waiting.wait());
    let results: Result<Vec<u32>, _> = pool.imap(0..10, |n| n).collect();
    assert_eq!(results.unwrap(), (0..10).collect::<Vec<_>>());
    let results: Result<Vec<u32>, _> = pool.imap_unordered(0..10, |n| n).collect();
    assert_eq!(results.unwrap(), (0..10).collect::<Vec<_>>());
    assert!(!other.is_finished());
    event.set();
    pool.join();
}

/// One that is killed while the iterator waits for it comes in its place.
#[test]
fn imap_of_one_that_is_killed() {
    let pool = Pool::new(3);
    let inner = pool.clone();
    let results = pool.imap(0..3, move |n: u32| {
        if n == 0 {
            (0..5).for_each(|_| yield_now());
            let inner = inner.clone();
            // Outside of the pool, since a member that kills is killed.
            spawn(move || inner.kill(None));
            block();
        }
        n
    });
    assert_eq!(results.map(brief).collect::<Vec<_>>(), ["Killed", "1", "2"]);
}

/// With a place for each, and none left: each would wait for its own.
#[test]
fn coroutines_of_a_full_pool_that_all_spawn_in_it_are_refused() {
    for size in [1, 3] {
        let pool = Pool::new(size);
        let members: Vec<_> = (0..size)
            .map(|_| {
                let inner = pool.clone();
                pool.spawn(move || {
                    yield_now();
                    panic_message(|| inner.spawn(|| ()).join().unwrap())
                })
            })
            .collect();
        // One that is none of them waits as well, in its turn.
        let outer = pool.clone();
        let other = spawn(move || outer.spawn(|| 5).join().unwrap());
        let mut said = Vec::new();
        for mut member in members {
            match member.join_timeout(ms(10_000)).expect("it hangs") {
                Ok(text) => said.push(text),
                // Those that got the place of the one that was refused.
                Err(JoinError::Panicked(payload)) => {
                    assert_eq!(payload.downcast_ref(), Some(&"no panic"));
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert!(said.len() == 1 && said[0].contains("would wait for itself"), "{said:?}");
        assert_eq!(other.join().unwrap(), 5);
        assert_eq!(pool.free(), size);
    }
}

/// One that others make room for waits for that.
#[test]
fn a_coroutine_of_a_full_pool_may_spawn_in_it_if_others_end() {
    let pool = Pool::new(2);
    let inner = pool.clone();
    let first = pool.spawn(move || inner.spawn(|| 5).join().unwrap());
    pool.spawn(|| sleep(ms(2)));
    assert_eq!(first.join().unwrap(), 5);
}

/// Also if there is no room for it: the wait is cut short, and the next call goes on with the same item.
#[test]
fn an_imap_whose_next_is_cut_short_loses_no_item() {
    for unordered in [false, true] {
        for killed in [false, true] {
            let pool = Pool::new(1);
            let event = Rc::new(Event::new());
            let wait = Rc::clone(&event);
            pool.spawn(move || wait.wait());
            type Results = Box<dyn Iterator<Item = Result<i32, JoinError>>>;
            let mut results: Results = if unordered {
                Box::new(pool.imap_unordered(1..4, |n| n))
            } else {
                Box::new(pool.imap(1..4, |n| n))
            };
            let taker = spawn(move || {
                let first = match killed {
                    true => catch_unwind(AssertUnwindSafe(|| results.next())).is_err(),
                    false => timeout(ms(5), || results.next()).is_err(),
                };
                (first, results.map(Result::unwrap).collect::<Vec<_>>())
            });
            yield_now();
            if killed {
                taker.kill();
            }
            sleep(ms(10));
            event.set();
            assert_eq!(taker.join().unwrap(), (true, vec![1, 2, 3]), "{unordered} {killed}");
        }
    }
}
