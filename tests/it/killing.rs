//! Kills: of whom, when they arrive, and what is left.

use crate::support::{LONG, Log, ms, panic_message, payload_of, settle};
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant};
use switchgrass::{
    Generator, Greenlet, GreenletExit, JoinError, JoinHandle, coroutine, greenlet, sleep, spawn,
    timeout, yield_now,
};

fn delayed<T: 'static>(delay: Duration, body: impl FnOnce() -> T + 'static) -> JoinHandle<T> {
    coroutine::Builder::new().start_after(delay).spawn(body).unwrap()
}

fn is_killed<T>(result: Result<T, JoinError>) -> bool {
    matches!(result, Err(JoinError::Killed))
}

/// What it has panicked with.
fn payload<T: 'static + Copy>(result: Result<(), JoinError>) -> T {
    match result {
        Err(JoinError::Panicked(payload)) => *payload.downcast().unwrap(),
        other => panic!("{other:?}"),
    }
}

/// {TestKill, test_greenlet_kill}: killed before its first turn, it never runs, is dead at once,
/// its body is dropped there and then, and its links fire, once.
#[test]
fn test_kill_before_start() {
    let log = Log::new();
    for wait in [false, true] {
        let (guard, told, in_hub) = (log.guard("body dropped"), log.clone(), log.clone());
        let handle = spawn(move || {
            drop(guard);
            unreachable!("killed before")
        });
        handle.link(move || told.add("told"));
        handle.link_in_hub(move || in_hub.add("told in hub"));
        if wait {
            assert!(handle.kill_wait(None));
        } else {
            handle.kill();
        }
        log.add("killed");
        assert!(handle.is_finished() && handle.is_successful() && handle.greenlet().is_none());
        handle.kill();
        assert!(handle.kill_wait(Some(ms(0))));
        settle();
        handle.kill();
        assert!(is_killed::<()>(handle.join()));
        assert_eq!(log.take(), ["body dropped", "killed", "told in hub", "told"]);
        assert_eq!(greenlet::live_count(), 0);
    }
}

/// {test_kill_exception}: with something else to raise it has failed by that.
#[test]
fn test_kill_exception_before_start() {
    let handle = spawn(|| unreachable!("killed before"));
    handle.kill_with(Box::new(7_u32));
    assert!(handle.is_finished() && !handle.is_successful());
    assert_eq!(payload::<u32>(handle.join()), 7);
}

/// {AfterStartLater}: it would have begun later, and never does.
#[test]
fn test_kill_after_start_later() {
    let log = Log::new();
    let told = log.clone();
    let handle = delayed(ms(5), || unreachable!("killed before"));
    handle.link(move || told.add("told"));
    yield_now();
    handle.kill();
    assert!(handle.is_finished());
    let start = Instant::now();
    sleep(ms(20));
    assert!(start.elapsed() >= ms(20));
    assert_eq!(log.take(), ["told"]);
    assert!(is_killed::<()>(handle.join()));
}

/// Those who wait for one that has not begun are told of its end.
#[test]
fn waiting_for_one_that_is_killed_before_its_start() {
    let late = delayed(LONG, || ());
    let target = late.coroutine();
    let waiter = spawn(move || target.wait_end(None));
    yield_now();
    late.kill();
    assert!(waiter.join().unwrap());
    assert!(is_killed(late.join()));
}

/// {WhileRunning}: at what it waits for; its guards run; links fire once.
#[test]
fn test_kill_while_parked() {
    let log = Log::new();
    let (inside, told) = (log.clone(), log.clone());
    let handle = spawn(move || {
        let _outer = inside.guard("outer");
        let _inner = inside.guard("inner");
        sleep(LONG);
        unreachable!("killed");
    });
    handle.link(move || told.add("told"));
    yield_now();
    handle.kill();
    log.add("under way");
    assert!(!handle.is_finished());
    assert!(is_killed::<()>(handle.join()));
    settle();
    assert_eq!(log.take(), ["under way", "inner", "outer", "told"]);
    assert_eq!(greenlet::live_count(), 0);
}

