//! Variables of which each greenlet has its own.

use crate::support::{Log, pause};
use std::cell::{Cell, RefCell};
use switchgrass::{Builder, Greenlet, Local};

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
