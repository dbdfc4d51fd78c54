//! Who runs when, and what a switch brings.

use crate::support::{Log, panic_message, pause, yield_to_parent};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use switchgrass::{AnyGreenlet, Greenlet, SwitchError, WeakGreenlet, current, greenlet, pair};

#[test]
fn test_simple() {
    let log = Log::new();
    let in_body = log.clone();
    let g = Greenlet::new(move |()| {
        in_body.add(1);
        pause();
        in_body.add(3);
    });
    log.add(0);
    g.switch(());
    log.add(2);
    g.switch(());
    log.add(4);
    assert_eq!(log.take(), ["0", "1", "2", "3", "4"]);
}

#[test]
fn test_two_children() {
    let log = Log::new();
    let child = || {
        let log = log.clone();
        Greenlet::new(move |()| {
            log.add("begin");
            pause();
            log.add("end");
        })
    };
    let (f, g) = (child(), child());
    f.switch(());
    assert_eq!(log.take(), ["begin"]);
    g.switch(());
    assert_eq!(log.take(), ["begin"]);
    assert!(!f.is_dead() && !g.is_dead());
    g.switch(());
    assert_eq!(log.take(), ["end"]);
    assert!(!f.is_dead() && g.is_dead());
    f.switch(());
    assert!(f.is_dead());
}

#[test]
fn test_two_recursive_children() {
    let log = Log::new();
    let outer = log.clone();
    let g = Greenlet::new(move |()| {
        outer.add("child begins");
        let inner = outer.clone();
        let grandchild = Greenlet::new(move |()| {
            inner.add("grandchild");
            pause();
            inner.add("grandchild ends");
        });
        grandchild.switch(());
        outer.add("child between");
        grandchild.switch(());
        assert!(grandchild.is_dead());
        outer.add("child ends");
    });
    g.switch(());
    let expected = ["child begins", "grandchild", "child between", "grandchild ends", "child ends"];
    assert_eq!(log.take(), expected);
    assert!(g.is_dead());
    drop(g);
    assert_eq!(greenlet::live_count(), 0);
}

#[test]
fn the_tutorials_ping_pong() {
    let log = Log::new();
    let (a, b) = (log.clone(), log.clone());
    let ping = pair(
        move |pong, ()| {
            a.add(12);
            pong.switch(());
            a.add(34);
            pong.switch(());
        },
        move |ping, ()| {
            b.add(56);
            ping.switch(());
            b.add(78);
        },
    );
    ping.switch(());
    assert_eq!(log.take(), ["12", "56", "34", "78"]);
    // The second ended, so its result went to main, and the first is still in its switch.
    assert!(!ping.is_dead());
}

#[test]
fn what_a_switch_returns_is_sent_by_anybody() {
    // Main switches to a, a to b, and b to main: main's switch to *a* returns what b sent.
    let b = Greenlet::new(|text: &'static str| -> () {
        assert_eq!(text, "from a");
        yield_to_parent::<&'static str, ()>("from b");
    });
    let from_a = b.clone();
    let a = Greenlet::new(move |()| -> &'static str {
        from_a.erase().switch_any::<_, ()>("from a");
        "the end of a"
    });
    assert_eq!(a.switch(()), "from b");
    assert_eq!(a.try_switch(()).unwrap(), "the end of a");
}

#[test]
fn a_switch_to_oneself_returns_the_value() {
    let g = Greenlet::new(|first: u64| -> u64 {
        let me = current().to_types::<u64, u64>().unwrap();
        let second = me.switch(first + 1);
        let third: u64 = me.switch_any(second + 1);
        third + 1
    });
    assert_eq!(g.switch(1), 4);
    assert_eq!(current().switch_any::<_, String>("main".to_string()), "main");
}

#[test]
fn nested_starts_need_no_more_of_any_stack() {
    fn nest(depth: u32) -> u32 {
        if depth == 0 { 0 } else { Greenlet::new(nest).switch(depth - 1) + 1 }
    }
    assert_eq!(nest(2_000), 2_000);
}

