//! Coroutines: who runs when.

use crate::support::{LONG, Log, compute, ms, on_a_thread, pause, settle};
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::{Arc, Barrier, Mutex};
use std::time::Instant;
use switchgrass::{
    BuildError, Generator, Greenlet, JoinError, coroutine, greenlet, sleep, sleep_until, spawn,
    stack, yield_now,
};

/// Nothing runs before the spawner gives up control; then all do, in the order in which they were
/// spawned.
#[test]
fn they_start_in_the_order_of_their_spawns() {
    let log = Log::new();
    let all: Vec<_> = (0..5)
        .map(|number| {
            let log = log.clone();
            spawn(move || log.add(number))
        })
        .collect();
    log.add("spawned");
    yield_now();
    assert_eq!(log.take(), ["spawned", "0", "1", "2", "3", "4"]);
    assert!(all.iter().all(|handle| handle.is_finished()));
    assert_eq!(greenlet::live_count(), 0);
}

/// One that is spawned by a running one goes to the end of the queue.
#[test]
fn a_child_starts_after_those_that_are_ready() {
    let log = Log::new();
    let (in_a, in_b) = (log.clone(), log.clone());
    let a = spawn(move || {
        in_a.add("a");
        let in_child = in_a.clone();
        let child = spawn(move || in_child.add("child"));
        in_a.add("a goes on");
        child
    });
    let b = spawn(move || in_b.add("b"));
    b.join().unwrap();
    a.join().unwrap().join().unwrap();
    assert_eq!(log.take(), ["a", "a goes on", "b", "child"]);
}

/// {TestSleep0}.
#[test]
fn test_sleep0() {
    let log = Log::new();
    let all = ["1", "2"].map(|number| {
        let log = log.clone();
        spawn(move || {
            log.add(format!("{number}A"));
            sleep(ms(0));
            log.add(format!("{number}B"));
        })
    });
    all.into_iter().for_each(|handle| handle.join().unwrap());
    assert_eq!(log.take(), ["1A", "2A", "1B", "2B"]);
}

/// Main takes its turn like the others.
#[test]
fn yield_now_goes_round() {
    let log = Log::new();
    let all = ["a", "b"].map(|name| {
        let log = log.clone();
        spawn(move || {
            for round in 0..3 {
                log.add(format!("{name}{round}"));
                yield_now();
            }
        })
    });
    for round in 0..3 {
        log.add(format!("m{round}"));
        yield_now();
    }
    all.into_iter().for_each(|handle| handle.join().unwrap());
    assert_eq!(log.take(), ["m0", "a0", "b0", "m1", "a1", "b1", "m2", "a2", "b2"]);
}

/// {test__sleep0}: one that yields for ever does not keep those waiting whose time has come.
#[test]
fn a_spinner_does_not_stop_a_sleeper() {
    let spinner = spawn(|| -> () {
        loop {
            yield_now();
        }
    });
    let start = Instant::now();
    sleep(ms(20));
    assert!(start.elapsed() >= ms(20));
    assert!(!spinner.is_finished());
    spinner.kill();
    assert!(matches!(spinner.join(), Err(JoinError::Killed)));
}

/// Nor if it is the only one that is ready, be it main.
#[test]
fn a_lonely_spinner_does_not_stop_a_sleeper() {
    let start = Instant::now();
    let sleeper = spawn(|| sleep(ms(20)));
    while !sleeper.is_finished() {
        yield_now();
    }
    assert!(start.elapsed() >= ms(20));
}

/// Nor two that take turns.
#[test]
fn two_spinners_do_not_stop_a_sleeper() {
    let stop = Rc::new(Cell::new(false));
    let spinners = [(); 2].map(|()| {
        let stop = Rc::clone(&stop);
        spawn(move || {
            while !stop.get() {
                yield_now();
            }
        })
    });
    sleep(ms(20));
    stop.set(true);
    spinners.into_iter().for_each(|spinner| spinner.join().unwrap());
}

/// Timers of the same moment fire in the order in which they were started.
#[test]
fn equal_deadlines_are_in_the_order_of_their_starts() {
    let log = Log::new();
    let moment = Instant::now() + ms(30);
    let all: Vec<_> = (0..200)
        .map(|number| {
            let log = log.clone();
            spawn(move || {
                sleep_until(moment);
                log.add(number);
            })
        })
        .collect();
    for result in coroutine::join_all(all) {
        result.unwrap();
    }
    assert!(Instant::now() >= moment);
    assert_eq!(log.take(), (0..200).map(|number| number.to_string()).collect::<Vec<_>>());
}

