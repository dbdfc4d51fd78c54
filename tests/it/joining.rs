//! Ends of coroutines: who waits for them, and who is told.

use crate::support::{LONG, Log, ms, panic_message, payload_of, settle};
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant};
use switchgrass::coroutine::{Iwait, LinkId, iwait, join_all, kill_all, wait_any};
use switchgrass::sync::Event;
use switchgrass::{
    Coroutine, Generator, JoinError, JoinHandle, coroutine, greenlet, sleep, sleep_until, spawn,
    timeout, yield_now,
};

fn sleeper(milliseconds: u64) -> JoinHandle<u64> {
    let [one] = sleepers([milliseconds]);
    one
}

/// Those who end after so many milliseconds from now, and return these.
fn sleepers<const N: usize>(milliseconds: [u64; N]) -> [JoinHandle<u64>; N] {
    let start = Instant::now();
    milliseconds.map(|milliseconds| {
        spawn(move || {
            sleep_until(start + ms(milliseconds));
            milliseconds
        })
    })
}

fn all_of<T>(handles: &[JoinHandle<T>]) -> Vec<Coroutine> {
    handles.iter().map(|handle| handle.coroutine()).collect()
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

/// One that has ended is joined without giving up control.
#[test]
fn joining_one_that_has_ended() {
    let log = Log::new();
    let mut handle = spawn(|| "result");
    yield_now();
    let in_other = log.clone();
    let other = spawn(move || in_other.add("other"));
    assert_eq!(handle.join_timeout(LONG).unwrap().unwrap(), "result");
    assert!(matches!(handle.join(), Err(JoinError::Taken)));
    log.add("joined");
    other.join().unwrap();
    assert_eq!(log.take(), ["joined", "other"]);
}

/// {TestJoin}: the limit is kept, and what comes later is not lost.
#[test]
fn test_join_timeout() {
    let may_end = Rc::new(Cell::new(false));
    let ask = Rc::clone(&may_end);
    let mut handle = spawn(move || {
        while !ask.get() {
            sleep(ms(1));
        }
        40
    });
    let start = Instant::now();
    assert!(handle.join_timeout(ms(10)).is_none());
    assert!(start.elapsed() >= ms(10));
    assert!(handle.join_timeout(ms(0)).is_none());
    assert!(!handle.wait_end(Some(ms(1))));
    may_end.set(true);
    assert_eq!(handle.join_timeout(LONG).unwrap().unwrap(), 40);
    assert!(matches!(handle.join_timeout(LONG), Some(Err(JoinError::Taken))));
}

/// A limit of zero lets those run that are ready; one that ends thereby is joined.
#[test]
fn a_limit_of_zero() {
    let mut ready = spawn(|| 5);
    assert_eq!(ready.join_timeout(ms(0)).unwrap().unwrap(), 5);
}

/// Two wait for the same one: both are told, in the order in which they began.
#[test]
fn several_wait_for_one() {
    let log = Log::new();
    let one = sleeper(1);
    let waiting = [1, 2, 3].map(|number| {
        let (log, one) = (log.clone(), one.coroutine());
        spawn(move || {
            assert!(one.wait_end(None));
            log.add(number);
        })
    });
    waiting.into_iter().for_each(|handle| handle.join().unwrap());
    assert_eq!(log.take(), numbers(1..4));
    one.join().unwrap();
}

#[test]
fn one_that_joins_itself() {
    let log = Log::new();
    let own: Rc<Cell<Option<JoinHandle<()>>>> = Rc::default();
    let (inside, in_own) = (log.clone(), Rc::clone(&own));
    let handle = spawn(move || {
        let handle = in_own.take().unwrap();
        inside.add(panic_message(|| handle.join()));
    });
    let coroutine = handle.coroutine();
    own.set(Some(handle));
    assert!(coroutine.wait_end(None) && coroutine.is_successful());
    assert_eq!(log.take(), ["a coroutine cannot join itself: it would wait indefinitely"]);
}

/// Whichever way it is waited for, and in whichever greenlet that runs for it.
#[test]
fn one_that_waits_for_itself_is_refused_everywhere() {
    type Wait = fn(&Coroutine) -> bool;
    let ways: [(&str, Wait); 6] = [
        ("wait_end", |own| own.wait_end(None)),
        ("wait_end with a limit", |own| own.wait_end(Some(LONG))),
        ("wait_any", |own| wait_any([own.clone()]).is_some()),
        ("iwait", |own| iwait([own.clone()]).count() > 0),
        ("iwait among others", |own| {
            let other = spawn(|| sleep(LONG)).coroutine();
            iwait([other, own.clone()]).limit(LONG).next().is_some()
        }),
        ("iwait after others", |own| iwait([spawn(|| ()).coroutine(), own.clone()]).count() > 0),
    ];
    for (name, way) in ways {
        for in_generator in [false, true] {
            let told = Rc::new(RefCell::new(String::new()));
            let tell = Rc::clone(&told);
            let handle = spawn(move || {
                let own = coroutine::current();
                let wait = move || panic_message(|| way(&own));
                *tell.borrow_mut() = if in_generator {
                    Generator::new(move |y| y.yield_(wait())).next().unwrap()
                } else {
                    wait()
                };
            });
            assert!(
                handle.wait_end(Some(ms(10_000))),
                "{name} hangs, in a generator: {in_generator}"
            );
            assert_eq!(
                *told.borrow(),
                "a coroutine cannot join itself: it would wait indefinitely",
                "{name}"
            );
        }
    }
}

#[test]
fn one_that_joins_itself_in_its_generator() {
    let own: Rc<Cell<Option<JoinHandle<String>>>> = Rc::default();
    let in_own = Rc::clone(&own);
    let handle = spawn(move || {
        let mut handle = in_own.take().unwrap();
        let mut body = Generator::new(move |y| {
            y.yield_(panic_message(|| handle.join_timeout(LONG)));
            y.yield_(panic_message(|| handle.join()));
        });
        let limited = body.next().unwrap();
        assert_eq!(body.next().unwrap(), limited);
        limited
    });
    let coroutine = handle.coroutine();
    own.set(Some(handle));
    assert!(coroutine.wait_end(Some(ms(10_000))), "it hangs");
    assert!(coroutine.is_successful());
}

/// {TestLink}: those who wait are links too, and everybody has their turn in the order of the
/// links. What runs in the hub comes as soon as it is its turn; what is spawned has to start first.
#[test]
fn links_are_in_order() {
    let log = Log::new();
    let go = Rc::new(Event::new());
    let gate = Rc::clone(&go);
    let one = spawn(move || gate.wait());
    let wait = |name: &'static str| {
        let (log, one) = (log.clone(), one.coroutine());
        let handle = spawn(move || {
            one.wait_end(None);
            log.add(name);
        });
        yield_now();
        handle
    };
    let tell = |name: &'static str| {
        let log = log.clone();
        move || log.add(name)
    };
    let first = wait("first");
    one.link(tell("link 1"));
    let second = wait("second");
    one.link_in_hub(tell("in hub 1"));
    one.link(tell("link 2"));
    one.link_in_hub(tell("in hub 2"));
    go.set();
    first.join().unwrap();
    second.join().unwrap();
    settle();
    assert_eq!(log.take(), ["first", "in hub 1", "in hub 2", "link 1", "second", "link 2"]);
    one.join().unwrap();
    assert_eq!(greenlet::live_count(), 0);
}

