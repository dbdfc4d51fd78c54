//! Waiting for the first of several.

use crate::support::{Log, panic_message};
use crate::{LONG, SHORT, settle};
use std::time::{Duration, Instant};
use switchgrass::coroutine::scope;
use switchgrass::sync::{
    AsyncResult, Event, Queue, Selectable, Semaphore, Sharing, select, select_timeout,
};
use switchgrass::{JoinError, spawn, timeout};

/// {TestWait}: on objects of different kinds; whichever is ready first.
#[test]
fn test_wait() {
    fn check<S: Sharing>(
        event: &Event<S>,
        result: &AsyncResult<u32, S>,
        queue: &Queue<u32, S>,
        semaphore: &Semaphore<S>,
    ) {
        let objects: [&dyn Selectable; 4] = [event, result, queue, semaphore];
        assert_eq!(select_timeout(&objects, Duration::ZERO), None);
        for (number, object) in objects.iter().enumerate() {
            scope(|scope| {
                let waiting = scope.spawn(|| select(&objects));
                settle();
                assert!(!waiting.coroutine().is_finished());
                match number {
                    0 => event.set(),
                    1 => result.set(1).unwrap(),
                    2 => queue.put(2).unwrap(),
                    _ => semaphore.release(),
                }
                assert_eq!(waiting.join().unwrap(), number);
                assert_eq!(select(&[*object]), 0);
            });
            // The next ones are ready alone, but for a result, which stays.
            match number {
                0 => event.clear(),
                1 => return check_last(queue, semaphore),
                _ => unreachable!(),
            }
        }
    }
    fn check_last<S: Sharing>(queue: &Queue<u32, S>, semaphore: &Semaphore<S>) {
        let objects: [&dyn Selectable; 2] = [queue, semaphore];
        scope(|scope| {
            let waiting = scope.spawn(|| select(&objects));
            settle();
            queue.put(2).unwrap();
            assert_eq!(waiting.join().unwrap(), 0);
            assert_eq!(queue.try_get(), Ok(2));
            let waiting = scope.spawn(|| select(&objects));
            settle();
            semaphore.release();
            assert_eq!(waiting.join().unwrap(), 1);
            assert!(semaphore.try_acquire());
            let waiting = scope.spawn(|| select(&objects));
            settle();
            queue.shut_down();
            assert_eq!(waiting.join().unwrap(), 0);
        });
    }
    check(&Event::new(), &AsyncResult::new(), &Queue::new(), &Semaphore::new(0));
    check(&Event::shared(), &AsyncResult::shared(), &Queue::shared(), &Semaphore::shared(0));
}

/// {TestWait_count1}: of several that are ready, the first in the order given.
#[test]
fn the_first_in_the_order_given() {
    let events = [(); 3].map(|()| Event::new());
    let objects: Vec<&dyn Selectable> = events.iter().map(|event| event as _).collect();
    scope(|scope| {
        let waiting = scope.spawn(|| select(&objects));
        settle();
        events[2].set();
        events[1].set();
        assert_eq!(waiting.join().unwrap(), 1);
    });
}

/// {test_gevent_wait_twice_when_already_set}: without a switch.
#[test]
fn test_wait_twice_when_already_set() {
    let event = Event::new();
    event.set();
    let other = spawn(|| ());
    assert_eq!(select(&[&event, &event]), 0);
    assert_eq!(select_timeout(&[&event], LONG), Some(0));
    assert!(!other.is_finished());
}

#[test]
fn nothing_to_wait_for() {
    let message = panic_message(|| select(&[]));
    assert!(message.contains("at least one object"), "{message}");
    let start = Instant::now();
    assert_eq!(select_timeout(&[], SHORT), None);
    assert!(start.elapsed() >= SHORT);
}

/// {TestWait_notimeout}: not before its limit, and not for ever.
#[test]
fn limits() {
    let event = Event::shared();
    let start = Instant::now();
    assert_eq!(select_timeout(&[&event, &Queue::<u32>::new()], SHORT), None);
    assert!(start.elapsed() >= SHORT);
}

