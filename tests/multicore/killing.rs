//! Ending bodies from other threads.

use super::support::{LONG, panic_message};
use super::{Held, hubs};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::thread;
use switchgrass::multicore::JoinHandle;
use switchgrass::sync::{Event, Queue, Semaphore};
use switchgrass::{JoinError, sleep, spawn, yield_now};

#[track_caller]
fn assert_killed<T: std::fmt::Debug>(result: Result<T, JoinError>) {
    assert!(matches!(result, Err(JoinError::Killed)), "{result:?}");
}

/// Adds one when it is dropped.
struct Counts(Arc<AtomicUsize>);

impl Drop for Counts {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
    }
}

#[test]
fn one_that_has_not_begun_never_does() {
    let hubs = hubs(1);
    let held = Held::hold(&hubs, 0);
    let dropped = Arc::new(AtomicUsize::new(0));
    for is_movable in [false, true] {
        let counts = Counts(Arc::clone(&dropped));
        let body = move || {
            let _counts = counts;
            panic!("it was killed before");
        };
        let handle = if is_movable { hubs.spawn(body) } else { hubs.spawn_on(0, body) };
        assert!(!handle.is_finished());
        handle.kill();
        // At once, though its hub is held up.
        assert!(handle.is_finished());
        assert_eq!(dropped.swap(0, SeqCst), 1);
        handle.kill();
        assert_killed(handle.join());
    }
    held.let_go();
    assert!(hubs.shutdown(None), "those were not killed by that");
}

#[test]
fn one_that_waits_is_unwound_on_its_own_hub() {
    struct Tells(mpsc::Sender<thread::ThreadId>);

    impl Drop for Tells {
        fn drop(&mut self) {
            self.0.send(thread::current().id()).unwrap();
        }
    }

    let hubs = hubs(2);
    let there = hubs.spawn_on(1, || thread::current().id()).join().unwrap();
    let (sender, receiver) = mpsc::channel();
    let (tell, told) = mpsc::channel();
    let handle = hubs.spawn_on(1, move || {
        let _tells = Tells(sender);
        tell.send(()).unwrap();
        sleep(LONG);
    });
    told.recv().unwrap();
    handle.kill();
    assert_killed(handle.join());
    assert_eq!(receiver.recv(), Ok(there));
}

/// From a coroutine of the same hub, and from itself.
#[test]
fn on_the_same_hub() {
    let hubs = hubs(1);
    let also = hubs.clone();
    let root = hubs.spawn(move || {
        let other = also.spawn_on(0, || sleep(LONG));
        // Killed before it begins, and after.
        also.spawn_on(0, || ()).kill();
        yield_now();
        yield_now();
        other.kill();
        other.join()
    });
    assert_killed(root.join().unwrap());

    let queue = Arc::new(Queue::shared());
    let own: Arc<Queue<Arc<JoinHandle<()>>, _>> = Arc::clone(&queue);
    let handle = Arc::new(hubs.spawn(move || {
        own.get().unwrap().kill();
        unreachable!("it was raised in there");
    }));
    queue.put(Arc::clone(&handle)).unwrap();
    hubs.shutdown(None);
    drop(queue);
    assert_killed(Arc::into_inner(handle).expect("the other is gone").join());
}

#[test]
fn one_that_has_ended_stays_so() {
    let hubs = hubs(1);
    let mut handle = hubs.spawn(|| 5);
    while !handle.is_finished() {
        yield_now();
    }
    handle.kill();
    assert_eq!(handle.join_timeout(LONG).unwrap().unwrap(), 5);
    handle.kill();
    hubs.shutdown(None);
    handle.kill();
}

/// It may catch what is raised, and go on.
#[test]
fn one_that_goes_on() {
    let hubs = hubs(1);
    let event = Arc::new(Event::shared());
    let waits = Arc::clone(&event);
    let handle = hubs.spawn(move || {
        let killed = catch_unwind(AssertUnwindSafe(|| waits.wait())).unwrap_err();
        killed.is::<switchgrass::GreenletExit>()
    });
    // It waits by now: this one has begun after it.
    hubs.spawn_on(0, || ()).join().unwrap();
    handle.kill();
    assert!(handle.join().unwrap());
}

/// A kill raises nothing in who has ended its body and drops what that returned.
#[test]
fn a_destructor_that_panics() {
    struct Panics;

    impl Drop for Panics {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }

    let hubs = hubs(1);
    let held = Held::hold(&hubs, 0);
    let panics = Panics;
    let handle = hubs.spawn(move || drop(panics));
    assert_eq!(panic_message(|| handle.kill()), "dropped");
    assert_killed(handle.join());
    held.let_go();
    assert_eq!(hubs.spawn(|| 1).join().unwrap(), 1);
}

/// Bodies that end, wait and spawn, while others kill and join them: each ends once, with its result or killed,
/// and all that they have held is dropped.
#[test]
fn kills_and_joins_at_the_same_time() {
    const BODIES: usize = 3_000;
    let hubs = hubs(4);
    let (dropped, ran) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let gate = Arc::new(Semaphore::shared(0));
    let handles: Vec<_> = (0..BODIES)
        .map(|number| {
            let counts = Counts(Arc::clone(&dropped));
            let (ran, gate) = (Arc::clone(&ran), Arc::clone(&gate));
            let body = move || {
                let _counts = counts;
                for _ in 0..number % 5 {
                    yield_now();
                }
                if number % 3 == 0 {
                    gate.acquire();
                }
                ran.fetch_add(1, SeqCst);
                number
            };
            let handle = match number % 4 {
                0 => hubs.spawn_on(number % 3, body),
                _ => hubs.spawn(body),
            };
            Arc::new(std::sync::Mutex::new(Some(handle)))
        })
        .collect();
    // Those that wait are let go of by and by, or killed.
    let outcomes = thread::scope(|scope| {
        for thread in 0..2 {
            let (handles, gate) = (&handles, &gate);
            scope.spawn(move || {
                for handle in handles.iter().skip(thread).step_by(2) {
                    if let Some(handle) = &*handle.lock().unwrap() {
                        handle.kill();
                    }
                    gate.release();
                }
            });
        }
        let joining = scope.spawn(|| {
            let join = |handle: &Arc<std::sync::Mutex<Option<JoinHandle<usize>>>>| {
                let taken = handle.lock().unwrap().take().unwrap();
                spawn(move || taken.join())
            };
            let all: Vec<_> = handles.iter().rev().map(join).collect();
            all.into_iter().map(|waiting| waiting.join().unwrap()).collect::<Vec<_>>()
        });
        joining.join().unwrap()
    });
    assert_eq!(outcomes.len(), BODIES);
    let mut done = 0;
    for (number, outcome) in outcomes.into_iter().rev().enumerate() {
        match outcome {
            Ok(result) => {
                assert_eq!(result, number);
                done += 1;
            }
            other => assert_killed(other),
        }
    }
    assert!(hubs.shutdown(None));
    assert_eq!((dropped.load(SeqCst), ran.load(SeqCst)), (BODIES, done));
}
