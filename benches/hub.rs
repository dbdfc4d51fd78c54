//! What coroutines cost, beside tokio's tasks on one thread, in one run.
//!
//! `cargo bench --bench hub`; `benches/README.md` says how to read it.
//!
//! Both sides do the same: whoever measures is a coroutine among coroutines here, and a task among
//! tasks there. (tokio's `block_on` is no task: joining from it costs more than from one.)

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use scale::scale;
use std::cell::{Cell, OnceCell, RefCell};
use std::future::{Future, poll_fn};
use std::hint::black_box;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tasks::in_a_task;
use tokio::runtime::{Builder, Runtime};

#[path = "hub/handoff.rs"]
mod handoff;
#[path = "common/scale.rs"]
mod scale;
#[path = "hub/sync.rs"]
mod sync;
#[path = "common/tasks.rs"]
mod tasks;

/// A runtime on the calling thread, without anything that is not asked for.
fn tokio_runtime() -> Runtime {
    Builder::new_current_thread().build().expect("a runtime")
}

/// Runs `body` in a coroutine of its own.
fn in_a_coroutine<T: 'static>(body: impl FnOnce() -> T + 'static) -> T {
    switchgrass::spawn(body).join().expect("no panic")
}

/// N yield in turn. One yield is one iteration; that they begin and end is in it.
fn yields(c: &mut Criterion) {
    let mut group = c.benchmark_group("yield");
    for size in [2_u64, 10, 100, 1_000] {
        group.bench_function(BenchmarkId::new("switchgrass", size), |bencher| {
            bencher.iter_custom(|iterations| {
                let rounds = iterations.div_ceil(size);
                let each = move || (0..rounds).for_each(|_| switchgrass::yield_now());
                let elapsed = in_a_coroutine(move || {
                    let all: Vec<_> = (0..size).map(|_| switchgrass::spawn(each)).collect();
                    let start = Instant::now();
                    all.into_iter().for_each(|handle| handle.join().expect("no panic"));
                    start.elapsed()
                });
                scale(elapsed, iterations, rounds * size)
            });
        });
        let runtime = tokio_runtime();
        group.bench_function(BenchmarkId::new("tokio", size), |bencher| {
            bencher.iter_custom(|iterations| {
                let rounds = iterations.div_ceil(size);
                let each = move || async move {
                    for _ in 0..rounds {
                        tokio::task::yield_now().await;
                    }
                };
                let elapsed = in_a_task(&runtime, async move {
                    let all: Vec<_> = (0..size).map(|_| tokio::spawn(each())).collect();
                    let start = Instant::now();
                    for handle in all {
                        handle.await.expect("no panic");
                    }
                    start.elapsed()
                });
                scale(elapsed, iterations, rounds * size)
            });
        });
    }
    group.finish();
}

/// A whole life with a trivial body, from the spawn to the join: one after the other, or a thousand
/// at once.
fn spawn_join(c: &mut Criterion) {
    const BATCH: u64 = 1_000;
    let mut group = c.benchmark_group("spawn_join");
    group.bench_function(BenchmarkId::new("switchgrass", "seq"), |bencher| {
        bencher.iter_custom(|iterations| {
            in_a_coroutine(move || {
                let start = Instant::now();
                for number in 0..iterations {
                    let handle = switchgrass::spawn(move || number);
                    black_box(handle.join().expect("no panic"));
                }
                start.elapsed()
            })
        });
    });
    group.bench_function(BenchmarkId::new("switchgrass", "batch1000"), |bencher| {
        bencher.iter_custom(|iterations| {
            let rounds = iterations.div_ceil(BATCH);
            let elapsed = in_a_coroutine(move || {
                let mut handles = Vec::with_capacity(BATCH as usize);
                let start = Instant::now();
                for _ in 0..rounds {
                    handles.extend((0..BATCH).map(|number| switchgrass::spawn(move || number)));
                    for handle in handles.drain(..) {
                        black_box(handle.join().expect("no panic"));
                    }
                }
                start.elapsed()
            });
            scale(elapsed, iterations, rounds * BATCH)
        });
    });
    let runtime = tokio_runtime();
    group.bench_function(BenchmarkId::new("tokio", "seq"), |bencher| {
        bencher.iter_custom(|iterations| tasks::spawn_and_join(&runtime, iterations));
    });
    group.bench_function(BenchmarkId::new("tokio", "batch1000"), |bencher| {
        bencher.iter_custom(|iterations| {
            let rounds = iterations.div_ceil(BATCH);
            let elapsed = in_a_task(&runtime, async move {
                let mut handles = Vec::with_capacity(BATCH as usize);
                let start = Instant::now();
                for _ in 0..rounds {
                    handles.extend((0..BATCH).map(|number| tokio::spawn(async move { number })));
                    for handle in handles.drain(..) {
                        black_box(handle.await.expect("no panic"));
                    }
                }
                start.elapsed()
            });
            scale(elapsed, iterations, rounds * BATCH)
        });
    });
    group.finish();
}

