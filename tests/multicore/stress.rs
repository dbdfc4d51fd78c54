//! Very many bodies, everywhere at once: nothing is lost, and nothing happens twice.

use super::hubs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::thread;
use switchgrass::multicore::Hubs;
use switchgrass::sync::{Queue, Semaphore};
use switchgrass::{JoinError, sleep, spawn, yield_now};

const HUBS: usize = 4;

/// A different row of numbers for each.
struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

/// What one body does: it computes, waits, yields, passes tokens on, and spawns others, which it joins, kills or
/// forgets.
fn live(all: &Arc<All>, hubs: &Hubs, seed: u64, depth: u32) {
    let _alive = Alive::new(all);
    let mut random = Random(seed);
    let here = thread::current().id();
    for _ in 0..random.next(4) {
        match random.next(6) {
            0 => yield_now(),
            1 => sleep(std::time::Duration::from_micros(random.next(300))),
            2 => {
                let (inner, token) = (Arc::clone(all), random.next(1000));
                all.sent.fetch_add(token, SeqCst);
                inner.tokens.put(token).unwrap();
            }
            3 => {
                // There is one for whoever puts one, but it may be another's.
                if let Ok(token) = all.tokens.try_get() {
                    all.got.fetch_add(token, SeqCst);
                }
            }
            4 => {
                let _room = Room::take(all);
                yield_now();
            }
            _ => spawn(yield_now).join().unwrap(),
        }
        assert_eq!(thread::current().id(), here);
    }
    if depth == 0 {
        return;
    }
    for _ in 0..2 {
        let (inner, also, seed) = (Arc::clone(all), hubs.clone(), random.next(u64::MAX >> 33));
        all.spawned.fetch_add(1, SeqCst);
        let counted = Counted(Arc::clone(all));
        let body = move || {
            let _counted = counted;
            live(&inner, &also, seed, depth - 1);
        };
        let handle = match random.next(3) {
            0 => hubs.spawn_on(random.next(HUBS as u64) as usize, body),
            1 => hubs.spawn_preferring(random.next(HUBS as u64) as usize, body),
            _ => hubs.spawn(body),
        };
        match random.next(8) {
            0 => drop(handle),
            1 => {
                handle.kill();
                let result = handle.join();
                assert!(matches!(result, Ok(()) | Err(JoinError::Killed)), "{result:?}");
            }
            _ => handle.join().unwrap(),
        }
    }
}

struct All {
    tokens: Queue<u64, switchgrass::sync::Shared>,
    room: Semaphore<switchgrass::sync::Shared>,
    sent: AtomicU64,
    got: AtomicU64,
    spawned: AtomicUsize,
    ended: AtomicUsize,
    alive: AtomicUsize,
}

struct Alive<'a>(&'a All);

impl<'a> Alive<'a> {
    fn new(all: &'a All) -> Self {
        all.alive.fetch_add(1, SeqCst);
        Alive(all)
    }
}

impl Drop for Alive<'_> {
    fn drop(&mut self) {
        self.0.alive.fetch_sub(1, SeqCst);
    }
}

/// One of few, given back also by one that is killed.
struct Room<'a>(&'a All);

impl<'a> Room<'a> {
    fn take(all: &'a All) -> Self {
        all.room.acquire();
        Room(all)
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.0.room.release();
    }
}

/// What a body holds, whether or not it has begun.
struct Counted(Arc<All>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, SeqCst);
    }
}

