//! Destructors and bodies that meddle with what is just ending: drop its last handle, switch away, panic,
//! change its parents.

use crate::support::{Log, panic_message, pause, yield_to_parent};
use corosensei::stack::{DefaultStack, Stack, StackPointer};
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::thread;
use switchgrass::{
    AnyGreenlet, AnyWeakGreenlet, Builder, Greenlet, GreenletExit, Local, SwitchError,
    WeakGreenlet, current, greenlet,
};

type Slot<In> = Rc<RefCell<Option<Greenlet<In, ()>>>>;

/// Whether a weak handle's block is still its own: new greenlets get other blocks.
fn assert_not_reused<In>(weak: &WeakGreenlet<In, ()>) {
    assert!(weak.is_dead());
    let others: Vec<Greenlet<Box<String>, ()>> = (0..4).map(|_| Greenlet::new(|_| ())).collect();
    assert!(others.iter().all(|other| other != weak));
    assert!(weak.is_dead());
}

/// An unstarted body that owns the last handle of its own greenlet, which a child's error ends.
#[test]
fn a_body_drops_its_own_last_handle_unstarted() {
    Greenlet::new(|()| {
        let slot = Slot::<usize>::default();
        let own = Rc::clone(&slot);
        let p: Greenlet<usize, ()> = Greenlet::new(move |_| drop(own));
        let weak = p.downgrade();
        let c: Greenlet<(), ()> = Builder::new().parent(&p).build(|()| ()).unwrap();
        *slot.borrow_mut() = Some(p);
        drop(slot);
        assert_eq!(panic_message(|| c.throw("boom")), "boom");
        drop(c);
        assert_not_reused(&weak);
    })
    .switch(());
}

/// The same, at the end of its thread.
#[test]
fn a_body_drops_its_own_last_handle_at_the_threads_end() {
    let log = thread::spawn(|| {
        let slot = Slot::<()>::default();
        let own = Rc::clone(&slot);
        *slot.borrow_mut() = Some(Greenlet::new(move |()| drop(own)));
    });
    log.join().unwrap();
}

/// A custom stack whose destructor owns the last handle of the greenlet on it.
#[test]
fn a_stack_drops_the_last_handle() {
    struct Owning(DefaultStack, Slot<usize>);
    // SAFETY: another's stack, unchanged.
    unsafe impl Stack for Owning {
        fn base(&self) -> StackPointer {
            self.0.base()
        }
        fn limit(&self) -> StackPointer {
            self.0.limit()
        }
    }
    impl Drop for Owning {
        fn drop(&mut self) {
            self.1.take();
        }
    }
    Greenlet::new(|()| {
        let slot = Slot::default();
        let stack = Owning(DefaultStack::new(1 << 16).unwrap(), slot.clone());
        let g = Builder::new().stack(stack).build(|_: usize| ()).unwrap();
        let weak = g.downgrade();
        *slot.borrow_mut() = Some(g);
        weak.switch(1);
        assert_not_reused(&weak);
    })
    .switch(());
}

/// Two greenlets wait for ones that they drop, and are sent values meanwhile that nobody reads: each value
/// is dropped when it arrives, not when the next one does.
#[test]
fn a_value_sent_to_one_who_awaits_nothing_is_dropped_at_once() {
    struct Wakes(AnyWeakGreenlet);
    impl Drop for Wakes {
        fn drop(&mut self) {
            self.0.switch_any::<u8, ()>(1);
        }
    }
    /// Drops one that refuses to be unwound, and then awaits a `String`.
    fn dropper(main: AnyWeakGreenlet, log: Log, name: &'static str) -> Greenlet<(), ()> {
        Greenlet::new(move |()| {
            let to_main = main.clone();
            let stubborn = Greenlet::new(move |()| {
                let _ = catch_unwind(AssertUnwindSafe(pause));
                to_main.switch_any::<(), ()>(());
            });
            stubborn.switch(());
            drop(stubborn);
            log.add(format!("{name} goes on"));
            let text: String = main.switch_any::<(), String>(());
            log.add(format!("{name}: {text}"));
        })
    }
    let log = Log::new();
    let d = dropper(current(), log.clone(), "d");
    let e = dropper(current(), log.clone(), "e");
    d.switch(());
    e.switch(());
    let wakes = Wakes(e.clone().erase().downgrade());
    d.switch_any::<Wakes, ()>(wakes);
    assert_eq!(log.take(), ["e goes on"]);
    e.switch_any::<String, ()>("for e".into());
    assert_eq!(log.take(), ["e: for e"]);
}

