//! What happens when the last handle goes.

use crate::support::{Log, pause};
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use switchgrass::{AnyGreenlet, Greenlet, WeakGreenlet, current, greenlet};

type Slot = Rc<RefCell<Option<Greenlet<(), ()>>>>;

/// {test_dealloc}: there and then, in the order of the drops, inner guards first.
#[test]
fn test_dealloc() {
    let log = Log::new();
    let make = |name: &'static str| {
        let log = log.clone();
        let g = Greenlet::new(move |()| {
            let _outer = log.guard(format!("{name} outer"));
            let nested = || {
                let _inner = log.guard(format!("{name} inner"));
                pause();
            };
            nested();
        });
        g.switch(());
        g
    };
    let (a, b) = (make("a"), make("b"));
    assert_eq!(log.take(), Vec::<String>::new());
    drop(b);
    log.add("between");
    drop(a);
    log.add("after");
    assert_eq!(log.take(), ["b inner", "b outer", "between", "a inner", "a outer", "after"]);
    assert_eq!(greenlet::live_count(), 0);
}

#[test]
fn a_clone_keeps_it() {
    let log = Log::new();
    let guard = log.guard("unwound");
    let g = Greenlet::new(move |()| {
        let _guard = guard;
        pause();
    });
    g.switch(());
    let clone = g.clone();
    drop(g);
    assert!(log.take().is_empty());
    drop(clone.erase());
    assert_eq!(log.take(), ["unwound"]);
}

#[test]
fn an_unstarted_one_drops_its_body() {
    let log = Log::new();
    let guard = log.guard("body dropped");
    drop(Greenlet::new(move |()| drop(guard)));
    assert_eq!(log.take(), ["body dropped"]);
}

/// {test_dealloc_catches_GreenletExit_throws_other}: that is reported, not raised.
#[test]
fn test_dealloc_catches_greenlet_exit_throws_other() {
    let log = Log::new();
    let inside = log.clone();
    let g = Greenlet::new(move |()| -> () {
        let exit = catch_unwind(AssertUnwindSafe(pause)).unwrap_err();
        inside.add(exit.is::<switchgrass::GreenletExit>());
        std::panic::resume_unwind(Box::new("reported on standard error"));
    });
    g.switch(());
    let weak = g.downgrade();
    drop(g);
    assert_eq!(log.take(), ["true"]);
    assert!(weak.is_dead());
}

/// It ends with a value that nobody awaits: the value is dropped.
#[test]
fn one_that_returns_when_told_to_end() {
    let log = Log::new();
    let result = log.guard("result dropped");
    let g = Greenlet::new(move |()| {
        let _ = catch_unwind(AssertUnwindSafe(pause));
        result
    });
    g.erase_and_start();
    assert_eq!(log.take(), ["result dropped"]);
    assert_eq!(greenlet::live_count(), 0);
}

trait EraseAndStart {
    fn erase_and_start(self);
}

impl<R: 'static> EraseAndStart for Greenlet<(), R> {
    fn erase_and_start(self) {
        self.erase().switch_any::<(), ()>(());
    }
}

/// It catches its exit and switches away: it is left, with a warning, until its thread ends.
#[test]
fn one_that_does_not_end_is_left() {
    let log = Log::new();
    let outer = log.clone();
    std::thread::scope(|scope| {
        // Another thread, so that its end can be seen.
        let handle = scope.spawn(|| {
            let log = Log::new();
            let inside = log.clone();
            let g = Greenlet::new(move |()| {
                let _ = catch_unwind(AssertUnwindSafe(pause));
                inside.add("stubborn");
                pause();
                inside.add("resumed");
            });
            g.switch(());
            let weak = g.downgrade();
            drop(g);
            assert_eq!(log.take(), ["stubborn"]);
            assert!(!weak.is_dead());
            assert_eq!(greenlet::live_count(), 1);
            // A weak handle still leads there.
            weak.switch(());
            assert!(weak.is_dead());
            log.take()
        });
        handle.join().unwrap().iter().for_each(|entry| outer.add(entry));
    });
    assert_eq!(log.take(), ["resumed"]);
}

