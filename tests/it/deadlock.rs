//! When nobody is left who could wake anybody.

use crate::support::{LONG, Log, ms, on_a_thread, panic_message};
use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};
use switchgrass::coroutine::{Builder, block_on, iwait, scope};
use switchgrass::{
    Coroutine, Generator, Greenlet, JoinError, JoinHandle, greenlet, sleep, spawn, timeout,
    yield_now,
};

fn for_ever() {
    sleep(Duration::MAX);
}

fn named(name: &'static str, body: impl FnOnce() + 'static) -> JoinHandle<()> {
    Builder::new().name(name).spawn(body).unwrap()
}

/// Main gets a panic that lists who is stuck: the name or the number, what it waits for, where it
/// was spawned.
#[test]
fn main_is_told_who_is_stuck() {
    let line = line!() + 1;
    let sleeper = spawn(for_ever);
    let target = sleeper.coroutine();
    let joiner = named("joiner", move || {
        target.wait_end(None);
    });
    let in_generator = named("generator", || {
        Generator::<()>::new(|_| for_ever()).next();
    });
    let target = joiner.coroutine();
    let waiter = named("waiter", move || {
        iwait([target]).next();
    });
    let message = panic_message(|| in_generator.wait_end(None));
    let lines: Vec<_> = message.lines().collect();
    assert_eq!(
        lines[0],
        "this would block for ever: main waits for Coroutine::wait_end, and nobody is left who \
         could wake it"
    );
    let site = format!("(spawned at {}:{line}:", file!());
    let number = sleeper.id();
    let first = format!("  coroutine #{number} waits for sleep {site}");
    assert!(lines[1].starts_with(&first), "{message}");
    assert!(
        lines[2].starts_with("  coroutine 'joiner' waits for Coroutine::wait_end (spawned at ")
    );
    assert!(lines[3].starts_with("  coroutine 'generator' waits for sleep (spawned at "));
    assert!(lines[4].starts_with("  coroutine 'waiter' waits for iwait (spawned at "));
    assert_eq!(lines.len(), 5, "{message}");
    // They see nothing of it, and can be killed.
    let all = [waiter, in_generator, joiner, sleeper].map(|stuck| stuck.coroutine());
    for stuck in &all {
        assert!(!stuck.is_finished());
    }
    for stuck in &all {
        assert!(stuck.kill_wait(None));
    }
    assert_eq!(greenlet::live_count(), 0);
}

/// With nobody else there.
#[test]
fn main_alone() {
    let message = panic_message(for_ever);
    let expected = "this would block for ever: main waits for sleep, and nobody is left who could \
                    wake it";
    assert_eq!(message, expected);
}

/// Main waits in a greenlet that it has made by hand: it is raised there, and goes on to main.
#[test]
fn main_in_a_greenlet() {
    let raw = Greenlet::new(|()| for_ever());
    let message = panic_message(|| raw.switch(()));
    assert!(message.starts_with("this would block for ever: main waits for sleep,"), "{message}");
    assert!(raw.is_dead());
}

/// The hub can be used again: main may catch it, do what the others wait for, or be told once more.
#[test]
fn the_hub_can_be_used_again() {
    let log = Log::new();
    let inside = log.clone();
    let stuck = spawn(move || {
        let _guard = inside.guard("stuck ends");
        for_ever();
    });
    for _ in 0..3 {
        let message = panic_message(|| stuck.wait_end(None));
        assert!(message.contains("waits for sleep"), "{message}");
        let start = Instant::now();
        assert_eq!(spawn(|| 5).join().unwrap(), 5);
        sleep(ms(5));
        assert!(start.elapsed() >= ms(5));
        assert!(!stuck.wait_end(Some(ms(1))));
    }
    stuck.kill();
    assert!(matches!(stuck.join(), Err(JoinError::Killed)));
    assert_eq!(log.take(), ["stuck ends"]);
}

