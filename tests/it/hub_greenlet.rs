//! The hub's own greenlet is no ordinary one: every way into it that the API offers, and what user code gets there.
//! Whatever was tried, the hub works afterwards: each case ends with a wait that is met in time.

use crate::support::{LONG, Log, ms, on_a_thread, panic_message, payload_of};
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Instant;
use switchgrass::greenlet::{ParentError, SwitchError, TraceEvent, set_trace};
use switchgrass::pool::unblock;
use switchgrass::{
    AnyWeakGreenlet, Generator, Greenlet, GreenletExit, JoinError, Local, current, greenlet, sleep,
    spawn, timeout, yield_now,
};

/// Calls `case` on a thread of its own, and waits there for a timer and for a coroutine.
fn and_the_hub_goes_on(case: impl FnOnce() + Send + 'static) {
    on_a_thread(|| {
        case();
        let start = Instant::now();
        assert_eq!(spawn(|| 7).join().unwrap(), 7);
        let slept = timeout(LONG, || sleep(ms(1)));
        assert!(slept.is_ok() && start.elapsed() >= ms(1));
    });
}

fn hub() -> AnyWeakGreenlet {
    spawn(|| current().parent().expect("a coroutine's parent is the hub")).join().unwrap()
}

/// A greenlet made by a coroutine that has ended by now: its first live ancestor is the hub.
fn orphan<R: 'static>(body: impl FnOnce() -> R + 'static) -> Greenlet<(), R> {
    spawn(|| Greenlet::new(|()| body())).join().unwrap()
}

#[test]
fn the_hub_is_not_thrown_into() {
    and_the_hub_goes_on(|| {
        let hub = hub();
        match hub.throw_any::<()>(Box::new("a payload")) {
            Err(SwitchError::Scheduler { value }) => {
                assert_eq!(value.downcast_ref(), Some(&"a payload"));
            }
            other => panic!("{other:?}"),
        }
        let exit = hub.throw_any::<()>(Box::new(GreenletExit));
        assert!(matches!(exit, Err(SwitchError::Scheduler { .. })), "{exit:?}");
        let in_a_coroutine = spawn(|| {
            let thrown = current().parent().unwrap().throw_any::<()>(Box::new(GreenletExit));
            matches!(thrown, Err(SwitchError::Scheduler { .. }))
        });
        assert!(in_a_coroutine.join().unwrap());
    });
}

#[test]
fn the_hub_is_sent_nothing_but_the_thread() {
    and_the_hub_goes_on(|| {
        let hub = hub();
        let error = hub.try_switch_any::<u64, ()>(5).unwrap_err();
        assert!(
            error.to_string().contains("greenlet 'hub' awaits a value of type `()`"),
            "{error}"
        );
        // By nothing it is: this one suspends itself by hand, and others run.
        let log = Log::new();
        let in_other = log.clone();
        spawn(move || in_other.add("another"));
        let me = current();
        spawn(move || me.switch_any::<(), ()>(()));
        hub.switch_any::<(), ()>(());
        assert_eq!(log.take(), ["another"]);
    });
}

/// Nobody is left who could resume it: it is told where it is suspended, and the thread ends in order.
#[test]
fn main_suspended_by_hand_is_told_of_a_deadlock() {
    and_the_hub_goes_on(|| {
        let hub = hub();
        let message = panic_message(|| hub.switch_any::<(), ()>(()));
        assert!(message.starts_with("this would block for ever"), "{message}");
    });
}

#[test]
fn the_hub_keeps_its_parent_and_its_life() {
    and_the_hub_goes_on(|| {
        let hub = hub();
        let other = Greenlet::new(|()| ());
        assert_eq!(hub.set_parent(&other), Err(ParentError::Scheduler));
        drop(hub.upgrade().expect("it is alive"));
        assert!(hub.to_types::<(), ()>().is_none());
        greenlet::unwind_all();
        assert!(!hub.is_dead());
        assert_eq!(hub.parent(), Some(current()));
    });
}