/// A greenlet that is dropped shows its dropper as its parent, but links of parents form no cycle.
#[test]
fn a_cycle_of_parents_is_refused_while_one_is_dropped() {
    let p: Greenlet<(), ()> = Greenlet::new(|()| ());
    let weak = p.downgrade();
    let result = Rc::new(Cell::new(None));
    let told = Rc::clone(&result);
    let saved: Rc<RefCell<Option<AnyGreenlet>>> = Rc::default();
    let save = Rc::clone(&saved);
    let g: Greenlet<(), ()> = Builder::new()
        .parent(&p)
        .build(move |()| {
            let main = weak.parent().unwrap();
            let _ = catch_unwind(AssertUnwindSafe(|| main.switch_any::<(), ()>(())));
            assert_eq!(current().parent(), Some(main.clone()), "its dropper");
            told.set(Some(weak.set_parent(&current()).is_err()));
            *save.borrow_mut() = current().upgrade();
            main.switch_any::<(), ()>(());
        })
        .unwrap();
    let g_weak = g.downgrade();
    g.switch(());
    drop(g);
    assert_eq!(result.get(), Some(true));
    assert_eq!(g_weak.parent(), Some(p.clone().erase().downgrade()), "its parent again");
    // Its error goes on to `p`, which has not begun, and from there to main.
    assert_eq!(panic_message(|| g_weak.throw("x")), "x");
    assert!(g_weak.is_dead() && p.is_dead());
}

/// A parent's last handle is dropped by its child: the child waits for the parent's end, and goes on.
#[test]
fn a_child_drops_its_parent() {
    let log = Log::new();
    let slot = Slot::<()>::default();
    let (own, l) = (Rc::clone(&slot), log.clone());
    let p: Greenlet<(), ()> = Greenlet::new(move |()| {
        let _guard = l.guard("parent unwound");
        let c: Greenlet<(), ()> = Greenlet::new(move |()| {
            drop(own.take());
            l.add("child goes on");
        });
        c.switch(());
        unreachable!("it is unwound");
    });
    let weak = p.downgrade();
    *slot.borrow_mut() = Some(p);
    weak.switch(());
    assert_eq!(log.take(), ["parent unwound", "child goes on"]);
    assert!(weak.is_dead());
}

/// A result that the parent cannot take is dropped on the way; a local that its destructor makes then is
/// dropped with its greenlet, and is not there for the next one.
#[test]
fn a_late_local_is_not_inherited() {
    static LATE: Local<Cell<u32>> = Local::new(|| Cell::new(0));
    struct MakesALocal;
    impl Drop for MakesALocal {
        fn drop(&mut self) {
            LATE.with(|late| late.set(77));
        }
    }
    let p: Greenlet<String, ()> = Greenlet::new(|_| ());
    let c: Greenlet<(), MakesALocal> = Builder::new().parent(&p).build(|()| MakesALocal).unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| c.try_switch_any::<(), ()>(()))).is_err());
    drop((c, p));
    for _ in 0..4 {
        assert_eq!(Greenlet::new(|()| LATE.with(Cell::get)).switch(()), 0);
    }
}