/// Very many who sleep, and how many such crowds live: a life takes seconds.
const CROWDS: [(u64, usize); 2] = [(100_000, 10), (1_000_000, 3)];

/// Each of a crowd has so long to fall asleep before the first is woken.
const PATIENCE: Duration = Duration::from_micros(2);

/// Longer than this whole benchmark.
const LONG: Duration = Duration::from_secs(3600);

/// What is measured of one crowd's life.
const PHASES: [&str; 3] = ["start", "insert", "fire"];

type Life = [Duration; PHASES.len()];

/// The lives of crowds: each gives a sample of every phase. When there have been enough, they are
/// given again in turn.
struct Lives<F> {
    live: F,
    enough: usize,
    measured: RefCell<Vec<Life>>,
    given: Cell<[usize; PHASES.len()]>,
}

impl<F: Fn() -> Life> Lives<F> {
    fn new(enough: usize, live: F) -> Self {
        Lives { live, enough, measured: RefCell::default(), given: Cell::default() }
    }

    fn sample(&self, phase: usize) -> Duration {
        let mut given = self.given.get();
        let index = given[phase] % self.enough;
        given[phase] += 1;
        self.given.set(given);
        let mut measured = self.measured.borrow_mut();
        if index == measured.len() {
            measured.push((self.live)());
        }
        measured[index][phase]
    }
}

/// - `start`: to spawn a crowd, and run each to its first yield. Most of it is the kernel's: fresh
///   stacks.
/// - `insert`: for each to go to sleep until a moment that is the same for all.
/// - `fire`: from that moment until the last has been woken.
/// - `cancel`: to set a limit and take it off, with all of a crowd asleep and limits spread over an
///   hour.
///
/// Times are for one of the crowd, or one limit.
fn timers(c: &mut Criterion) {
    let mut group = c.benchmark_group("timer");
    group.sample_size(10);
    for (size, lives) in CROWDS {
        group.warm_up_time(Duration::from_nanos(1));
        let switchgrass = Lives::new(lives, || sleeping_coroutines(size));
        let tokio = Lives::new(lives, || sleeping_tasks(size));
        for (phase, name) in PHASES.into_iter().enumerate() {
            let id = |peer| BenchmarkId::new(format!("{peer}_{name}"), size);
            group.bench_function(id("switchgrass"), |bencher| {
                bencher.iter_custom(|n| scale(switchgrass.sample(phase), n, size));
            });
            group.bench_function(id("tokio"), |bencher| {
                bencher.iter_custom(|n| scale(tokio.sample(phase), n, size));
            });
        }
        group.warm_up_time(Duration::from_millis(100));
        group.measurement_time(Duration::from_millis(500));
        let crowd = OnceCell::new();
        group.bench_function(BenchmarkId::new("switchgrass_cancel", size), |bencher| {
            crowd.get_or_init(|| {
                let sleeper = |delay| switchgrass::spawn(move || switchgrass::sleep(delay));
                let crowd: Vec<_> = delays().map(sleeper).take(size as usize).collect();
                switchgrass::yield_now();
                crowd
            });
            bencher.iter_custom(|iterations| {
                let start = Instant::now();
                for limit in delays().take(iterations as usize) {
                    let _ = black_box(switchgrass::timeout(limit, || ()));
                }
                start.elapsed()
            });
        });
        if let Some(crowd) = crowd.into_inner() {
            crowd.iter().for_each(|handle| handle.kill());
            crowd.into_iter().for_each(|handle| drop(handle.join()));
        }
        let runtime = OnceCell::new();
        group.bench_function(BenchmarkId::new("tokio_cancel", size), |bencher| {
            let runtime = runtime.get_or_init(|| tokio_runtime_with_sleepers(size));
            // A `tokio::time::timeout` of what is ready sets no limit: a limit is set when it is
            // polled.
            bencher.iter_custom(|iterations| {
                let measure = async move {
                    let start = Instant::now();
                    for limit in delays().take(iterations as usize) {
                        let mut sleep = pin!(tokio::time::sleep(limit));
                        let set = |context: &mut Context<'_>| {
                            assert!(sleep.as_mut().poll(context).is_pending());
                            Poll::Ready(())
                        };
                        poll_fn(set).await;
                    }
                    start.elapsed()
                };
                in_a_task(runtime, tokio::task::unconstrained(measure))
            });
        });
    }
    group.finish();
}

