//! Groups: membership, join, kill, map.

use crate::support::{LONG, Log, brief, ms, panic_message};
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant};
use switchgrass::pool::Group;
use switchgrass::sync::{Event, Queue};
use switchgrass::{GreenletExit, JoinError, sleep, spawn, timeout, yield_now};

/// {test_basic}: one belongs to it until it has ended, which is before anybody else runs.
#[test]
fn test_basic() {
    let group = Group::new();
    assert!(group.is_empty());
    let member = group.spawn(yield_now);
    assert!(group.contains(&member) && !member.is_finished());
    assert_eq!(group.len(), 1);
    yield_now();
    assert_eq!(group.len(), 1);
    yield_now();
    assert!(member.is_finished() && group.is_empty() && !group.contains(&member));
    assert_eq!(format!("{group:?}"), "Group { len: 0, .. }");
}

/// {test_waitall}
#[test]
fn test_waitall() {
    let group = Group::new();
    let start = Instant::now();
    group.spawn(|| sleep(ms(5)));
    group.spawn(|| sleep(ms(10)));
    assert_eq!(group.len(), 2);
    group.join();
    assert!(start.elapsed() >= ms(10) && group.is_empty());
}

/// A group without members is waited for without a switch.
#[test]
fn an_empty_one_is_joined_at_once() {
    let log = Log::new();
    let inside = log.clone();
    let other = spawn(move || inside.add("other"));
    let group = Group::new();
    group.join();
    assert!(group.join_timeout(Duration::ZERO) && group.kill(None));
    assert!(log.take().is_empty());
    other.join().unwrap();
    group.join();
}

#[test]
fn those_that_are_added_meanwhile_are_waited_for() {
    let (group, log) = (Group::new(), Log::new());
    let (inner, inside) = (group.clone(), log.clone());
    group.spawn(move || {
        let again = inside.clone();
        yield_now();
        inner.spawn(move || {
            yield_now();
            again.add("second");
        });
        inside.add("first");
    });
    group.join();
    assert_eq!(log.take(), ["first", "second"]);
}

/// A group can be waited for by several, and again.
#[test]
fn several_join() {
    let (group, log) = (Group::new(), Log::new());
    let joiners: Vec<_> = (1..=2)
        .map(|number| {
            let (group, log) = (group.clone(), log.clone());
            spawn(move || {
                group.join();
                log.add(format!("joiner {number}"));
            })
        })
        .collect();
    for round in ["one", "two"] {
        let inside = log.clone();
        group.spawn(move || {
            yield_now();
            inside.add(round);
        });
        group.join();
        assert!(group.is_empty());
    }
    joiners.into_iter().for_each(|joiner| joiner.join().unwrap());
    assert_eq!(log.take(), ["one", "joiner 1", "joiner 2", "two"]);
}

#[test]
fn join_timeout_says_whether_it_is_empty() {
    let (group, event) = (Group::new(), Rc::new(Event::new()));
    let waiting = Rc::clone(&event);
    group.spawn(move || waiting.wait());
    let start = Instant::now();
    assert!(!group.join_timeout(ms(5)));
    assert!(start.elapsed() >= ms(5));
    assert_eq!(group.len(), 1);
    event.set();
    assert!(group.join_timeout(LONG));
    assert!(group.join_timeout(Duration::MAX));
}

/// A time limit around `join` ends that, and nothing else.
#[test]
fn an_outer_limit_ends_join() {
    let group = Group::new();
    let member = group.spawn(|| sleep(LONG));
    assert!(timeout(ms(2), || group.join()).is_err());
    assert!(!member.is_finished());
    assert!(group.kill(None));
}

#[test]
fn a_member_that_joins_its_group_is_told() {
    let group = Group::new();
    let inner = group.clone();
    let member = group.spawn(move || panic_message(|| inner.join()));
    let said = member.join().unwrap();
    assert!(said.contains("would wait for itself"), "{said}");
}