/// {test_parent_restored_on_kill}: its clean-up keeps a new handle to itself: it lives on, with its
/// own parent again.
#[test]
fn test_parent_restored_on_kill() {
    let kept: Rc<RefCell<Option<AnyGreenlet>>> = Rc::default();
    let keep = Rc::clone(&kept);
    let middle = Greenlet::new(move |()| {
        let keep = Rc::clone(&keep);
        let g = Greenlet::new(move |()| {
            let _ = catch_unwind(AssertUnwindSafe(pause));
            keep.replace(current().upgrade());
            pause();
        });
        g.switch(());
        let parent = g.parent();
        pause();
        drop(g);
        assert_eq!(parent, Some(current()));
        pause();
    });
    middle.switch(());
    middle.switch(());
    let survivor = kept.take().unwrap();
    assert!(!survivor.is_dead());
    assert_eq!(survivor.parent().unwrap(), middle);
    // Its end goes to its parent, who is suspended in the last pause.
    survivor.switch_any::<(), ()>(());
    assert!(survivor.is_dead() && middle.is_dead());
}

/// The running greenlet drops its own last handle: nothing happens until it leaves. Then it is
/// unwound by who arrives, who gets what was sent all the same.
#[test]
fn an_orphan_is_unwound_when_it_leaves() {
    let log = Log::new();
    let slot: Slot = Slot::default();
    let (inside, own) = (log.clone(), Rc::clone(&slot));
    let g = Greenlet::new(move |()| {
        let _guard = inside.guard("unwound");
        drop(own.take());
        inside.add("still running");
        pause();
    });
    let weak = g.downgrade();
    slot.replace(Some(g));
    weak.switch(());
    log.add("main");
    assert_eq!(log.take(), ["still running", "unwound", "main"]);
    assert!(weak.is_dead());
    assert_eq!(greenlet::live_count(), 0);
}

#[test]
fn an_orphan_that_ends_gives_its_result() {
    let slot: Rc<RefCell<Option<Greenlet<(), String>>>> = Rc::default();
    let own = Rc::clone(&slot);
    let g = Greenlet::new(move |()| {
        drop(own.take());
        "result".to_string()
    });
    let weak = g.downgrade();
    slot.replace(Some(g));
    assert_eq!(weak.switch(()), "result");
}

#[test]
fn an_orphan_that_takes_a_new_handle_lives() {
    let slot: Slot = Slot::default();
    let own = Rc::clone(&slot);
    let kept: Rc<RefCell<Option<AnyGreenlet>>> = Rc::default();
    let keep = Rc::clone(&kept);
    let g = Greenlet::new(move |()| {
        drop(own.take());
        keep.replace(current().upgrade());
        pause();
    });
    let weak: WeakGreenlet<(), ()> = g.downgrade();
    slot.replace(Some(g));
    weak.switch(());
    assert!(!weak.is_dead());
    let last = kept.take().unwrap();
    last.switch_any::<(), ()>(());
    assert!(weak.is_dead());
}

/// Greenlets that own each other's handles in a chain end one inside the other.
#[test]
fn a_chain_of_owners() {
    let log = Log::new();
    fn link(log: Log, depth: usize) -> Greenlet<(), ()> {
        let g = Greenlet::new(move |()| {
            let _guard = log.guard(depth);
            let _next = (depth > 0).then(|| link(log.clone(), depth - 1));
            pause();
        });
        g.switch(());
        g
    }
    drop(link(log.clone(), 50));
    let expected: Vec<String> = (0..=50).map(|depth| depth.to_string()).collect();
    assert_eq!(log.take(), expected);
    assert_eq!(greenlet::live_count(), 0);
}

/// A greenlet drops the handle of the one that switched to it: that one is unwound meanwhile.
#[test]
fn dropping_the_one_who_waits_for_us() {
    let log = Log::new();
    let slot: Slot = Slot::default();
    let inner_log = log.clone();
    let outer_slot = Rc::clone(&slot);
    let inner = Greenlet::new(move |()| {
        drop(outer_slot.take());
        inner_log.add("inner goes on");
    });
    let outer_log = log.clone();
    let inner_in_outer = inner.clone();
    let outer = Greenlet::new(move |()| {
        let _guard = outer_log.guard("outer unwound");
        inner_in_outer.switch(());
        unreachable!("it was dropped");
    });
    let weak = outer.downgrade();
    slot.replace(Some(outer));
    weak.switch(());
    assert_eq!(log.take(), ["outer unwound", "inner goes on"]);
    assert!(weak.is_dead() && inner.is_dead());
}

