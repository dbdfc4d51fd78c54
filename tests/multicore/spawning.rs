//! Where bodies run.

use super::support::{LONG, panic_message};
use super::{Held, hubs};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::Duration;
use switchgrass::multicore::{Builder, Hubs, JoinHandle};
use switchgrass::{spawn, stack, yield_now};

#[test]
fn handles_go_from_thread_to_thread() {
    fn check<T: Send + Sync>() {}
    fn check_send<T: Send>() {}
    check::<Hubs>();
    check::<JoinHandle<u32>>();
    check_send::<JoinHandle<std::cell::Cell<u32>>>();
}

#[test]
fn a_hub_is_a_thread_of_its_own() {
    let hubs = Builder::new().threads(3).name("crew").start().unwrap();
    assert_eq!((hubs.len(), hubs.current()), (3, None));
    let mut threads = BTreeSet::new();
    for hub in 0..3 {
        let also = hubs.clone();
        let asked = hubs
            .spawn_on(hub, move || (also.current(), thread::current().name().map(str::to_owned)));
        let (index, name) = asked.join().unwrap();
        assert_eq!(index, Some(hub));
        threads.insert(name.unwrap());
    }
    assert_eq!(Vec::from_iter(threads), ["crew-0", "crew-1", "crew-2"]);
}

/// A body that is spawned on a hub stays there, also if others have nothing to do.
#[test]
fn spawn_on_stays() {
    let hubs = hubs(3);
    let held = Held::hold(&hubs, 1);
    let mut bodies = Vec::new();
    for _ in 0..100 {
        let also = hubs.clone();
        bodies.push(hubs.spawn_on(1, move || also.current()));
    }
    // The others come by, and find none to take.
    for hub in [0, 2] {
        hubs.spawn_on(hub, || (0..100).for_each(|_| yield_now())).join().unwrap();
    }
    assert!(bodies.iter().all(|body| !body.is_finished()));
    held.let_go();
    for body in bodies {
        assert_eq!(body.join().unwrap(), Some(1));
    }
}

/// On one hub, the oldest first, whether or not they may be taken.
#[test]
fn in_order_on_a_hub() {
    let hubs = hubs(1);
    let held = Held::hold(&hubs, 0);
    let (sender, receiver) = mpsc::channel();
    for number in 0..200 {
        let sender = sender.clone();
        let body = move || sender.send(number).unwrap();
        match number % 3 {
            0 => drop(hubs.spawn(body)),
            1 => drop(hubs.spawn_on(0, body)),
            _ => drop(hubs.spawn_preferring(0, body)),
        }
    }
    drop(sender);
    held.let_go();
    assert_eq!(Vec::from_iter(receiver), Vec::from_iter(0..200));
}

/// From outside, bodies go to all hubs: each of as many bodies waits for the others, so each has a thread.
#[test]
fn every_hub_gets_work() {
    const HUBS: usize = 4;
    let hubs = hubs(HUBS);
    let barrier = Arc::new(Barrier::new(HUBS));
    let bodies: Vec<_> = (0..HUBS)
        .map(|_| {
            let (barrier, also) = (barrier.clone(), hubs.clone());
            hubs.spawn(move || {
                // Holds its thread.
                barrier.wait();
                also.current().unwrap()
            })
        })
        .collect();
    let on: BTreeSet<_> = bodies.into_iter().map(|body| body.join().unwrap()).collect();
    assert_eq!(on.len(), HUBS);
}

/// The same, spawned by a body: they are taken from its hub.
#[test]
fn every_hub_gets_work_from_a_body() {
    const HUBS: usize = 4;
    let hubs = hubs(HUBS);
    let also = hubs.clone();
    let root = hubs.spawn(move || {
        let barrier = Arc::new(Barrier::new(HUBS));
        let spawn = |_| {
            let (barrier, inner) = (barrier.clone(), also.clone());
            also.spawn(move || {
                barrier.wait();
                inner.current().unwrap()
            })
        };
        let bodies: Vec<_> = (0..HUBS).map(spawn).collect();
        bodies.into_iter().map(|body| body.join().unwrap()).collect::<BTreeSet<_>>()
    });
    assert_eq!(root.join().unwrap().len(), HUBS);
}

