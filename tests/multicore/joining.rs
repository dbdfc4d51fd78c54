//! How results get to who waits for them.

use super::support::{LONG, ms, panic_message};
use super::{Held, hubs};
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;
use switchgrass::multicore::JoinHandle;
use switchgrass::sync::{Event, Queue, select};
use switchgrass::{JoinError, sleep, spawn, yield_now};

/// From main, a coroutine of main's thread, a thread without coroutines, another hub, and the same hub.
#[test]
fn from_everywhere() {
    let hubs = hubs(2);
    let slow = || {
        hubs.spawn_on(0, || {
            sleep(ms(2));
            5
        })
    };
    assert_eq!(slow().join().unwrap(), 5);
    let handle = slow();
    assert_eq!(spawn(move || handle.join().unwrap()).join().unwrap(), 5);
    let handle = slow();
    assert_eq!(thread::spawn(move || handle.join().unwrap()).join().unwrap(), 5);
    for hub in [0, 1] {
        let handle = slow();
        assert_eq!(hubs.spawn_on(hub, move || handle.join().unwrap()).join().unwrap(), 5);
    }
}

/// Who joins lets the others of its thread run.
#[test]
fn others_run_meanwhile() {
    let hubs = hubs(1);
    let event = Arc::new(Event::shared());
    let waits = Arc::clone(&event);
    let handle = hubs.spawn(move || waits.wait());
    spawn(move || event.set());
    handle.join().unwrap();
}

#[test]
fn with_a_limit() {
    let hubs = hubs(1);
    let event = Arc::new(Event::shared());
    let waits = Arc::clone(&event);
    let mut handle = hubs.spawn(move || {
        waits.wait();
        "done"
    });
    assert!(handle.join_timeout(ms(5)).is_none());
    assert!(!handle.is_finished());
    event.set();
    assert_eq!(handle.join_timeout(LONG).unwrap().unwrap(), "done");
    assert!(handle.is_finished());
    assert!(matches!(handle.join_timeout(LONG), Some(Err(JoinError::Taken))));
    assert!(matches!(handle.join(), Err(JoinError::Taken)));
}

#[test]
fn a_panic_is_in_the_handle_and_harms_nobody() {
    let hubs = hubs(2);
    for hub in [0, 1] {
        let failing = hubs.spawn_on(hub, || -> u32 { panic!("out of luck") });
        match failing.join() {
            Err(JoinError::Panicked(payload)) => {
                assert_eq!(payload.downcast_ref(), Some(&"out of luck"));
            }
            other => panic!("{other:?}"),
        }
        // Nobody is told of this one, but by standard error.
        drop(hubs.spawn_on(hub, || panic!("unheard of")));
        assert_eq!(hubs.spawn_on(hub, || 1).join().unwrap(), 1);
    }
    assert!(hubs.shutdown(None));
}

/// Dropped, a handle has no effect; the result is dropped where the body has run.
#[test]
fn nobody_wants_the_result() {
    struct Tells(mpsc::Sender<thread::ThreadId>);

    impl Drop for Tells {
        fn drop(&mut self) {
            // It may wait there.
            yield_now();
            self.0.send(thread::current().id()).unwrap();
        }
    }

    let hubs = hubs(2);
    let there = hubs.spawn_on(1, || thread::current().id()).join().unwrap();
    let (sender, receiver) = mpsc::channel();
    let (event, tells) = (Arc::new(Event::shared()), Tells(sender));
    let waits = Arc::clone(&event);
    drop(hubs.spawn_on(1, move || {
        waits.wait();
        tells
    }));
    event.set();
    assert_eq!(receiver.recv_timeout(LONG).unwrap(), there);
    // One whose handle outlives it is dropped with that.
    let (sender, receiver) = mpsc::channel();
    let handle = hubs.spawn_on(1, move || Tells(sender));
    while !handle.is_finished() {
        yield_now();
    }
    hubs.shutdown(None);
    assert!(receiver.try_recv().is_err());
    drop(handle);
    assert_eq!(receiver.try_recv(), Ok(thread::current().id()));
}