#[test]
fn sleepers_wake_in_the_order_of_their_deadlines() {
    let log = Log::new();
    let start = Instant::now();
    let all = [90, 30, 60].map(|delay| {
        let log = log.clone();
        spawn(move || {
            sleep_until(start + ms(delay));
            log.add(delay);
        })
    });
    all.into_iter().for_each(|handle| handle.join().unwrap());
    assert_eq!(log.take(), ["30", "60", "90"]);
}

/// {test_sleep_calls_update_now}: what was computed before does not shorten a sleep.
#[test]
fn test_sleep_calls_update_now() {
    sleep(ms(1));
    compute(ms(30));
    let start = Instant::now();
    sleep(ms(20));
    assert!(start.elapsed() >= ms(20));
}

/// A moment that has passed still lets the others run.
#[test]
fn sleeping_until_a_moment_that_has_passed() {
    let log = Log::new();
    let in_other = log.clone();
    let other = spawn(move || in_other.add("other"));
    sleep_until(Instant::now());
    log.add("main");
    assert_eq!(log.take(), ["other", "main"]);
    other.join().unwrap();
}

#[test]
fn a_name_and_a_site() {
    let line = line!() + 1;
    let named = coroutine::Builder::new().name("worker").spawn(|| ()).unwrap();
    let nameless = spawn(|| coroutine::current().name());
    assert_eq!(named.name().as_deref(), Some("worker"));
    assert_eq!(format!("{:?}", named.coroutine()), "Coroutine('worker')");
    let site = named.spawned_at().unwrap();
    assert_eq!((site.file(), site.line()), (file!(), line));
    assert_ne!(named.id(), nameless.id());
    assert_eq!(format!("{:?}", nameless.coroutine()), format!("Coroutine(#{})", nameless.id()));
    assert_eq!(nameless.join().unwrap(), None);
    named.join().unwrap();
    let main = coroutine::current();
    assert_eq!((main.id(), main.name().as_deref()), (0, Some("main")));
    assert!(main.spawned_at().is_none() && !main.is_finished());
}

/// It begins no sooner than it is told to; those without a delay come before.
#[test]
fn a_delayed_start() {
    let log = Log::new();
    let start = Instant::now();
    let late = |name: &'static str, delay| {
        let log = log.clone();
        let body = move || {
            log.add(name);
            start.elapsed()
        };
        coroutine::Builder::new().start_after(ms(delay)).spawn(body).unwrap()
    };
    let (second, first) = (late("second", 60), late("first", 10));
    let in_now = log.clone();
    let now = spawn(move || in_now.add("now"));
    assert_eq!(second.waits_for(), Some("its first turn"));
    assert!(second.join().unwrap() >= ms(60));
    assert!(first.join().unwrap() >= ms(10));
    now.join().unwrap();
    assert_eq!(log.take(), ["now", "first", "second"]);
}

/// Deep recursion needs a big stack; one that cannot be had is an error, and nobody is harmed.
#[test]
fn the_size_of_a_stack() {
    fn deep(depth: u32) -> u32 {
        let ballast = std::hint::black_box([depth; 256]);
        if depth == 0 { 0 } else { deep(depth - 1) + u32::from(ballast[7] == depth) }
    }
    let builder = || coroutine::Builder::new();
    let big = builder().stack_size(64 << 20).spawn(|| deep(10_000)).unwrap();
    assert_eq!(big.join().unwrap(), 10_000);
    let error = builder().stack_size(1).spawn(|| ()).unwrap_err();
    assert!(matches!(error, BuildError::Stack(stack::StackError::Size { asked: 1 })));
    assert_eq!(spawn(|| 5).join().unwrap(), 5);
    assert_eq!(greenlet::live_count(), 0);
}