/// Its panic goes to its first live ancestor: the hub hands it on to main, which waits for the greenlet.
#[test]
fn an_orphan_that_panics_is_told_to_main() {
    and_the_hub_goes_on(|| {
        let orphan = orphan(|| panic!("of an orphan"));
        assert_eq!(panic_message(|| orphan.switch(())), "of an orphan");
        assert!(orphan.is_dead());
    });
}

/// The same while main waits for something else.
#[test]
fn an_orphan_that_panics_reaches_main_in_a_sleep() {
    and_the_hub_goes_on(|| {
        let orphan = orphan(|| panic!("of an orphan"));
        let user = spawn(move || {
            orphan.switch(());
        });
        assert_eq!(panic_message(|| sleep(LONG)), "of an orphan");
        // The one that had switched to it is suspended by hand, and can be killed.
        assert!(user.kill_wait(None));
    });
}

#[test]
fn an_orphan_whose_result_nobody_awaits_is_told_to_main() {
    and_the_hub_goes_on(|| {
        let orphan = orphan(|| 5_u64).erase();
        let message = panic_message(|| orphan.switch_any::<(), String>(()));
        assert!(message.contains("a result that its parent cannot take"), "{message}");
    });
}

#[test]
fn an_orphan_that_exits_ends_nobody() {
    and_the_hub_goes_on(|| {
        let main = current();
        let orphan = orphan(move || {
            // Something for main to come back by.
            spawn(move || main.switch_any::<(), ()>(()));
            std::panic::resume_unwind(Box::new(GreenletExit));
        });
        orphan.erase().switch_any::<(), ()>(());
    });
}

/// Each failure brings main back, which brings the next: none is lost, and they do not pile up on the hub's stack.
#[test]
fn a_thousand_orphans_fail_one_after_the_other() {
    and_the_hub_goes_on(|| {
        for number in 0..1000 {
            let orphan = orphan(move || std::panic::resume_unwind(Box::new(number)));
            let payload = payload_of(|| orphan.erase().switch_any::<(), ()>(()));
            assert_eq!(payload.downcast_ref::<i32>(), Some(&number));
        }
    });
}

#[test]
fn one_that_has_not_begun_is_thrown_into() {
    and_the_hub_goes_on(|| {
        let begun = Rc::new(RefCell::new(None));
        let slot = Rc::clone(&begun);
        // A coroutine's greenlet is had from inside; one that has not begun has none that user code can reach, but as
        // the parent of another.
        let coroutine = spawn(move || {
            slot.replace(Some(current()));
            sleep(LONG);
        });
        yield_now();
        let inside = begun.take().unwrap();
        coroutine.kill();
        assert!(matches!(coroutine.join(), Err(JoinError::Killed)));
        assert!(matches!(
            inside.throw_any::<()>(Box::new(GreenletExit)),
            Err(SwitchError::Exited(GreenletExit))
        ));
        let thrown = inside.throw_any::<()>(Box::new("too late"));
        assert!(matches!(thrown, Err(SwitchError::Scheduler { .. })), "{thrown:?}");
        let child = Greenlet::new(|()| ());
        child.set_parent(&inside).unwrap();
        assert!(matches!(child.throw(GreenletExit), Err(SwitchError::Exited(GreenletExit))));
        let child = Greenlet::new(|()| ());
        child.set_parent(&inside).unwrap();
        assert!(matches!(child.throw("a payload"), Err(SwitchError::Scheduler { .. })));
        assert!(child.is_dead());
    });
}

/// A callback in the hub cannot wait, switch or throw. It is told so, and the hub goes on.
#[test]
fn a_callback_in_the_hub_does_not_switch() {
    and_the_hub_goes_on(|| {
        let log = Log::new();
        let ended = spawn(|| ());
        let greenlet = Greenlet::new(|()| ());
        let weak = greenlet.downgrade();
        let mut generator = Generator::new(|y| y.yield_(1));
        let main = current();
        let told = log.clone();
        ended.link_in_hub(move || {
            told.add(matches!(weak.try_switch(()), Err(SwitchError::Scheduler { .. })));
            let thrown = main.throw_any::<()>(Box::new("a payload"));
            told.add(matches!(thrown, Err(SwitchError::Scheduler { .. })));
            let message = panic_message(|| generator.next());
            told.add(message.contains("a callback that runs in it cannot switch"));
            told.add(panic_message(|| sleep(ms(1))).contains("would block the hub"));
            told.add(panic_message(yield_now).contains("would block the hub"));
        });
        ended.join().unwrap();
        sleep(ms(1));
        assert_eq!(log.take(), ["true"; 5]);
        assert!(!greenlet.is_dead());
    });
}