/// {test_discard}: it goes on, without the group.
#[test]
fn test_discard() {
    let (group, log) = (Group::new(), Log::new());
    let inside = log.clone();
    let member = group.spawn(move || {
        yield_now();
        inside.add("discarded");
    });
    group.discard(&member);
    assert!(!group.contains(&member));
    group.join();
    assert!(group.kill(None) && log.take().is_empty());
    member.join().unwrap();
    assert_eq!(log.take(), ["discarded"]);
}

/// {test_add_method}: one that exists; twice is once; one that has ended is none.
#[test]
fn test_add_method() {
    let group = Group::new();
    let member = spawn(|| 5);
    group.add(&member);
    group.add(&member);
    assert_eq!(group.len(), 1);
    group.join();
    assert!(member.is_finished());
    group.add(&member);
    assert!(group.is_empty());
    assert_eq!(member.join().unwrap(), 5);
}

/// Two groups, the same member.
#[test]
fn a_member_of_two_groups() {
    let (first, second) = (Group::new(), Group::new());
    let member = first.spawn(|| sleep(LONG));
    second.add(&member);
    yield_now();
    assert!(first.kill(None));
    assert!(second.is_empty());
    assert!(matches!(member.join(), Err(JoinError::Killed)));
}

/// One that fails is no more a member than others that have ended, and harms none.
#[test]
fn a_failing_member() {
    let group = Group::new();
    let failing = group.spawn(|| panic!("failing"));
    let other = group.spawn(|| {
        yield_now();
        "other"
    });
    group.join();
    assert_eq!(brief(failing.join().map(|()| 0)), "panicked: failing");
    assert_eq!(other.join().unwrap(), "other");
}

/// The group does not keep its members' results, nor members the group.
#[test]
fn nothing_is_kept() {
    let (group, log) = (Group::new(), Log::new());
    let result = log.guard("result dropped");
    drop(group.spawn(move || result));
    group.join();
    assert_eq!(log.take(), ["result dropped"]);
    let body = log.guard("body dropped");
    let member = group.spawn(move || {
        yield_now();
        drop(body);
    });
    drop(group);
    member.join().unwrap();
    assert_eq!(log.take(), ["body dropped"]);
}

// ---------------------------------------------------------------------------------------- kill

/// {test_kill_block}: back when they have ended, guards and all; in the order of their spawns.
#[test]
fn test_kill_block() {
    let (group, log) = (Group::new(), Log::new());
    for name in ["a", "b"] {
        let guard = log.guard(format!("{name} unwound"));
        group.spawn(move || {
            let _guard = guard;
            sleep(LONG);
        });
    }
    yield_now();
    assert!(group.kill(None));
    log.add("back");
    assert_eq!(log.take(), ["a unwound", "b unwound", "back"]);
    assert!(group.is_empty());
}

/// {test_kill_noblock}: without time to wait, the kills are under way.
#[test]
fn test_kill_noblock() {
    let (group, event) = (Group::new(), Rc::new(Event::new()));
    for _ in 0..2 {
        let event = Rc::clone(&event);
        group.spawn(move || {
            catch_unwind(AssertUnwindSafe(|| sleep(LONG))).unwrap_err();
            event.wait();
        });
    }
    yield_now();
    assert!(!group.kill(Some(Duration::ZERO)));
    assert_eq!(group.len(), 2);
    event.set();
    group.join();
}

/// One that survives, and counts what hits it.
fn undead(shots: &Rc<Cell<u32>>, event: &Rc<Event>) -> impl FnOnce() + 'static {
    let (shots, event) = (Rc::clone(shots), Rc::clone(event));
    move || {
        while !event.is_set() {
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| event.wait())) {
                assert!(payload.is::<GreenletExit>());
                shots.set(shots.get() + 1);
            }
        }
    }
}