/// {test_simple_exit}.
#[test]
fn test_simple_exit() {
    let handle = spawn(|| {
        yield_now();
        5
    });
    assert!(!handle.is_finished() && !handle.is_successful());
    assert!(!handle.greenlet().unwrap().is_started());
    yield_now();
    assert!(!handle.is_finished() && !handle.is_successful());
    assert!(handle.greenlet().unwrap().is_started());
    yield_now();
    assert!(handle.is_finished() && handle.is_successful());
    assert!(handle.greenlet().is_none() && handle.waits_for().is_none());
    let coroutine = handle.coroutine();
    assert_eq!(handle.join().unwrap(), 5);
    assert!(coroutine.is_finished() && coroutine.is_successful());
}

/// {test_error_exit}: it stays a failure when somebody has taken the error.
#[test]
fn test_error_exit() {
    let handle = spawn(|| -> () { panic!("expected") });
    yield_now();
    assert!(handle.is_finished() && !handle.is_successful());
    let coroutine = handle.coroutine();
    match handle.join() {
        Err(JoinError::Panicked(payload)) => {
            assert_eq!(payload.downcast_ref(), Some(&"expected"));
        }
        other => panic!("{other:?}"),
    }
    assert!(coroutine.is_finished());
    assert!(!coroutine.is_successful());
}

/// {TestExceptionInMainloop, test_exc_info}: a panic is that coroutine's; the others see nothing of
/// it, even if they are in the middle of something.
#[test]
fn a_panic_harms_nobody_else() {
    let log = Log::new();
    let mutex = Rc::new(Mutex::new(()));
    let (in_other, held) = (log.clone(), Rc::clone(&mutex));
    let other = spawn(move || {
        let guard = held.lock().unwrap();
        sleep(ms(10));
        in_other.add(std::thread::panicking());
        drop(guard);
        "fine"
    });
    let in_failing = log.clone();
    let failing = spawn(move || -> () {
        struct Sleeps(Log);
        impl Drop for Sleeps {
            fn drop(&mut self) {
                sleep(ms(30));
                self.0.add(std::thread::panicking());
            }
        }
        let _sleeps = Sleeps(in_failing);
        panic!("expected");
    });
    assert_eq!(other.join().unwrap(), "fine");
    assert!(!mutex.is_poisoned());
    assert!(matches!(failing.join(), Err(JoinError::Panicked(_))));
    assert_eq!(log.take(), ["false", "true"]);
}

/// {test_spawn_is_not_cancelled}: whoever has spawned it, and whatever becomes of its handle.
#[test]
fn test_spawn_is_not_cancelled() {
    let log = Log::new();
    let in_child = log.clone();
    let spawner = spawn(move || -> () {
        drop(spawn(move || {
            yield_now();
            in_child.add("child");
        }));
        panic!("expected");
    });
    assert!(matches!(spawner.join(), Err(JoinError::Panicked(_))));
    settle();
    assert_eq!(log.take(), ["child"]);
    assert_eq!(greenlet::live_count(), 0);
}

/// A result that nobody wants is dropped; what that does is nobody else's concern.
#[test]
fn a_result_that_nobody_wants() {
    struct Ends(Log, bool);
    impl Drop for Ends {
        fn drop(&mut self) {
            sleep(ms(1));
            self.0.add("dropped");
            assert!(!self.1, "expected");
        }
    }
    let log = Log::new();
    for fails in [false, true] {
        let inside = log.clone();
        let handle = spawn(move || Ends(inside, fails));
        drop(handle);
        sleep(ms(10));
        assert_eq!(log.take(), ["dropped"]);
        assert_eq!(greenlet::live_count(), 0);
    }
}

/// Generators in two coroutines wait in their bodies, and the values come to their consumers.
#[test]
fn a_generator_that_sleeps() {
    let log = Log::new();
    let all = ["a", "b"].map(|name| {
        let log = log.clone();
        spawn(move || {
            let numbers = Generator::new(|y| {
                for number in 0..3 {
                    sleep(ms(1));
                    y.yield_(number);
                }
            });
            let pairs = Generator::new(move |y| {
                for number in numbers {
                    yield_now();
                    y.yield_((name, number));
                }
            });
            let me = coroutine::current();
            for (name, number) in pairs {
                assert_eq!(coroutine::current(), me);
                log.add(format!("{name}{number}"));
            }
        })
    });
    all.into_iter().for_each(|handle| handle.join().unwrap());
    let mut entries = log.take();
    let order = entries.clone();
    entries.sort();
    assert_eq!(entries, ["a0", "a1", "a2", "b0", "b1", "b2"]);
    for name in ["a", "b"] {
        let own: Vec<_> = order.iter().filter(|entry| entry.starts_with(name)).collect();
        assert!(own.is_sorted());
    }
    assert_eq!(greenlet::live_count(), 0);
}