/// Values of all sizes and alignments arrive as they were sent, each once.
#[test]
fn values_of_every_size_arrive_once() {
    fn round_trip<T: PartialEq + std::fmt::Debug + Clone + 'static>(value: T) {
        let echo = Greenlet::new(|mut value: T| -> T {
            for _ in 0..3 {
                value = yield_to_parent(value);
            }
            value
        });
        for _ in 0..4 {
            assert_eq!(echo.switch(value.clone()), value);
        }
        assert!(echo.is_dead());
        let (first, second) = (value.clone(), value.clone());
        let ping = pair(
            move |pong: Greenlet<T, T>, value: T| {
                assert_eq!(value, first);
                pong.switch(value)
            },
            move |ping: WeakGreenlet<T, T>, value: T| {
                assert_eq!(value, second);
                ping.switch(value)
            },
        );
        assert_eq!(ping.switch(value.clone()), value);
    }
    #[derive(Clone, Debug, PartialEq)]
    #[repr(align(64))]
    struct Aligned(u8);
    #[derive(Clone, Debug, PartialEq)]
    #[repr(align(32))]
    struct Empty;
    round_trip(());
    round_trip(true);
    round_trip((1_u8, 2_u16));
    round_trip(3_u64);
    round_trip(Some(Box::new(4)));
    round_trip((5_u64, 6_u8));
    round_trip([7_u64; 100]);
    round_trip("text".to_string());
    round_trip(vec![vec![1, 2], vec![3]]);
    round_trip(Aligned(8));
    round_trip(Empty);
    round_trip(Rc::new(9));
}

/// {test_arg_refs}: what is sent is not kept by the switch.
#[test]
fn test_arg_refs() {
    let value = Rc::new(());
    let keeper = Greenlet::new(|mut value: Rc<()>| -> Rc<()> {
        loop {
            value = yield_to_parent(value);
        }
    });
    for _ in 0..100 {
        drop(keeper.switch(Rc::clone(&value)));
        assert_eq!(Rc::strong_count(&value), 1);
    }
    let ignorer = Greenlet::new(|value: Rc<()>| -> () {
        drop(value);
        loop {
            yield_to_parent::<(), Rc<()>>(());
        }
    });
    for _ in 0..100 {
        ignorer.switch(Rc::clone(&value));
        assert_eq!(Rc::strong_count(&value), 1);
    }
}

#[test]
fn a_wrong_type_is_an_error_that_names_both() {
    let g = Greenlet::new(|_: u64| -> () { pause() });
    let any = g.clone().erase();
    match any.try_switch_any::<String, ()>("text".into()) {
        Err(SwitchError::WrongType { value, mismatch }) => {
            assert_eq!(value, "text");
            assert_eq!(mismatch.awaited(), "u64");
            assert_eq!(mismatch.sent(), "alloc::string::String");
            assert_eq!(mismatch.greenlet(), format!("#{}", g.id()));
        }
        other => panic!("{other:?}"),
    }
    assert!(!g.is_started());
    g.switch(1);
    // Now it awaits a unit, although it was declared to take a number: the compiler cannot know.
    let error = g.try_switch(2).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("greenlet #{} awaits a value of type `()`, not `u64`", g.id())
    );
    assert_eq!(error.into_value(), Some(2));
    let message = panic_message(|| g.switch(3));
    assert!(message.contains("`()`, not `u64`"), "{message}");
    any.switch_any::<(), ()>(());
    assert!(g.is_dead());
}

/// A greenlet may wait for another type than it is declared to take: then it is that type that it
/// must be sent, and afterwards the declared one again.
#[test]
fn a_wait_for_another_type() {
    let g = Greenlet::new(|first: u64| -> u64 {
        let helper = Greenlet::new(|n: u64| -> String { (n + 1).to_string() });
        let text: String = helper.switch(first);
        let second: u64 = yield_to_parent(text.parse::<u64>().unwrap());
        second * 2
    });
    assert_eq!(g.switch(4), 5);
    assert_eq!(g.switch(21), 42);
}

#[test]
fn handles_can_be_erased_and_typed_again() {
    let g = Greenlet::new(|n: u8| -> u16 { u16::from(n) });
    let any: AnyGreenlet = g.clone().erase();
    assert_eq!(any, g);
    let any = any.typed::<u16, u8>().unwrap_err();
    assert_eq!(any.typed::<u8, u16>().unwrap().switch(3), 3);
    assert!(current().to_types::<(), ()>().is_none());
}

