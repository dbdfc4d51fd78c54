//! Coroutines that borrow from the one that has made them.

use crate::support::{LONG, Log, ms, on_a_thread, panic_message, payload_of, settle};
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};
use switchgrass::coroutine::{Coroutine, Scope, scope};
use switchgrass::sync::Event;
use switchgrass::{
    Generator, Greenlet, GreenletExit, JoinError, greenlet, sleep, sleep_until, spawn, timeout,
    yield_now,
};

/// They borrow, shared and mutably; results may borrow too.
#[test]
fn they_borrow() {
    let words = [String::from("one"), String::from("three")];
    let mut counts = [0; 2];
    let longest = scope(|scope| {
        for (word, count) in words.iter().zip(&mut counts) {
            scope.spawn(move || {
                yield_now();
                *count = word.len();
            });
        }
        let longest = scope.spawn(|| words.iter().max_by_key(|word| word.len()).unwrap());
        longest.join().unwrap()
    });
    assert_eq!(longest, "three");
    assert_eq!(counts, [3, 5]);
    assert_eq!(greenlet::live_count(), 0);
}

/// {TestContextManager}: a normal exit joins them all.
#[test]
fn test_join_on_exit() {
    let log = Log::new();
    let start = Instant::now();
    let result = scope(|scope| {
        for delay in [90, 30] {
            let log = &log;
            scope.spawn(move || {
                sleep_until(start + ms(delay));
                log.add(delay);
            });
        }
        log.add("body");
        "result"
    });
    assert_eq!(result, "result");
    assert!(start.elapsed() >= ms(90));
    assert_eq!(log.take(), ["body", "30", "90"]);
    assert_eq!(scope(|_| 5), 5);
}

/// {TestContextManager}: they are killed when the body panics, and its panic goes on when they have
/// ended. One that has not begun never does.
#[test]
fn test_kill_on_error() {
    let log = Log::new();
    let payload = payload_of(|| {
        scope(|scope| -> () {
            scope.spawn(|| {
                let _guard = log.guard("killed");
                sleep(LONG);
            });
            yield_now();
            scope.spawn(|| log.add("never begun"));
            panic!("expected");
        })
    });
    log.add("left");
    assert_eq!(payload.downcast_ref(), Some(&"expected"));
    assert_eq!(log.take(), ["killed", "left"]);
    assert_eq!(greenlet::live_count(), 0);
}

/// The parent is killed, in the body or where they are joined: so are they.
#[test]
fn they_are_killed_with_their_parent() {
    for in_body in [true, false] {
        let log = Log::new();
        let inside = log.clone();
        let parent = spawn(move || {
            let _guard = inside.guard("parent");
            scope(|scope| {
                scope.spawn(|| {
                    let _guard = inside.guard("child");
                    sleep(LONG);
                });
                if in_body {
                    sleep(LONG);
                }
            });
            unreachable!("killed");
        });
        settle();
        assert!(parent.kill_wait(None));
        assert!(matches!(parent.join(), Err::<(), _>(JoinError::Killed)));
        assert_eq!(log.take(), ["child", "parent"]);
        assert_eq!(greenlet::live_count(), 0);
    }
}

/// A limit that passes, in the body or where they are joined, kills them; it is waited until they
/// have ended.
#[test]
fn they_are_killed_by_a_limit() {
    struct Slow<'a>(&'a Log);
    impl Drop for Slow<'_> {
        fn drop(&mut self) {
            sleep(ms(10));
            self.0.add("child");
        }
    }
    let log = Log::new();
    for in_body in [true, false] {
        let result = timeout(ms(5), || {
            scope(|scope| {
                scope.spawn(|| {
                    let _slow = Slow(&log);
                    sleep(LONG);
                });
                if in_body {
                    sleep(LONG);
                }
            });
        });
        log.add(result.is_err());
        assert_eq!(log.take(), ["child", "true"]);
    }
    assert_eq!(greenlet::live_count(), 0);
}

/// An outer limit passes while those are waited for that an inner one has killed: it is not lost.
#[test]
fn a_limit_that_passes_during_the_wait() {
    struct Slow;
    impl Drop for Slow {
        fn drop(&mut self) {
            sleep(ms(80));
        }
    }
    let outer: Result<(), _> = timeout(ms(50), || {
        let inner = timeout(ms(5), || {
            scope(|scope| {
                scope.spawn(|| {
                    let _slow = Slow;
                    sleep(LONG);
                });
            });
        });
        assert!(inner.is_err());
        sleep(ms(400));
        unreachable!("the outer limit has passed");
    });
    assert!(outer.is_err());
}