fn many_links(count: u32) {
    let log = Log::new();
    let one = spawn(|| ());
    for number in 0..count {
        let log = log.clone();
        one.link(move || log.add(number));
    }
    one.join().unwrap();
    settle();
    assert_eq!(log.take(), numbers(0..count));
    let one = spawn(|| ());
    for number in 0..count {
        let log = log.clone();
        one.link_in_hub(move || log.add(number));
    }
    one.join().unwrap();
    yield_now();
    assert_eq!(log.take(), numbers(0..count));
}

/// {test_greenlet_link 2, 3, 4, 1000}.
#[test]
fn test_greenlet_link() {
    for count in [2, 3, 4, 1000] {
        many_links(count);
    }
}

/// A link has a coroutine of its own, and may wait there.
#[test]
fn a_link_may_wait() {
    let log = Log::new();
    let one = spawn(|| ());
    for number in [1, 2] {
        let log = log.clone();
        one.link(move || {
            log.add(format!("{number} begins"));
            yield_now();
            log.add(format!("{number} ends"));
        });
    }
    one.join().unwrap();
    settle();
    assert_eq!(log.take(), ["1 begins", "2 begins", "1 ends", "2 ends"]);
}

/// {TestReturn_link, TestRaise_link}: links fire once, whichever the end is.
#[test]
fn links_fire_on_every_end() {
    let log = Log::new();
    let ends: [fn(); 3] = [|| (), || panic!("expected"), || coroutine::current().kill()];
    for end in ends {
        let one = spawn(end);
        let (linked, in_hub) = (log.clone(), log.clone());
        one.link(move || linked.add("link"));
        one.link_in_hub(move || in_hub.add("in hub"));
        let _ = one.join();
        settle();
        assert_eq!(log.take(), ["in hub", "link"]);
    }
}