/// {test_kill_exception, 607}: with a payload it has panicked with that very payload; with the
/// exit, in whichever way, it was killed, which is no failure.
#[test]
fn test_607() {
    let killed = spawn(|| sleep(LONG));
    let failed = spawn(|| sleep(LONG));
    let exited = spawn(|| sleep(LONG));
    let itself = spawn(|| resume_unwind(Box::new(GreenletExit)));
    yield_now();
    killed.kill();
    failed.kill_with(Box::new("reason"));
    exited.kill_with(Box::new(GreenletExit));
    yield_now();
    assert!(killed.is_successful() && exited.is_successful() && itself.is_successful());
    assert!(failed.is_finished() && !failed.is_successful());
    assert_eq!(payload::<&str>(failed.join()), "reason");
    assert!(is_killed(killed.join()) && is_killed(exited.join()));
    assert!(is_killed::<()>(itself.join()));
}

/// A victim that is ready already has its turn first, and is killed where it waits next.
#[test]
fn a_queued_victim_runs_once_more() {
    let log = Log::new();
    let inside = log.clone();
    let victim = spawn(move || {
        for round in 0.. {
            inside.add(round);
            yield_now();
        }
    });
    yield_now();
    victim.kill();
    log.add("killed");
    assert!(is_killed(victim.join()));
    assert_eq!(log.take(), ["0", "killed", "1"]);
}

/// One whose turn comes before the kill ends as it would have.
#[test]
fn one_that_ends_before_its_kill_arrives() {
    let victim = spawn(|| {
        yield_now();
        5
    });
    yield_now();
    victim.kill();
    assert!(victim.kill_wait(None));
    assert!(victim.is_successful());
    assert_eq!(victim.join().unwrap(), 5);
}

/// Others that are ready have their turns before the kill arrives.
#[test]
fn a_kill_waits_for_its_turn() {
    let log = Log::new();
    let victim = {
        let guard = log.guard("victim");
        spawn(move || {
            let _guard = guard;
            sleep(LONG);
        })
    };
    yield_now();
    let (in_first, in_second) = (log.clone(), log.clone());
    let first = spawn(move || in_first.add("first"));
    victim.kill();
    let second = spawn(move || in_second.add("second"));
    log.add("main");
    coroutine::join_all([first, second]);
    assert!(is_killed(victim.join()));
    assert_eq!(log.take(), ["main", "first", "victim", "second"]);
}

/// Several kills are raised one by one, in their order, each where it waits next.
#[test]
fn several_kills_are_in_order() {
    let log = Log::new();
    let inside = log.clone();
    let victim = spawn(move || {
        for _ in 0..3 {
            let caught = payload_of(|| sleep(LONG));
            inside.add(caught.downcast_ref::<u32>().unwrap());
        }
        sleep(ms(1));
        inside.add("no more");
    });
    yield_now();
    for number in 0..3_u32 {
        victim.kill_with(Box::new(number));
    }
    victim.join().unwrap();
    assert_eq!(log.take(), ["0", "1", "2", "no more"]);
}

/// Kills that come while the victim is ready are raised at its next waits, even if these would not
/// have to wait.
#[test]
fn kills_of_one_that_is_ready() {
    let log = Log::new();
    let inside = log.clone();
    let victim = spawn(move || {
        while inside.take().is_empty() {
            yield_now();
        }
        let mut caught = Vec::new();
        while caught.len() < 3 {
            if let Err(payload) = catch_unwind(AssertUnwindSafe(yield_now)) {
                caught.push(*payload.downcast::<u32>().unwrap());
            }
        }
        caught
    });
    yield_now();
    for number in 0..3_u32 {
        victim.kill_with(Box::new(number));
    }
    log.add("go");
    assert_eq!(victim.join().unwrap(), [0, 1, 2]);
}

