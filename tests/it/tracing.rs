//! The trace hook.

use crate::support::{Log, pause};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use switchgrass::greenlet::{TraceEvent, TraceHook, set_trace, trace};
use switchgrass::{Builder, Greenlet, current};

/// A hook that writes down who came from where.
fn logging(log: &Log) -> TraceHook {
    let log = log.clone();
    Rc::new(move |event| {
        let name = |g: &switchgrass::AnyWeakGreenlet| g.name().unwrap().into_owned();
        let (kind, from, to) = match event {
            TraceEvent::Switch { from, to } => ("switch", from, to),
            TraceEvent::Throw { from, to } => ("throw", from, to),
        };
        assert!(*to == current() && !to.is_dead());
        log.add(format!("{kind} {} {}", name(from), name(to)));
    })
}

fn named(name: &'static str, body: impl FnOnce(()) + 'static) -> Greenlet<(), ()> {
    Builder::new().name(name).build(body).unwrap()
}

#[test]
fn test_a_greenlet_tracing() {
    let log = Log::new();
    let good = named("good", |()| ());
    let bad = named("bad", |()| std::panic::resume_unwind(Box::new(0)));
    let old = set_trace(Some(logging(&log)));
    assert!(old.is_none());
    good.switch(());
    assert!(catch_unwind(AssertUnwindSafe(|| bad.switch(()))).is_err());
    current().switch_any::<(), ()>(());
    let thrown = named("thrown", |()| pause());
    thrown.switch(());
    drop(thrown);
    assert!(set_trace(None).is_some());
    named("unseen", |()| ()).switch(());
    let expected = [
        "switch main good",
        "switch good main",
        "switch main bad",
        "throw bad main",
        "switch main main",
        "switch main thrown",
        "switch thrown main",
        "throw main thrown",
        "switch thrown main",
    ];
    assert_eq!(log.take(), expected);
}

/// A hook that fails is taken away, and its panic is raised in the target.
#[test]
fn test_b_exception_disables_tracing() {
    let log = Log::new();
    let inside = log.clone();
    let g = named("g", move |()| {
        let caught = catch_unwind(AssertUnwindSafe(pause));
        inside.add(caught.unwrap_err().downcast_ref::<&str>().unwrap());
    });
    g.switch(());
    set_trace(Some(Rc::new(|_| std::panic::resume_unwind(Box::new("from the hook")))));
    g.switch(());
    assert!(trace().is_none());
    assert_eq!(log.take(), ["from the hook"]);
    // At the start of a body it is the body that it ends.
    set_trace(Some(Rc::new(|_| std::panic::resume_unwind(Box::new("again")))));
    let never = named("never", |()| unreachable!("it was ended before its first line"));
    let caught = catch_unwind(AssertUnwindSafe(|| never.switch(())));
    assert_eq!(caught.unwrap_err().downcast_ref(), Some(&"again"));
    assert!(never.is_dead() && trace().is_none());
}

#[test]
fn the_old_hook_is_returned() {
    let (a, b): (TraceHook, TraceHook) = (Rc::new(|_| ()), Rc::new(|_| ()));
    assert!(set_trace(Some(Rc::clone(&a))).is_none());
    assert!(Rc::ptr_eq(&trace().unwrap(), &a));
    assert!(Rc::ptr_eq(&set_trace(Some(b)).unwrap(), &a));
    set_trace(None);
}

/// {test_reentrant_switch_two_greenlets, …three_greenlets}: a hook that switches itself. What is on its
/// way when it does arrives all the same.
#[test]
fn test_reentrant_switch_two_greenlets() {
    let log = Log::new();
    let inside = log.clone();
    let other = Greenlet::new(move |()| {
        inside.add("other");
        pause();
        inside.add("other again");
    });
    let echo = Greenlet::new(|mut text: String| -> String {
        loop {
            text = current().parent().unwrap().switch_any(text + "!");
        }
    });
    let once = Cell::new(2);
    let handle = other.clone();
    set_trace(Some(Rc::new(move |event| {
        if let TraceEvent::Switch { to, .. } = event
            && once.get() > 0
            && *to != handle
        {
            once.set(once.get() - 1);
            // Comes back here by its parent only if that is who runs the hook.
            handle.set_parent(to).unwrap();
            handle.switch(());
        }
    })));
    assert_eq!(echo.switch("a large value on its way".to_string()), "a large value on its way!");
    assert_eq!(echo.switch("b".to_string()), "b!");
    set_trace(None);
    assert_eq!(log.take(), ["other", "other again"]);
    assert!(other.is_dead());
}

