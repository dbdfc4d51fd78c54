//! What two hubs cost each other, beside tokio's multi-threaded runtime of two workers, in one run.
//!
//! `cargo bench --bench multicore`; `benches/README.md` says how to read it.
//!
//! Both sides do the same: whoever measures is a body on a hub here, and a task there. Of tokio's tasks nobody says
//! where they run: two that talk to each other may share a worker, and what is said between hubs always crosses.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use scale::scale;
use std::hint::{black_box, spin_loop};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};
use switchgrass::multicore::{self, Hubs};
use switchgrass::sync::Queue;
use tasks::in_a_task;
use tokio::runtime::{Builder, Runtime};

#[path = "common/scale.rs"]
mod scale;
#[path = "common/tasks.rs"]
mod tasks;

const HUBS: usize = 2;
/// As many messages fit into a channel, on every side.
const ROOM: usize = 100;
const BATCH: u64 = 1_000;
/// So long a body computes that does.
const WORK: Duration = Duration::from_micros(10);

/// Those of one kind each: that sleep when they have nothing to do, and that look for a while first.
const KINDS: [(&str, Duration); 2] =
    [("switchgrass", Duration::ZERO), ("switchgrass_spinning", Duration::from_micros(50))];

fn hubs(spin: Duration) -> Hubs {
    multicore::Builder::new().threads(HUBS).spin(spin).start().expect("threads can be made")
}

fn tokio_runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(HUBS).build().expect("a runtime")
}

/// Runs `body` on the first hub.
fn on_a_hub<T: Send + 'static>(hubs: &Hubs, body: impl FnOnce() -> T + Send + 'static) -> T {
    hubs.spawn_on(0, body).join().expect("no panic")
}

fn compute() {
    let start = Instant::now();
    while start.elapsed() < WORK {
        spin_loop();
    }
}

/// One message is one iteration.
fn one_way(c: &mut Criterion) {
    let mut group = c.benchmark_group("one_way");
    for (name, spin) in KINDS {
        let hubs = hubs(spin);
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|messages| {
                let also = hubs.clone();
                on_a_hub(&hubs, move || {
                    let queue = Arc::new(Queue::shared_bounded(ROOM));
                    let sender = Arc::clone(&queue);
                    let start = Instant::now();
                    let putting = also.spawn_on(1, move || {
                        (0..messages).for_each(|n| sender.put(n).unwrap());
                    });
                    (0..messages).for_each(|n| assert_eq!(queue.get(), Ok(n)));
                    putting.join().unwrap();
                    start.elapsed()
                })
            });
        });
    }
    let runtime = tokio_runtime();
    group.bench_function("tokio", |bencher| {
        bencher.iter_custom(|messages| {
            in_a_task(&runtime, async move {
                let (sender, mut receiver) = tokio::sync::mpsc::channel(ROOM);
                let start = Instant::now();
                let sending = tokio::spawn(async move {
                    for n in 0..messages {
                        sender.send(n).await.unwrap();
                    }
                });
                for n in 0..messages {
                    assert_eq!(receiver.recv().await, Some(n));
                }
                sending.await.unwrap();
                start.elapsed()
            })
        });
    });
    group.bench_function("std", |bencher| {
        bencher.iter_custom(|messages| {
            let (sender, receiver) = mpsc::sync_channel(ROOM);
            let start = Instant::now();
            let thread = thread::spawn(move || (0..messages).for_each(|n| sender.send(n).unwrap()));
            (0..messages).for_each(|n| assert_eq!(receiver.recv(), Ok(n)));
            thread.join().unwrap();
            start.elapsed()
        });
    });
    group.finish();
}