/// As before, where the victim waits in a generator: the second is raised in the coroutine that the
/// first has unwound the generator to.
#[test]
fn several_kills_of_one_in_a_generator() {
    let log = Log::new();
    let inside = log.clone();
    let victim = spawn(move || {
        let in_generator = inside.clone();
        let mut numbers = Generator::<u32>::new(move |_| {
            let _guard = in_generator.guard("generator unwound");
            sleep(LONG);
        });
        let first = payload_of(|| numbers.next());
        inside.add(first.downcast_ref::<u32>().unwrap());
        let second = payload_of(|| sleep(ms(20)));
        inside.add(second.downcast_ref::<u32>().unwrap());
    });
    yield_now();
    let (first, second) = (victim.coroutine(), victim.coroutine());
    // Both arrive before the victim has its turn.
    let one = spawn(|| ());
    one.link_in_hub(move || {
        first.kill_with(Box::new(1_u32));
        second.kill_with(Box::new(2_u32));
    });
    victim.join().unwrap();
    assert_eq!(log.take(), ["generator unwound", "1", "2"]);
    assert_eq!(greenlet::live_count(), 0);
}

/// A kill and a time limit that arrive together, in a generator: both are raised, one after the
/// other.
#[test]
fn a_kill_and_a_limit_in_a_generator() {
    let victim = spawn(|| {
        let result = timeout(LONG, || {
            let mut numbers = Generator::<u32>::new(|_| {
                timeout(ms(20), || sleep(LONG)).unwrap_err();
                // Only now, since it was ready when the kill arrived.
                sleep(LONG);
            });
            payload_of(|| numbers.next())
        });
        assert!(result.unwrap().is::<GreenletExit>());
        sleep(ms(1));
        "goes on"
    });
    sleep(ms(10));
    let target = victim.coroutine();
    let killer = spawn(move || {
        crate::support::compute(ms(20));
        target.kill();
    });
    killer.join().unwrap();
    assert_eq!(victim.join().unwrap(), "goes on");
}

/// In a generator, where it waits: the generator is unwound first, and then who asked it.
#[test]
fn killing_one_in_a_generator() {
    let log = Log::new();
    let inside = log.clone();
    let victim = spawn(move || {
        let _guard = inside.guard("coroutine");
        let in_generator = inside.clone();
        let mut numbers = Generator::new(move |y| {
            let _guard = in_generator.guard("generator");
            y.yield_(1);
            sleep(LONG);
            y.yield_(2);
        });
        inside.add(numbers.next().unwrap());
        numbers.next();
        unreachable!("killed");
    });
    yield_now();
    assert_eq!(victim.waits_for(), Some("sleep"));
    assert!(victim.kill_wait(None));
    assert!(is_killed::<()>(victim.join()));
    assert_eq!(log.take(), ["1", "generator", "coroutine"]);
    assert_eq!(greenlet::live_count(), 0);
}

/// Through several generators, the middle one of which catches it: then that goes on, and so does
/// the one who asks.
#[test]
fn a_generator_that_catches_a_kill() {
    let log = Log::new();
    let inside = log.clone();
    let victim = spawn(move || {
        let of_outer = inside.clone();
        let outer = Generator::new(move |y| {
            let in_inner = of_outer.clone();
            let mut inner = Generator::<u32>::new(move |_| {
                let _guard = in_inner.guard("inner");
                sleep(LONG);
            });
            let exit = payload_of(|| inner.next());
            y.yield_(exit.is::<GreenletExit>());
            // Dropped here, it ends quietly.
            sleep(ms(1));
            y.yield_(false);
        });
        for caught in outer.take(2) {
            inside.add(caught);
        }
        let mut dropped = Generator::new(|y| {
            let exit = payload_of(|| sleep(LONG));
            y.yield_(exit.is::<GreenletExit>());
        });
        inside.add(format!("{:?}", dropped.next()));
        drop(dropped);
        "goes on"
    });
    yield_now();
    victim.kill();
    sleep(ms(10));
    assert_eq!(log.take(), ["inner", "true", "false"]);
    victim.kill();
    assert_eq!(victim.join().unwrap(), "goes on");
    assert_eq!(log.take(), ["Some(true)"]);
    assert_eq!(greenlet::live_count(), 0);
}

