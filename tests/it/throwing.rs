//! `throw`, into everything that there is.

use crate::support::{Log, pause, yield_to_parent};
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use switchgrass::{Builder, Greenlet, GreenletExit, SwitchError, current};

/// What was raised by `f`.
fn raised<R: std::fmt::Debug>(f: impl FnOnce() -> R) -> &'static str {
    let payload = catch_unwind(AssertUnwindSafe(f)).unwrap_err();
    payload.downcast_ref::<&'static str>().expect("what the test has thrown")
}

/// {test_class, test_val}: it is caught and gone on; `throw` returns what is sent next.
#[test]
fn test_class() {
    let log = Log::new();
    let inside = log.clone();
    let g = Greenlet::new(move |()| -> &'static str {
        let caught = catch_unwind(AssertUnwindSafe(|| {
            yield_to_parent::<&'static str, ()>("ok");
        }));
        inside.add(caught.unwrap_err().downcast_ref::<&str>().unwrap());
        yield_to_parent::<&'static str, ()>("caught");
        "end"
    });
    assert_eq!(g.switch(()), "ok");
    assert_eq!(g.throw("ciao").unwrap(), "caught");
    assert_eq!(log.take(), ["ciao"]);
    assert_eq!(g.switch(()), "end");
}

/// {test_kill}
#[test]
fn test_kill() {
    let log = Log::new();
    let guard = log.guard("unwound");
    let g = Greenlet::new(move |()| -> () {
        let _guard = guard;
        pause();
        unreachable!("it was told to end");
    });
    g.switch(());
    assert!(matches!(g.throw(GreenletExit), Err(SwitchError::Exited(GreenletExit))));
    assert_eq!(log.take(), ["unwound"]);
    assert!(g.is_dead());
    // Into the dead: it comes straight back.
    assert!(matches!(g.throw(GreenletExit), Err(SwitchError::Exited(GreenletExit))));
}

/// {test_throw_goes_to_original_parent}: up the target's own chain, not back to the thrower.
#[test]
fn test_throw_goes_to_original_parent() {
    let main_got = Log::new();
    let target = Greenlet::new(|()| pause());
    target.switch(());
    let victim = target.clone();
    let log = main_got.clone();
    let thrower = Greenlet::new(move |()| -> () {
        let after: Result<(), _> = victim.throw_any(Box::new("thrown"));
        // Main has caught it by then, and switched back here.
        after.unwrap();
        log.add("thrower goes on");
    });
    assert_eq!(raised(|| thrower.switch(())), "thrown");
    assert!(target.is_dead() && !thrower.is_dead());
    thrower.switch(());
    assert_eq!(main_got.take(), ["thrower goes on"]);
}

/// The same from a child of the target, and from a child of the thrower: who throws makes no difference.
#[test]
fn test_throw_goes_to_original_parent2() {
    let target = Greenlet::new(|()| -> () {
        let target = current().upgrade().unwrap();
        let child = Greenlet::new(move |()| -> () {
            let _ = target.throw("by its child");
            unreachable!("nobody switches back here");
        });
        child.switch(());
    });
    // The child is suspended in its throw when the target has ended; it is unwound with its handle.
    assert_eq!(raised(|| target.switch(())), "by its child");
    assert!(target.is_dead());
    let target = Greenlet::new(|()| pause());
    target.switch(());
    let victim = target.clone();
    let outer = Greenlet::new(move |()| -> () {
        let inner = Greenlet::new(move |()| -> () {
            let _ = victim.throw("by a grandchild of main");
        });
        inner.switch(());
    });
    assert_eq!(raised(|| outer.switch(())), "by a grandchild of main");
    assert!(target.is_dead() && !outer.is_dead());
}