/// What is refused has had no effect.
#[test]
fn a_job_that_a_callback_in_the_hub_would_wait_for_is_not_begun() {
    and_the_hub_goes_on(|| {
        let log = Log::new();
        let told = log.clone();
        let begun = Arc::new(AtomicBool::new(false));
        let is_begun = Arc::clone(&begun);
        let ended = spawn(|| ());
        ended.link_in_hub(move || {
            told.add(panic_message(|| unblock(move || is_begun.store(true, SeqCst))));
        });
        ended.join().unwrap();
        sleep(ms(5));
        let [message] = log.take().try_into().unwrap();
        assert!(message.contains("would block the hub"), "{message}");
        assert!(!begun.load(SeqCst));
    });
}

/// Locals of callbacks are the hub's. Their destructors run at the end of the thread, and may use the hub.
#[test]
fn a_local_of_the_hub_is_dropped_at_the_end_of_its_thread() {
    static DROPPED: AtomicUsize = AtomicUsize::new(0);
    struct Spawns;
    impl Drop for Spawns {
        fn drop(&mut self) {
            struct Counts;
            impl Drop for Counts {
                fn drop(&mut self) {
                    DROPPED.fetch_add(1, SeqCst);
                }
            }
            let counts = Counts;
            drop(spawn(move || drop(counts)));
        }
    }
    static LOCAL: Local<Spawns> = Local::new(|| Spawns);
    and_the_hub_goes_on(|| {
        let ended = spawn(|| ());
        ended.link_in_hub(|| LOCAL.with(|_| ()));
        ended.join().unwrap();
        sleep(ms(1));
    });
    assert_eq!(DROPPED.load(SeqCst), 1);
}

/// It would have to wait for the end of what it has scoped.
#[test]
fn a_callback_in_the_hub_has_no_scope() {
    and_the_hub_goes_on(|| {
        let log = Log::new();
        let told = log.clone();
        let ended = spawn(|| ());
        ended.link_in_hub(move || {
            let scoped = greenlet::scoped(|()| (), |_: &Greenlet<(), ()>| ());
            told.add(scoped.unwrap_err());
        });
        ended.join().unwrap();
        sleep(ms(1));
        let [error] = log.take().try_into().unwrap();
        assert!(
            error.contains("a callback in the hub cannot wait for the end of a scope"),
            "{error}"
        );
    });
}

/// What a callback drops may switch, since it is unwound; and may wait.
#[test]
fn a_callback_in_the_hub_drops_what_waits() {
    struct Waits(Log);
    impl Drop for Waits {
        fn drop(&mut self) {
            sleep(ms(2));
            self.0.add("has waited");
        }
    }
    and_the_hub_goes_on(|| {
        let log = Log::new();
        let waits = Waits(log.clone());
        let mut generator = Generator::new(move |y| {
            let _waits = waits;
            y.yield_(1);
        });
        assert_eq!(generator.next(), Some(1));
        let ended = spawn(|| ());
        ended.link_in_hub(move || drop(generator));
        ended.join().unwrap();
        sleep(ms(10));
        assert_eq!(log.take(), ["has waited"]);
    });
}

/// A greenlet that a callback has made has the hub for its parent.
#[test]
fn a_greenlet_made_in_the_hub_panics() {
    and_the_hub_goes_on(|| {
        let slot: Rc<RefCell<Option<Greenlet<(), ()>>>> = Rc::default();
        let made = Rc::clone(&slot);
        let ended = spawn(|| ());
        ended.link_in_hub(move || {
            made.replace(Some(Greenlet::new(|()| panic!("made in the hub"))));
        });
        ended.join().unwrap();
        yield_now();
        let greenlet = slot.take().unwrap();
        assert_eq!(panic_message(|| greenlet.switch(())), "made in the hub");
    });
}

