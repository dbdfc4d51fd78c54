//! Results, payloads and callbacks whose destructors panic: that is nobody else's concern.

use crate::support::{LONG, Log, ms, payload_of, settle};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any, resume_unwind};
use std::rc::Rc;
use switchgrass::coroutine::{self, kill_all, scope};
use switchgrass::{JoinError, greenlet, sleep, spawn, timeout, yield_now};

/// Its destructor panics with another one, and so on for ever.
struct Endless;

impl Drop for Endless {
    fn drop(&mut self) {
        resume_unwind(Box::new(Endless));
    }
}

/// The hub goes on: others are made, joined, and sleep.
fn assert_all_is_well() {
    assert_eq!(spawn(|| 5).join().unwrap(), 5);
    let slept = spawn(|| sleep(ms(1)));
    assert!(slept.join().is_ok());
    assert_eq!(greenlet::live_count(), 0);
}

/// Nobody joins it: the payload is dropped with the coroutine.
#[test]
fn a_payload_whose_destructor_panics_does_not_come_out_in_anothers_join() {
    drop(spawn(|| panic_any(Endless)));
    let innocent = spawn(|| {
        sleep(ms(1));
        "innocent"
    });
    assert_eq!(innocent.join().unwrap(), "innocent");
    assert_all_is_well();
}

/// It is dropped with the last handle of any kind, or by who is told of the end.
#[test]
fn a_payload_whose_destructor_panics_is_dropped_with_the_last_handle() {
    let kept = spawn(|| panic_any(Endless)).coroutine();
    settle();
    assert!(kept.is_finished());
    assert_eq!(spawn(move || drop(kept)).join().map_err(|error| error.to_string()), Ok(()));
    let handle = spawn(|| panic_any(Endless));
    settle();
    drop(handle);
    let log = Log::new();
    for number in 0..2 {
        let (in_hub, linked) = (log.clone(), log.clone());
        let failing = spawn(|| panic_any(Endless));
        failing.link_in_hub(move || in_hub.add(format!("hub {number}")));
        failing.link(move || linked.add(format!("link {number}")));
    }
    settle();
    let mut told = log.take();
    told.sort();
    assert_eq!(told, ["hub 0", "hub 1", "link 0", "link 1"]);
    assert_all_is_well();
}

/// A result: its handle is dropped before it is there, or afterwards.
#[test]
fn a_result_whose_destructor_panics() {
    drop(spawn(|| Endless));
    settle();
    let handle = spawn(|| Endless);
    settle();
    assert!(handle.is_finished());
    drop(handle);
    // While the dropper unwinds, too.
    let handle = spawn(|| Endless);
    settle();
    let payload = payload_of(move || {
        let _handle = handle;
        resume_unwind(Box::new("the first"));
    });
    assert_eq!(payload.downcast_ref(), Some(&"the first"));
    assert_all_is_well();
}

/// A kill that reaches the dropper in a result's destructor is not lost with that.
#[test]
fn a_kill_in_the_destructor_of_anothers_result() {
    struct Waits(Log);
    impl Drop for Waits {
        fn drop(&mut self) {
            self.0.add("waits");
            sleep(LONG);
        }
    }
    let log = Log::new();
    let (inside, after) = (log.clone(), log.clone());
    let dropper = spawn(move || {
        let handle = spawn(move || Waits(inside));
        settle();
        drop(handle);
        sleep(LONG);
        after.add("not reached");
    });
    while log.take().is_empty() {
        yield_now();
    }
    assert!(dropper.kill_wait(Some(LONG)));
    assert!(matches!(dropper.join(), Err(JoinError::Killed)));
    assert!(log.take().is_empty());
    let limited = timeout(ms(5), || {
        let inside = log.clone();
        let handle = spawn(move || Waits(inside));
        settle();
        drop(handle);
        sleep(LONG);
    });
    assert!(limited.is_err());
}

/// A callback that panics with one, and one that owns one and is never called.
#[test]
fn links_whose_destructors_panic() {
    let log = Log::new();
    let one = spawn(|| ());
    let (second, last) = (log.clone(), log.clone());
    one.link_in_hub(|| resume_unwind(Box::new(Endless)));
    one.link(move || {
        second.add("second");
        resume_unwind(Box::new(Endless));
    });
    one.link_in_hub(move || last.add("last"));
    assert!(one.join().is_ok());
    settle();
    assert_eq!(log.take(), ["last", "second"]);
    assert_all_is_well();
}

/// One that is not joined, and one whose result nobody takes, in a scope.
#[test]
fn results_and_payloads_of_a_scope() {
    let result = scope(|scope| {
        drop(scope.spawn(|| Endless));
        let kept = scope.spawn(|| Endless);
        settle();
        drop(kept);
        "result"
    });
    assert_eq!(result, "result");
    // The first is raised, and the others are dropped.
    let payload = payload_of(|| {
        scope(|scope| {
            scope.spawn(|| resume_unwind(Box::new("the first")));
            scope.spawn(|| panic_any(Endless));
        })
    });
    assert_eq!(payload.downcast_ref(), Some(&"the first"));
    let limited = timeout(ms(5), || {
        scope(|scope| {
            scope.spawn(|| sleep(LONG));
            Endless
        })
    });
    assert!(limited.is_err_and(|elapsed| elapsed.limit() == ms(5)));
    assert_all_is_well();
}

/// Unstarted bodies are dropped by who kills them: all of them, and the current one is killed as well.
#[test]
fn kill_all_loses_no_kill() {
    let log = Log::new();
    let inside = log.clone();
    let killer = spawn(move || {
        let bodies: Vec<_> = (0..3)
            .map(|_| {
                let endless = Endless;
                spawn(move || drop(endless)).coroutine()
            })
            .collect();
        let all = bodies.iter().cloned().chain([coroutine::current()]);
        let caught = catch_unwind(AssertUnwindSafe(|| kill_all(all, None)));
        let payload = caught.unwrap_err();
        inside.add(payload.is::<Endless>());
        std::mem::forget(payload);
        inside.add(bodies.iter().all(|body| body.is_finished()));
        sleep(LONG);
        inside.add("not reached");
    });
    assert!(killer.wait_end(Some(LONG)));
    assert!(matches!(killer.join(), Err(JoinError::Killed)));
    assert_eq!(log.take(), ["true", "true"]);
    assert_all_is_well();
}

/// While its body is dropped, it has ended: another kill changes nothing.
#[test]
fn a_kill_while_the_body_is_being_dropped() {
    struct KillsAgain(Rc<Cell<Option<coroutine::Coroutine>>>);
    impl Drop for KillsAgain {
        fn drop(&mut self) {
            self.0.take().unwrap().kill_with(Box::new("the second"));
        }
    }
    let slot = Rc::default();
    let again = KillsAgain(Rc::clone(&slot));
    let one = spawn(move || drop(again));
    slot.set(Some(one.coroutine()));
    one.kill_with(Box::new("the first"));
    match one.join() {
        Err(JoinError::Panicked(payload)) => {
            assert_eq!(payload.downcast_ref(), Some(&"the first"));
        }
        other => panic!("{other:?}"),
    }
}