/// Nor is a kill.
#[test]
fn a_kill_during_the_wait() {
    struct Slow;
    impl Drop for Slow {
        fn drop(&mut self) {
            sleep(ms(80));
        }
    }
    let parent = spawn(|| {
        let result = timeout(ms(5), || {
            scope(|scope| {
                scope.spawn(|| {
                    let _slow = Slow;
                    sleep(LONG);
                });
            });
        });
        assert!(result.is_err());
        sleep(ms(400));
        unreachable!("killed");
    });
    sleep(ms(40));
    assert!(parent.kill_wait(None));
    assert!(matches!(parent.join(), Err::<(), _>(JoinError::Killed)));
}

/// The panic of one that is not joined is the scope's, when all have ended; that of the first, if
/// there are more. The others go on.
#[test]
fn a_panic_that_nobody_joins() {
    let log = Log::new();
    let start = Instant::now();
    let payload = payload_of(|| {
        scope(|scope| {
            for (delay, name) in [(60, "second"), (20, "first")] {
                scope.spawn(move || {
                    sleep_until(start + ms(delay));
                    resume_unwind(Box::new(name));
                });
            }
            scope.spawn(|| {
                sleep_until(start + ms(100));
                log.add("third");
            });
        })
    });
    assert_eq!(payload.downcast_ref(), Some(&"first"));
    assert_eq!(log.take(), ["third"]);
}

/// One that has panicked before its handle is dropped, or whose end is told to others first.
#[test]
fn a_panic_that_nobody_joins_in_time() {
    let late = payload_of(|| {
        scope(|scope| {
            let handle = scope.spawn(|| panic!("late"));
            yield_now();
            assert!(handle.coroutine().is_finished());
            drop(handle);
        })
    });
    assert_eq!(late.downcast_ref(), Some(&"late"));
    let log = Log::new();
    let told = log.clone();
    let linked = payload_of(|| {
        scope(|scope| {
            let handle = scope.spawn(|| panic!("linked"));
            handle.coroutine().link_in_hub(move || told.add("told"));
        })
    });
    assert_eq!(linked.downcast_ref(), Some(&"linked"));
    settle();
    assert_eq!(log.take(), ["told"]);
}

/// The panic of one that is joined is whoever joins it's; that it was killed is nobody's.
#[test]
fn a_panic_that_is_joined() {
    let result = scope(|scope| {
        let failing = scope.spawn(|| -> u32 { panic!("expected") });
        let killed = scope.spawn(|| sleep(LONG));
        drop(scope.spawn(|| resume_unwind(Box::new(GreenletExit))));
        yield_now();
        killed.coroutine().kill();
        assert!(matches!(killed.join(), Err(JoinError::Killed)));
        match failing.join() {
            Err(JoinError::Panicked(payload)) => *payload.downcast_ref::<&str>().unwrap(),
            other => panic!("{other:?}"),
        }
    });
    assert_eq!(result, "expected");
}

/// Somebody gives up on joining it: so nobody has joined it.
#[test]
fn a_join_that_is_given_up() {
    let payload = payload_of(|| {
        scope(|scope| {
            let handle = scope.spawn(|| {
                sleep(ms(20));
                panic!("expected");
            });
            let result: Result<Result<(), _>, _> = timeout(ms(1), || handle.join());
            assert!(result.is_err());
        })
    });
    assert_eq!(payload.downcast_ref(), Some(&"expected"));
}

/// The body's own panic is the one that counts.
#[test]
fn the_panic_of_the_body_comes_first() {
    let payload = payload_of(|| {
        scope(|scope| -> () {
            scope.spawn(|| panic!("child"));
            yield_now();
            panic!("body");
        })
    });
    assert_eq!(payload.downcast_ref(), Some(&"body"));
}

/// What is forgotten changes nothing: they have ended when the scope has.
#[test]
fn a_forgotten_handle() {
    let log = Log::new();
    {
        let borrowed = String::from("borrowed");
        scope(|scope| {
            let handle = scope.spawn(|| {
                sleep(ms(5));
                log.add(&borrowed);
                &borrowed
            });
            std::mem::forget(handle);
        });
        log.add("left");
    }
    assert_eq!(log.take(), ["borrowed", "left"]);
    assert_eq!(greenlet::live_count(), 0);
}