/// It takes nothing: all that watch are told, and one is faster; the others wait again.
#[test]
fn several_that_select() {
    fn check<S: Sharing>(queue: &Queue<u32, S>, stop: &Event<S>) {
        let log = Log::new();
        scope(|scope| {
            for name in ["a", "b"] {
                let log = &log;
                scope.spawn(move || {
                    while select(&[queue, stop]) == 0 {
                        if let Ok(item) = queue.try_get() {
                            log.add(format!("{name} {item}"));
                        }
                    }
                    log.add(format!("{name} stops"));
                });
            }
            for item in 0..2 {
                settle();
                queue.put(item).unwrap();
            }
            settle();
            stop.set();
        });
        let log = log.take();
        assert_eq!(log.len(), 4);
        assert!(log[0].ends_with('0') && log[1].ends_with('1'), "{log:?}");
        assert_eq!(log[2..], ["a stops", "b stops"]);
    }
    check(&Queue::new(), &Event::new());
    check(&Queue::shared(), &Event::shared());
}

/// Those that wait for the object itself come first: what was handed to them is not there to be
/// taken.
#[test]
fn those_that_wait_come_before_those_that_watch() {
    let (queue, semaphore) = (Queue::new(), Semaphore::new(0));
    scope(|scope| {
        let watching = scope.spawn(|| select(&[&queue, &semaphore]));
        let getting = scope.spawn(|| queue.get());
        let acquiring = scope.spawn(|| semaphore.acquire());
        settle();
        queue.put(1).unwrap();
        semaphore.release();
        assert_eq!(getting.join().unwrap(), Ok(1));
        acquiring.join().unwrap();
        settle();
        assert!(!watching.coroutine().is_finished());
        semaphore.release();
        assert_eq!(watching.join().unwrap(), 1);
    });
}

/// One whose item comes back to the queue, since it was killed, tells those that watch.
#[test]
fn an_item_that_comes_back_is_seen() {
    let queue = Queue::new();
    scope(|scope| {
        let dying = scope.spawn(|| queue.get());
        let watching = scope.spawn(|| select(&[&queue]));
        settle();
        dying.coroutine().kill();
        queue.put(1).unwrap();
        assert_eq!(watching.join().unwrap(), 0);
        assert_eq!(queue.try_get(), Ok(1));
    });
}

/// An item of one that waited to put is seen as well, by one that begins to watch meanwhile.
#[test]
fn an_item_of_a_waiting_putter_is_seen() {
    let queue = Queue::bounded(1);
    queue.put(1).unwrap();
    scope(|scope| {
        scope.spawn(|| queue.put(2).unwrap());
        settle();
        assert_eq!(queue.try_get(), Ok(1));
        assert_eq!(select(&[&queue]), 0);
        assert_eq!(queue.try_get(), Ok(2));
    });
}

/// {test_iwait_nogarbage}: killed, or timed out from outside, it leaves nothing that could wake it
/// later.
#[test]
fn one_that_gives_up_leaves_nothing_behind() {
    fn check<S: Sharing>(event: &Event<S>, semaphore: &Semaphore<S>) {
        scope(|scope| {
            let killed = scope.spawn(|| select(&[event, semaphore]));
            let late = scope.spawn(|| {
                assert!(timeout(SHORT, || select(&[event, semaphore])).is_err());
                // Another wait, which what comes below must not end.
                assert!(!Event::new().wait_timeout(2 * SHORT));
            });
            settle();
            killed.coroutine().kill();
            assert!(matches!(killed.join(), Err(JoinError::Killed)));
            switchgrass::sleep(2 * SHORT);
            event.set();
            semaphore.release();
            late.join().unwrap();
            assert_eq!(semaphore.permits(), 1);
        });
    }
    check(&Event::new(), &Semaphore::new(0));
    check(&Event::shared(), &Semaphore::shared(0));
}
