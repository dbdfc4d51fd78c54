//! Events.

use crate::support::Log;
use crate::{LONG, SHORT, settle};
use std::time::{Duration, Instant};
use switchgrass::coroutine::scope;
use switchgrass::sync::{Event, Sharing};
use switchgrass::{JoinError, spawn, yield_now};

/// {lock_tests test_is_set}
#[test]
fn test_is_set() {
    let event = Event::new();
    assert!(!event.is_set());
    event.set();
    event.set();
    assert!(event.is_set());
    event.clear();
    event.clear();
    assert!(!event.is_set());
}

/// {lock_tests test_notify}: all who wait go on in the order of waiting, before any of them that waits
/// again; later ones do not wait at all.
#[test]
fn test_notify() {
    fn check<S: Sharing>(event: &Event<S>) {
        let log = Log::new();
        scope(|scope| {
            for number in 0..5 {
                let log = &log;
                scope.spawn(move || {
                    event.wait();
                    log.add(number);
                    event.wait();
                    log.add(number + 10);
                });
            }
            settle();
            assert!(log.take().is_empty());
            event.set();
            assert!(log.take().is_empty(), "nobody runs before the setter gives up control");
        });
        let mut all = log.take();
        all[5..].sort();
        let expected: Vec<_> = [0, 1, 2, 3, 4, 10, 11, 12, 13, 14].map(|n| n.to_string()).into();
        assert_eq!(all, expected);
    }
    check(&Event::new());
    check(&Event::shared());
}

/// {lock_tests test_timeout}
#[test]
fn test_timeout() {
    fn check<S: Sharing>(event: &Event<S>) {
        for _ in 0..2 {
            let start = Instant::now();
            assert!(!event.wait_timeout(SHORT));
            assert!(start.elapsed() >= SHORT);
        }
        event.set();
        assert!(event.wait_timeout(SHORT));
        assert!(event.wait_timeout(Duration::ZERO));
    }
    check(&Event::new());
    check(&Event::shared());
}

/// {TestEvent_SetThenClear1, 100, 1000}, {lock_tests test_set_and_clear}: all who waited when it
/// was set go on and say so, though it is not set any more when they run.
#[test]
fn test_set_then_clear() {
    fn check<S: Sharing>(event: &Event<S>, count: usize) {
        let log = Log::new();
        scope(|scope| {
            for number in 0..count {
                let log = &log;
                scope.spawn(move || {
                    assert!(event.wait_timeout(LONG));
                    assert!(!event.is_set());
                    log.add(number);
                });
            }
            settle();
            event.set();
            event.clear();
        });
        assert_eq!(log.take(), (0..count).map(|number| number.to_string()).collect::<Vec<_>>());
    }
    for count in [1, 100, 1000] {
        check(&Event::new(), count);
        check(&Event::shared(), count);
    }
}

/// {test_set_during_wait}: one that waits again, after a `clear` and while others are still to be
/// woken, waits for the next `set`.
#[test]
fn test_set_during_wait() {
    fn check<S: Sharing>(event: &Event<S>) {
        let log = Log::new();
        scope(|scope| {
            scope.spawn(|| {
                event.wait();
                log.add("a 1");
                event.clear();
                event.wait();
                log.add("a 2");
            });
            scope.spawn(|| {
                event.wait();
                log.add("b 1");
            });
            settle();
            event.set();
            settle();
            assert_eq!(log.take(), ["a 1", "b 1"]);
            event.set();
        });
        assert_eq!(log.take(), ["a 2"]);
    }
    check(&Event::new());
    check(&Event::shared());
}

/// {test_wait_while_notifying}: coroutines that come to wait while others are still to be woken run
/// after those.
#[test]
fn test_wait_while_notifying() {
    fn check<S: Sharing>(event: &Event<S>) {
        let log = Log::new();
        scope(|scope| {
            let wait = |name: &'static str| {
                event.wait();
                log.add(name);
            };
            scope.spawn(move || wait("1"));
            scope.spawn(move || wait("2"));
            settle();
            event.set();
            scope.spawn(move || wait("3"));
            // The setter itself, too.
            wait("4");
        });
        assert_eq!(log.take(), ["1", "2", "3", "4"]);
    }
    check(&Event::new());
    check(&Event::shared());
}