/// One message is one iteration: two are a round.
fn ping_pong(c: &mut Criterion) {
    let mut group = c.benchmark_group("ping_pong");
    for (name, spin) in KINDS {
        let hubs = hubs(spin);
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|iterations| {
                let rounds = iterations.div_ceil(2);
                let also = hubs.clone();
                let elapsed = on_a_hub(&hubs, move || {
                    let (ping, pong) =
                        (Arc::new(Queue::shared_bounded(1)), Arc::new(Queue::shared_bounded(1)));
                    let (its_ping, its_pong) = (Arc::clone(&ping), Arc::clone(&pong));
                    let other = also.spawn_on(1, move || {
                        (0..rounds).for_each(|_| its_pong.put(its_ping.get().unwrap()).unwrap());
                    });
                    let start = Instant::now();
                    for n in 0..rounds {
                        ping.put(n).unwrap();
                        assert_eq!(pong.get(), Ok(n));
                    }
                    let elapsed = start.elapsed();
                    other.join().unwrap();
                    elapsed
                });
                scale(elapsed, iterations, 2 * rounds)
            });
        });
    }
    let runtime = tokio_runtime();
    group.bench_function("tokio", |bencher| {
        bencher.iter_custom(|iterations| tasks::ping_pong(&runtime, 1, iterations));
    });
    group.bench_function("std", |bencher| {
        bencher.iter_custom(|iterations| {
            let rounds = iterations.div_ceil(2);
            let (ping, its_ping) = mpsc::sync_channel(1);
            let (its_pong, pong) = mpsc::sync_channel(1);
            let other = thread::spawn(move || {
                (0..rounds).for_each(|_| its_pong.send(its_ping.recv().unwrap()).unwrap());
            });
            let start = Instant::now();
            for n in 0..rounds {
                ping.send(n).unwrap();
                assert_eq!(pong.recv(), Ok(n));
            }
            let elapsed = start.elapsed();
            other.join().unwrap();
            scale(elapsed, iterations, 2 * rounds)
        });
    });
    group.finish();
}

/// A whole life, from the spawn to the join: one after the other, here or there, or a thousand at once, that do
/// nothing or compute.
fn spawn_join(c: &mut Criterion) {
    let mut group = c.benchmark_group("multicore_spawn_join");
    for (kind, name, there) in [(0, "here", false), (0, "there", true), (1, "there", true)] {
        let (kind, spin) = KINDS[kind];
        let hubs = hubs(spin);
        group.bench_function(BenchmarkId::new(kind, name), |bencher| {
            bencher.iter_custom(|iterations| {
                let also = hubs.clone();
                on_a_hub(&hubs, move || {
                    let start = Instant::now();
                    for number in 0..iterations {
                        let body = move || number;
                        let handle = if there { also.spawn_on(1, body) } else { also.spawn(body) };
                        black_box(handle.join().expect("no panic"));
                    }
                    start.elapsed()
                })
            });
        });
    }
    let hubs = hubs(Duration::ZERO);
    for (name, work) in [("batch1000", false), ("working1000", true)] {
        group.bench_function(BenchmarkId::new("switchgrass", name), |bencher| {
            bencher.iter_custom(|iterations| {
                let rounds = iterations.div_ceil(BATCH);
                let also = hubs.clone();
                let elapsed = on_a_hub(&hubs, move || {
                    let mut handles = Vec::with_capacity(BATCH as usize);
                    let body = move || {
                        if work {
                            compute()
                        }
                    };
                    let start = Instant::now();
                    for _ in 0..rounds {
                        handles.extend((0..BATCH).map(|_| also.spawn(body)));
                        handles.drain(..).for_each(|handle| handle.join().expect("no panic"));
                    }
                    start.elapsed()
                });
                scale(elapsed, iterations, rounds * BATCH)
            });
        });
    }
    let runtime = tokio_runtime();
    group.bench_function(BenchmarkId::new("tokio", "seq"), |bencher| {
        bencher.iter_custom(|iterations| tasks::spawn_and_join(&runtime, iterations));
    });
    for (name, work) in [("batch1000", false), ("working1000", true)] {
        group.bench_function(BenchmarkId::new("tokio", name), |bencher| {
            bencher.iter_custom(|iterations| {
                let rounds = iterations.div_ceil(BATCH);
                let elapsed = in_a_task(&runtime, async move {
                    let mut handles = Vec::with_capacity(BATCH as usize);
                    let body = move || async move {
                        if work {
                            compute()
                        }
                    };
                    let start = Instant::now();
                    for _ in 0..rounds {
                        handles.extend((0..BATCH).map(|_| tokio::spawn(body())));
                        for handle in handles.drain(..) {
                            handle.await.expect("no panic");
                        }
                    }
                    start.elapsed()
                });
                scale(elapsed, iterations, rounds * BATCH)
            });
        });
    }
    group.finish();
}

fn config() -> Criterion {
    Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
}

criterion_group! {
    name = benches;
    config = config();
    targets = one_way, ping_pong, spawn_join
}
criterion_main!(benches);