/// Main's kill in a generator is main's.
#[test]
fn killing_main_in_a_generator() {
    let main = coroutine::current();
    let killer = spawn(move || main.kill());
    let mut numbers = Generator::<u32>::new(|_| sleep(LONG));
    assert!(payload_of(|| numbers.next()).is::<GreenletExit>());
    assert_eq!(numbers.next(), None);
    killer.join().unwrap();
}

/// A destructor may limit its own time, while it runs because of a kill.
#[test]
fn a_limit_in_a_destructor() {
    struct Slow(Log);
    impl Drop for Slow {
        fn drop(&mut self) {
            let result = timeout(ms(5), || sleep(LONG));
            self.0.add(result.is_err());
            let mut numbers = Generator::new(|y| y.yield_(timeout(ms(5), || sleep(LONG)).is_err()));
            self.0.add(numbers.next().unwrap());
        }
    }
    let log = Log::new();
    let inside = log.clone();
    let victim = spawn(move || {
        let _slow = Slow(inside);
        sleep(LONG);
    });
    yield_now();
    victim.kill();
    yield_now();
    victim.kill();
    assert!(is_killed(victim.join()));
    assert_eq!(log.take(), ["true", "true"]);
    assert_eq!(greenlet::live_count(), 0);
}

/// A second kill while a destructor waits in a generator: it would have to leave the destructor.
#[test]
fn a_kill_during_a_destructor_with_a_generator() {
    struct Slow(Log);
    impl Drop for Slow {
        fn drop(&mut self) {
            let numbers = Generator::new(|y| {
                for number in 0..3 {
                    sleep(ms(20));
                    y.yield_(number);
                }
            });
            numbers.for_each(|number| self.0.add(number));
        }
    }
    let log = Log::new();
    let inside = log.clone();
    let victim = spawn(move || {
        let _slow = Slow(inside);
        sleep(LONG);
    });
    yield_now();
    for _ in 0..3 {
        assert!(!victim.kill_wait(Some(ms(2))));
    }
    assert!(is_killed(victim.join()));
    assert_eq!(log.take(), ["0", "1", "2"]);
}

/// One that is suspended by hand, in a switch to another coroutine's greenlet, is killed all the
/// same.
#[test]
fn killing_one_that_is_suspended_by_hand() {
    let log = Log::new();
    let other = spawn(|| sleep(LONG));
    yield_now();
    let by_hand = other.greenlet().unwrap();
    let guard = log.guard("unwound");
    let victim = spawn(move || {
        let _guard = guard;
        by_hand.switch_any::<(), ()>(());
    });
    settle();
    assert!(victim.kill_wait(None));
    assert_eq!(log.take(), ["unwound"]);
    assert!(other.kill_wait(None));
}

/// A greenlet that is made by hand waits on a coroutine's behalf: the kill is raised there.
#[test]
fn killing_one_whose_greenlet_waits() {
    let log = Log::new();
    let inside = log.clone();
    let victim = spawn(move || {
        let _guard = inside.guard("coroutine");
        let in_raw = inside.clone();
        let raw = Greenlet::new(move |()| {
            let _guard = in_raw.guard("raw");
            sleep(LONG);
        });
        raw.switch(());
        unreachable!("killed");
    });
    yield_now();
    assert!(victim.kill_wait(None));
    assert!(is_killed::<()>(victim.join()));
    assert_eq!(log.take(), ["raw", "coroutine"]);
    assert_eq!(greenlet::live_count(), 0);
}