/// A coroutine needs no handle to live: it goes on after it has dropped a generator that has not
/// ended.
#[test]
fn dropping_a_generator_in_a_coroutine() {
    let log = Log::new();
    let inside = log.clone();
    let handle = spawn(move || {
        let guard = inside.guard("generator unwound");
        let mut numbers = Generator::new(move |y| {
            let _guard = guard;
            for number in 0.. {
                y.yield_(number);
            }
        });
        inside.add(numbers.next().unwrap());
        drop(numbers);
        sleep(ms(1));
        // By hand, too.
        Greenlet::new(|()| yield_now()).switch(());
        "goes on"
    });
    assert_eq!(handle.join().unwrap(), "goes on");
    assert_eq!(log.take(), ["0", "generator unwound"]);
    assert_eq!(greenlet::live_count(), 0);
}

/// Main, too, may be in a generator that waits.
#[test]
fn a_generator_of_main_that_joins() {
    let mut results = Generator::new(|y| {
        for number in 0..3 {
            let handle = spawn(move || {
                sleep(ms(1));
                number * number
            });
            y.yield_(handle.join().unwrap());
        }
    });
    assert_eq!(results.by_ref().collect::<Vec<_>>(), [0, 1, 4]);
}

/// A greenlet that is made by hand in a coroutine waits on its behalf, and is switched to and fro
/// by hand.
#[test]
fn a_raw_greenlet_in_a_coroutine_sleeps() {
    let log = Log::new();
    let inside = log.clone();
    let handle = spawn(move || {
        let me = coroutine::current();
        let in_raw = inside.clone();
        let raw = Greenlet::new(move |()| {
            in_raw.add(coroutine::current() == me);
            sleep(ms(10));
            in_raw.add("raw slept");
            pause();
            sleep(ms(1));
            in_raw.add("raw slept again");
        });
        raw.switch(());
        inside.add("back");
        sleep(ms(1));
        raw.switch(());
        inside.add("end");
    });
    yield_now();
    assert_eq!(handle.waits_for(), Some("sleep"));
    log.add("main");
    handle.join().unwrap();
    let slept = ["true", "main", "raw slept", "back", "raw slept again", "end"];
    assert_eq!(log.take(), slept);
    assert_eq!(greenlet::live_count(), 0);
}

/// {TestExceptionInMainloop}: what panics in the hub is reported, and the hub goes on.
#[test]
fn test_exception_in_mainloop() {
    let failing = spawn(|| ());
    failing.link_in_hub(|| panic!("expected"));
    let start = Instant::now();
    sleep(ms(20));
    assert!(start.elapsed() >= ms(20));
    failing.join().unwrap();
}

/// A callback in the hub that waits panics, saying so, and the hub goes on.
#[test]
fn the_hub_must_not_wait() {
    let log = Log::new();
    for number in 0..3 {
        let handle = spawn(|| ());
        let other = spawn(|| sleep(ms(1)));
        let inside = log.clone();
        handle.link_in_hub(move || {
            let waited = catch_unwind(AssertUnwindSafe(|| match number {
                0 => sleep(ms(1)),
                1 => other.join().unwrap(),
                _ => yield_now(),
            }));
            let payload = waited.unwrap_err();
            inside.add(payload.downcast_ref::<String>().unwrap());
        });
        sleep(ms(10));
    }
    let entries = log.take();
    for (entry, what) in entries.iter().zip(["sleep", "JoinHandle::join", "yield_now"]) {
        assert!(entry.starts_with(&format!("{what} would block the hub")), "{entry}");
    }
    assert_eq!(entries.len(), 3);
}

/// A thread has a hub of its own, made when it is needed; three work at once.
#[test]
fn three_threads_at_once() {
    let all_sleep = Arc::new(Barrier::new(3));
    let threads = [1, 2, 3].map(|number| {
        let all_sleep = Arc::clone(&all_sleep);
        std::thread::spawn(move || {
            let log = Log::new();
            let start = Instant::now();
            let all = [2, 1].map(|factor| {
                let log = log.clone();
                spawn(move || {
                    sleep_until(start + ms(20 * factor));
                    log.add(factor);
                    factor * number
                })
            });
            yield_now();
            all_sleep.wait();
            let results = all.map(|handle| handle.join().unwrap());
            (log.take(), results)
        })
    });
    for (number, thread) in (1..).zip(threads) {
        let (log, results) = thread.join().unwrap();
        assert_eq!(log, ["1", "2"]);
        assert_eq!(results, [2 * number, number]);
    }
}

