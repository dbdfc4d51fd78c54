//! What is to be called at a coroutine's end, and what is taken off again.

use crate::support::{LONG, Log, ms, settle};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::mpsc;
use std::time::Duration;
use switchgrass::coroutine::{Coroutine, LinkId};
use switchgrass::{sleep, spawn, yield_now};

/// The second has not begun when the first runs: it never does, and what it captures is dropped.
#[test]
fn a_link_takes_off_the_one_behind_it() {
    let log = Log::new();
    let one = spawn(|| ());
    let behind: Rc<Cell<Option<LinkId>>> = Rc::default();
    let (inside, target, id) = (log.clone(), one.coroutine(), Rc::clone(&behind));
    let first = one.link(move || {
        let id = id.take().unwrap();
        inside.add(format!("first {} {}", target.unlink(id), target.unlink(id)));
    });
    let (inside, guard) = (log.clone(), log.guard("second dropped"));
    behind.set(Some(one.link(move || {
        inside.add("second runs");
        drop(guard);
    })));
    let inside = log.clone();
    let third = one.link(move || inside.add("third"));
    assert!(one.wait_end(None));
    settle();
    assert_eq!(log.take(), ["second dropped", "first true false", "third"]);
    assert!(!one.unlink(first) && !one.unlink(third), "they have run");
}

/// Taken off by who is ready before their coroutines are.
#[test]
fn links_that_are_taken_off_between_the_end_and_their_turn() {
    let log = Log::new();
    let one = spawn(|| ());
    let links: Vec<_> = (0..3)
        .map(|number| {
            let (log, guard) = (log.clone(), log.guard(format!("dropped {number}")));
            one.link(move || {
                log.add(format!("runs {number}"));
                std::mem::forget(guard);
            })
        })
        .collect();
    let (target, inside, taken) = (one.coroutine(), log.clone(), links[1]);
    // In the hub, in the pass that has spawned the coroutines of the three.
    one.link_in_hub(move || inside.add(target.unlink(taken)));
    assert!(one.wait_end(None));
    settle();
    assert_eq!(log.take(), ["dropped 1", "true", "runs 0", "runs 2"]);
    assert!(!links.iter().any(|link| one.unlink(*link)));
}

/// A link that adds another each time it runs does not keep the hub to itself.
#[test]
fn a_link_that_links_again_lets_others_run() {
    fn link_again(target: Coroutine, goes_on: Rc<Cell<bool>>, count: Rc<Cell<u64>>) {
        if goes_on.get() {
            count.set(count.get() + 1);
            let again = target.clone();
            target.link_in_hub(move || link_again(again, goes_on, count));
        }
    }
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        let (goes_on, count) = (Rc::new(Cell::new(true)), Rc::new(Cell::new(0)));
        let one = spawn(|| ());
        link_again(one.coroutine(), Rc::clone(&goes_on), Rc::clone(&count));
        assert!(one.wait_end(None));
        sleep(ms(5));
        goes_on.set(false);
        send.send(count.get()).unwrap();
    });
    let count = receive.recv_timeout(Duration::from_secs(10)).expect("others have their turn");
    assert!(count > 1);
}

/// A link of one coroutine is not one of another.
#[test]
fn a_link_is_of_one_coroutine() {
    let log = Log::new();
    let (one, other) = (spawn(|| ()), spawn(|| sleep(LONG)));
    let (of_one, of_other) = (log.clone(), log.clone());
    let link = one.link(move || of_one.add("one"));
    let of_the_other = other.link_in_hub(move || of_other.add("other"));
    assert!(link != of_the_other);
    assert!(!one.unlink(of_the_other) && !other.unlink(link));
    other.kill();
    assert!(one.wait_end(None) && other.wait_end(None));
    for _ in 0..3 {
        yield_now();
    }
    let mut told = log.take();
    told.sort();
    assert_eq!(told, ["one", "other"]);
}