#[test]
fn into_an_unstarted_one() {
    let log = Log::new();
    let make = || {
        let guard = log.guard("body dropped");
        Greenlet::new(move |()| -> () {
            drop(guard);
            unreachable!("it never runs");
        })
    };
    let g = make();
    assert_eq!(raised(|| g.throw("never ran")), "never ran");
    assert!(g.is_dead());
    assert_eq!(log.take(), ["body dropped"]);
    let g = make();
    assert!(matches!(g.throw(GreenletExit), Err(SwitchError::Exited(_))));
    assert!(g.is_dead());
    assert_eq!(log.take(), ["body dropped"]);
}

/// Into an unstarted one whose parent is suspended: control goes to the parent.
#[test]
fn into_an_unstarted_child_of_a_suspended_parent() {
    let log = Log::new();
    let inside = log.clone();
    let parent = Greenlet::new(move |()| -> () {
        let caught = catch_unwind(AssertUnwindSafe(pause));
        inside.add(caught.unwrap_err().downcast_ref::<&str>().unwrap());
        let result: Result<(), SwitchError<()>> = current().parent().unwrap().try_switch_any(());
        inside.add(result.unwrap_err());
    });
    parent.switch(());
    let child = |parent: &Greenlet<(), ()>| Builder::new().parent(parent).build(|()| ()).unwrap();
    child(&parent).throw("to the parent").unwrap();
    child(&parent).throw(GreenletExit).unwrap();
    assert_eq!(
        log.take(),
        ["to the parent", "a greenlet ended by GreenletExit, so its parent gets no result"]
    );
    assert!(parent.is_dead());
}

#[test]
fn into_a_dead_one() {
    let dead = Greenlet::new(|()| ());
    dead.switch(());
    // Main is its first live ancestor, and the caller.
    assert_eq!(raised(|| dead.throw("into the dead")), "into the dead");
    // From a third greenlet it is raised in main.
    let from_third = dead.clone();
    let third = Greenlet::new(move |()| {
        let _ = from_third.throw("through the dead");
    });
    assert_eq!(raised(|| third.switch(())), "through the dead");
    assert!(!third.is_dead());
}

#[test]
fn into_oneself() {
    assert_eq!(raised(|| current().throw("here")), "here");
    let g = Greenlet::new(|()| -> u8 {
        assert_eq!(raised(|| current().throw("inside")), "inside");
        let _ = current().throw(GreenletExit);
        unreachable!("it was raised here");
    });
    assert!(matches!(g.try_switch(()), Err(SwitchError::Exited(_))));
}

#[test]
fn into_main_from_a_child() {
    let child = Greenlet::new(|()| {
        let main = current().parent().unwrap();
        let back: Result<(), _> = main.throw_any(Box::new("into main"));
        back.unwrap();
    });
    assert_eq!(raised(|| child.switch(())), "into main");
    child.switch(());
    assert!(child.is_dead());
}

/// {test_throw_exception_not_lost}: destructors that run because of it may switch elsewhere and back.
#[test]
fn what_is_thrown_survives_switches_on_its_way() {
    struct SwitchesAway;
    impl Drop for SwitchesAway {
        fn drop(&mut self) {
            pause();
        }
    }
    let g = Greenlet::new(|()| {
        let _guard = SwitchesAway;
        pause();
    });
    g.switch(());
    g.throw("on its way").unwrap();
    assert!(!g.is_dead());
    assert_eq!(raised(|| g.switch(())), "on its way");
    assert!(g.is_dead());
}

/// A thread's worth of greenlets, each thrown into by the next.
#[test]
fn a_chain_of_throws() {
    let all: Rc<RefCell<Vec<Greenlet<(), ()>>>> = Rc::default();
    let log = Log::new();
    for number in 0..5 {
        let (others, log) = (Rc::clone(&all), log.clone());
        let g = Greenlet::new(move |()| {
            let _ = catch_unwind(AssertUnwindSafe(pause));
            log.add(number);
            let next = others.borrow().get(number + 1).cloned();
            if let Some(next) = next {
                let _ = next.throw("next");
            }
        });
        g.switch(());
        all.borrow_mut().push(g);
    }
    let first = all.borrow()[0].clone();
    first.throw("first").unwrap();
    assert_eq!(log.take(), ["0", "1", "2", "3", "4"]);
    all.take();
}
