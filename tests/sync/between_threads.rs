//! What threads share: used by coroutines and mains of several, and by threads that have no
//! coroutines.

use crate::{LONG, SHORT, settle};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};
use switchgrass::sync::{
    AsyncResult, Barrier, BoundedSemaphore, Channel, Condvar, Event, Mutex, PriorityQueue, Queue,
    RLock, RwLock, Semaphore, select,
};
use switchgrass::{coroutine, sleep, timeout, yield_now};

/// How often something is done that must go well every time.
const ROUNDS: usize = 8_000;

/// Runs `f` in two coroutines of a thread, and in its main.
fn in_three(f: impl Fn() + Sync) {
    coroutine::scope(|scope| {
        scope.spawn(&f);
        scope.spawn(&f);
        f();
    });
}

/// Runs `f` in two coroutines and the main of each of four threads.
fn everywhere(f: impl Fn() + Sync) {
    let all = std::sync::Barrier::new(4);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                all.wait();
                in_three(&f);
            });
        }
    });
}

/// {CrossThread}: a thread that has no hub sets it, and this one's, which sleeps, wakes.
#[test]
fn a_thread_without_a_hub_wakes_an_idle_one() {
    for _ in 0..200 {
        let (event, result) = (Event::shared(), AsyncResult::shared());
        let (queue, semaphore) = (Queue::shared(), Semaphore::shared(0));
        let started = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !started.load(SeqCst) {
                    thread::yield_now();
                }
                thread::sleep(Duration::from_micros(100));
                event.set();
                result.set(5).unwrap();
                queue.try_put(6).unwrap();
                semaphore.release();
            });
            coroutine::scope(|scope| {
                scope.spawn(|| assert!(event.wait_timeout(LONG)));
                scope.spawn(|| assert_eq!(result.get_timeout(LONG), Some(5)));
                scope.spawn(|| assert_eq!(queue.get_timeout(LONG), Ok(6)));
                started.store(true, SeqCst);
                assert!(semaphore.acquire_timeout(LONG));
            });
        });
    }
}

/// {CrossThread}: several threads wait for one event, in coroutines and in mains; many times.
#[test]
fn an_event_for_all() {
    let events: Vec<_> = (0..ROUNDS / 10).map(|_| Event::shared()).collect();
    let arrived = Semaphore::shared(0);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                in_three(|| {
                    for event in &events {
                        arrived.release();
                        assert!(event.wait_timeout(LONG));
                    }
                });
            });
        }
        for event in &events {
            (0..9).for_each(|_| assert!(arrived.acquire_timeout(LONG)));
            event.set();
        }
    });
}

/// {CrossThread}: those that wait go on, though it is cleared at once.
#[test]
fn set_then_clear() {
    let event = Event::shared();
    let running = AtomicUsize::new(9);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                in_three(|| {
                    for _ in 0..ROUNDS / 20 {
                        assert!(event.wait_timeout(LONG));
                    }
                    running.fetch_sub(1, SeqCst);
                });
            });
        }
        while running.load(SeqCst) > 0 {
            event.set();
            event.clear();
            thread::yield_now();
        }
    });
}

/// To and fro between two threads, in each of which others spin meanwhile.
#[test]
fn ping_pong() {
    let (ping, pong) = (Semaphore::shared(0), Semaphore::shared(0));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            coroutine::scope(|inner| {
                inner.spawn(|| {
                    while !stop.load(SeqCst) {
                        yield_now();
                    }
                });
                for _ in 0..ROUNDS / 16 {
                    assert!(ping.acquire_timeout(LONG));
                    pong.release();
                }
            });
        });
        for _ in 0..ROUNDS / 16 {
            ping.release();
            assert!(pong.acquire_timeout(LONG));
        }
        stop.store(true, SeqCst);
    });
    assert_eq!((ping.permits(), pong.permits()), (0, 0));
}

/// {MultiThread test_acquire_in_one_then_another, _timed}
#[test]
fn test_acquire_in_one_then_another() {
    for timed in [false, true] {
        let semaphore = Semaphore::shared(1);
        semaphore.acquire();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                if timed {
                    return semaphore.acquire_timeout(LONG);
                }
                semaphore.acquire();
                true
            });
            while semaphore.waiting() == 0 {
                thread::yield_now();
            }
            semaphore.release();
            assert!(waiting.join().unwrap());
        });
        assert!(!semaphore.try_acquire());
    }
}