/// A hook that switches to a third greenlet, which switches back, while the second is on its way.
#[test]
fn test_reentrant_switch_three_greenlets() {
    let log = Log::new();
    let make = |name: &'static str| {
        let log = log.clone();
        Greenlet::new(move |mut number: u32| -> u32 {
            loop {
                log.add(format!("{name} {number}"));
                number = current().parent().unwrap().switch_any(number + 1);
            }
        })
    };
    let (second, third) = (make("second"), make("third"));
    let (watched, detour) = (second.clone(), third.clone());
    let once = Cell::new(true);
    set_trace(Some(Rc::new(move |event| {
        if let TraceEvent::Switch { to, .. } = event
            && *to == watched
            && once.replace(false)
        {
            detour.set_parent(to).unwrap();
            // Awaited by the greenlet that runs the hook, whatever it awaits itself.
            assert_eq!(detour.switch(10), 11);
        }
    })));
    assert_eq!(second.switch(1), 2);
    assert_eq!(second.switch(3), 4);
    set_trace(None);
    assert_eq!(log.take(), ["third 10", "second 1", "second 3"]);
}

/// A hook that switches while a panic is on its way: it arrives, and is not mixed up with values.
#[test]
fn a_hook_that_switches_during_a_throw() {
    let log = Log::new();
    let inside = log.clone();
    let detour = Greenlet::new(move |text: &'static str| -> &'static str {
        inside.add(text);
        "from the detour"
    });
    let target = Greenlet::new(|()| -> () {
        let caught = catch_unwind(AssertUnwindSafe(pause));
        resume_unwind(Box::new(format!(
            "{}!",
            caught.unwrap_err().downcast_ref::<&str>().unwrap()
        )));
    });
    target.switch(());
    let (handle, inside) = (detour.clone(), log.clone());
    set_trace(Some(Rc::new(move |event| {
        if let TraceEvent::Throw { to, .. } = event
            && !handle.is_started()
        {
            handle.set_parent(to).unwrap();
            inside.add(handle.switch("in the hook"));
        }
    })));
    let caught = catch_unwind(AssertUnwindSafe(|| target.throw("thrown")));
    set_trace(None);
    assert_eq!(caught.unwrap_err().downcast_ref(), Some(&"thrown!".to_string()));
    assert_eq!(log.take(), ["in the hook", "from the detour"]);
    assert!(detour.is_dead() && target.is_dead());
}

/// A hook may take itself away, or put another in its place, while it runs.
#[test]
fn a_hook_that_replaces_itself() {
    let log = Log::new();
    let (first, second) = (log.clone(), log.clone());
    let guard = log.guard("first dropped");
    let hook: TraceHook = Rc::new(move |_| {
        let _captured = &guard;
        let second = second.clone();
        drop(set_trace(Some(Rc::new(move |_| {
            second.add("second");
            drop(set_trace(None));
        }))));
        first.add("first goes on");
    });
    set_trace(Some(hook));
    let g = Greenlet::new(|()| pause());
    g.switch(());
    assert_eq!(log.take(), ["first goes on", "first dropped", "second"]);
    assert!(trace().is_none());
    g.switch(());
    assert!(log.take().is_empty());
}

/// A hook that puts another in its place, and then panics: the other one stays.
#[test]
fn a_hook_that_fails_takes_away_itself_alone() {
    let log = Log::new();
    let inside = log.clone();
    let guard = log.guard("first dropped");
    set_trace(Some(Rc::new(move |_| {
        let (_captured, inside) = (&guard, inside.clone());
        drop(set_trace(Some(Rc::new(move |_| inside.add("second")))));
        resume_unwind(Box::new("from the hook"));
    })));
    let g = Greenlet::new(|()| {
        let _ = catch_unwind(AssertUnwindSafe(pause));
        pause();
    });
    let caught = catch_unwind(AssertUnwindSafe(|| g.switch(())));
    assert_eq!(caught.unwrap_err().downcast_ref(), Some(&"from the hook"));
    assert!(trace().is_some() && g.is_dead());
    assert_eq!(log.take(), ["first dropped", "second"]);
    current().switch_any::<(), ()>(());
    assert_eq!(log.take(), ["second"]);
    set_trace(None);
}