/// {test_multiple_listeners_error}: one that fails does not keep the others from being told.
#[test]
fn test_multiple_listeners_error() {
    let log = Log::new();
    let one = spawn(|| ());
    for number in 0..4 {
        let (linked, in_hub) = (log.clone(), log.clone());
        one.link(move || {
            linked.add(format!("link {number}"));
            assert_ne!(number, 1, "expected");
        });
        one.link_in_hub(move || {
            in_hub.add(format!("hub {number}"));
            assert_ne!(number, 2, "expected");
        });
    }
    one.join().unwrap();
    settle();
    let expected = ["hub 0", "hub 1", "hub 2", "hub 3", "link 0", "link 1", "link 2", "link 3"];
    assert_eq!(log.take(), expected);
}

/// {test_multiple_listeners_error_unlink}: while others are told, a later one is taken off.
#[test]
fn test_multiple_listeners_error_unlink() {
    let log = Log::new();
    let one = spawn(|| ());
    let later: Rc<Cell<Vec<LinkId>>> = Rc::default();
    let (in_first, target, targets) = (log.clone(), one.coroutine(), Rc::clone(&later));
    one.link_in_hub(move || {
        for link in targets.take() {
            in_first.add(target.unlink(link));
        }
        panic!("expected");
    });
    let tell = |name: &'static str| {
        let log = log.clone();
        move || log.add(name)
    };
    let links = vec![one.link_in_hub(tell("unlinked 1")), one.link(tell("unlinked 2"))];
    later.set([links.as_slice(), &links[..1]].concat());
    one.link_in_hub(tell("last"));
    one.join().unwrap();
    settle();
    assert_eq!(log.take(), ["true", "true", "false", "last"]);
}

/// {TestUnlink}: whatever the link captures is dropped, and it does not fire. The others do.
#[test]
fn test_unlink() {
    let log = Log::new();
    let one = spawn(|| ());
    let links: Vec<_> = (0..4)
        .map(|number| {
            let (log, guard) = (log.clone(), log.guard(format!("dropped {number}")));
            one.link_in_hub(move || {
                log.add(number);
                std::mem::forget(guard);
            })
        })
        .collect();
    assert!(one.unlink(links[2]) && one.unlink(links[0]));
    assert!(!one.unlink(links[2]) && !one.unlink(links[0]));
    assert_eq!(log.take(), ["dropped 2", "dropped 0"]);
    let other = spawn(|| ());
    assert!(!other.unlink(links[1]));
    assert!(one.wait_end(None) && other.wait_end(None));
    yield_now();
    assert_eq!(log.take(), ["1", "3"]);
    assert!(!links.iter().any(|link| one.unlink(*link)));
}

