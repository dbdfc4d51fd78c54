//! tokio's side, whatever the kind of its runtime: whoever measures is a task among tasks.

use super::scale::scale;
use std::future::Future;
use std::hint::black_box;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

/// Runs `future` in a task of its own.
pub(crate) fn in_a_task<T: Send + 'static>(
    runtime: &Runtime,
    future: impl Future<Output = T> + Send + 'static,
) -> T {
    runtime.block_on(async { tokio::spawn(future).await.expect("no panic") })
}

/// Spawns and joins, one after the other. One of them is one iteration.
pub(crate) fn spawn_and_join(runtime: &Runtime, iterations: u64) -> Duration {
    in_a_task(runtime, async move {
        let start = Instant::now();
        for number in 0..iterations {
            let handle = tokio::spawn(async move { number });
            black_box(handle.await.expect("no panic"));
        }
        start.elapsed()
    })
}

/// Two tasks send each other messages, by channels with so much room. One way is one iteration.
pub(crate) fn ping_pong(runtime: &Runtime, room: usize, iterations: u64) -> Duration {
    let rounds = iterations.div_ceil(2);
    let elapsed = in_a_task(runtime, async move {
        let (ping, mut its_ping) = mpsc::channel(room);
        let (its_pong, mut pong) = mpsc::channel(room);
        tokio::spawn(async move {
            for _ in 0..rounds {
                its_pong.send(its_ping.recv().await.unwrap()).await.unwrap();
            }
        });
        let start = Instant::now();
        for n in 0..rounds {
            ping.send(n).await.unwrap();
            assert_eq!(pong.recv().await, Some(n));
        }
        start.elapsed()
    });
    scale(elapsed, iterations, 2 * rounds)
}