/// One that has ended stays as it has ended.
#[test]
fn killing_one_that_has_ended() {
    let returned = spawn(|| 5);
    let panicked = spawn(|| panic!("expected"));
    yield_now();
    returned.kill();
    panicked.kill();
    returned.kill_with(Box::new("no"));
    assert!(returned.kill_wait(None) && panicked.kill_wait(None));
    yield_now();
    assert_eq!(returned.join().unwrap(), 5);
    assert_eq!(payload::<&str>(panicked.join()), "expected");
}

/// Itself: here and now.
#[test]
fn killing_itself() {
    let log = Log::new();
    let inside = log.clone();
    let handle = spawn(move || {
        let _guard = inside.guard("unwound");
        let caught = payload_of(|| coroutine::current().kill_with(Box::new(7)));
        inside.add(caught.downcast_ref::<i32>().unwrap());
        coroutine::current().kill_wait(None);
        unreachable!("killed");
    });
    assert!(is_killed::<()>(handle.join()));
    assert_eq!(log.take(), ["7", "unwound"]);
    assert!(payload_of(|| coroutine::current().kill()).is::<GreenletExit>());
}

/// {gevent.kill of main}: it is raised where main waits.
#[test]
fn killing_main() {
    let main = coroutine::current();
    let killer = spawn(move || main.kill());
    assert!(payload_of(|| sleep(LONG)).is::<GreenletExit>());
    killer.join().unwrap();
}

/// From a callback in the hub it is main's as well, and not the callback's.
#[test]
fn killing_main_from_the_hub() {
    let main = coroutine::current();
    let one = spawn(|| ());
    let log = Log::new();
    let inside = log.clone();
    one.link_in_hub(move || {
        main.kill_with(Box::new("from the hub"));
        inside.add(coroutine::current() == main);
    });
    let caught = payload_of(|| sleep(ms(20)));
    assert_eq!(caught.downcast_ref(), Some(&"from the hub"));
    assert_eq!(log.take(), ["false"]);
    one.join().unwrap();
}

/// {test_killing_dormant}: it may catch the exit, and go on.
#[test]
fn test_killing_dormant() {
    let log = Log::new();
    let inside = log.clone();
    let dormant = spawn(move || {
        inside.add("start");
        let exit = payload_of(|| sleep(LONG));
        inside.add(format!("caught {}", exit.is::<GreenletExit>()));
        sleep(ms(1));
        inside.add("finished");
        5
    });
    yield_now();
    assert_eq!(log.take(), ["start"]);
    dormant.kill();
    assert_eq!(dormant.join().unwrap(), 5);
    assert_eq!(log.take(), ["caught true", "finished"]);
}

/// Whether it has died in time is what `kill_wait` says. It never raises what it has raised.
#[test]
fn kill_wait_says_whether_it_has_died() {
    struct Slow;
    impl Drop for Slow {
        fn drop(&mut self) {
            sleep(ms(30));
        }
    }
    let stubborn = spawn(|| {
        let _slow = Slow;
        sleep(LONG);
    });
    yield_now();
    let start = Instant::now();
    assert!(!stubborn.kill_wait(Some(ms(5))));
    assert!(start.elapsed() >= ms(5));
    assert!(!stubborn.is_finished());
    assert!(stubborn.wait_end(None));
    assert!(start.elapsed() >= ms(30));
    assert!(stubborn.kill_wait(Some(ms(0))));
}

