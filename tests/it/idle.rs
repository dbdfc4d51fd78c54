//! Running until nobody is ready.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use switchgrass::coroutine::run_until_idle;
use switchgrass::sync::Event;
use switchgrass::{coroutine, sleep, spawn, timeout, yield_now};

const LONG: Duration = Duration::from_secs(60);

#[test]
fn all_run_until_they_wait_or_end() {
    let (steps, event) = (Rc::new(Cell::new(0)), Rc::new(Event::new()));
    let all: Vec<_> = (0..3)
        .map(|number| {
            let (steps, event) = (Rc::clone(&steps), Rc::clone(&event));
            spawn(move || {
                for _ in 0..100 * number {
                    steps.set(steps.get() + 1);
                    yield_now();
                }
                event.wait();
                // Whom it spawns runs as well.
                spawn(move || steps.set(steps.get() + 1000)).join().unwrap();
            })
        })
        .collect();
    run_until_idle();
    assert_eq!(steps.get(), 300);
    assert!(all.iter().all(|one| one.waits_for() == Some("Event::wait")));
    event.set();
    run_until_idle();
    assert_eq!(steps.get(), 3300);
    assert!(all.iter().all(|one| one.is_finished()));
    run_until_idle();
}

#[test]
fn a_timer_that_is_due_counts_and_a_later_one_does_not() {
    let (soon, late) = (spawn(|| sleep(Duration::from_millis(5))), spawn(|| sleep(LONG)));
    yield_now();
    std::thread::sleep(Duration::from_millis(10));
    run_until_idle();
    assert!(soon.is_finished() && !late.is_finished());
}

/// Those that do it at once do not wait for each other.
#[test]
fn several_wait_for_it_at_once() {
    let all: Vec<_> = (0..3).map(|_| spawn(run_until_idle)).collect();
    timeout(Duration::from_secs(10), run_until_idle).expect("they wait for each other");
    coroutine::join_all(all);
}

#[test]
fn one_that_is_killed_in_it_is_not_waited_for() {
    let busy = spawn(|| {
        loop {
            yield_now();
        }
    });
    let waiting = spawn(run_until_idle);
    for _ in 0..10 {
        yield_now();
    }
    waiting.kill();
    busy.kill();
    timeout(Duration::from_secs(10), run_until_idle).expect("it is waited for");
    assert!(waiting.is_finished() && busy.is_finished());
}