/// {TestLink, after death}: it fires, but never before the caller gives up control; and may still
/// be taken off.
#[test]
fn links_that_are_added_after_the_end() {
    let log = Log::new();
    let one = spawn(|| ());
    yield_now();
    assert!(one.is_finished());
    for number in 0..3 {
        let (linked, in_hub) = (log.clone(), log.clone());
        one.link(move || linked.add(format!("link {number}")));
        one.link_in_hub(move || in_hub.add(format!("hub {number}")));
    }
    let in_late = log.clone();
    let late = one.link(move || in_late.add("late"));
    log.add("main");
    assert!(one.unlink(late));
    settle();
    let expected = ["main", "hub 0", "hub 1", "hub 2", "link 0", "link 1", "link 2"];
    assert_eq!(log.take(), expected);
}

/// One that is added while the others are told is told after them.
#[test]
fn a_link_that_is_added_by_a_link() {
    let log = Log::new();
    let one = spawn(|| ());
    let (in_first, target) = (log.clone(), one.coroutine());
    one.link_in_hub(move || {
        let in_added = in_first.clone();
        target.link_in_hub(move || in_added.add("added"));
        in_first.add("first");
    });
    let in_second = log.clone();
    one.link_in_hub(move || in_second.add("second"));
    one.join().unwrap();
    settle();
    assert_eq!(log.take(), ["first", "second", "added"]);
}

/// {test_wait_noerrors, test_wait_error}: results in the order of the handles, and one that fails
/// does not end the others.
#[test]
fn test_wait_error() {
    assert!(join_all(Vec::<JoinHandle<()>>::new()).is_empty());
    let start = Instant::now();
    let handles = [30, 10, 20].map(|delay| {
        spawn(move || {
            sleep(ms(delay));
            assert_ne!(delay, 10, "expected");
            delay
        })
    });
    let results = join_all(handles);
    assert!(start.elapsed() >= ms(30));
    assert!(matches!(results[..], [Ok(30), Err(JoinError::Panicked(_)), Ok(20)]));
}

