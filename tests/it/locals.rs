//! Variables of which each greenlet has its own.

use crate::support::{LONG, Log, ms, pause, settle};
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc;
use std::time::Duration;
use switchgrass::{
    Builder, Generator, Greenlet, JoinError, Local, coroutine, sleep, spawn, timeout,
};

static NUMBER: Local<Cell<u32>> = Local::new(|| Cell::new(1));
static OTHER: Local<Cell<u32>> = Local::new(|| Cell::new(NUMBER.with(Cell::get) * 100));

fn number() -> u32 {
    NUMBER.with(Cell::get)
}

/// {test_context_not_propagated}: a new greenlet begins without values.
#[test]
fn each_greenlet_has_its_own() {
    NUMBER.with(|number| number.set(5));
    let make = |value: u32| {
        Greenlet::new(move |()| {
            assert_eq!(number(), 1);
            NUMBER.with(|number| number.set(value));
            pause();
            assert_eq!(number(), value);
        })
    };
    let (a, b) = (make(10), make(20));
    a.switch(());
    b.switch(());
    assert_eq!(number(), 5);
    a.switch(());
    b.switch(());
    assert_eq!(number(), 5);
    NUMBER.with(|number| number.set(1));
}

/// {test_context_shared}
#[test]
fn they_can_be_shared() {
    let outer = Greenlet::new(|()| {
        NUMBER.with(|number| number.set(7));
        let inner = Builder::new().share_locals().build(|()| {
            assert_eq!(number(), 7);
            NUMBER.with(|number| number.set(8));
        });
        inner.unwrap().switch(());
        assert_eq!(number(), 8);
    });
    outer.switch(());
}

#[test]
fn making_one_may_use_others() {
    let g = Greenlet::new(|()| {
        NUMBER.with(|number| number.set(3));
        OTHER.with(Cell::get)
    });
    assert_eq!(g.switch(()), 300);
}

static GUARDS: Local<RefCell<Vec<crate::support::Guard>>> = Local::new(RefCell::default);

/// {test_locals_collected_when_greenlet_dead…}: dropped at its end, even if a handle lives.
#[test]
fn they_end_with_their_greenlet() {
    let log = Log::new();
    let inside = log.clone();
    let g = Greenlet::new(move |()| {
        GUARDS.with(|guards| guards.borrow_mut().push(inside.guard("local dropped")));
        pause();
        inside.add("body ends");
    });
    g.switch(());
    assert!(log.take().is_empty());
    g.switch(());
    assert_eq!(log.take(), ["body ends", "local dropped"]);
    assert!(g.is_dead());
    let inside = log.clone();
    let dropped = Greenlet::new(move |()| {
        GUARDS.with(|guards| guards.borrow_mut().push(inside.guard("local dropped")));
        pause();
    });
    dropped.switch(());
    drop(dropped);
    assert_eq!(log.take(), ["local dropped"]);
}

/// The closure switches: the value it was given stays that of its greenlet.
#[test]
fn a_switch_inside_with() {
    let make = |value: u32| {
        Greenlet::new(move |()| {
            NUMBER.with(|number| {
                number.set(value);
                pause();
                NUMBER.with(|again| assert_eq!(again.get(), value));
                assert_eq!(number.get(), value);
            });
        })
    };
    let (a, b) = (make(1), make(2));
    for g in [&a, &b, &a, &b] {
        g.switch(());
    }
    assert!(a.is_dead() && b.is_dead());
}

/// A destructor of a local that uses another local.
#[test]
fn a_destructor_may_use_others() {
    struct Uses(Log);
    impl Drop for Uses {
        fn drop(&mut self) {
            self.0.add(number());
        }
    }
    static USES: Local<RefCell<Option<Uses>>> = Local::new(|| RefCell::new(None));
    let log = Log::new();
    let inside = log.clone();
    Greenlet::new(move |()| {
        NUMBER.with(|number| number.set(9));
        USES.with(|uses| uses.replace(Some(Uses(inside))));
    })
    .switch(());
    // Its values are being dropped, so it sees a new one.
    assert_eq!(log.take(), ["1"]);
}

/// How often a value of `TOWER` was made, in this greenlet.
static MADE: Local<Cell<u32>> = Local::new(|| Cell::new(0));
static TOWER: Local<u32> = Local::new(|| {
    let level = MADE.with(|made| made.replace(made.get() + 1));
    if level < 3 { TOWER.with(|inner| inner * 10) } else { level }
});