/// A runtime with so many tasks asleep.
fn tokio_runtime_with_sleepers(size: u64) -> Runtime {
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    let asleep = Arc::new(AtomicU64::new(0));
    in_a_task(&runtime, async move {
        for delay in delays().take(size as usize) {
            let asleep = Arc::clone(&asleep);
            tokio::spawn(async move {
                asleep.fetch_add(1, Relaxed);
                tokio::time::sleep(delay).await;
            });
        }
        while asleep.load(Relaxed) < size {
            tokio::task::yield_now().await;
        }
    });
    runtime
}

/// From an hour to two, in no order.
fn delays() -> impl Iterator<Item = Duration> {
    let mut state = 1_u64;
    std::iter::repeat_with(move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        LONG + Duration::from_nanos((state >> 32) * 838)
    })
}

/// One crowd's life. Its members yield, sleep, and count themselves when they are woken. Before it
/// ends, each yields once more: so the last has been woken before the first ends.
fn sleeping_coroutines(size: u64) -> Life {
    let woken = Rc::new(Cell::new((0, Duration::ZERO)));
    let due = Rc::new(Cell::new(Instant::now()));
    let member = || {
        let (woken, due) = (Rc::clone(&woken), Rc::clone(&due));
        move || {
            switchgrass::yield_now();
            let due = due.get();
            switchgrass::sleep_until(due);
            let (before, _) = woken.get();
            let is_last = before + 1 == size;
            woken.set((before + 1, if is_last { due.elapsed() } else { Duration::ZERO }));
            switchgrass::yield_now();
        }
    };
    let start = Instant::now();
    let crowd: Vec<_> = (0..size).map(|_| switchgrass::spawn(member())).collect();
    switchgrass::yield_now();
    let started = start.elapsed();

    let start = Instant::now();
    due.set(start + PATIENCE * size as u32);
    switchgrass::yield_now();
    let inserted = start.elapsed();
    assert!(inserted < PATIENCE * size as u32 && woken.get().0 == 0, "some woke before all slept");
    crowd.into_iter().for_each(|handle| handle.join().expect("no panic"));
    let (count, fired) = woken.get();
    assert_eq!(count, size);
    [started, inserted, fired]
}

/// As [`sleeping_coroutines`], but each ends when it is woken: a task's end costs next to nothing.
fn sleeping_tasks(size: u64) -> Life {
    #[derive(Default)]
    struct Shared {
        /// How many have got so far.
        started: AtomicU64,
        asleep: AtomicU64,
        woken: AtomicU64,
        /// Since the zero.
        due: AtomicU64,
        fired: AtomicU64,
    }
    /// Without an atomic step: one thread.
    fn count(counter: &AtomicU64) -> u64 {
        let count = counter.load(Relaxed) + 1;
        counter.store(count, Relaxed);
        count
    }
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    in_a_task(&runtime, async move {
        let zero = Instant::now();
        let shared = Arc::new(Shared::default());
        let member = || {
            let shared = Arc::clone(&shared);
            async move {
                count(&shared.started);
                while shared.due.load(Relaxed) == 0 {
                    tokio::task::yield_now().await;
                }
                let due = zero + Duration::from_nanos(shared.due.load(Relaxed));
                count(&shared.asleep);
                tokio::time::sleep_until(due.into()).await;
                if count(&shared.woken) == size {
                    shared.fired.store(due.elapsed().as_nanos() as u64, Relaxed);
                }
            }
        };
        let start = Instant::now();
        let crowd: Vec<_> = (0..size).map(|_| tokio::spawn(member())).collect();
        while shared.started.load(Relaxed) < size {
            tokio::task::yield_now().await;
        }
        let started = start.elapsed();

        let start = Instant::now();
        let due = start.duration_since(zero) + PATIENCE * size as u32;
        shared.due.store(due.as_nanos() as u64, Relaxed);
        while shared.asleep.load(Relaxed) < size {
            tokio::task::yield_now().await;
        }
        let inserted = start.elapsed();
        assert!(inserted < PATIENCE * size as u32, "some woke before all slept");
        for handle in crowd {
            handle.await.expect("no panic");
        }
        [started, inserted, Duration::from_nanos(shared.fired.load(Relaxed))]
    })
}

fn quick() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(50)
}

criterion_group!(
    name = all;
    config = quick();
    targets = yields, handoff::handoff, spawn_join, sync::channel, sync::mutex, timers
);
criterion_main!(all);
