//! Queues and mutexes, beside tokio's; and a queue between threads, beside std's.

use crate::{in_a_coroutine, in_a_task, scale, tasks, tokio_runtime};
use criterion::{BenchmarkId, Criterion};
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Instant;
use switchgrass::sync::{Mutex, Queue};

/// As many messages fit into a channel, on every side.
const ROOM: usize = 100;
/// As many take turns with a mutex.
const FOUR: u64 = 4;

/// One message is one iteration.
pub(crate) fn channel(c: &mut Criterion) {
    let mut group = c.benchmark_group("channel");
    group.bench_function(BenchmarkId::new("switchgrass", "one_to_one"), |bencher| {
        bencher.iter_custom(|messages| {
            in_a_coroutine(move || {
                let queue = Rc::new(Queue::bounded(ROOM));
                let sender = Rc::clone(&queue);
                let start = Instant::now();
                switchgrass::spawn(move || (0..messages).for_each(|n| sender.put(n).unwrap()));
                (0..messages).for_each(|n| assert_eq!(queue.get(), Ok(n)));
                start.elapsed()
            })
        });
    });
    let runtime = tokio_runtime();
    group.bench_function(BenchmarkId::new("tokio", "one_to_one"), |bencher| {
        bencher.iter_custom(|messages| {
            in_a_task(&runtime, async move {
                let (sender, mut receiver) = tokio::sync::mpsc::channel(ROOM);
                let start = Instant::now();
                tokio::spawn(async move {
                    for n in 0..messages {
                        sender.send(n).await.unwrap();
                    }
                });
                for n in 0..messages {
                    assert_eq!(receiver.recv().await, Some(n));
                }
                start.elapsed()
            })
        });
    });
    group.bench_function(BenchmarkId::new("switchgrass", "ping_pong"), |bencher| {
        bencher.iter_custom(|iterations| {
            let rounds = iterations.div_ceil(2);
            let elapsed = in_a_coroutine(move || {
                let (ping, pong) = (Rc::new(Queue::bounded(ROOM)), Rc::new(Queue::bounded(ROOM)));
                let (its_ping, its_pong) = (Rc::clone(&ping), Rc::clone(&pong));
                switchgrass::spawn(move || {
                    (0..rounds).for_each(|_| its_pong.put(its_ping.get().unwrap()).unwrap());
                });
                let start = Instant::now();
                for n in 0..rounds {
                    ping.put(n).unwrap();
                    assert_eq!(pong.get(), Ok(n));
                }
                start.elapsed()
            });
            scale(elapsed, iterations, 2 * rounds)
        });
    });
    let runtime = tokio_runtime();
    group.bench_function(BenchmarkId::new("tokio", "ping_pong"), |bencher| {
        bencher.iter_custom(|iterations| tasks::ping_pong(&runtime, ROOM, iterations));
    });
    group.bench_function(BenchmarkId::new("switchgrass_shared", "threads"), |bencher| {
        bencher.iter_custom(|messages| {
            let queue = Arc::new(Queue::shared_bounded(ROOM));
            let sender = Arc::clone(&queue);
            let start = Instant::now();
            let thread = thread::spawn(move || (0..messages).for_each(|n| sender.put(n).unwrap()));
            (0..messages).for_each(|n| assert_eq!(queue.get(), Ok(n)));
            thread.join().unwrap();
            start.elapsed()
        });
    });
    group.bench_function(BenchmarkId::new("std", "threads"), |bencher| {
        bencher.iter_custom(|messages| {
            let (sender, receiver) = std::sync::mpsc::sync_channel(ROOM);
            let start = Instant::now();
            let thread = thread::spawn(move || (0..messages).for_each(|n| sender.send(n).unwrap()));
            (0..messages).for_each(|n| assert_eq!(receiver.recv(), Ok(n)));
            thread.join().unwrap();
            start.elapsed()
        });
    });
    group.finish();
}

/// Four take turns. One lock and unlock is one iteration.
pub(crate) fn mutex(c: &mut Criterion) {
    let mut group = c.benchmark_group("mutex");
    for (name, yields) in [("four", false), ("yield_while_held", true)] {
        group.bench_function(BenchmarkId::new("switchgrass", name), |bencher| {
            bencher.iter_custom(|iterations| {
                let rounds = iterations.div_ceil(FOUR);
                let elapsed = in_a_coroutine(move || {
                    let mutex = Rc::new(Mutex::new(0_u64));
                    let each = |_| {
                        let mutex = Rc::clone(&mutex);
                        switchgrass::spawn(move || {
                            for _ in 0..rounds {
                                let mut value = mutex.lock().unwrap();
                                *value += 1;
                                if yields {
                                    switchgrass::yield_now();
                                }
                            }
                        })
                    };
                    let start = Instant::now();
                    let all: Vec<_> = (0..FOUR).map(each).collect();
                    all.into_iter().for_each(|handle| handle.join().expect("no panic"));
                    let elapsed = start.elapsed();
                    assert_eq!(*mutex.lock().unwrap(), rounds * FOUR);
                    elapsed
                });
                scale(elapsed, iterations, rounds * FOUR)
            });
        });
        let runtime = tokio_runtime();
        group.bench_function(BenchmarkId::new("tokio", name), |bencher| {
            bencher.iter_custom(|iterations| {
                let rounds = iterations.div_ceil(FOUR);
                let elapsed = in_a_task(&runtime, async move {
                    let mutex = Arc::new(tokio::sync::Mutex::new(0_u64));
                    let each = |_| {
                        let mutex = Arc::clone(&mutex);
                        tokio::spawn(async move {
                            for _ in 0..rounds {
                                let mut value = mutex.lock().await;
                                *value += 1;
                                if yields {
                                    tokio::task::yield_now().await;
                                }
                            }
                        })
                    };
                    let start = Instant::now();
                    let all: Vec<_> = (0..FOUR).map(each).collect();
                    for handle in all {
                        handle.await.expect("no panic");
                    }
                    let elapsed = start.elapsed();
                    assert_eq!(*mutex.lock().await, rounds * FOUR);
                    elapsed
                });
                scale(elapsed, iterations, rounds * FOUR)
            });
        });
    }
    group.finish();
}