/// {test_kill_fires_once}: though others end meanwhile, and though it is called again.
#[test]
fn test_kill_fires_once() {
    let (group, shots, event) = (Group::new(), Rc::new(Cell::new(0)), Rc::new(Event::new()));
    group.spawn(|| sleep(LONG));
    group.spawn(undead(&shots, &event));
    group.spawn(|| sleep(LONG));
    yield_now();
    assert!(!group.kill(Some(ms(2))));
    assert_eq!((group.len(), shots.get()), (1, 1));
    assert!(!group.kill(Some(ms(2))));
    assert_eq!((group.len(), shots.get()), (1, 1));
    // One that has come since is hit.
    let later = group.spawn(undead(&shots, &event));
    yield_now();
    assert!(!group.kill(Some(Duration::ZERO)));
    assert_eq!((group.len(), shots.get()), (2, 2));
    event.set();
    assert!(group.kill(Some(LONG)));
    assert!(later.is_finished());
    assert_eq!(shots.get(), 2);
}

/// {test_killall_iterable_argument_non_started}: they never begin.
#[test]
fn test_killall_iterable_argument_non_started() {
    let (group, log) = (Group::new(), Log::new());
    let members: Vec<_> = (0..3)
        .map(|number| {
            let (inside, guard) = (log.clone(), log.guard(format!("{number} dropped")));
            group.spawn(move || {
                let _guard = guard;
                inside.add("begun");
            })
        })
        .collect();
    assert!(group.kill(None));
    assert_eq!(log.take(), ["0 dropped", "1 dropped", "2 dropped"]);
    for member in members {
        assert!(matches!(member.join(), Err(JoinError::Killed)));
    }
}

/// {test_killall_iterable_argument_started}: stubborn ones are waited for.
#[test]
fn test_killall_iterable_argument_started() {
    let (group, log) = (Group::new(), Log::new());
    for name in ["a", "b"] {
        let inside = log.clone();
        group.spawn(move || {
            catch_unwind(AssertUnwindSafe(|| sleep(LONG))).unwrap_err();
            sleep(ms(2));
            inside.add(name);
        });
    }
    yield_now();
    assert!(group.kill(Some(LONG)));
    assert_eq!(log.take(), ["a", "b"]);
}

/// Those that members add while they end are killed as well: newer ones.
#[test]
fn those_that_are_added_meanwhile_are_killed() {
    let (group, log) = (Group::new(), Log::new());
    let (inner, inside) = (group.clone(), log.clone());
    group.spawn(move || {
        catch_unwind(AssertUnwindSafe(|| sleep(LONG))).unwrap_err();
        let guard = inside.guard("second dropped");
        inner.spawn(move || {
            let _guard = guard;
            sleep(LONG);
        });
        inside.add("first ends");
    });
    yield_now();
    assert!(group.kill(None));
    assert_eq!(log.take(), ["first ends", "second dropped"]);
}

/// And those that are older than the group's other members.
#[test]
fn older_ones_that_are_added_meanwhile_are_killed() {
    let group = Group::new();
    let older = spawn(|| sleep(LONG));
    let (inner, added) = (group.clone(), older.coroutine());
    group.spawn(move || {
        catch_unwind(AssertUnwindSafe(|| sleep(LONG))).unwrap_err();
        inner.add(&added);
    });
    yield_now();
    assert!(group.kill(Some(ms(200))));
    assert!(matches!(older.join(), Err(JoinError::Killed)));
}

/// A link of the user's from before it was a member runs first, in the hub: the group hears of the
/// end after that.
#[test]
fn a_member_with_a_link_is_killed() {
    let (group, log) = (Group::new(), Log::new());
    let member = spawn(|| sleep(LONG));
    let inside = log.clone();
    member.link(move || inside.add("link"));
    group.add(&member);
    yield_now();
    assert!(group.kill(None) && group.is_empty());
    assert!(member.is_finished());
    yield_now();
    yield_now();
    assert_eq!(log.take(), ["link"]);
}

/// As before, but it has not begun: so it has ended before the group waits.
#[test]
fn an_unstarted_member_with_a_link_is_killed() {
    let group = Group::new();
    let member = spawn(|| sleep(LONG));
    member.link(|| ());
    group.add(&member);
    assert!(group.kill(None) && group.is_empty());
    assert!(matches!(member.join(), Err(JoinError::Killed)));
}