/// Whatever its maker is sent or thrown while the scope ends, and whatever those payloads do when they are
/// dropped: the body is gone before the scope is left.
#[test]
fn nothing_gets_out_of_a_scope_before_its_body_has_ended() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            if !thread::panicking() {
                resume_unwind(Box::new("bomb"));
            }
        }
    }
    let text = String::from("borrowed");
    let log = Log::new();
    let mut kept = None;
    let main = current();
    let refusals = RefCell::new(Vec::new());
    let left = catch_unwind(AssertUnwindSafe(|| {
        greenlet::scoped(
            |()| {
                let _guard = log.guard("body unwound");
                let _ = catch_unwind(AssertUnwindSafe(|| main.switch_any::<(), ()>(())));
                // Its maker waits for its end and for nothing else.
                for payload in [Box::new(Bomb) as Box<dyn std::any::Any + Send>, Box::new("second")]
                {
                    let refused = main.throw_any::<()>(payload);
                    let is_refused = matches!(refused, Err(SwitchError::TargetUnwinding { .. }));
                    std::mem::forget(refused);
                    refusals.borrow_mut().push(is_refused);
                }
                // But what it sends itself brings its maker back, who throws once more.
                let _ = catch_unwind(AssertUnwindSafe(|| main.switch_any::<(), ()>(())));
                log.add(format!("still {text}"));
            },
            |g: &Greenlet<(), ()>| {
                g.switch(());
                kept = Some(g.clone());
            },
        )
        .unwrap();
    }));
    assert!(left.is_ok());
    assert_eq!(refusals.into_inner(), [true, true]);
    assert_eq!(log.take(), ["still borrowed", "body unwound"]);
    assert!(kept.unwrap().is_dead());
}

/// Nobody else can wake the maker of a scope that is ending.
#[test]
fn a_stranger_cannot_wake_a_scope_that_ends() {
    let log = Log::new();
    let main = current();
    let weak_main = main.clone();
    let stranger: Greenlet<(), ()> = Greenlet::new(move |()| {
        let refused = weak_main.try_switch_any::<(), ()>(());
        assert!(matches!(refused, Err(SwitchError::WrongType { .. })), "{refused:?}");
        let refused = weak_main.throw_any::<()>(Box::new("wake up"));
        assert!(matches!(refused, Err(SwitchError::TargetUnwinding { .. })));
    });
    // Its end wakes the one who has begun it, and not the scope.
    greenlet::scoped(
        |()| {
            let _guard = log.guard("body unwound");
            let _ = catch_unwind(AssertUnwindSafe(|| main.switch_any::<(), ()>(())));
            stranger.set_parent(&current()).unwrap();
            stranger.switch(());
            log.add("stranger refused");
        },
        |g: &Greenlet<(), ()>| g.switch(()),
    )
    .unwrap();
    assert_eq!(log.take(), ["stranger refused", "body unwound"]);
}

/// A dropped body switches away: to everybody it is dead by then, also to itself.
#[test]
fn an_unstarted_body_switches_while_it_is_dropped() {
    struct Switches(Log, AnyWeakGreenlet);
    impl Drop for Switches {
        fn drop(&mut self) {
            self.0.add("being dropped");
            self.1.switch_any::<(), ()>(());
            self.0.add("dropped");
        }
    }
    let log = Log::new();
    let switches = Switches(log.clone(), current());
    let doomed: Greenlet<(), ()> = Greenlet::new(move |()| drop(switches));
    let weak = doomed.downgrade();
    let killer = Greenlet::new(move |()| drop(doomed));
    killer.switch(());
    assert_eq!(log.take(), ["being dropped"]);
    assert!(weak.is_dead() && weak.upgrade().is_none());
    assert!(matches!(weak.throw(GreenletExit), Err(SwitchError::Exited(_))));
    // To the dead one: that goes to its first live ancestor, which is main.
    weak.switch(());
    killer.switch(());
    assert_eq!(log.take(), ["dropped"]);
    assert!(killer.is_dead());
}

#[test]
fn unwind_all_leaves_the_current_one_and_main() {
    let log = Log::new();
    let l = log.clone();
    let suspended = Greenlet::new(move |()| {
        let _guard = l.guard("unwound");
        yield_to_parent::<(), ()>(());
    });
    suspended.switch(());
    let guard = log.guard("body dropped");
    let unstarted: Greenlet<(), ()> = Greenlet::new(move |()| drop(guard));
    let (s, u) = (suspended.clone(), unstarted.clone());
    let l = log.clone();
    let caller = Greenlet::new(move |()| {
        greenlet::unwind_all();
        l.add("after");
        assert!(s.is_dead() && u.is_dead());
        assert_eq!(greenlet::live_count(), 1);
    });
    caller.switch(());
    let mut all = log.take();
    assert_eq!(all.pop().as_deref(), Some("after"));
    all.sort();
    assert_eq!(all, ["body dropped", "unwound"]);
    assert_eq!(greenlet::live_count(), 0);
}