/// {MultiThread test_acquire_in_one_wait_greenlet_wait_thread_gives_up}: the thread's limit passes;
/// the coroutine that waits behind it gets the permit.
#[test]
fn test_acquire_in_one_wait_greenlet_wait_thread_gives_up() {
    let semaphore = Semaphore::shared(1);
    semaphore.acquire();
    thread::scope(|threads| {
        let gives_up = threads.spawn(|| semaphore.acquire_timeout(4 * SHORT));
        while semaphore.waiting() == 0 {
            thread::yield_now();
        }
        coroutine::scope(|scope| {
            let waiting = scope.spawn(|| semaphore.acquire_timeout(LONG));
            settle();
            assert!(!gives_up.join().unwrap());
            assert_eq!(semaphore.waiting(), 1);
            semaphore.release();
            assert!(waiting.join().unwrap());
        });
    });
}

/// {MultiThread test_dueling_threads, _timeout, _with_hub}: two threads acquire and release, ten
/// thousand times each, while nothing else goes on there, or something does.
#[test]
fn test_dueling_threads() {
    for (timed, with_hub) in [(false, false), (true, false), (false, true), (true, true)] {
        let semaphore = Semaphore::shared(1);
        let (inside, count) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let duel = || {
            for round in 0..10_000 {
                if timed {
                    assert!(semaphore.acquire_timeout(LONG));
                } else {
                    semaphore.acquire();
                }
                assert_eq!(inside.fetch_add(1, SeqCst), 0);
                count.fetch_add(1, SeqCst);
                if with_hub && round % 1000 == 0 {
                    sleep(Duration::from_micros(10));
                }
                assert_eq!(inside.fetch_sub(1, SeqCst), 1);
                semaphore.release();
            }
        };
        thread::scope(|scope| {
            scope.spawn(duel);
            scope.spawn(duel);
        });
        assert_eq!((count.into_inner(), semaphore.permits()), (20_000, 1));
    }
}

/// {issue2013}: a thread without a hub releases; those that wait go on on their own threads.
#[test]
fn those_that_wait_go_on_on_their_own_threads() {
    let semaphore = Semaphore::shared(0);
    thread::scope(|threads| {
        for _ in 0..3 {
            threads.spawn(|| {
                let (own, semaphore) = (thread::current().id(), &semaphore);
                coroutine::scope(|scope| {
                    for _ in 0..10 {
                        scope.spawn(move || {
                            assert!(semaphore.acquire_timeout(LONG));
                            assert_eq!(thread::current().id(), own);
                        });
                    }
                });
            });
        }
        threads.spawn(|| {
            while semaphore.waiting() < 30 {
                thread::yield_now();
            }
            (0..30).for_each(|_| semaphore.release());
        });
    });
    assert_eq!((semaphore.permits(), semaphore.waiting()), (0, 0));
}

#[test]
fn a_bounded_semaphore() {
    let semaphore = BoundedSemaphore::shared(2);
    let inside = AtomicUsize::new(0);
    everywhere(|| {
        for _ in 0..ROUNDS / 4 {
            semaphore.acquire();
            assert!(inside.fetch_add(1, SeqCst) < 2);
            yield_now();
            inside.fetch_sub(1, SeqCst);
            semaphore.release().unwrap();
        }
    });
    semaphore.release().unwrap_err();
    assert_eq!(semaphore.permits(), 2);
}

#[test]
fn a_mutex() {
    let mutex = Mutex::shared(0_usize);
    everywhere(|| {
        for _ in 0..ROUNDS / 4 {
            let mut value = mutex.lock().unwrap();
            let before = *value;
            yield_now();
            *value = before + 1;
        }
    });
    assert_eq!(mutex.into_inner().unwrap(), 12 * (ROUNDS / 4));
}

/// {TestRLockMultiThread}: also taken again by its owner, and not released by another's main.
#[test]
fn an_rlock() {
    let lock = RLock::shared();
    let inside = AtomicUsize::new(0);
    everywhere(|| {
        for _ in 0..ROUNDS / 4 {
            let _outer = lock.lock();
            let _inner = lock.lock();
            assert_eq!(inside.fetch_add(1, SeqCst), 0);
            assert_eq!(lock.depth(), 2);
            yield_now();
            inside.fetch_sub(1, SeqCst);
        }
    });
    // Mains have the same number everywhere, and are not the same.
    let _guard = lock.lock();
    thread::scope(|scope| {
        scope.spawn(|| {
            assert_eq!(lock.depth(), 0);
            lock.release().unwrap_err();
            assert!(lock.try_lock().is_none());
        });
    });
}