/// Nor does one that was woken, and killed before it went on, keep others waiting.
#[test]
fn one_that_was_woken_and_killed_keeps_nobody_waiting() {
    let (event, log) = (Event::new(), Log::new());
    scope(|scope| {
        let killed = scope.spawn(|| event.wait());
        settle();
        killed.coroutine().kill();
        event.set();
        assert!(matches!(killed.join(), Err(JoinError::Killed)));
        scope.spawn(|| log.add("other"));
        event.wait();
        log.add("main");
    });
    assert_eq!(log.take(), ["main", "other"]);
}

#[test]
fn one_that_is_set_is_waited_for_without_a_switch() {
    let event = Event::new();
    event.set();
    let log = Log::new();
    let inside = log.clone();
    let other = spawn(move || inside.add("other"));
    event.wait();
    assert!(event.wait_timeout(LONG));
    log.add("main");
    other.join().unwrap();
    assert_eq!(log.take(), ["main", "other"]);
}

#[test]
fn a_limit_of_zero_lets_the_others_run() {
    fn check<S: Sharing>(event: &Event<S>) {
        let log = Log::new();
        scope(|scope| {
            scope.spawn(|| log.add("other"));
            assert!(!event.wait_timeout(Duration::ZERO));
            log.add("main");
        });
        assert_eq!(log.take(), ["other", "main"]);
    }
    check(&Event::new());
    check(&Event::shared());
}

/// One that is killed, or whose limit passes, leaves nothing behind that could wake it, or take
/// what is another's.
#[test]
fn one_that_gives_up_leaves_nothing_behind() {
    fn check<S: Sharing>(event: &Event<S>) {
        let log = Log::new();
        scope(|scope| {
            let killed = scope.spawn(|| event.wait());
            scope.spawn(|| {
                assert!(!event.wait_timeout(SHORT));
                log.add("gave up");
                // Another wait, which the set below must not end.
                assert!(!Event::new().wait_timeout(2 * SHORT));
                log.add("had its time");
            });
            let patient = scope.spawn(|| {
                event.wait();
                log.add("patient");
            });
            yield_now();
            killed.coroutine().kill();
            assert!(matches!(killed.join(), Err(JoinError::Killed)));
            switchgrass::sleep(2 * SHORT);
            event.set();
            patient.join().unwrap();
        });
        let log = log.take();
        assert_eq!((log[0].as_str(), log.len()), ("gave up", 3));
    }
    check(&Event::new());
    check(&Event::shared());
}

/// Killed in the turn in which it was set: the kill is what it sees, and the others are woken all
/// the same.
#[test]
fn a_kill_in_the_turn_of_the_set() {
    fn check<S: Sharing>(event: &Event<S>) {
        let log = Log::new();
        scope(|scope| {
            let wait = |name| {
                event.wait();
                log.add(name);
            };
            let killed = scope.spawn(move || wait("killed"));
            scope.spawn(move || wait("other"));
            settle();
            killed.coroutine().kill();
            event.set();
            assert!(matches!(killed.join(), Err(JoinError::Killed)));
        });
        assert_eq!(log.take(), ["other"]);
    }
    check(&Event::new());
    check(&Event::shared());
}

/// {AsLinkTarget}: a coroutine's end sets it.
#[test]
fn as_link_target() {
    use std::rc::Rc;
    let event = Rc::new(Event::new());
    let own = Rc::clone(&event);
    let ending = spawn(|| ());
    ending.link_in_hub(move || own.set());
    event.wait();
    assert!(ending.is_finished());
}

#[test]
fn debug_says_whether_it_is_set() {
    let event = Event::shared();
    event.set();
    assert_eq!(format!("{event:?}"), "Event { is_set: true, .. }");
}