/// A scope in a coroutine of a scope; and each borrows from the ones outside.
#[test]
fn nested_scopes() {
    let sum = Cell::new(0);
    let numbers = [1, 2, 3];
    scope(|outer| {
        for number in &numbers {
            let sum = &sum;
            outer.spawn(move || {
                let own = Cell::new(0);
                scope(|inner| {
                    for factor in [10, 100] {
                        let own = &own;
                        inner.spawn(move || {
                            sleep(ms(1));
                            own.set(own.get() + number * factor);
                        });
                    }
                });
                sum.set(sum.get() + own.get());
            });
        }
    });
    assert_eq!(sum.get(), 660);
}

/// Killed from outside, the inner ones end first.
#[test]
fn nested_scopes_are_killed_from_inside_out() {
    let log = Log::new();
    let result = timeout(ms(5), || {
        scope(|outer| {
            outer.spawn(|| {
                let _guard = log.guard("outer");
                scope(|inner| {
                    inner.spawn(|| {
                        let _guard = log.guard("inner");
                        sleep(LONG);
                    });
                });
            });
        });
    });
    assert!(result.is_err());
    assert_eq!(log.take(), ["inner", "outer"]);
}

/// Those that are spawned by children, while the scope waits already, are waited for as well.
#[test]
fn children_spawn_in_the_scope() {
    let log = RefCell::new(Vec::new());
    scope(|scope| {
        let log = &log;
        scope.spawn(move || {
            sleep(ms(5));
            scope.spawn(move || {
                sleep(ms(5));
                scope.spawn(move || log.borrow_mut().push("grandchild"));
                log.borrow_mut().push("child");
            });
            log.borrow_mut().push("first");
        });
    });
    assert_eq!(log.into_inner(), ["first", "child", "grandchild"]);
    assert_eq!(greenlet::live_count(), 0);
}

/// One that is killed catches it and goes on: it is waited for. Another kill of the parent reaches
/// it too.
#[test]
fn a_stubborn_child() {
    let log = Log::new();
    let inside = log.clone();
    let parent = spawn(move || {
        scope(|scope| {
            scope.spawn(|| {
                for _ in 0..2 {
                    let exit = payload_of(|| sleep(LONG));
                    inside.add(exit.is::<GreenletExit>());
                }
                inside.add("child ends");
            });
        });
    });
    settle();
    assert!(!parent.kill_wait(Some(ms(5))));
    assert_eq!(log.take(), ["true"]);
    assert!(parent.kill_wait(None));
    assert_eq!(log.take(), ["true", "child ends"]);
    assert!(matches!(parent.join(), Err(JoinError::Killed)));
}

/// The body of one that has not begun has a destructor that panics: the others are killed all the
/// same, and the body's own panic is the one that counts.
#[test]
fn an_unstarted_body_whose_destructor_panics() {
    struct Fails;
    impl Drop for Fails {
        fn drop(&mut self) {
            panic!("destructor");
        }
    }
    let log = Log::new();
    let payload = payload_of(|| {
        scope(|scope| -> () {
            let fails = Fails;
            scope.spawn(move || drop(fails));
            scope.spawn(|| log.add("never begun"));
            panic!("body");
        })
    });
    assert_eq!(payload.downcast_ref(), Some(&"body"));
    assert!(log.take().is_empty());
    assert_eq!(greenlet::live_count(), 0);
}

/// A child may be waited for, and killed, by what is not of the scope.
#[test]
fn a_child_is_killed_from_outside() {
    let slot: Rc<RefCell<Option<Coroutine>>> = Rc::default();
    let target = Rc::clone(&slot);
    let killer = spawn(move || {
        while target.borrow().is_none() {
            yield_now();
        }
        target.take().unwrap().kill_wait(None)
    });
    let log = Log::new();
    scope(|scope| {
        let child = scope.spawn(|| {
            let _guard = log.guard("killed");
            sleep(LONG);
        });
        yield_now();
        slot.replace(Some(child.coroutine()));
    });
    assert_eq!(log.take(), ["killed"]);
    assert!(killer.join().unwrap());
}