#[test]
fn an_rwlock() {
    let lock = RwLock::shared((0_usize, 0_usize));
    everywhere(|| {
        for round in 0..ROUNDS / 4 {
            if round % 4 == 0 {
                let mut pair = lock.write().unwrap();
                pair.0 += 1;
                yield_now();
                pair.1 += 1;
            } else {
                let pair = lock.read().unwrap();
                assert_eq!(pair.0, pair.1);
                yield_now();
                assert_eq!(pair.0, pair.1);
            }
        }
    });
    let all = 12 * (ROUNDS / 16);
    assert_eq!(lock.into_inner().unwrap(), (all, all));
}

/// Those that wait for a turn get it, one after the other, whichever thread they are on.
#[test]
fn a_condvar() {
    let (mutex, condvar) = (Mutex::shared((0_usize, 0_usize)), Condvar::shared());
    everywhere(|| {
        let mut state = mutex.lock().unwrap();
        let number = state.0;
        state.0 += 1;
        for round in 0..100 {
            let turn = |state: &mut (usize, usize)| state.1 != round * 12 + number;
            state = condvar.wait_while(state, turn).unwrap();
            state.1 += 1;
            condvar.notify_all();
        }
    });
    assert_eq!(mutex.into_inner().unwrap(), (12, 1200));
}

#[test]
fn a_barrier() {
    let barrier = Barrier::shared(12);
    let (arrived, leaders) = (AtomicUsize::new(0), AtomicUsize::new(0));
    everywhere(|| {
        for round in 1..=ROUNDS / 10 {
            arrived.fetch_add(1, SeqCst);
            let leads = barrier.wait().unwrap().is_leader();
            leaders.fetch_add(usize::from(leads), SeqCst);
            assert!(arrived.load(SeqCst) >= 12 * round);
            barrier.wait().unwrap();
            assert!(arrived.load(SeqCst) <= 12 * (round + 1));
        }
    });
    assert_eq!(leaders.into_inner(), ROUNDS / 10);
}

/// Every item of every producer comes once, and those of one producer to one consumer in their
/// order.
#[test]
fn a_queue() {
    for queue in [Queue::shared(), Queue::shared_bounded(3)] {
        let (producers, got) = (AtomicUsize::new(0), Mutex::shared(Vec::new()));
        thread::scope(|scope| {
            let producing: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        in_three(|| {
                            let number = producers.fetch_add(1, SeqCst);
                            (0..ROUNDS).for_each(|item| queue.put((number, item)).unwrap());
                        });
                    })
                })
                .collect();
            for _ in 0..2 {
                scope.spawn(|| {
                    in_three(|| {
                        let mut last = [None; 6];
                        for (number, item) in &queue {
                            assert!(last[number] < Some(item));
                            last[number] = Some(item);
                            got.lock().unwrap().push((number, item));
                            queue.task_done().unwrap();
                        }
                    });
                });
            }
            producing.into_iter().for_each(|thread| thread.join().unwrap());
            queue.join();
            queue.shut_down();
        });
        let mut got = got.into_inner().unwrap();
        got.sort_unstable();
        let all = (0..6).flat_map(|number| (0..ROUNDS).map(move |item| (number, item)));
        assert!(got.into_iter().eq(all));
    }
}

#[test]
fn a_priority_queue() {
    let queue = PriorityQueue::shared_priority();
    let sum = AtomicUsize::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            in_three(|| (0..ROUNDS).rev().for_each(|item| queue.put(item).unwrap()));
            queue.shut_down();
        });
        in_three(|| {
            for item in &queue {
                sum.fetch_add(item, SeqCst);
            }
        });
    });
    assert_eq!(sum.into_inner(), 3 * (ROUNDS * (ROUNDS - 1) / 2));
}

#[test]
fn a_channel() {
    let channel = Channel::shared();
    let sum = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| in_three(|| (0..ROUNDS).for_each(|item| channel.put(item).unwrap())));
            scope.spawn(|| {
                in_three(|| {
                    for _ in 0..ROUNDS {
                        sum.fetch_add(channel.get().unwrap(), SeqCst);
                    }
                });
            });
        }
    });
    assert_eq!(sum.into_inner(), 6 * (ROUNDS * (ROUNDS - 1) / 2));
    assert_eq!((channel.putters(), channel.getters()), (0, 0));
}