/// A member that kills its group is killed like the others, after these were told.
#[test]
fn a_member_that_kills_its_group() {
    let (group, log) = (Group::new(), Log::new());
    let guard = log.guard("other unwound");
    let other = group.spawn(move || {
        let _guard = guard;
        sleep(LONG);
    });
    let (inner, inside) = (group.clone(), log.clone());
    let killer = group.spawn(move || {
        let killed = catch_unwind(AssertUnwindSafe(|| inner.kill(None))).unwrap_err();
        inside.add(killed.is::<GreenletExit>());
        // It has caught that: a second time is no wait for itself.
        inner.kill(None);
        inside.add("not reached");
    });
    assert!(matches!(killer.join(), Err(JoinError::Killed)));
    assert!(matches!(other.join(), Err(JoinError::Killed)));
    assert_eq!(log.take(), ["true", "other unwound"]);
    assert!(group.is_empty());
}

/// One whose destructor panics: the others are killed all the same, if not by this call.
#[test]
fn a_body_whose_destructor_panics() {
    struct Loud;
    impl Drop for Loud {
        fn drop(&mut self) {
            panic!("loud");
        }
    }
    let group = Group::new();
    let loud = Loud;
    let first = group.spawn(move || drop(loud));
    let second = group.spawn(|| sleep(LONG));
    assert_eq!(panic_message(|| group.kill(None)), "loud");
    assert!(first.is_finished());
    assert!(group.kill(None));
    assert!(second.is_finished());
}

// ----------------------------------------------------------------------------------------- map

/// {test_map}: in the order of the items, whatever the order of the ends.
#[test]
fn test_map() {
    let group = Group::new();
    let ended = Log::new();
    let inside = ended.clone();
    let results = group.map([3, 1, 2], move |turns: u64| {
        (0..turns).for_each(|_| yield_now());
        inside.add(turns);
        turns * 10
    });
    assert_eq!(results.unwrap(), [30, 10, 20]);
    assert_eq!(ended.take(), ["1", "2", "3"]);
    assert!(group.is_empty());
    assert!(group.map(Vec::<u32>::new(), |n| n).unwrap().is_empty());
}

/// The first failure in the order of the items, when all have ended.
#[test]
fn map_fails_by_the_first_item_that_does() {
    let (group, log) = (Group::new(), Log::new());
    let inside = log.clone();
    let results = group.map(0..4, move |n: u32| {
        // The later fail earlier.
        (n..4).for_each(|_| yield_now());
        inside.add(n);
        assert!(n.is_multiple_of(2), "item {n}");
    });
    assert_eq!(brief(results.map(|_| "ok")), "panicked: item 1");
    assert_eq!(log.take(), ["3", "2", "1", "0"]);
}

/// A group's `imap` takes so many items ahead as is said, while there is no result.
#[test]
fn imap_takes_so_many_ahead() {
    let (group, taken) = (Group::new(), Rc::new(Cell::new(0)));
    let counter = Rc::clone(&taken);
    let items = (0..10).inspect(move |_| counter.set(counter.get() + 1));
    let mut results = group.imap(3, items, |n: u32| {
        (0..5).for_each(|_| yield_now());
        n * n
    });
    assert_eq!(taken.get(), 0);
    assert_eq!(brief(results.next().unwrap()), "0");
    assert_eq!(taken.get(), 3);
    assert_eq!(brief(results.next().unwrap()), "1");
    assert_eq!(taken.get(), 4);
    assert_eq!(results.map(Result::unwrap).sum::<u32>(), 285 - 1);
    assert_eq!(taken.get(), 10);
    assert!(panic_message(|| group.imap(0, 0..1, |n| n)).contains("at least 1"));
    assert!(panic_message(|| group.imap_unordered(0, 0..1, |n| n)).contains("at least 1"));
}

/// Dropped, the iterator lets those go on that are under way.
#[test]
fn a_dropped_imap_leaves_what_is_under_way() {
    let (group, log) = (Group::new(), Log::new());
    let inside = log.clone();
    let mut results = group.imap_unordered(3, 0..10, move |n: u32| {
        (0..n + 5).for_each(|_| yield_now());
        inside.add(n);
    });
    results.next().unwrap().unwrap();
    drop(results);
    group.join();
    assert_eq!(log.take(), ["0", "1", "2"]);
}

