//! Results, panics and exits: where they go.

use crate::support::{Log, panic_message, pause, yield_to_parent};
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use switchgrass::{Builder, Greenlet, GreenletExit, SwitchError, WeakGreenlet, current, greenlet};

/// The result goes to the one who made it, not to the one who last switched to it.
#[test]
fn a_result_goes_to_the_parent() {
    let log = Log::new();
    let b = Greenlet::new(|()| -> &'static str { "r" });
    let b_in_a = b.clone();
    let in_a = log.clone();
    let a = Greenlet::new(move |()| -> &'static str {
        let got: &'static str = b_in_a.erase().switch_any(());
        in_a.add(got);
        "a"
    });
    // Main switched to a, a to b, and b ended: main gets b's result, and a is still in its switch.
    assert_eq!(a.switch(()), "r");
    assert!(b.is_dead() && !a.is_dead());
    // Somebody sends a something: its switch to b returns that.
    assert_eq!(a.erase().switch_any::<&'static str, &'static str>("seven"), "a");
    assert_eq!(log.take(), ["seven"]);
}

/// {test_exception}: child → parent that is not the switcher → main.
#[test]
fn test_exception() {
    let seen = Log::new();
    let log = seen.clone();
    let parent = Greenlet::new(move |()| -> () {
        let caught = catch_unwind(AssertUnwindSafe(pause));
        log.add(caught.unwrap_err().downcast_ref::<&str>().unwrap());
        resume_unwind(Box::new("second"));
    });
    parent.switch(());
    let child = Greenlet::new(|()| -> () { resume_unwind(Box::new("first")) });
    child.set_parent(&parent).unwrap();
    let caught = catch_unwind(AssertUnwindSafe(|| child.switch(())));
    assert_eq!(caught.unwrap_err().downcast_ref(), Some(&"second"));
    assert_eq!(seen.take(), ["first"]);
    assert!(child.is_dead() && parent.is_dead());
    // Both dead: what they are sent comes straight back.
    parent.switch(());
    child.switch(());
}

/// {test_send_exception}: a helper whose parent is g raises into g.
#[test]
fn test_send_exception() {
    let g = Greenlet::new(|()| -> () {
        loop {
            let caught = catch_unwind(AssertUnwindSafe(pause));
            if caught.is_err() {
                yield_to_parent::<(), ()>(());
                return;
            }
        }
    });
    g.switch(());
    let helper =
        Builder::new().parent(&g).build(|()| -> () { resume_unwind(Box::new(1)) }).unwrap();
    helper.switch(());
    assert!(helper.is_dead() && !g.is_dead());
    g.switch(());
    assert!(g.is_dead());
}

#[test]
fn a_panic_is_printed_once_and_raised_at_the_parents_switch() {
    let message =
        panic_message(|| Greenlet::new(|()| -> () { panic!("it {}", "broke") }).switch(()));
    assert_eq!(message, "it broke");
}

/// {test_falling_off_end_switches_to_unstarted_parent_works}. A parent is not kept alive by its
/// child, so that it needs a handle here.
#[test]
fn test_falling_off_end_switches_to_unstarted_parent_works() {
    let parent = Greenlet::new(|text: String| -> String { text + " and back" });
    let child =
        Builder::new().parent(&parent).build(|text: String| -> String { text + " there" }).unwrap();
    assert_eq!(child.switch("hello".into()), "hello there and back");
    assert!(child.is_dead() && parent.is_dead());
}

/// {test_falling_off_end_switches_to_unstarted_parent_raises_error}: it cannot take the result, which
/// is its end as well, and the error goes on to its parent.
#[test]
fn test_falling_off_end_switches_to_unstarted_parent_raises_error() {
    let log = Log::new();
    let captured = log.guard("body dropped");
    let parent = Greenlet::new(move |number: u64| -> () {
        drop(captured);
        assert_eq!(number, 0);
    });
    let child = Builder::new().parent(&parent).build(|()| -> () {}).unwrap();
    let message = panic_message(|| child.switch(()));
    assert!(message.contains("awaits a value of type `u64`, not `()`"), "{message}");
    assert!(child.is_dead() && parent.is_dead());
    assert_eq!(log.take(), ["body dropped"]);
}

#[test]
fn a_result_that_the_parent_does_not_await_is_an_error_there() {
    let log = Log::new();
    let guard = log.guard("result dropped");
    let child = Greenlet::new(move |()| guard);
    match child.erase().try_switch_any::<(), u32>(()) {
        Err(SwitchError::WrongResult(mismatch)) => {
            assert_eq!(mismatch.awaited(), "u32");
            assert!(mismatch.sent().ends_with("Guard"));
            assert_eq!(mismatch.greenlet(), "'main'");
        }
        other => panic!("{:?}", other.map(drop)),
    }
    assert_eq!(log.take(), ["result dropped"]);
}

/// {test_switch_to_dead_greenlet_reparent}
#[test]
fn test_switch_to_dead_greenlet_reparent() {
    let first = Greenlet::new(|number: i32| -> i32 { number + 1 });
    assert_eq!(first.switch(41), 42);
    // Dead: to main, who is the caller.
    assert_eq!(first.switch(7), 7);
    let log = Log::new();
    let inside = log.clone();
    let second = Greenlet::new(move |number: i32| -> i32 {
        inside.add("second");
        number * 2
    });
    first.set_parent(&second).unwrap();
    assert!(!second.is_started());
    assert_eq!(first.switch(100), 200);
    assert_eq!(log.take(), ["second"]);
    assert!(second.is_dead());
    assert_eq!(first.switch(3), 3);
}