/// Of the getters of one half the limits pass now and then, in the middle of everything: nothing is
/// lost.
#[test]
fn limits_that_pass_meanwhile() {
    let (queue, channel) = (Queue::shared_bounded(2), Channel::shared());
    let (got, timed_out) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let all = 6 * ROUNDS / 4;
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                in_three(|| {
                    for _ in 0..ROUNDS / 4 {
                        // One that was not put is put again, and one that was is not.
                        let mut item = 1;
                        let limit = Duration::from_micros(20);
                        while let Err(back) = queue.put_timeout(item, limit) {
                            item = back.into_inner();
                        }
                        while let Err(back) = channel.put_timeout(item, limit) {
                            item = back.into_inner();
                        }
                    }
                });
            });
            scope.spawn(|| {
                in_three(|| {
                    while got.load(SeqCst) < 2 * all {
                        // Both kinds of limits.
                        let limit = Duration::from_micros(30);
                        let one = queue.get_timeout(limit).unwrap_or(0);
                        let other = channel.get_timeout(limit).unwrap_or(0);
                        got.fetch_add(one + other, SeqCst);
                        if timeout(limit, yield_now).is_err() {
                            timed_out.fetch_add(1, SeqCst);
                        }
                    }
                });
            });
        }
    });
    assert_eq!((got.into_inner(), queue.len()), (2 * all, 0));
    assert_eq!((channel.putters(), channel.getters()), (0, 0));
}

/// One thread selects from what others make ready.
#[test]
fn select_from_two() {
    let (queue, stop) = (Queue::shared(), Event::shared());
    let got = AtomicUsize::new(0);
    thread::scope(|scope| {
        let producing = scope.spawn(|| {
            in_three(|| (0..ROUNDS).for_each(|item| queue.put(item).unwrap()));
        });
        for _ in 0..2 {
            scope.spawn(|| {
                in_three(|| {
                    while select(&[&queue, &stop]) == 0 {
                        got.fetch_add(usize::from(queue.try_get().is_ok()), SeqCst);
                    }
                });
            });
        }
        producing.join().unwrap();
        while got.load(SeqCst) < 3 * ROUNDS {
            thread::yield_now();
        }
        stop.set();
    });
    assert_eq!(got.into_inner(), 3 * ROUNDS);
}

/// A thread ends while one of its coroutines is in line: it leaves the line.
#[test]
fn a_thread_that_ends_leaves_the_line() {
    let semaphore = std::sync::Arc::new(Semaphore::shared(0));
    let inside = std::sync::Arc::clone(&semaphore);
    let ending = thread::spawn(move || {
        switchgrass::spawn(move || inside.acquire());
        settle();
    });
    ending.join().unwrap();
    assert_eq!(semaphore.waiting(), 0);
    semaphore.release();
    assert!(semaphore.acquire_timeout(LONG));
}

/// A thread ends when one of its coroutines has been given something and has not run since: that
/// goes to the next, on whichever thread.
#[test]
fn a_thread_that_ends_gives_back() {
    use std::sync::Arc;
    let (semaphore, queue) = (Arc::new(Semaphore::shared(0)), Arc::new(Queue::shared()));
    let (tell, told) = mpsc::channel();
    let (go, gone) = mpsc::channel();
    let ending = thread::spawn({
        let (semaphore, queue) = (Arc::clone(&semaphore), Arc::clone(&queue));
        move || {
            let own = Arc::clone(&semaphore);
            switchgrass::spawn(move || own.acquire());
            switchgrass::spawn(move || queue.get());
            settle();
            tell.send(()).unwrap();
            gone.recv().unwrap();
        }
    });
    told.recv().unwrap();
    semaphore.release();
    queue.put(5).unwrap();
    assert_eq!((semaphore.permits(), queue.len()), (0, 0), "they were handed over");
    go.send(()).unwrap();
    assert!(semaphore.acquire_timeout(LONG));
    assert_eq!(queue.get_timeout(LONG), Ok(5));
    ending.join().unwrap();
}

/// One that waits for another thread is not taken to be stuck, though nobody on its own could wake
/// it.
#[test]
fn waiting_for_another_thread_is_not_a_deadlock() {
    let result = AsyncResult::shared();
    let start = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(2 * SHORT);
            result.set("late").unwrap();
        });
        assert_eq!(result.get(), "late");
    });
    assert!(start.elapsed() >= 2 * SHORT);
}