/// Coroutines that a body spawns are its hub's, and a body that waits stays where it is.
#[test]
fn a_body_never_moves() {
    let hubs = hubs(4);
    let bodies: Vec<_> = (0..200_u64)
        .map(|number| {
            hubs.spawn(move || {
                let here = thread::current().id();
                for round in 0..20 {
                    let child = spawn(|| thread::current().id());
                    if (number + round) % 7 == 0 {
                        switchgrass::sleep(Duration::from_micros(100));
                    } else {
                        yield_now();
                    }
                    assert_eq!(child.join().unwrap(), here);
                    assert_eq!(thread::current().id(), here);
                }
            })
        })
        .collect();
    bodies.into_iter().for_each(|body| body.join().unwrap());
}

/// Every node of a tree is a body that spawns two and joins them.
#[test]
fn bodies_spawn_bodies() {
    fn count(hubs: &Hubs, depth: u32) -> u64 {
        if depth == 0 {
            return 1;
        }
        let children: [_; 2] = std::array::from_fn(|_| {
            let also = hubs.clone();
            hubs.spawn(move || count(&also, depth - 1))
        });
        1 + children.into_iter().map(|child| child.join().unwrap()).sum::<u64>()
    }
    let hubs = hubs(3);
    assert_eq!(count(&hubs, 10), (1 << 11) - 1);
}

/// Two crews do not take each other's bodies, nor take themselves for each other.
#[test]
fn two_crews() {
    let (a, b) = (hubs(2), hubs(1));
    let (also_a, also_b) = (a.clone(), b.clone());
    let there = b.spawn(move || {
        let inner = also_a.clone();
        let back = also_a.spawn(move || inner.current().is_some()).join().unwrap();
        (also_a.current(), also_b.current(), back)
    });
    assert_eq!(there.join().unwrap(), (None, Some(0), true));
}

#[test]
fn a_hub_that_is_not_there() {
    let hubs = hubs(2);
    let message = panic_message(|| hubs.spawn_on(2, || ()));
    assert_eq!(message, "hub index must be less than 2, got 2");
    let message = panic_message(|| Hubs::new(0));
    assert_eq!(message, "thread count must be at least 1, got 0");
}

#[test]
fn stacks_of_a_size() {
    let error = Builder::new().threads(1).stack_size(1).start().unwrap_err();
    assert!(error.to_string().starts_with("stack size must be from"), "{error}");
    // A frame of a megabyte is more than a stack usually has.
    let hubs = Builder::new().threads(1).stack_size(stack::MAX_SIZE.min(4 << 20)).start().unwrap();
    let deep = hubs.spawn(|| {
        let frame = std::hint::black_box([1_u8; 1 << 20]);
        frame.iter().map(|byte| u64::from(*byte)).sum::<u64>()
    });
    assert_eq!(deep.join().unwrap(), 1 << 20);
}

/// A hub whose own coroutines are always ready begins bodies all the same: its own when it is their turn, and those
/// of others soon.
#[test]
fn a_busy_hub_begins_bodies() {
    let hubs = hubs(1);
    let (also, stop) = (hubs.clone(), Arc::new(AtomicBool::new(false)));
    let is_over = Arc::clone(&stop);
    let busy = hubs.spawn_on(0, move || {
        let own = [also.spawn(|| ()), also.spawn_on(0, || ()), also.spawn_preferring(0, || ())];
        let mut turns = 0;
        while !own.iter().all(JoinHandle::is_finished) {
            yield_now();
            turns += 1;
        }
        while !is_over.load(SeqCst) {
            yield_now();
        }
        turns
    });
    for number in 0..20 {
        let mut body = if number % 2 == 0 { hubs.spawn(|| ()) } else { hubs.spawn_on(0, || ()) };
        body.join_timeout(LONG).expect("begun").unwrap();
    }
    stop.store(true, SeqCst);
    let turns = busy.join().unwrap();
    assert!(turns <= 8, "three bodies have waited for {turns} turns of one other");
}