/// In a generator, which is dropped in the middle of the scope: the scope ends what it has.
#[test]
fn a_scope_in_a_generator_that_is_dropped() {
    let log = Log::new();
    let inside = log.clone();
    let mut numbers = Generator::new(move |y| {
        let own = String::from("own");
        scope(|scope| {
            scope.spawn(|| {
                let _guard = inside.guard(&own);
                sleep(LONG);
            });
            yield_now();
            y.yield_(1);
        });
    });
    assert_eq!(numbers.next(), Some(1));
    drop(numbers);
    assert_eq!(log.take(), ["own"]);
    assert_eq!(greenlet::live_count(), 0);
}

/// The thread ends while a scope waits in a coroutine: all are unwound, the borrowers first.
#[test]
fn the_end_of_a_thread() {
    struct Ends(Arc<Mutex<Vec<&'static str>>>, &'static str);
    impl Drop for Ends {
        fn drop(&mut self) {
            self.0.lock().unwrap().push(self.1);
        }
    }
    let ends = Arc::new(Mutex::new(Vec::new()));
    let inside = Arc::clone(&ends);
    on_a_thread(move || {
        drop(spawn(move || {
            let lender = Ends(Arc::clone(&inside), "lender");
            scope(|scope| {
                scope.spawn(|| {
                    let _borrower = Ends(Arc::clone(&lender.0), "borrower");
                    sleep(LONG);
                });
            });
        }));
        settle();
    });
    assert_eq!(*ends.lock().unwrap(), ["borrower", "lender"]);
}

/// What the clean-up of a killed child spawns in the scope is killed as well: it does not hold the scope up.
#[test]
fn children_that_come_late_are_killed() {
    struct SpawnsOneMore<'scope, 'env>(&'scope Scope<'scope, 'env>);
    impl Drop for SpawnsOneMore<'_, '_> {
        fn drop(&mut self) {
            self.0.spawn(|| sleep(LONG));
            yield_now();
        }
    }
    let left = catch_unwind(AssertUnwindSafe(|| {
        scope(|scope| {
            scope.spawn(move || {
                let _more = SpawnsOneMore(scope);
                sleep(LONG);
            });
            yield_now();
            resume_unwind(Box::new("cancelled"));
        });
    }));
    assert_eq!(left.unwrap_err().downcast_ref(), Some(&"cancelled"));
}

/// Ended by hand before it has begun, a child has ended for its scope as well, and for who joins it.
#[test]
fn a_child_that_is_ended_by_hand_before_it_begins() {
    let log = Log::new();
    let (guard, kept) = (log.guard("body dropped"), RefCell::new(None));
    scope(|scope| {
        let child = scope.spawn(move || drop(guard));
        let other = spawn(|| ());
        greenlet::unwind_all();
        assert!(child.coroutine().is_finished() && other.is_finished());
        assert!(matches!(child.join(), Err(JoinError::Killed)));
        kept.replace(Some(other));
    });
    assert_eq!(log.take(), ["body dropped"]);
    assert!(matches!(kept.take().unwrap().join(), Err(JoinError::Killed)));
}

/// One that catches its kill and waits for what never comes, a few times: it is killed again, and what main is
/// told comes once, when it has ended.
#[test]
fn a_stuck_child_that_catches_some_kills() {
    let log = Log::new();
    let never = Event::new();
    let message = panic_message(|| {
        scope(|scope| {
            scope.spawn(|| {
                for _ in 0..5 {
                    log.add(payload_of(|| never.wait()).is::<GreenletExit>());
                }
                log.add("child ends");
            });
        });
    });
    assert!(
        message.starts_with("this would block for ever: main waits for the end of a scope"),
        "{message}"
    );
    assert!(message.contains("waits for Event::wait"), "{message}");
    assert_eq!(log.take(), ["true", "true", "true", "true", "true", "child ends"]);
    // Once: the next wait is as any other.
    sleep(ms(1));
    assert_eq!(greenlet::live_count(), 0);
}

/// In a coroutine, it waits for as long as its thread lives, and neither keeps that from ending nor runs.
#[test]
fn a_stuck_child_of_a_coroutine_lets_its_thread_end() {
    let (send, receive) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let parent = spawn(|| {
            let never = Event::new();
            scope(|scope| {
                scope.spawn(|| {
                    loop {
                        let _ = catch_unwind(AssertUnwindSafe(|| never.wait()));
                    }
                });
            });
        });
        let messages = [(); 2].map(|()| panic_message(|| parent.wait_end(None)));
        parent.kill();
        assert!(!parent.wait_end(Some(ms(5))));
        send.send(messages).unwrap();
    });
    for message in receive.recv_timeout(Duration::from_secs(10)).unwrap() {
        assert!(message.contains("main waits for Coroutine::wait_end"), "{message}");
        assert!(message.contains("waits for the end of a scope"), "{message}");
    }
    let start = Instant::now();
    while !thread.is_finished() {
        assert!(start.elapsed() < Duration::from_secs(10), "the thread does not end");
        std::thread::sleep(ms(1));
    }
}