/// Two that wait for each other.
#[test]
fn a_cycle() {
    let other: Rc<RefCell<Option<Coroutine>>> = Rc::default();
    let of_first = Rc::clone(&other);
    let first = named("first", move || {
        let other = of_first.take().unwrap();
        other.wait_end(None);
    });
    let target = first.coroutine();
    let second = named("second", move || {
        target.wait_end(None);
    });
    other.replace(Some(second.coroutine()));
    let message = panic_message(|| second.wait_end(None));
    assert!(message.contains("'first' waits for Coroutine::wait_end"), "{message}");
    assert!(message.contains("'second' waits for Coroutine::wait_end"), "{message}");
    assert!(first.kill_wait(None));
    second.join().unwrap();
}

/// A timer that is pending prevents it: another's sleep, a limit, a start that is to come.
#[test]
fn a_timer_prevents_it() {
    let sleeper = spawn(|| sleep(ms(20)));
    let target = sleeper.coroutine();
    let stuck = spawn(move || {
        target.wait_end(None);
    });
    stuck.join().unwrap();
    assert!(timeout(ms(20), for_ever).is_err());
    let limited = spawn(|| timeout(ms(20), for_ever).is_err());
    assert!(limited.join().unwrap());
    let late = Builder::new().start_after(ms(20)).spawn(|| 5).unwrap();
    assert_eq!(late.join().unwrap(), 5);
    sleeper.join().unwrap();
}

/// What had a timer and has been killed prevents nothing.
#[test]
fn a_timer_that_is_gone_prevents_nothing() {
    let start = Instant::now();
    let asleep = spawn(|| sleep(LONG));
    let limited = spawn(|| timeout(LONG, for_ever).unwrap());
    let late = Builder::new().start_after(LONG).spawn(|| ()).unwrap();
    yield_now();
    for killed in [asleep, limited, late] {
        assert!(killed.kill_wait(None));
    }
    let message = panic_message(for_ever);
    assert!(message.starts_with("this would block for ever"), "{message}");
    assert!(start.elapsed() < LONG / 2, "it does not wait for them");
}

/// A waker that is registered prevents it: another thread may call it.
#[test]
fn a_waker_prevents_it() {
    let (send, receive) = mpsc::channel::<Waker>();
    let woken = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&woken);
    let other = std::thread::spawn(move || {
        let waker = receive.recv().unwrap();
        std::thread::sleep(ms(20));
        set.store(true, SeqCst);
        waker.wake();
    });
    let waits = spawn(move || {
        block_on(poll_fn(|context| {
            let _ = send.send(context.waker().clone());
            if woken.load(SeqCst) { Poll::Ready(()) } else { Poll::Pending }
        }));
    });
    waits.join().unwrap();
    other.join().unwrap();
    // It is gone with the wait.
    assert!(panic_message(for_ever).starts_with("this would block for ever"));
}

/// Main waits for a scope: its coroutines are killed by the panic, which goes on when they have
/// ended.
#[test]
fn a_scope_that_is_stuck() {
    let log = Log::new();
    let message = panic_message(|| {
        scope(|scope| {
            scope.spawn(|| {
                let _guard = log.guard("killed");
                for_ever();
            });
        });
    });
    assert!(message.contains("main waits for the end of a scope"), "{message}");
    assert_eq!(log.take(), ["killed"]);
    assert_eq!(greenlet::live_count(), 0);
}

/// Very many are stuck: a hundred of them are listed, and the others counted.
#[test]
fn very_many() {
    let all: Vec<_> = (0..250).map(|_| spawn(for_ever)).collect();
    let message = panic_message(for_ever);
    let lines: Vec<_> = message.lines().collect();
    assert_eq!(lines.len(), 102);
    assert!(lines[1].starts_with(&format!("  coroutine #{} ", all[0].id())));
    assert_eq!(lines[101], "  and 150 more");
    assert!(switchgrass::coroutine::kill_all(all.iter().map(|one| one.coroutine()), None));
}

/// On a thread that is not the program's first, its main is told; and the thread ends as it should.
#[test]
fn on_another_thread() {
    let message = on_a_thread(|| {
        let _stuck = named("stuck", for_ever);
        panic_message(for_ever)
    });
    assert!(message.contains("coroutine 'stuck' waits for sleep"), "{message}");
}
