//! Switches while a greenlet unwinds: std's count of panics goes with it.

use crate::support::{Log, pause, yield_to_parent};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Mutex;
use std::thread::panicking;
use switchgrass::{Greenlet, GreenletExit, SwitchError, current, greenlet};

/// Switches to its greenlet's parent when it is dropped, and logs `panicking()` before and after.
struct SwitchesAway(Log);

impl Drop for SwitchesAway {
    fn drop(&mut self) {
        self.0.add(format!("before: {}", panicking()));
        pause();
        self.0.add(format!("after: {}", panicking()));
    }
}

fn on_a_thread_of_its_own(test: fn()) {
    std::thread::spawn(test).join().unwrap();
}

fn a_destructor_switches_during_a_panic() {
    let log = Log::new();
    let inside = log.clone();
    let g = Greenlet::new(move |()| -> () {
        let _guard = SwitchesAway(inside);
        std::panic::resume_unwind(Box::new("first"));
    });
    let mutex = Rc::new(Mutex::new(0));
    let taken = mutex.lock().unwrap();
    g.switch(());
    // The greenlet is suspended in its destructor. Nobody else unwinds.
    assert!(!panicking());
    drop(taken);
    assert!(!mutex.is_poisoned());
    let inner = Rc::clone(&mutex);
    Greenlet::new(move |()| {
        assert!(!panicking());
        *inner.lock().unwrap() += 1;
    })
    .switch(());
    assert!(!mutex.is_poisoned());
    // A panic of another meanwhile begins and ends as ever.
    let other = catch_unwind(|| {
        let _guard = std::panic::Location::caller();
        std::panic::resume_unwind(Box::new("other"));
    });
    assert!(other.is_err() && !panicking());
    let caught = catch_unwind(AssertUnwindSafe(|| g.switch(())));
    assert_eq!(caught.unwrap_err().downcast_ref(), Some(&"first"));
    assert_eq!(log.take(), ["before: true", "after: true"]);
    assert!(!panicking());
}

#[test]
fn panicking_stays_with_the_one_who_unwinds() {
    a_destructor_switches_during_a_panic();
    on_a_thread_of_its_own(a_destructor_switches_during_a_panic);
}

/// Two at once, each in the middle of its own panic.
#[test]
fn two_unwind_at_once() {
    let log = Log::new();
    let make = |name: &'static str| {
        let log = log.clone();
        Greenlet::new(move |()| -> () {
            let _guard = SwitchesAway(log);
            std::panic::resume_unwind(Box::new(name));
        })
    };
    let (a, b) = (make("a"), make("b"));
    a.switch(());
    b.switch(());
    assert!(!panicking());
    let end = |g: &Greenlet<(), ()>| {
        let caught = catch_unwind(AssertUnwindSafe(|| g.switch(())));
        *caught.unwrap_err().downcast::<&str>().unwrap()
    };
    assert_eq!((end(&a), end(&b)), ("a", "b"));
    assert_eq!(log.take(), ["before: true", "before: true", "after: true", "after: true"]);
}

/// The same when what unwinds it is the drop of its last handle: the dropper goes on, and it can be
/// resumed by whoever still knows it.
fn a_destructor_switches_during_a_kill() {
    let log = Log::new();
    let inside = log.clone();
    let g = Greenlet::new(move |()| {
        let _guard = SwitchesAway(inside);
        pause();
    });
    g.switch(());
    let weak = g.downgrade();
    let mutex = Mutex::new(());
    {
        let _taken = mutex.lock().unwrap();
        drop(g);
        assert!(!panicking());
    }
    assert!(!mutex.is_poisoned());
    assert!(!weak.is_dead());
    weak.switch(());
    assert!(weak.is_dead());
    assert_eq!(log.take(), ["before: true", "after: true"]);
    assert_eq!(greenlet::live_count(), 0);
}