/// {test_switching_holding_critical_section_no_crash}
#[test]
fn a_switch_inside_a_sort() {
    let sorter = Greenlet::new(|mut items: Vec<u32>| -> Vec<u32> {
        items.sort_by(|a, b| {
            yield_to_parent::<Vec<u32>, Vec<u32>>(vec![]);
            a.cmp(b)
        });
        items
    });
    let mut sorted = sorter.switch(vec![3, 1, 2]);
    let mut switches = 0;
    while !sorter.is_dead() {
        sorted = sorter.switch(vec![]);
        switches += 1;
    }
    assert_eq!(sorted, [1, 2, 3]);
    assert!(switches >= 2, "{switches}");
}

/// {test_exception_switch}: each is suspended inside a caught panic, and keeps its own.
#[test]
fn test_exception_switch() {
    let all: Vec<Greenlet<(), ()>> = (0..4)
        .map(|number| {
            Greenlet::new(move |()| {
                let caught =
                    std::panic::catch_unwind(|| std::panic::resume_unwind(Box::new(number)));
                let payload = caught.unwrap_err();
                pause();
                assert_eq!(payload.downcast_ref(), Some(&number));
            })
        })
        .collect();
    all.iter().for_each(|g| g.switch(()));
    all.iter().rev().for_each(|g| g.switch(()));
    assert!(all.iter().all(|g| g.is_dead()));
}

#[test]
fn a_ring_of_a_thousand() {
    let handles: Rc<RefCell<Vec<WeakGreenlet<u64, u64>>>> = Rc::default();
    let all: Vec<Greenlet<u64, u64>> = (0..1_000)
        .map(|index| {
            let handles = Rc::clone(&handles);
            Greenlet::new(move |mut sum: u64| -> u64 {
                let next = handles.borrow().get(index + 1).cloned();
                loop {
                    sum = match &next {
                        Some(next) => next.switch(sum + 1),
                        None => yield_to_parent(sum + 1),
                    };
                }
            })
        })
        .collect();
    handles.borrow_mut().extend(all.iter().map(|g| g.downgrade()));
    assert_eq!(all[0].switch(0), 1_000);
    assert_eq!(all[0].switch(1_000), 2_000);
    assert_eq!(all[500].switch(0), 500);
}

#[test]
fn current_is_main_outside_and_itself_inside() {
    let main = current();
    assert_eq!(main.name().as_deref(), Some("main"));
    assert!(main.is_active() && !main.is_dead() && main.parent().is_none());
    let seen = Rc::new(Cell::new(false));
    let inside = Rc::clone(&seen);
    let slot: Rc<RefCell<Option<AnyGreenlet>>> = Rc::default();
    let expected = Rc::clone(&slot);
    let g = Greenlet::new(move |()| inside.set(current() == expected.take().unwrap()));
    slot.replace(Some(g.clone().erase()));
    g.switch(());
    assert!(seen.get());
}

/// {test_main_while_running, test_initial, test_dead, test_formatting…}
#[test]
fn debug_shows_name_and_state() {
    let g = switchgrass::Builder::new().name("worker").build(|()| pause()).unwrap();
    assert_eq!(format!("{g:?}"), r#"Greenlet("worker", unstarted)"#);
    assert_eq!(format!("{:?}", g.downgrade()), r#"Greenlet("worker", unstarted)"#);
    g.switch(());
    assert_eq!(format!("{g:?}"), r#"Greenlet("worker", suspended)"#);
    g.switch(());
    assert_eq!(format!("{g:?}"), r#"Greenlet("worker", dead)"#);
    let weak = g.downgrade();
    drop(g);
    assert_eq!(format!("{weak:?}"), r#"Greenlet("worker", dead)"#);
    assert_eq!(format!("{:?}", current()), r#"Greenlet("main", main, running)"#);
    let seen_from_inside = Greenlet::new(|()| {
        let main = current().parent().unwrap();
        (format!("{main:?}"), format!("{:?}", current()))
    });
    let number = seen_from_inside.id();
    let (main, itself) = seen_from_inside.switch(());
    assert_eq!(main, r#"Greenlet("main", main, suspended)"#);
    assert_eq!(itself, format!("Greenlet(#{number}, running)"));
}