/// A payload whose destructor panics, with another such payload, some levels deep.
struct Chain(u32);
impl Drop for Chain {
    fn drop(&mut self) {
        if self.0 > 0 && !std::thread::panicking() {
            std::panic::resume_unwind(Box::new(Chain(self.0 - 1)));
        }
    }
}

#[test]
fn payloads_that_panic_when_dropped_end_nothing() {
    and_the_hub_goes_on(|| {
        for depth in [1, 3, 100] {
            let ended = spawn(|| ());
            ended.link_in_hub(move || std::panic::resume_unwind(Box::new(Chain(depth))));
            ended.join().unwrap();
            // Of one that has ended by the time that it would be raised.
            let victim = spawn(yield_now);
            yield_now();
            victim.kill_with(Box::new(Chain(depth)));
            yield_now();
            drop(victim);
            sleep(ms(1));
        }
    });
}

/// A tracer that panics on the way into the hub: it is removed, and main is told.
#[test]
fn a_tracer_that_panics_in_the_hub_is_told_to_main() {
    and_the_hub_goes_on(|| {
        let hub = hub();
        set_trace(Some(Rc::new(move |event: &TraceEvent| {
            let (TraceEvent::Switch { to, .. } | TraceEvent::Throw { to, .. }) = event;
            assert!(*to != hub, "on the way into the hub");
        })));
        let message = panic_message(|| sleep(ms(1)));
        assert!(message.contains("on the way into the hub"), "{message}");
        assert!(set_trace(None).is_none());
    });
}

/// The same when the hub's greenlet begins: a tracer that panics at every switch does not end it.
#[test]
fn a_tracer_that_panics_when_the_hub_begins_does_not_end_it() {
    and_the_hub_goes_on(|| {
        set_trace(Some(Rc::new(|_: &TraceEvent| panic!("at every switch"))));
        assert_eq!(panic_message(|| sleep(ms(1))), "at every switch");
        assert!(set_trace(None).is_none());
    });
}

/// A value that nobody awaits is dropped on arrival: here in the hub, where its destructor cannot wait.
#[test]
fn an_orphan_left_without_handles_is_unwound_from_the_hub() {
    and_the_hub_goes_on(|| {
        let log = Log::new();
        let guard = log.guard("unwound");
        let slot: Rc<RefCell<Option<Greenlet<(), ()>>>> = Rc::default();
        let mine = Rc::clone(&slot);
        let greenlet = Greenlet::new(move |()| {
            let _guard = guard;
            drop(mine.take());
            // It has lost its last handle, and leaves the thread to the hub, which unwinds it.
            sleep(LONG);
        });
        slot.replace(Some(greenlet));
        let weak = slot.borrow().as_ref().unwrap().downgrade();
        spawn(move || {
            let _ = catch_unwind(AssertUnwindSafe(|| weak.try_switch(())));
        });
        sleep(ms(5));
        assert_eq!(log.take(), ["unwound"]);
    });
}

/// The first wait of a thread may be in a greenlet, in a generator, in a destructor that runs because of a panic.
#[test]
fn the_hub_begins_wherever_the_first_wait_is() {
    and_the_hub_goes_on(|| assert_eq!(Greenlet::new(|()| sleep(ms(1))).switch(()), ()));
    and_the_hub_goes_on(|| {
        let mut generator = Generator::new(|y| {
            sleep(ms(1));
            y.yield_(1);
        });
        assert_eq!(generator.next(), Some(1));
    });
    struct Waits;
    impl Drop for Waits {
        fn drop(&mut self) {
            sleep(ms(1));
        }
    }
    and_the_hub_goes_on(|| {
        let payload = payload_of(|| {
            let _waits = Waits;
            std::panic::resume_unwind(Box::new(1_u8));
        });
        assert_eq!(payload.downcast_ref(), Some(&1_u8));
    });
}