/// A second kill while destructors wait, because of the first: nothing is raised in a destructor
/// that runs because of a panic. The destructors go on.
#[test]
fn a_kill_during_a_destructor() {
    struct Slow(Log);
    impl Drop for Slow {
        fn drop(&mut self) {
            let start = Instant::now();
            sleep(ms(60));
            self.0.add(format!("slept {}", start.elapsed() >= ms(60)));
            yield_now();
            spawn(|| ()).join().unwrap();
            self.0.add("destructor ends");
        }
    }
    let log = Log::new();
    let inside = log.clone();
    let victim = spawn(move || {
        let _outer = inside.guard("outer");
        let _slow = Slow(inside.clone());
        sleep(LONG);
    });
    yield_now();
    assert!(!victim.kill_wait(Some(ms(5))));
    assert!(!victim.kill_wait(Some(ms(5))));
    victim.kill_with(Box::new("too late"));
    assert!(is_killed(victim.join()));
    assert_eq!(log.take(), ["slept true", "destructor ends", "outer"]);
    assert_eq!(greenlet::live_count(), 0);
}

/// As before, but the victim catches the first: the second is raised when it waits next, after the
/// destructor.
#[test]
fn a_kill_during_a_destructor_comes_later() {
    struct Slow;
    impl Drop for Slow {
        fn drop(&mut self) {
            sleep(ms(20));
        }
    }
    let victim = spawn(|| {
        let first = payload_of(|| {
            let _slow = Slow;
            sleep(LONG);
        });
        let second = payload_of(|| sleep(LONG));
        [first, second].map(|payload| *payload.downcast::<u32>().unwrap())
    });
    yield_now();
    victim.kill_with(Box::new(1_u32));
    sleep(ms(5));
    victim.kill_with(Box::new(2_u32));
    assert_eq!(victim.join().unwrap(), [1, 2]);
}

/// A destructor that runs without a panic is killed as anything else is.
#[test]
fn a_kill_during_a_destructor_without_a_panic() {
    struct Slow;
    impl Drop for Slow {
        fn drop(&mut self) {
            sleep(LONG);
        }
    }
    let log = Log::new();
    let guard = log.guard("unwound");
    let victim = spawn(move || {
        let _guard = guard;
        drop(Slow);
    });
    yield_now();
    assert!(victim.kill_wait(None));
    assert_eq!(log.take(), ["unwound"]);
    assert!(is_killed(victim.join()));
}

/// The body of one that has not begun has a destructor that panics: whoever kills it gets the
/// panic, and it is dead all the same.
#[test]
fn an_unstarted_body_whose_destructor_panics() {
    struct Fails;
    impl Drop for Fails {
        fn drop(&mut self) {
            panic!("expected");
        }
    }
    let log = Log::new();
    let (fails, told) = (Fails, log.clone());
    let handle = spawn(move || drop(fails));
    handle.link(move || told.add("told"));
    assert_eq!(panic_message(|| handle.kill()), "expected");
    assert!(handle.is_finished());
    assert!(is_killed(handle.join()));
    settle();
    assert_eq!(log.take(), ["told"]);
}

/// A kill reaches those who wait for others; these go on.
#[test]
fn killing_one_that_joins() {
    let log = Log::new();
    let inside = log.clone();
    let child = Rc::new(RefCell::new(None));
    let of_parent = Rc::clone(&child);
    let parent = spawn(move || {
        let handle = spawn(move || {
            sleep(ms(10));
            inside.add("child ends");
        });
        of_parent.replace(Some(handle.coroutine()));
        handle.join().unwrap();
    });
    yield_now();
    assert!(parent.kill_wait(None));
    assert_eq!(log.take(), Vec::<String>::new());
    assert!(child.take().unwrap().wait_end(None));
    assert_eq!(log.take(), ["child ends"]);
}

/// Two kill each other, and wait for each other's ends.
#[test]
fn two_that_kill_each_other() {
    let other: Rc<RefCell<Option<coroutine::Coroutine>>> = Rc::default();
    let of_first = Rc::clone(&other);
    let first = spawn(move || {
        yield_now();
        let other = of_first.borrow().clone().unwrap();
        other.kill_wait(None)
    });
    let target = first.coroutine();
    let second = spawn(move || target.kill_wait(None));
    other.replace(Some(second.coroutine()));
    let ends = (first.join(), second.join());
    assert!(is_killed(ends.0) || is_killed(ends.1));
}