/// {test_dealloc_switch_args_not_lost}: the value in flight survives the end of its sender.
#[test]
fn test_dealloc_switch_args_not_lost() {
    let slot: Rc<RefCell<Option<Greenlet<(), String>>>> = Rc::default();
    let own = Rc::clone(&slot);
    let g = Greenlet::new(move |()| -> String {
        drop(own.take());
        // Main reads this from a frame of ours, and only then is the frame unwound.
        current().parent().unwrap().switch_any::<_, ()>("in flight".to_string());
        unreachable!()
    });
    let weak = g.downgrade();
    slot.replace(Some(g));
    assert_eq!(weak.switch(()), "in flight");
    assert!(weak.is_dead());
}

/// {test_finalizer_crash, trash test_it}: destructors that switch and drop further greenlets.
#[test]
fn destructors_that_switch_and_drop() {
    struct RunsAnother(Option<Greenlet<(), ()>>, Log);
    impl Drop for RunsAnother {
        fn drop(&mut self) {
            let another = self.0.take().unwrap();
            // Its end is to come back here, and not to whoever made it.
            another.set_parent(&current()).unwrap();
            another.switch(());
            self.1.add("destructor goes on");
        }
    }
    let log = Log::new();
    let mut last = {
        let log = log.clone();
        Greenlet::new(move |()| log.add("last"))
    };
    for _ in 0..3 {
        let log = log.clone();
        last = Greenlet::new(move |()| drop(RunsAnother(Some(last), log)));
    }
    let holder = Greenlet::new({
        let log = log.clone();
        move |()| {
            let _runs = RunsAnother(Some(last), log);
            pause();
        }
    });
    holder.switch(());
    drop(holder);
    let goes_on = "destructor goes on";
    assert_eq!(log.take(), ["last", goes_on, goes_on, goes_on, goes_on]);
    assert_eq!(greenlet::live_count(), 0);
}

/// Dropping something is not leaving: an orphan that drops a greenlet goes on, until it leaves.
#[test]
fn an_orphan_may_drop_others() {
    let log = Log::new();
    let slot: Slot = Slot::default();
    let (inside, own) = (log.clone(), Rc::clone(&slot));
    let g = Greenlet::new(move |()| {
        let guard = inside.guard("other unwound");
        let other = Greenlet::new(move |()| {
            let _guard = guard;
            pause();
        });
        other.switch(());
        drop(own.take());
        drop(other);
        inside.add("goes on");
        let _guard = inside.guard("unwound");
        pause();
    });
    let weak = g.downgrade();
    slot.replace(Some(g));
    weak.switch(());
    assert_eq!(log.take(), ["other unwound", "goes on", "unwound"]);
    assert_eq!(greenlet::live_count(), 0);
}

/// The payload of a panic that is reported has a destructor that switches to the dropper: what is on its
/// way to the dropper must still be what it awaits when it arrives.
#[test]
fn a_reported_payload_may_switch_when_it_is_dropped() {
    struct Switches(Log);
    impl Drop for Switches {
        fn drop(&mut self) {
            self.0.add(format!("payload dropped in {:?}", current().name()));
            Greenlet::new(|()| ()).switch(());
        }
    }
    // A payload must be `Send`, and a log is not: it is found when it is needed.
    struct Payload(std::sync::Mutex<Option<Box<dyn FnOnce() + Send>>>);
    impl Drop for Payload {
        fn drop(&mut self) {
            if let Some(then) = self.0.lock().unwrap().take() {
                then();
            }
        }
    }
    thread_local! {
        static LOG: Log = Log::new();
    }
    let g = Greenlet::new(|()| -> () {
        let _ = catch_unwind(AssertUnwindSafe(pause));
        let then = || drop(LOG.with(|log| Switches(log.clone())));
        std::panic::resume_unwind(Box::new(Payload(std::sync::Mutex::new(Some(Box::new(then))))));
    });
    g.switch(());
    drop(g);
    assert_eq!(LOG.with(Log::take), [r#"payload dropped in Some("main")"#]);
    assert_eq!(Greenlet::new(|n: u64| n).switch(7), 7);
}