/// A thread that ends unwinds its coroutines, and their destructors may wait meanwhile.
#[test]
fn the_end_of_a_thread_unwinds_them() {
    struct Ends(Arc<Mutex<Vec<String>>>, &'static str);
    impl Drop for Ends {
        fn drop(&mut self) {
            let start = Instant::now();
            sleep(ms(5));
            assert!(start.elapsed() >= ms(5));
            yield_now();
            self.0.lock().unwrap().push(self.1.to_string());
        }
    }
    let ends = Arc::new(Mutex::new(Vec::new()));
    let inside = Arc::clone(&ends);
    on_a_thread(move || {
        let (asleep, ready) = (Ends(Arc::clone(&inside), "asleep"), Ends(inside, "ready"));
        drop(spawn(move || {
            let _asleep = asleep;
            sleep(LONG);
        }));
        drop(spawn(move || {
            let _ready = ready;
            loop {
                yield_now();
            }
        }));
        yield_now();
    });
    let mut ends = std::mem::take(&mut *ends.lock().unwrap());
    ends.sort();
    assert_eq!(ends, ["asleep", "ready"]);
}

/// Those that have not begun by then never do: their bodies are dropped.
#[test]
fn the_end_of_a_thread_drops_the_unstarted() {
    struct Ends(Arc<Mutex<Vec<u32>>>, u32);
    impl Drop for Ends {
        fn drop(&mut self) {
            self.0.lock().unwrap().push(self.1);
        }
    }
    let ends = Arc::new(Mutex::new(Vec::new()));
    let inside = Arc::clone(&ends);
    on_a_thread(move || {
        for (number, delay) in [(1, ms(0)), (2, LONG)] {
            let body = Ends(Arc::clone(&inside), number);
            let builder = coroutine::Builder::new().start_after(delay);
            drop(builder.spawn(move || unreachable!("begun with {}", body.1)).unwrap());
        }
        drop(spawn(move || unreachable!("begun {}", Arc::strong_count(&inside))));
    });
    let mut numbers = std::mem::take(&mut *ends.lock().unwrap());
    numbers.sort();
    assert_eq!(numbers, [1, 2]);
    assert_eq!(Arc::strong_count(&ends), 1);
}

/// A destructor at the end of the thread may even spawn, and wait for that.
#[test]
fn a_destructor_at_the_end_of_a_thread_spawns() {
    struct Spawns(Arc<Mutex<Vec<u32>>>);
    impl Drop for Spawns {
        fn drop(&mut self) {
            let answer = spawn(|| {
                sleep(ms(1));
                42
            });
            self.0.lock().unwrap().push(answer.join().unwrap());
        }
    }
    let answers = Arc::new(Mutex::new(Vec::new()));
    let inside = Spawns(Arc::clone(&answers));
    on_a_thread(move || {
        drop(spawn(move || {
            let _inside = inside;
            sleep(LONG);
        }));
        yield_now();
    });
    assert_eq!(*answers.lock().unwrap(), [42]);
}

/// Many of them, each with something that does not leave the thread.
#[test]
fn ten_thousand() {
    let sum = Rc::new(RefCell::new(0));
    let all: Vec<_> = (0..10_000_u64)
        .map(|number| {
            let sum = Rc::clone(&sum);
            spawn(move || {
                yield_now();
                *sum.borrow_mut() += number;
            })
        })
        .collect();
    assert!(coroutine::join_all(all).iter().all(Result::is_ok));
    assert_eq!(*sum.borrow(), 10_000 * 9_999 / 2);
    assert_eq!(greenlet::live_count(), 0);
}

/// {hub_join}: a thread that uses its hub again and again leaks nothing, nor do many threads.
#[test]
fn test_join_many_times() {
    for _ in 0..20 {
        on_a_thread(|| {
            for _ in 0..3 {
                spawn(|| sleep(ms(0))).join().unwrap();
                assert_eq!(greenlet::live_count(), 0);
            }
        });
    }
}
