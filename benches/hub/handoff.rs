//! Two hand a token to each other: each wakes the other and waits to be woken.

use crate::{in_a_coroutine, in_a_task, scale, tokio_runtime};
use criterion::Criterion;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;
use switchgrass::sync::Semaphore;
use tokio::sync::Notify;

/// One way is one iteration.
pub(crate) fn handoff(c: &mut Criterion) {
    let mut group = c.benchmark_group("handoff");
    group.bench_function("switchgrass", |bencher| {
        bencher.iter_custom(|iterations| {
            let rounds = iterations.div_ceil(2);
            let elapsed = in_a_coroutine(move || {
                let (ping, pong) = (Rc::new(Semaphore::new(0)), Rc::new(Semaphore::new(0)));
                let (its_ping, its_pong) = (Rc::clone(&ping), Rc::clone(&pong));
                let other = switchgrass::spawn(move || {
                    for _ in 0..rounds {
                        its_ping.acquire();
                        its_pong.release();
                    }
                });
                switchgrass::yield_now();
                let start = Instant::now();
                for _ in 0..rounds {
                    ping.release();
                    pong.acquire();
                }
                let elapsed = start.elapsed();
                other.join().expect("no panic");
                elapsed
            });
            scale(elapsed, iterations, 2 * rounds)
        });
    });
    let runtime = tokio_runtime();
    group.bench_function("tokio", |bencher| {
        bencher.iter_custom(|iterations| {
            let rounds = iterations.div_ceil(2);
            let elapsed = in_a_task(&runtime, async move {
                let (ping, pong) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
                let (its_ping, its_pong) = (Arc::clone(&ping), Arc::clone(&pong));
                let other = tokio::spawn(async move {
                    for _ in 0..rounds {
                        its_ping.notified().await;
                        its_pong.notify_one();
                    }
                });
                tokio::task::yield_now().await;
                let start = Instant::now();
                for _ in 0..rounds {
                    ping.notify_one();
                    pong.notified().await;
                }
                let elapsed = start.elapsed();
                other.await.expect("no panic");
                elapsed
            });
            scale(elapsed, iterations, 2 * rounds)
        });
    });
    group.finish();
}