/// Making it asks for the same one: there is one value all the same, that which was there first.
#[test]
fn making_one_may_use_itself() {
    let g = Greenlet::new(|()| {
        let twice = TOWER.with(|outer| (*outer, TOWER.with(|again| std::ptr::eq(outer, again))));
        assert_eq!(twice, (3, true));
        MADE.with(Cell::get)
    });
    assert_eq!(g.switch(()), 4);
}

/// Two greenlets are suspended in the function that makes it.
#[test]
fn making_one_may_switch() {
    static SLOW: Local<u32> = Local::new(|| {
        pause();
        number()
    });
    let make = |value: u32| {
        Greenlet::new(move |()| {
            NUMBER.with(|number| number.set(value));
            assert_eq!(SLOW.with(|slow| *slow), value);
            assert_eq!(SLOW.with(|slow| *slow), value);
        })
    };
    let (a, b) = (make(10), make(20));
    for g in [&a, &b] {
        g.switch(());
        assert!(g.is_active());
    }
    for g in [&a, &b] {
        g.switch(());
        assert!(g.is_dead());
    }
}

/// A panic while it is made leaves none behind; one in the closure leaves it as it was.
#[test]
fn panics_around_one() {
    static FAILS_ONCE: Local<Cell<u32>> = Local::new(|| {
        if MADE.with(|made| made.replace(1)) == 0 {
            resume_unwind(Box::new("not made"));
        }
        Cell::new(5)
    });
    let g = Greenlet::new(|()| {
        let failed = catch_unwind(|| FAILS_ONCE.with(Cell::get));
        assert_eq!(failed.unwrap_err().downcast_ref(), Some(&"not made"));
        let failed = catch_unwind(|| {
            FAILS_ONCE.with(|value| {
                value.set(value.get() + 1);
                resume_unwind(Box::new("in with"))
            })
        });
        let failed: Result<(), _> = failed;
        assert_eq!(failed.unwrap_err().downcast_ref(), Some(&"in with"));
        FAILS_ONCE.with(Cell::get)
    });
    assert_eq!(g.switch(()), 6);
}

/// {test_context_shared}: what is shared ends with the last who shares it.
#[test]
fn shared_ones_end_with_the_last_of_them() {
    let log = Log::new();
    let inside = log.clone();
    let owner = Greenlet::new(move |()| {
        NUMBER.with(|number| number.set(7));
        GUARDS.with(|guards| guards.borrow_mut().push(inside.guard("local dropped")));
        Builder::new().share_locals().build(|()| number()).unwrap()
    });
    let sharer = owner.switch(());
    assert!(owner.is_dead() && log.take().is_empty());
    assert_eq!(sharer.switch(()), 7);
    assert_eq!(log.take(), ["local dropped"]);
    assert!(sharer.is_dead());
}

/// A body of a generator is a greenlet like any other.
#[test]
fn a_generator_has_its_own() {
    let consumer = Greenlet::new(|()| {
        NUMBER.with(|number| number.set(40));
        let mut numbers = Generator::new(|y| {
            loop {
                y.yield_(number());
                NUMBER.with(|number| number.set(number.get() + 1));
            }
        });
        let two: Vec<u32> = numbers.by_ref().take(2).collect();
        (two, number())
    });
    assert_eq!(consumer.switch(()), (vec![1, 2], 40));
}

/// A destructor of a local that switches: its greenlet has not ended while it does.
#[test]
fn a_destructor_may_switch() {
    struct Pauses(Log);
    impl Drop for Pauses {
        fn drop(&mut self) {
            self.0.add("away");
            pause();
            self.0.add("back");
        }
    }
    static PAUSES: Local<RefCell<Option<Pauses>>> = Local::new(|| RefCell::new(None));
    let log = Log::new();
    let inside = log.clone();
    let g = Greenlet::new(move |()| {
        PAUSES.with(|pauses| pauses.replace(Some(Pauses(inside.clone()))));
        inside.add("body ends");
    });
    g.switch(());
    assert_eq!(log.take(), ["body ends", "away"]);
    assert!(g.is_active());
    g.switch(());
    assert_eq!(log.take(), ["back"]);
    assert!(g.is_dead());
    // After a panic, which is on its way meanwhile and arrives.
    let inside = log.clone();
    let failing = Greenlet::new(move |()| -> () {
        PAUSES.with(|pauses| pauses.replace(Some(Pauses(inside))));
        resume_unwind(Box::new("failed"));
    });
    failing.switch(());
    assert!(failing.is_active());
    let caught = catch_unwind(AssertUnwindSafe(|| failing.switch(())));
    assert_eq!(caught.unwrap_err().downcast_ref(), Some(&"failed"));
    assert_eq!(log.take(), ["away", "back"]);
}