/// From a third greenlet, a switch to a dead one transfers control to its first live ancestor.
#[test]
fn a_switch_to_a_dead_one_goes_to_its_first_live_ancestor() {
    let dead = Greenlet::new(|()| -> u8 { 1 });
    assert_eq!(dead.switch(()), 1);
    let dead_in_third = dead.clone();
    let third = Greenlet::new(move |()| -> u8 {
        // Main awaits an u8 now, so this must be one.
        dead_in_third.erase().switch_any::<u8, ()>(9);
        2
    });
    assert_eq!(third.switch(()), 9);
    assert!(!third.is_dead());
    // And an error that names main, who awaits nothing but what this very call awaits.
    let error = dead.try_switch(()).unwrap_err();
    assert_eq!(error.to_string(), "greenlet 'main' awaits a value of type `u8`, not `()`");
    assert_eq!(third.switch(()), 2);
}

#[test]
fn an_exit_is_a_normal_end_without_a_result() {
    let numbers = Greenlet::new(|()| -> u32 { resume_unwind(Box::new(GreenletExit)) });
    assert!(matches!(numbers.try_switch(()), Err(SwitchError::Exited(GreenletExit))));
    assert!(numbers.is_dead());
    let units = Greenlet::new(|()| -> () { resume_unwind(Box::new(GreenletExit)) });
    units.switch(());
    assert!(units.is_dead());
    let message = panic_message(|| {
        Greenlet::new(|()| -> u32 { resume_unwind(Box::new(GreenletExit)) }).switch(())
    });
    assert_eq!(message, "a greenlet ended by GreenletExit, so its parent gets no result");
}

/// An end wakes the parent wherever it is suspended, with the type that it awaits there.
#[test]
fn a_child_of_a_suspended_parent() {
    let log = Log::new();
    let inside = log.clone();
    let slot: Rc<RefCell<Option<Greenlet<(), u64>>>> = Rc::default();
    let for_parent = Rc::clone(&slot);
    let parent = Greenlet::new(move |()| -> () {
        *for_parent.borrow_mut() = Some(Greenlet::new(|()| -> u64 { 5 }));
        let number: u64 = yield_to_parent(());
        inside.add(number);
    });
    parent.switch(());
    let child = slot.take().unwrap();
    // The child's result goes to its parent, whose end then goes to main.
    child.erase().switch_any::<(), ()>(());
    assert_eq!(log.take(), ["5"]);
    assert!(parent.is_dead());
}

#[test]
fn states_over_a_life() {
    let start = greenlet::live_count();
    let g = Greenlet::new(|()| {
        let me = current();
        assert!(me.is_started() && me.is_active() && !me.is_dead());
        pause();
    });
    assert_eq!(greenlet::live_count(), start + 1);
    assert!(!g.is_started() && !g.is_active() && !g.is_dead());
    g.switch(());
    assert!(g.is_started() && g.is_active() && !g.is_dead());
    g.switch(());
    assert!(g.is_started() && !g.is_active() && g.is_dead());
    assert_eq!(greenlet::live_count(), start);
}

/// {test_dead_weakref, test_inactive_weakref, test_dealloc_weakref}
#[test]
fn weak_handles() {
    let g = Greenlet::new(|()| pause());
    let weak: WeakGreenlet<(), ()> = g.downgrade();
    assert_eq!(weak.upgrade().as_ref(), Some(&g));
    weak.switch(());
    assert!(g.is_active() && !weak.is_dead());
    drop(g);
    assert!(weak.is_dead() && weak.upgrade().is_none());
    // The dead are switched to all the same: their parent is main, the caller.
    weak.switch(());
    let finished = Greenlet::new(|()| ());
    finished.switch(());
    let weak = finished.downgrade();
    assert!(weak.upgrade().is_some(), "a dead greenlet has handles as long as there are any");
    drop(finished);
    assert!(weak.upgrade().is_none());
}

/// {test_leak_test_exception_switch_and_do_in_g2}
#[test]
fn a_thousand_failing_children_leak_nothing() {
    let value = Rc::new(());
    for _ in 0..1_000 {
        let captured = Rc::clone(&value);
        let child =
            Greenlet::new(move |()| -> () { resume_unwind(Box::new(Rc::strong_count(&captured))) });
        assert!(catch_unwind(AssertUnwindSafe(|| child.switch(()))).is_err());
    }
    assert_eq!(Rc::strong_count(&value), 1);
    assert_eq!(greenlet::live_count(), 0);
}

/// A child of a panicking child: each level may turn the panic into something else.
#[test]
fn a_panic_climbs_a_chain_of_parents() {
    let g = Greenlet::new(|()| -> () {
        let inner = Greenlet::new(|()| -> () {
            let innermost = Greenlet::new(|()| -> () { resume_unwind(Box::new(1)) });
            let caught = catch_unwind(AssertUnwindSafe(|| innermost.switch(())));
            resume_unwind(Box::new(caught.unwrap_err().downcast_ref::<i32>().unwrap() + 1));
        });
        inner.switch(());
        unreachable!("it was raised there");
    });
    let caught = catch_unwind(AssertUnwindSafe(|| g.switch(())));
    assert_eq!(caught.unwrap_err().downcast_ref(), Some(&2));
}