/// Killed many times while it waits: that is raised once.
#[test]
fn many_kills_during_the_wait_are_one() {
    let log = Log::new();
    let inside = log.clone();
    let parent = spawn(move || {
        let kill = payload_of(|| {
            scope(|scope| {
                scope.spawn(|| {
                    for _ in 0..10 {
                        let _ = payload_of(|| sleep(LONG));
                    }
                });
            });
        });
        inside.add(kill.is::<GreenletExit>());
        sleep(ms(1));
        inside.add("goes on");
    });
    settle();
    for _ in 0..10 {
        parent.kill();
        settle();
    }
    assert!(parent.join().is_ok());
    assert_eq!(log.take(), ["true", "goes on"]);
}

/// Children that make new ones whenever they are killed: a scope that is cancelled begins none of them.
#[test]
fn a_scope_that_is_cancelled_begins_nothing_new() {
    struct Again<'scope, 'env>(&'scope Scope<'scope, 'env>, &'scope Log);
    impl Drop for Again<'_, '_> {
        fn drop(&mut self) {
            let Again(scope, log) = *self;
            let one = scope.spawn(move || {
                log.add("begun");
                let _again = Again(scope, log);
                sleep(LONG);
            });
            log.add(one.coroutine().is_finished());
        }
    }
    let log = Log::new();
    let limited = timeout(ms(5), || {
        scope(|scope| {
            let log = &log;
            scope.spawn(move || {
                let _again = Again(scope, log);
                sleep(LONG);
            });
        });
    });
    assert!(limited.is_err());
    assert_eq!(log.take(), ["true"]);
    assert_eq!(greenlet::live_count(), 0);
}

/// On a thread that has made no greenlet.
#[test]
fn a_scope_without_children_needs_no_greenlets() {
    let payload = std::thread::spawn(|| {
        assert_eq!(scope(|_| 5), 5);
        payload_of(|| scope(|_| -> () { resume_unwind(Box::new("expected")) }))
    });
    assert_eq!(payload.join().unwrap().downcast_ref(), Some(&"expected"));
}

/// A member's member drops the greenlet that the scope is in, and each waits for the next. A kill went round
/// endlessly, at full load.
#[test]
fn scopes_that_wait_for_each_other_hand_a_kill_round_a_bounded_number_of_times() {
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        let slot: Rc<RefCell<Option<Greenlet<(), ()>>>> = Rc::default();
        let member: Rc<RefCell<Option<Coroutine>>> = Rc::default();
        let (inner_slot, inner_member) = (Rc::clone(&slot), Rc::clone(&member));
        let outer = Greenlet::new(move |()| {
            scope(|scope_of_outer| {
                let member = scope_of_outer.spawn(|| {
                    scope(|scope_of_member| {
                        scope_of_member.spawn(|| drop(inner_slot.take()));
                    });
                });
                inner_member.replace(Some(member.coroutine()));
            });
        });
        let weak = outer.downgrade();
        slot.replace(Some(outer));
        let _outer = spawn(move || {
            let _ = weak.try_switch(());
        });
        sleep(ms(5));
        let member = member.take().unwrap();
        let ticks = Rc::new(Cell::new(0));
        let count = Rc::clone(&ticks);
        let ticker = spawn(move || {
            loop {
                sleep(ms(10));
                count.set(count.get() + 1);
            }
        });
        member.kill();
        assert!(!member.wait_end(Some(ms(20))));
        assert!(ticks.get() > 0);
        // The thread is asleep, but for the ticker.
        let before = cpu_time();
        sleep(ms(200));
        send.send(cpu_time() - before).unwrap();
        std::mem::forget(ticker);
        std::thread::park();
    });
    let used = receive.recv_timeout(Duration::from_secs(10)).expect("the thread spins");
    assert!(used < ms(100), "{used:?} of 200 ms were used");
}

/// Of the calling thread.
fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}
