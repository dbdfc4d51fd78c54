//! Bodies that have not begun are taken by hubs that have nothing to do.

use super::support::LONG;
use super::{Held, hubs};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::sync::mpsc;
use switchgrass::multicore::{Builder, Hubs};
use switchgrass::net::UnixStream;
use switchgrass::{sleep, yield_now};

/// One spawns bodies on its own hub, and holds it up without having waited: others have them run.
fn from_a_body_that_blocks(hubs: &Hubs, count: usize) {
    let also = hubs.clone();
    let root = hubs.spawn_on(0, move || {
        let (sender, receiver) = mpsc::channel();
        for _ in 0..count {
            let (sender, inner) = (sender.clone(), also.clone());
            drop(also.spawn(move || sender.send(inner.current().unwrap()).unwrap()));
        }
        // Not a wait of ours: nobody runs on this hub meanwhile.
        let on: Vec<_> = (0..count).map(|_| receiver.recv_timeout(LONG).unwrap()).collect();
        on.into_iter().collect::<BTreeSet<_>>()
    });
    let on = root.join().unwrap();
    assert!(!on.contains(&0), "{on:?}");
}

#[test]
fn one_body_beside_a_hub_that_is_held_up() {
    let hubs = hubs(2);
    for _ in 0..100 {
        from_a_body_that_blocks(&hubs, 1);
    }
}

#[test]
fn many_bodies_beside_a_hub_that_is_held_up() {
    let hubs = hubs(3);
    for count in [2, 3, 10, 100, 1_000] {
        from_a_body_that_blocks(&hubs, count);
    }
}

/// After the idle hubs have given up looking by themselves.
#[test]
fn after_a_long_silence() {
    let hubs = hubs(2);
    for _ in 0..3 {
        sleep(std::time::Duration::from_millis(30));
        from_a_body_that_blocks(&hubs, 1);
    }
}

/// The hub is held up already when the bodies come, from outside: one after the other, so each is alone there.
#[test]
fn from_outside_to_a_hub_that_is_held_up() {
    let hubs = hubs(2);
    let held = Held::hold(&hubs, 0);
    for _ in 0..200 {
        let also = hubs.clone();
        let mut body = hubs.spawn_preferring(0, move || also.current());
        assert_eq!(body.join_timeout(LONG).expect("taken").unwrap(), Some(1));
    }
    let all: Vec<_> = (0..200)
        .map(|_| {
            let also = hubs.clone();
            hubs.spawn_preferring(0, move || also.current())
        })
        .collect();
    for mut body in all {
        assert_eq!(body.join_timeout(LONG).expect("taken").unwrap(), Some(1));
    }
    held.let_go();
}

/// All hubs but the last have something that holds them up before it: it gets to all of them.
#[test]
fn all_but_one_are_held_up() {
    let hubs = hubs(4);
    let held: Vec<_> = (0..3).map(|hub| Held::hold(&hubs, hub)).collect();
    for round in 0..60 {
        let also = hubs.clone();
        let mut body = match round % 2 {
            0 => hubs.spawn(move || also.current()),
            _ => hubs.spawn_preferring(round % 3, move || also.current()),
        };
        assert_eq!(body.join_timeout(LONG).expect("taken").unwrap(), Some(3));
    }
    held.into_iter().for_each(Held::let_go);
}

/// One that is busy, but not held up, is helped as well, and the last bodies of one that blocks are not forgotten
/// when those that were taken first block too.
#[test]
fn those_that_were_taken_block_too() {
    const HUBS: usize = 4;
    let hubs = hubs(HUBS);
    let (sender, receiver) = mpsc::channel();
    let also = hubs.clone();
    let root = hubs.spawn_on(0, move || {
        // As many as there are hubs, all of which block, and one that does not, behind them.
        let (ends, blocked): (Vec<_>, Vec<_>) = (0..HUBS - 2)
            .map(|_| {
                let (end, ended) = mpsc::channel::<()>();
                (end, also.spawn(move || ended.recv().is_err()))
            })
            .unzip();
        drop(also.spawn(move || sender.send(()).unwrap()));
        receiver.recv_timeout(LONG).unwrap();
        drop(ends);
        assert!(blocked.into_iter().all(|body| body.join().unwrap()));
    });
    root.join().unwrap();
}

/// It has begun: nobody takes it any more, though its hub is held up and others are idle.
#[test]
fn one_that_has_begun_stays() {
    let hubs = hubs(2);
    let (tell, told) = mpsc::channel();
    let also = hubs.clone();
    let begun = hubs.spawn_preferring(0, move || {
        let first = also.current();
        tell.send(()).unwrap();
        yield_now();
        (first, also.current())
    });
    told.recv().unwrap();
    let (first, last) = begun.join().unwrap();
    assert_eq!(first, last);
}

/// Hubs that stay awake for a while do the same, and look for all else when that is over.
#[test]
fn hubs_that_spin() {
    let spin = std::time::Duration::from_micros(200);
    let hubs = Builder::new().threads(2).spin(spin).start().unwrap();
    for count in [1, 1, 2, 100] {
        from_a_body_that_blocks(&hubs, count);
    }
    let (mut here, there) = std::os::unix::net::UnixStream::pair().unwrap();
    let reading = hubs.spawn_on(1, move || {
        let mut there = UnixStream::from_std(there).unwrap();
        let mut buffer = [0; 5];
        there.read_exact(&mut buffer).unwrap();
        // Shorter than it spins.
        sleep(spin / 4);
        buffer
    });
    here.write_all(b"hello").unwrap();
    assert_eq!(&reading.join().unwrap(), b"hello");
    assert!(hubs.shutdown(None));
}
