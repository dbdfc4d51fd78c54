//! What the shared types of `sync` do between hubs.

use super::hubs;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use switchgrass::multicore::JoinHandle;
use switchgrass::sync::{Barrier, Channel, Event, Mutex, Queue, Semaphore, select};
use switchgrass::{spawn, yield_now};

const HUBS: usize = 4;

fn join_all<T>(bodies: impl IntoIterator<Item = JoinHandle<T>>) -> Vec<T> {
    let bodies: Vec<_> = bodies.into_iter().collect();
    bodies.into_iter().map(|body| body.join().unwrap()).collect()
}

/// Several put and several get, on each hub; every item comes once, those of each in their order.
#[test]
fn a_queue() {
    const ITEMS: usize = 2_000;
    for limit in [1, 7, usize::MAX] {
        let hubs = hubs(HUBS);
        let queue = Arc::new(Queue::shared_bounded(limit));
        let putters: Vec<_> = (0..HUBS)
            .map(|hub| {
                let queue = Arc::clone(&queue);
                hubs.spawn_on(hub, move || {
                    (0..ITEMS).for_each(|item| queue.put((hub, item)).unwrap());
                })
            })
            .collect();
        let getters: Vec<_> = (0..2 * HUBS)
            .map(|number| {
                let queue = Arc::clone(&queue);
                hubs.spawn_on(number % HUBS, move || queue.into_iter().collect::<Vec<_>>())
            })
            .collect();
        join_all(putters);
        queue.shut_down();
        let got = join_all(getters);
        for one in &got {
            for hub in 0..HUBS {
                assert!(one.iter().filter(|(from, _)| *from == hub).is_sorted());
            }
        }
        let all: BTreeSet<_> = got.iter().flatten().collect();
        assert_eq!(
            (got.iter().map(Vec::len).sum::<usize>(), all.len()),
            (HUBS * ITEMS, HUBS * ITEMS)
        );
    }
}

#[test]
fn a_channel() {
    const ITEMS: usize = 1_000;
    let hubs = hubs(2);
    let channel = Arc::new(Channel::shared());
    let sender = Arc::clone(&channel);
    let putting = hubs.spawn_on(0, move || (0..ITEMS).for_each(|item| sender.put(item).unwrap()));
    let getting =
        hubs.spawn_on(1, move || (0..ITEMS).map(|_| channel.get().unwrap()).collect::<Vec<_>>());
    assert_eq!(getting.join().unwrap(), Vec::from_iter(0..ITEMS));
    putting.join().unwrap();
}

/// So many hold it at a time, at most, and never fewer than can.
#[test]
fn a_semaphore() {
    let hubs = hubs(HUBS);
    let (semaphore, inside) = (Arc::new(Semaphore::shared(3)), Arc::new(AtomicUsize::new(0)));
    let bodies = (0..200).map(|_| {
        let (semaphore, inside) = (Arc::clone(&semaphore), Arc::clone(&inside));
        hubs.spawn(move || {
            for _ in 0..20 {
                semaphore.acquire();
                assert!(inside.fetch_add(1, SeqCst) < 3);
                yield_now();
                inside.fetch_sub(1, SeqCst);
                semaphore.release();
            }
        })
    });
    join_all(bodies);
    assert_eq!((semaphore.permits(), inside.load(SeqCst)), (3, 0));
}

/// All go on, on all hubs.
#[test]
fn an_event() {
    let hubs = hubs(HUBS);
    for _ in 0..50 {
        let (event, waiting) = (Arc::new(Event::shared()), Arc::new(Semaphore::shared(0)));
        let bodies: Vec<_> = (0..3 * HUBS)
            .map(|number| {
                let (event, waiting) = (Arc::clone(&event), Arc::clone(&waiting));
                hubs.spawn_on(number % HUBS, move || {
                    waiting.release();
                    event.wait();
                })
            })
            .collect();
        (0..3 * HUBS).for_each(|_| waiting.acquire());
        event.set();
        join_all(bodies);
    }
}

#[test]
fn a_mutex_and_a_barrier() {
    let hubs = hubs(HUBS);
    let mutex = Arc::new(Mutex::shared(0_u64));
    let barrier = Arc::new(Barrier::shared(HUBS));
    let bodies = (0..HUBS).map(|hub| {
        let (mutex, barrier) = (Arc::clone(&mutex), Arc::clone(&barrier));
        hubs.spawn_on(hub, move || {
            for round in 1..=50_u64 {
                let mut count = mutex.lock().unwrap();
                let seen = *count;
                yield_now();
                *count = seen + 1;
                drop(count);
                barrier.wait().unwrap();
                assert_eq!(*mutex.lock().unwrap(), round * HUBS as u64);
                barrier.wait().unwrap();
            }
        })
    });
    join_all(bodies);
}

/// What is waited for is on two other hubs.
#[test]
fn a_select() {
    const ITEMS: usize = 300;
    let hubs = hubs(3);
    let (left, right) = (Arc::new(Queue::shared()), Arc::new(Queue::shared()));
    let putting: Vec<_> = [&left, &right]
        .into_iter()
        .enumerate()
        .map(|(hub, queue)| {
            let queue = Arc::clone(queue);
            hubs.spawn_on(hub, move || {
                for item in 0..ITEMS {
                    queue.put(item).unwrap();
                    if item % 10 == 0 {
                        spawn(yield_now).join().unwrap();
                    }
                }
            })
        })
        .collect();
    let getting = hubs.spawn_on(2, move || {
        let mut counts = [0; 2];
        while counts.iter().sum::<usize>() < 2 * ITEMS {
            let ready = select(&[&*left, &*right]);
            let item = [&left, &right][ready].try_get().expect("nobody else gets");
            assert_eq!(item, counts[ready]);
            counts[ready] += 1;
        }
        counts
    });
    assert_eq!(getting.join().unwrap(), [ITEMS, ITEMS]);
    join_all(putting);
}