/// {test_joinall_exception_order}: the earliest in time comes first, whichever its place.
#[test]
fn test_joinall_exception_order() {
    let start = Instant::now();
    let handles: Vec<_> = [60, 10]
        .map(|delay| {
            spawn(move || -> () {
                sleep_until(start + ms(delay));
                panic!("{delay}");
            })
        })
        .into();
    let first = wait_any(all_of(&handles)).unwrap();
    assert_eq!(first, 1);
    let mut handles = handles.into_iter();
    let second = handles.next().unwrap();
    assert!(!second.is_finished(), "it keeps running");
    match handles.next().unwrap().join() {
        Err(JoinError::Panicked(payload)) => {
            assert_eq!(payload.downcast_ref::<String>().unwrap(), "10");
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(second.join(), Err(JoinError::Panicked(_))));
}

/// {test_iwait}: in the order of their ends; those that have ended already come first.
#[test]
fn test_iwait() {
    let [slow, quick] = sleepers([90, 30]);
    let handles = [slow, spawn(|| 0), quick, spawn(|| 0)];
    yield_now();
    yield_now();
    assert!(handles[1].is_finished() && handles[3].is_finished());
    assert_eq!(iwait(all_of(&handles)).collect::<Vec<_>>(), [1, 3, 2, 0]);
    assert_eq!(iwait(all_of(&handles)).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert_eq!(iwait([]).next(), None);
    assert_eq!(wait_any([]), None);
}

/// {test__joinall}: one that is given twice comes twice.
#[test]
fn duplicates_come_twice() {
    let [a, b] = sleepers([10, 1]).map(|handle| handle.coroutine());
    let order: Vec<_> = iwait([&a, &b, &a, &b].map(Coroutine::clone)).collect();
    assert_eq!(order, [1, 3, 0, 2]);
}

/// {test_iwait_partial}: a limit ends it early, and what ends later is still there to be asked for.
#[test]
fn test_iwait_partial() {
    let gate = Rc::new(Event::new());
    let opened = Rc::clone(&gate);
    let late = spawn(move || {
        opened.wait();
        0
    });
    let handles = [sleeper(1), late];
    let start = Instant::now();
    let mut ends = iwait(all_of(&handles)).limit(ms(20));
    assert_eq!(ends.next(), Some(0));
    assert_eq!(ends.next(), None);
    assert!(start.elapsed() >= ms(20) && !handles[1].is_finished());
    assert_eq!(ends.next(), None);
    gate.set();
    assert!(handles[1].wait_end(None));
    assert_eq!(ends.next(), Some(1));
    assert_eq!(ends.next(), None);
}

/// What has ended by then comes although the limit has passed.
#[test]
fn a_limit_that_has_passed_hides_no_end() {
    let handles = sleepers([1, 2, 60_000]);
    let ends = iwait(all_of(&handles)).limit(ms(100));
    sleep(ms(150));
    assert_eq!(ends.collect::<Vec<_>>(), [0, 1]);
    handles[2].kill();
}

/// {test_iwait_nogarbage}: dropped early, it leaves nothing behind that wakes anybody.
#[test]
fn test_iwait_nogarbage() {
    let handles = sleepers([1, 5, 10]);
    assert_eq!(iwait(all_of(&handles)).next(), Some(0));
    let start = Instant::now();
    let mut never = spawn(|| sleep(LONG));
    assert!(never.join_timeout(ms(20)).is_none());
    assert!(start.elapsed() >= ms(20));
    assert!(handles.iter().all(|handle| handle.is_finished()));
    assert!(never.kill_wait(None));
}

/// {test__issue467}: other calls that wait come in between, and no end is lost meanwhile.
#[test]
fn test_issue467() {
    let handles = sleepers([0, 1, 2, 3, 4]);
    let ends = iwait(all_of(&handles));
    let mut order = Vec::new();
    for number in ends {
        order.push(number);
        let start = Instant::now();
        sleep(ms(3));
        assert!(start.elapsed() >= ms(3));
        sleeper(1).join().unwrap();
        assert_eq!(iwait([handles[number].coroutine()]).next(), Some(0));
    }
    assert_eq!(order, [0, 1, 2, 3, 4]);
}

/// One is begun in main and asked in coroutines, whoever has it at the time.
#[test]
fn an_iwait_that_changes_hands() {
    let log = Log::new();
    let handles = sleepers([5, 10, 15]);
    let mut ends: Iwait = iwait(all_of(&handles));
    assert_eq!(ends.next(), Some(0));
    let inside = log.clone();
    let other = spawn(move || {
        inside.add(ends.next().unwrap());
        ends
    });
    let mut ends = other.join().unwrap();
    assert_eq!(log.take(), ["1"]);
    // In a generator too.
    let last = Generator::new(move |y| y.yield_(ends.next()));
    assert_eq!(last.collect::<Vec<_>>(), [Some(2)]);
}

/// All are killed, whatever they do; those that have ended are left as they are.
#[test]
fn test_killall() {
    let log = Log::new();
    let (in_parked, in_ready) = (log.guard("parked"), log.guard("ready"));
    let parked = spawn(move || {
        let _guard = in_parked;
        sleep(LONG);
    });
    let ready = spawn(move || {
        let _guard = in_ready;
        loop {
            yield_now();
        }
    });
    let finished = spawn(|| ());
    yield_now();
    let unstarted = spawn(|| unreachable!("killed before"));
    let all = [&parked, &ready, &finished, &unstarted].map(|handle| handle.coroutine());
    assert!(kill_all(all.clone(), None));
    assert_eq!(log.take(), ["parked", "ready"]);
    assert!(all.iter().all(|one| one.is_finished() && one.is_successful()));
    for killed in [parked, ready, unstarted] {
        assert!(matches!(killed.join(), Err(JoinError::Killed)));
    }
    finished.join().unwrap();
    assert!(kill_all(all, None) && kill_all([], None));
    assert_eq!(greenlet::live_count(), 0);
}

/// One that takes its time: all are asked within the limit, and the answer is no.
#[test]
fn test_killall_timeout() {
    struct Slow(Log);
    impl Drop for Slow {
        fn drop(&mut self) {
            sleep(ms(40));
            self.0.add("slow");
        }
    }
    let log = Log::new();
    let inside = log.clone();
    let slow = spawn(move || {
        let _slow = Slow(inside);
        sleep(LONG);
    });
    let quick = spawn(|| sleep(LONG));
    yield_now();
    let start = Instant::now();
    let all = [&slow, &quick].map(|handle| handle.coroutine());
    assert!(!kill_all(all.clone(), Some(ms(5))));
    assert!(start.elapsed() >= ms(5));
    assert!(quick.is_finished() && !slow.is_finished());
    assert!(matches!(slow.join(), Err(JoinError::Killed)));
    assert_eq!(log.take(), ["slow"]);
    assert!(kill_all(all, Some(ms(0))));
}

/// One that kills itself with the others: they are under way all the same.
#[test]
fn kill_all_with_oneself() {
    let others = sleepers([60_000; 2]);
    let mut all = all_of(&others);
    let own = spawn(move || {
        all.push(coroutine::current());
        kill_all(all, None);
        unreachable!("killed itself");
    });
    yield_now();
    assert!(matches!(own.join(), Err(JoinError::Killed)));
    for other in others {
        assert!(matches!(other.join(), Err(JoinError::Killed)));
    }
}

/// A wait that has ended by its limit has taken itself off: what it waited for wakes nobody later.
#[test]
fn no_wake_up_is_left_over() {
    let mut handle = sleeper(250);
    let link = handle.link_in_hub(|| ());
    assert!(handle.join_timeout(ms(1)).is_none());
    assert!(!handle.wait_end(Some(ms(1))));
    assert_eq!(iwait([handle.coroutine()]).limit(ms(1)).next(), None);
    for _ in 0..2 {
        let start = Instant::now();
        sleep(ms(150));
        assert!(start.elapsed() >= ms(150));
    }
    assert!(!handle.unlink(link));
    assert_eq!(handle.join_timeout(ms(0)).unwrap().unwrap(), 250);
}

/// Nor is one when the wait has ended by a kill that was caught.
#[test]
fn no_wake_up_is_left_over_by_a_kill() {
    let slow = sleeper(100);
    let target = slow.coroutine();
    let caught = spawn(move || {
        let wait = std::panic::AssertUnwindSafe(|| target.wait_end(None));
        assert!(std::panic::catch_unwind(wait).is_err());
        let start = Instant::now();
        sleep(ms(120));
        start.elapsed()
    });
    yield_now();
    caught.kill();
    assert!(caught.join().unwrap() >= ms(120));
    slow.join().unwrap();
}

/// {test_sleep_invalid_switch}: switching to one that sleeps does not end its sleep.
#[test]
fn test_sleep_invalid_switch() {
    let start = Instant::now();
    let slept = spawn(move || {
        sleep(ms(30));
        start.elapsed()
    });
    yield_now();
    let by_hand = slept.greenlet().unwrap();
    let mut other = spawn(move || by_hand.switch_any::<(), ()>(()));
    assert!(slept.join().unwrap() >= ms(30));
    // The one that has switched by hand waits to be switched to, or killed.
    assert!(other.join_timeout(ms(1)).is_none());
    assert!(other.kill_wait(None));
}

/// A result that nobody can take any more is dropped in its coroutine, where it may wait, within limits of its
/// own; also if somebody still knows the coroutine.
#[test]
fn a_result_that_nobody_wants_is_dropped_in_its_coroutine() {
    struct Waits(Log);
    impl Drop for Waits {
        fn drop(&mut self) {
            let limit = ms(1);
            let passed = timeout(limit, || sleep(LONG)).is_err();
            self.0.add(format!("in #{}, {passed}", coroutine::current().id()));
        }
    }
    let log = Log::new();
    let value = Waits(log.clone());
    let handle = spawn(move || value);
    let coroutine = handle.coroutine();
    drop(handle);
    assert!(coroutine.wait_end(None));
    sleep(ms(5));
    assert_eq!(log.take(), [format!("in #{}, true", coroutine.id())]);
    // One that has ended by then is dropped with its handle.
    let guard = log.guard("dropped");
    let handle = spawn(move || guard);
    handle.wait_end(None);
    assert!(log.take().is_empty());
    drop(handle);
    assert_eq!(log.take(), ["dropped"]);
}

/// The rest are killed, whatever the destructor of an unstarted body does.
#[test]
fn kill_all_goes_on_after_a_body_that_panics_when_it_is_dropped() {
    struct Panics;
    impl Drop for Panics {
        fn drop(&mut self) {
            resume_unwind(Box::new("dropped"));
        }
    }
    let panics = Panics;
    let (first, second) = (spawn(move || drop(panics)), spawn(|| sleep(LONG)));
    let all = [first.coroutine(), second.coroutine()];
    let killed = catch_unwind(AssertUnwindSafe(|| kill_all(all, None)));
    assert_eq!(killed.unwrap_err().downcast_ref(), Some(&"dropped"));
    assert!(matches!(first.join(), Err(JoinError::Killed)));
    assert!(matches!(second.join(), Err(JoinError::Killed)));
}

/// What ends after the limit is no end in time, even if it is asked for only then.
#[test]
fn a_limit_hides_what_ends_after_it() {
    let handles = sleepers([1, 250]);
    let mut ends = iwait(all_of(&handles)).limit(ms(120));
    assert_eq!(ends.next(), Some(0));
    sleep(ms(300));
    assert!(handles[1].is_finished());
    assert_eq!(ends.next(), None);
    assert_eq!(ends.next(), Some(1));
}

/// A join that is given up leaves the result where it is.
#[test]
fn a_join_that_is_interrupted_loses_no_result() {
    let mut slow = spawn(|| {
        sleep(ms(20));
        String::from("result")
    });
    assert!(timeout(ms(1), || slow.join_timeout(Duration::MAX)).is_err());
    let payload = payload_of(|| {
        let killer = coroutine::current();
        spawn(move || killer.kill_with(Box::new("enough")));
        slow.join_timeout(LONG)
    });
    assert_eq!(payload.downcast_ref(), Some(&"enough"));
    assert_eq!(slow.join().unwrap(), "result");
}

/// As a future, and as one of several.
#[test]
fn other_ways_to_wait_for_oneself_or_for_main_are_refused() {
    let slot: Rc<RefCell<Option<JoinHandle<String>>>> = Rc::default();
    let own = Rc::clone(&slot);
    let handle = spawn(move || {
        let own = own.take().unwrap();
        panic_message(|| switchgrass::coroutine::block_on(own))
    });
    let coroutine = handle.coroutine();
    let said: Rc<RefCell<Vec<String>>> = Rc::default();
    slot.replace(Some(handle));
    let (main, tell) = (switchgrass::coroutine::current(), Rc::clone(&said));
    let other = spawn(move || {
        tell.borrow_mut().push(panic_message(|| switchgrass::coroutine::wait_any([main])));
    });
    assert!(coroutine.wait_end(Some(Duration::from_secs(10))), "it waits for itself");
    assert!(coroutine.is_successful());
    assert!(other.wait_end(Some(Duration::from_secs(10))), "it waits for main");
    assert_eq!(said.take(), ["main ends with its thread, so it cannot be waited for"]);
}