/// A local of a coroutine is dropped before those are told who join it, and the coroutine is itself all the
/// while: limits pass in the destructor, and what it waits for comes.
#[test]
fn one_of_a_coroutine_is_dropped_while_that_is_itself() {
    struct Looks(Log);
    impl Drop for Looks {
        fn drop(&mut self) {
            let current = coroutine::current();
            self.0.add(format!("{:?} {}", current.name().unwrap(), current.is_finished()));
            self.0.add(timeout(ms(5), || sleep(LONG)).is_err());
            sleep(ms(1));
            NUMBER.with(|number| self.0.add(number.get()));
        }
    }
    static LOOKS: Local<RefCell<Option<Looks>>> = Local::new(RefCell::default);
    let ends: [fn() -> u32; 2] = [|| 5, || resume_unwind(Box::new("failed"))];
    for end in ends {
        let log = Log::new();
        let inside = log.clone();
        let body = move || {
            LOOKS.with(|looks| looks.replace(Some(Looks(inside))));
            end()
        };
        let one = coroutine::Builder::new().name("one").spawn(body).unwrap();
        let told = log.clone();
        one.link_in_hub(move || told.add("told"));
        let result = one.join();
        log.add(matches!(result, Ok(5) | Err(JoinError::Panicked(_))));
        settle();
        let expected = ["\"one\" false", "true", "1", "told", "true"];
        assert_eq!(log.take(), expected);
    }
}

/// A kill reaches the destructor of a local, and ends what that waits for.
#[test]
fn a_kill_in_the_destructor_of_one() {
    struct Waits(Log);
    impl Drop for Waits {
        fn drop(&mut self) {
            let _guard = self.0.guard("killed");
            sleep(LONG);
        }
    }
    static WAITS: Local<RefCell<Vec<Waits>>> = Local::new(RefCell::default);
    let log = Log::new();
    let inside = log.clone();
    let one = spawn(move || {
        WAITS.with(|waits| waits.borrow_mut().push(Waits(inside)));
        "result"
    });
    settle();
    assert!(!one.is_finished());
    assert!(one.kill_wait(Some(LONG)));
    assert_eq!(log.take(), ["killed"]);
    assert_eq!(one.join().unwrap(), "result", "its body had returned");
}

/// Several have destructors that panic: each is dropped, and the result comes.
#[test]
fn several_whose_destructors_panic() {
    struct Fails(Log);
    impl Drop for Fails {
        fn drop(&mut self) {
            self.0.add("dropped");
            resume_unwind(Box::new("a local"));
        }
    }
    static FIRST: Local<RefCell<Option<Fails>>> = Local::new(RefCell::default);
    static SECOND: Local<RefCell<Option<Fails>>> = Local::new(RefCell::default);
    static THIRD: Local<RefCell<Option<Fails>>> = Local::new(RefCell::default);
    let log = Log::new();
    let fill = |log: Log| {
        for local in [&FIRST, &SECOND, &THIRD] {
            local.with(|slot| slot.replace(Some(Fails(log.clone()))));
        }
        5
    };
    let inside = log.clone();
    assert_eq!(spawn(move || fill(inside)).join().unwrap(), 5);
    assert_eq!(log.take(), ["dropped"; 3]);
    let inside = log.clone();
    assert_eq!(Greenlet::new(move |()| fill(inside)).switch(()), 5);
    assert_eq!(log.take(), ["dropped"; 3]);
}

/// A destructor that makes the same local again, each time: that comes to an end.
#[test]
fn a_destructor_that_makes_it_again() {
    thread_local! { static COUNT: Cell<u32> = const { Cell::new(0) } }
    struct Again;
    impl Drop for Again {
        fn drop(&mut self) {
            COUNT.set(COUNT.get() + 1);
            AGAIN.with(|_| ());
        }
    }
    static AGAIN: Local<Again> = Local::new(|| Again);
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        spawn(|| AGAIN.with(|_| ())).join().unwrap();
        send.send(COUNT.get()).unwrap();
    });
    let count = receive.recv_timeout(Duration::from_secs(10)).expect("it comes to an end");
    assert!((2..1_000).contains(&count), "{count}");
}