/// A time limit that passes while the input is asked ends its own `timeout`, and not the input.
#[test]
fn a_limit_passes_through_the_input() {
    let group = Group::new();
    let slow = RefCell::new(false);
    let items = (0..3).inspect(|n| {
        if *n == 1 && !slow.replace(true) {
            sleep(LONG);
        }
    });
    let mut results = group.imap(2, items, |n: i32| {
        sleep(ms(1));
        n
    });
    assert!(timeout(ms(100), || results.next().is_some()).is_err());
    // 1 was taken and is lost, as with any iterator.
    let rest: Vec<String> = results.map(brief).collect();
    assert_eq!(rest, ["0", "2"]);
}

/// One that is killed while it asks the input ends there and then.
#[test]
fn a_kill_passes_through_the_input() {
    for unordered in [false, true] {
        let (group, log) = (Group::new(), Log::new());
        let (inner, inside) = (group.clone(), log.clone());
        let consumer = spawn(move || {
            let input = inside.clone();
            let items = (0..3).inspect(move |n| {
                input.add(format!("asked for {n}"));
                if *n == 1 {
                    sleep(LONG);
                }
            });
            let note = |result: Result<i32, _>| inside.add(brief(result));
            if unordered {
                inner.imap_unordered(2, items, |n| n).for_each(note);
            } else {
                inner.imap(2, items, |n| n).for_each(note);
            }
        });
        yield_now();
        yield_now();
        consumer.kill();
        assert!(matches!(consumer.join(), Err(JoinError::Killed)));
        assert_eq!(log.take(), ["asked for 0", "0", "asked for 1"]);
        group.join();
    }
}

/// The next item is put when the previous result has come: what is there is given before more is asked for.
#[test]
fn imap_over_a_queue_that_is_fed_by_its_results() {
    for ahead in [1, 2, 5] {
        for unordered in [false, true] {
            let (group, queue) = (Group::new(), Queue::new());
            queue.put(1).unwrap();
            let mut results: Box<dyn Iterator<Item = Result<u32, JoinError>>> = if unordered {
                Box::new(group.imap_unordered(ahead, &queue, |n| n * 2))
            } else {
                Box::new(group.imap(ahead, &queue, |n| n * 2))
            };
            for n in 1..10 {
                // Without an answer main would be told that it waits for ever.
                assert_eq!(results.next().unwrap().unwrap(), n * 2);
                queue.put(n + 1).unwrap();
            }
            queue.shut_down();
            assert_eq!(results.next().unwrap().unwrap(), 20);
            assert!(results.next().is_none());
        }
    }
}

/// A time limit that ends the wait for a result loses none.
#[test]
fn a_limit_around_imap_loses_no_result() {
    let group = Group::new();
    let slow = |n: u64| {
        sleep(ms(10 * n));
        n
    };
    let mut results = group.imap(3, 1..=3, slow);
    assert!(timeout(ms(1), || results.next().is_some()).is_err());
    let rest: Vec<String> = results.map(brief).collect();
    assert_eq!(rest, ["1", "2", "3"]);
}

/// What the results are is dropped where the iterator is, or by their coroutines: where it may wait.
#[test]
fn a_dropped_imap_unordered_drops_results_where_they_may_wait() {
    struct Slow(Log);
    impl Drop for Slow {
        fn drop(&mut self) {
            yield_now();
            self.0.add("dropped");
        }
    }
    let (group, log) = (Group::new(), Log::new());
    let inside = log.clone();
    let mut results = group.imap_unordered(3, 0..3_u64, move |n: u64| {
        (0..5 + 5 * n).for_each(|_| yield_now());
        Slow(inside.clone())
    });
    drop(results.next().unwrap());
    // One may have ended, and others go on.
    drop(results);
    group.join();
    (0..10).for_each(|_| yield_now());
    assert_eq!(log.take(), ["dropped"; 3]);
}