#[test]
fn a_forest_of_bodies() {
    for seed in 0..4 {
        let hubs = hubs(HUBS);
        let all = Arc::new(All {
            tokens: Queue::shared(),
            room: Semaphore::shared(2),
            sent: AtomicU64::new(0),
            got: AtomicU64::new(0),
            spawned: AtomicUsize::new(0),
            ended: AtomicUsize::new(0),
            alive: AtomicUsize::new(0),
        });
        let roots: Vec<_> = (0..16)
            .map(|root| {
                let (inner, also) = (Arc::clone(&all), hubs.clone());
                hubs.spawn(move || live(&inner, &also, 100 * seed + root, 6))
            })
            .collect();
        roots.into_iter().for_each(|root| root.join().unwrap());
        // Those that nobody has waited for may be running, and spawn: so wait until there are none before none are
        // taken any more.
        while all.ended.load(SeqCst) < all.spawned.load(SeqCst) {
            sleep(std::time::Duration::from_millis(1));
        }
        assert!(hubs.shutdown(None));
        while let Ok(token) = all.tokens.try_get() {
            all.got.fetch_add(token, SeqCst);
        }
        let counts = |atomic: &AtomicUsize| atomic.load(SeqCst);
        assert_eq!(all.sent.load(SeqCst), all.got.load(SeqCst));
        assert_eq!(counts(&all.spawned), counts(&all.ended));
        assert_eq!((counts(&all.alive), all.room.permits()), (0, 2));
        assert!(counts(&all.spawned) > 300, "most of it was killed");
    }
}

/// From many threads at once, by all three ways.
#[test]
fn from_many_threads() {
    const EACH: usize = 2_000;
    let hubs = hubs(HUBS);
    let ran = Arc::new(AtomicUsize::new(0));
    thread::scope(|scope| {
        for thread in 0..4 {
            let (hubs, ran) = (&hubs, &ran);
            scope.spawn(move || {
                let handles: Vec<_> = (0..EACH)
                    .map(|number| {
                        let ran = Arc::clone(ran);
                        let body = move || {
                            ran.fetch_add(1, SeqCst);
                            number
                        };
                        match (number + thread) % 3 {
                            0 => hubs.spawn(body),
                            1 => hubs.spawn_on(number % HUBS, body),
                            _ => hubs.spawn_preferring(number % HUBS, body),
                        }
                    })
                    .collect();
                for (number, handle) in handles.into_iter().enumerate() {
                    assert_eq!(handle.join().unwrap(), number);
                }
            });
        }
    });
    assert_eq!(ran.load(SeqCst), 4 * EACH);
}

/// Hubs are shut down while others still spawn: what was taken runs, and the rest comes back.
#[test]
fn spawning_while_it_ends() {
    for round in 0..50 {
        let hubs = hubs(2);
        let ran = Arc::new(AtomicUsize::new(0));
        let taken: usize = thread::scope(|scope| {
            let spawning: Vec<_> = (0..2)
                .map(|_| {
                    let (hubs, ran) = (&hubs, &ran);
                    scope.spawn(move || {
                        let mut taken = 0;
                        loop {
                            let ran = Arc::clone(ran);
                            let body = move || ran.fetch_add(1, SeqCst);
                            let spawned = match taken % 2 {
                                0 => hubs.try_spawn(body).is_ok(),
                                _ => hubs.try_spawn_on(1, body).is_ok(),
                            };
                            if !spawned {
                                return taken;
                            }
                            taken += 1;
                        }
                    })
                })
                .collect();
            (0..round * 20).for_each(|_| std::hint::spin_loop());
            assert!(hubs.shutdown(None));
            spawning.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(ran.load(SeqCst), taken);
    }
}

/// The same, and what is left is killed: each body has run, or was dropped.
#[test]
fn killing_while_it_ends() {
    for round in 0..50_u64 {
        let hubs = hubs(3);
        let handles: Vec<_> = (0..200_u64)
            .map(|number| {
                hubs.spawn(move || {
                    if number % 3 == 0 {
                        sleep(std::time::Duration::from_secs(60));
                    }
                    number
                })
            })
            .collect();
        let limit = std::time::Duration::from_micros(10 * round);
        assert!(!hubs.shutdown(Some(limit)));
        for (number, handle) in handles.into_iter().enumerate() {
            assert!(handle.is_finished());
            match handle.join() {
                Ok(result) => assert!(result == number as u64 && number % 3 != 0),
                other => assert!(matches!(other, Err(JoinError::Killed)), "{other:?}"),
            }
        }
    }
}