#[test]
fn a_kill_whose_destructors_switch() {
    a_destructor_switches_during_a_kill();
    on_a_thread_of_its_own(a_destructor_switches_during_a_kill);
}

/// A further panic in a destructor that unwinds already would end the process: it is refused.
#[test]
fn nothing_is_thrown_into_one_that_unwinds() {
    let log = Log::new();
    let inside = log.clone();
    let g = Greenlet::new(move |()| -> () {
        let _guard = SwitchesAway(inside);
        std::panic::resume_unwind(Box::new("first"));
    });
    g.switch(());
    match g.throw("second") {
        Err(SwitchError::TargetUnwinding { value }) => assert!(value.is::<&str>()),
        other => panic!("{other:?}"),
    }
    assert!(matches!(g.throw(GreenletExit), Err(SwitchError::TargetUnwinding { .. })));
    assert!(catch_unwind(AssertUnwindSafe(|| g.switch(()))).is_err());
}

/// A greenlet that is begun while its starter unwinds is not panicking itself.
#[test]
fn one_begun_by_a_destructor_begins_afresh() {
    struct Begins(Log);
    impl Drop for Begins {
        fn drop(&mut self) {
            let log = self.0.clone();
            let g = Greenlet::new(move |()| log.add(format!("inside: {}", panicking())));
            g.switch(());
            assert!(g.is_dead());
            self.0.add(format!("outside: {}", panicking()));
        }
    }
    let log = Log::new();
    let guard = Begins(log.clone());
    let _ = catch_unwind(AssertUnwindSafe(move || {
        let _guard = guard;
        std::panic::resume_unwind(Box::new(()));
    }));
    assert_eq!(log.take(), ["inside: false", "outside: true"]);
}

/// Dropping a suspended greenlet while unwinding unwinds that one as ever.
#[test]
fn a_drop_during_a_panic_unwinds() {
    let log = Log::new();
    let inside = log.clone();
    let g = Greenlet::new(move |()| {
        let _guard = inside.guard("unwound");
        pause();
    });
    g.switch(());
    let caught = catch_unwind(AssertUnwindSafe(move || {
        let _g = g;
        panic!("while it owns a greenlet");
    }));
    assert!(caught.is_err());
    assert_eq!(log.take(), ["unwound"]);
    assert!(!panicking());
}

/// Nested: a destructor that unwinds a second panic inside, switches in the middle of that, and goes
/// on with both.
#[test]
fn a_panic_within_a_panic() {
    struct Nested(Log);
    impl Drop for Nested {
        fn drop(&mut self) {
            let log = self.0.clone();
            let caught = catch_unwind(AssertUnwindSafe(|| {
                let _guard = SwitchesAway(log);
                std::panic::resume_unwind(Box::new("inner"));
            }));
            assert!(caught.is_err());
            self.0.add(format!("outer: {}", panicking()));
        }
    }
    let log = Log::new();
    let inside = log.clone();
    let g = Greenlet::new(move |()| -> () {
        let _guard = Nested(inside);
        std::panic::resume_unwind(Box::new("outer"));
    });
    g.switch(());
    assert!(!panicking());
    assert!(catch_unwind(AssertUnwindSafe(|| g.switch(()))).is_err());
    assert_eq!(log.take(), ["before: true", "after: true", "outer: true"]);
}

/// Values of the declared types take the same long way, and arrive.
#[test]
fn values_arrive_from_a_destructor() {
    struct Sends;
    impl Drop for Sends {
        fn drop(&mut self) {
            let got: String = yield_to_parent("out".to_string());
            assert_eq!(got, "in");
        }
    }
    let g = Greenlet::new(|_: String| -> String {
        let _guard = Sends;
        std::panic::resume_unwind(Box::new(0));
    });
    assert_eq!(g.switch("begin".into()), "out");
    assert!(catch_unwind(AssertUnwindSafe(|| g.switch("in".into()))).is_err());
    assert_eq!(current().name().as_deref(), Some("main"));
}