/// Its destructor makes another one of its kind in the group, until that is to stop.
struct Respawn {
    group: Group,
    count: Rc<Cell<u32>>,
    stop: Rc<Cell<bool>>,
}

impl Respawn {
    fn spawn(group: &Group, count: &Rc<Cell<u32>>, stop: &Rc<Cell<bool>>) {
        count.set(count.get() + 1);
        let (group, count, stop) = (group.clone(), Rc::clone(count), Rc::clone(stop));
        let next = Respawn { group: group.clone(), count, stop };
        group.spawn(move || {
            let _next = next;
            sleep(LONG);
        });
    }
}

impl Drop for Respawn {
    fn drop(&mut self) {
        if !self.stop.get() {
            Respawn::spawn(&self.group, &self.count, &self.stop);
        }
    }
}

#[test]
fn a_limited_kill_ends_though_destructors_make_new_members() {
    for begun in [false, true] {
        let (group, count, stop) = (Group::new(), Rc::new(Cell::new(0)), Rc::new(Cell::new(false)));
        Respawn::spawn(&group, &count, &stop);
        if begun {
            yield_now();
        }
        // A watchdog, and somebody else who is to have turns.
        let (ticks, stopper) = (Rc::new(Cell::new(0)), Rc::clone(&stop));
        let (counter, start) = (Rc::clone(&ticks), Instant::now());
        let other = spawn(move || {
            while start.elapsed() < ms(10_000) {
                counter.set(counter.get() + 1);
                yield_now();
            }
            stopper.set(true);
        });
        assert!(!group.kill(Some(ms(20))), "it has gone on until there were no more");
        assert!(start.elapsed() >= ms(20));
        assert!(count.get() > 2 && ticks.get() > 2);
        stop.set(true);
        other.kill();
        assert!(group.kill(None));
    }
}

/// While it waits for a stubborn one.
#[test]
fn a_member_that_is_added_during_a_limited_kill_is_killed() {
    for begun in [false, true] {
        let (group, event) = (Group::new(), Rc::new(Event::new()));
        let waiting = Rc::clone(&event);
        group.spawn(move || {
            catch_unwind(AssertUnwindSafe(|| sleep(LONG))).unwrap_err();
            waiting.wait();
        });
        yield_now();
        let inner = group.clone();
        let adder = spawn(move || {
            sleep(ms(5));
            let added = inner.spawn(|| sleep(LONG));
            if begun {
                yield_now();
            }
            added.coroutine()
        });
        assert!(!group.kill(Some(ms(50))));
        let added = adder.join().unwrap();
        assert!(added.is_finished() && added.is_successful());
        assert_eq!(group.len(), 1);
        event.set();
        group.join();
    }
}

/// It ends with its thread: whoever waits for it waits indefinitely.
#[test]
fn a_group_with_main_in_it_is_not_waited_for() {
    let group = Group::new();
    group.add(&switchgrass::coroutine::current());
    let waiting = group.clone();
    let waiter = spawn(move || {
        let joined = panic_message(|| waiting.join());
        (joined, panic_message(|| waiting.join_timeout(LONG)))
    });
    let mut waiter = waiter;
    let (joined, limited) =
        waiter.join_timeout(Duration::from_secs(10)).expect("it waits").unwrap();
    assert!(joined.starts_with("main ends with its thread"), "{joined}");
    assert_eq!(limited, joined);
}

#[test]
fn a_destructor_that_panics_when_a_group_is_killed_spares_no_member() {
    struct Fails;
    impl Drop for Fails {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }
    let group = Group::new();
    let before = group.spawn(|| sleep(LONG));
    yield_now();
    let fails = Fails;
    group.spawn(move || drop(fails));
    let after = group.spawn(|| sleep(LONG));
    assert_eq!(panic_message(|| group.kill(None)), "dropped");
    assert!(after.is_finished());
    assert!(before.wait_end(Some(Duration::from_secs(10))));
    assert!(group.is_empty() && group.kill(None));
}