#[test]
fn one_that_joins_itself() {
    let hubs = hubs(2);
    let queue = Arc::new(Queue::shared());
    let own: Arc<Queue<JoinHandle<()>, _>> = Arc::clone(&queue);
    let (sender, receiver) = mpsc::channel();
    let handle = hubs.spawn(move || {
        let mut own = own.get().unwrap();
        sender.send(panic_message(|| own.join_timeout(LONG))).unwrap();
        sender.send(panic_message(|| own.join())).unwrap();
    });
    queue.put(handle).unwrap();
    hubs.shutdown(None);
    let all = Vec::from_iter(receiver);
    assert_eq!(all, ["a task cannot join itself: it would wait indefinitely"; 2]);
}

/// Several are waited for at once, beside other things.
#[test]
fn the_first_of_several() {
    let hubs = hubs(2);
    let (event, go) = (Event::shared(), Arc::new(Event::shared()));
    let waits = Arc::clone(&go);
    let slow = hubs.spawn_on(0, || sleep(LONG));
    let quick = hubs.spawn_on(1, move || waits.wait());
    spawn(move || go.set());
    assert_eq!(select(&[&slow, &event, &quick]), 2);
    slow.kill();
    assert_eq!(select(&[&slow, &event]), 0);
}

/// Panics whenever it is dropped, with another of its kind.
struct Endless;

impl Drop for Endless {
    fn drop(&mut self) {
        if !thread::panicking() {
            panic_any(Endless);
        }
    }
}

/// Nothing here takes as long.
const LIMIT: Duration = Duration::from_secs(10);

/// A result, a payload, and what a body has captured: whatever their destructors do, the hubs go on.
#[test]
fn destructors_that_panic_end_no_hub() {
    let hubs = hubs(2);
    for hub in [0, 1] {
        for _ in 0..3 {
            // Their handles are dropped before they begin: so what they leave is dropped on the hub.
            let mut held = Held::hold(&hubs, hub);
            drop(hubs.spawn_on(hub, || -> () { panic_any(Endless) }));
            drop(hubs.spawn_on(hub, || Endless));
            let captured = Endless;
            drop(hubs.spawn_on(hub, move || drop(captured)));
            // One that is killed before it begins: here.
            let captured = Endless;
            let never = hubs.spawn_on(hub, move || drop(captured));
            let killed = catch_unwind(AssertUnwindSafe(|| never.kill()));
            std::mem::forget(killed);
            drop(held.end);
            assert!(held.body.join_timeout(LIMIT).is_some(), "the hub is there");
            assert!(matches!(never.join(), Err(JoinError::Killed)));
        }
        let later = hubs.spawn_on(hub, move || hub).join_timeout(LIMIT);
        assert_eq!(later.expect("it runs").unwrap(), hub);
    }
    // And those that are killed by a shutdown.
    for hub in [0, 1] {
        let [captured, also] = [Endless, Endless];
        let _held = Held::hold(&hubs, hub);
        drop(hubs.spawn_on(hub, move || {
            let _captured = captured;
            sleep(LONG);
        }));
        drop(hubs.spawn_on(hub, move || drop(also)));
    }
    assert!(!hubs.shutdown(Some(ms(5))));
}

/// It would wait indefinitely.
#[test]
fn a_body_that_selects_its_own_handle_is_refused() {
    let hubs = switchgrass::multicore::Hubs::new(1).unwrap();
    let (handles, said) = (Arc::new(Queue::shared()), mpsc::channel());
    let own = Arc::clone(&handles);
    let body = hubs.spawn(move || {
        let own: JoinHandle<()> = own.get().unwrap();
        let refused = catch_unwind(AssertUnwindSafe(|| select(&[&own])));
        said.0.send(refused.is_err()).unwrap();
    });
    handles.put(body).unwrap();
    assert_eq!(said.1.recv_timeout(Duration::from_secs(10)), Ok(true));
}
