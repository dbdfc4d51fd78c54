//! Generators: greenlet's cases, and what is Rust's own.

use crate::support::{Log, panic_message, pause};
use std::cell::RefCell;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use switchgrass::generator::{Generator, Yielder};
use switchgrass::{AnyWeakGreenlet, Greenlet, JoinError, coroutine, current, greenlet, spawn};

/// Three passes of a generator of five, consumer and producer in turn.
#[test]
fn test_generator() {
    let log = Log::new();
    for _ in 0..3 {
        let producer = log.clone();
        let numbers = Generator::new(move |y| {
            for n in 0..5 {
                producer.add(n);
                y.yield_(n);
            }
        });
        for n in numbers {
            log.add(n);
        }
        assert_eq!(log.take(), ["0", "0", "1", "1", "2", "2", "3", "3", "4", "4"]);
    }
}

/// The inner body yields to its own consumer and to its consumer's consumer.
#[test]
fn test_layered_genlets() {
    let outer = Generator::new(|outer: Yielder<u32>| {
        let direct = outer.clone();
        let inner = Generator::new(move |inner: Yielder<u32>| {
            for n in 1..5 {
                inner.yield_(n);
                direct.yield_(n * n);
            }
        });
        for n in inner {
            outer.yield_(n);
        }
    });
    assert_eq!(outer.collect::<Vec<_>>(), [1, 1, 2, 4, 3, 9, 4, 16]);
}

fn permutations(mut items: Vec<u32>) -> Generator<Vec<u32>> {
    Generator::new(move |y| {
        if items.len() <= 1 {
            y.yield_(items);
            return;
        }
        let first = items.remove(0);
        for rest in permutations(items) {
            for index in 0..=rest.len() {
                let mut whole = rest.clone();
                whole.insert(index, first);
                y.yield_(whole);
            }
        }
    })
}

#[test]
fn test_permutations() {
    let mut all: Vec<_> = permutations(vec![1, 2, 3, 4]).collect();
    assert_eq!(all.len(), 24);
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 24);
    let zipped: Vec<_> = permutations(vec![1, 2]).zip(permutations(vec![1, 2, 3])).collect();
    assert_eq!(zipped, [(vec![1, 2], vec![1, 2, 3]), (vec![2, 1], vec![2, 1, 3])]);
}

/// From a nested call, which is the point of it.
#[test]
fn test_genlet_simple() {
    fn one(y: &Yielder<u32>, n: u32) {
        y.yield_(n);
    }
    fn both(y: &Yielder<u32>, n: u32) {
        one(y, n);
        [1, 2].iter().for_each(|k| one(y, n * k));
    }
    for _ in 0..2 {
        let numbers = Generator::new(|y| (1..4).for_each(|n| both(&y, n)));
        assert_eq!(numbers.collect::<Vec<_>>(), [1, 1, 2, 2, 2, 4, 3, 3, 6]);
    }
}

/// Yielding outside of a generator is an error.
#[test]
fn test_genlet_bad() {
    let slot: Rc<RefCell<Option<Yielder<u32>>>> = Rc::default();
    let inside = Rc::clone(&slot);
    let mut numbers = Generator::new(move |y| {
        inside.replace(Some(y.clone()));
        y.yield_(1);
        y.yield_(2);
    });
    assert_eq!(numbers.next(), Some(1));
    let yielder = slot.take().unwrap();
    // It is alive, but nobody awaits a value.
    assert_eq!(yielder.try_yield(10), Err(10));
    let message = panic_message(|| yielder.yield_(10));
    assert_eq!(message, "yield outside of a generator: no consumer awaits a value");
    assert_eq!(numbers.by_ref().collect::<Vec<_>>(), [2]);
    assert_eq!(yielder.try_yield(10), Err(10));
}

#[test]
fn test_nested_genlets() {
    fn walk(depth: u32) -> Generator<u32> {
        Generator::new(move |y| {
            if depth > 0 {
                walk(depth - 1).for_each(|n| y.yield_(n));
                y.yield_(depth);
                walk(depth - 1).for_each(|n| y.yield_(n));
            }
        })
    }
    assert_eq!(walk(3).collect::<Vec<_>>(), [1, 2, 1, 3, 1, 2, 1]);
    assert_eq!(greenlet::live_count(), 0);
}

#[test]
fn what_is_sent_is_what_yield_returns() {
    let log = Log::new();
    let inside = log.clone();
    let mut echo = Generator::with_input(move |y, first: String| {
        inside.add(first);
        let second = y.yield_(1);
        inside.add(second);
        let third = y.yield_(2);
        inside.add(third);
    });
    assert_eq!(echo.send("a".into()), Some(1));
    assert_eq!(echo.send("b".into()), Some(2));
    assert!(!echo.is_finished());
    assert_eq!(echo.send("c".into()), None);
    assert!(echo.is_finished());
    assert_eq!(echo.send("d".into()), None);
    assert_eq!(log.take(), ["a", "b", "c"]);
}

#[test]
fn an_early_drop_runs_the_guards() {
    let log = Log::new();
    let make = || {
        let log = log.clone();
        Generator::new(move |y| {
            let _outer = log.guard("outer");
            let _inner = log.guard("inner");
            y.yield_(1);
            y.yield_(2);
        })
    };
    let mut numbers = make();
    assert_eq!(numbers.next(), Some(1));
    assert!(log.take().is_empty());
    drop(numbers);
    assert_eq!(log.take(), ["inner", "outer"]);
    let mut numbers = make();
    numbers.next();
    numbers.close();
    assert_eq!(log.take(), ["inner", "outer"]);
    drop(make());
    assert!(log.take().is_empty(), "it had not begun");
    assert_eq!(make().take(1).count(), 1);
    assert_eq!(log.take(), ["inner", "outer"]);
}

#[test]
fn a_panic_of_the_body_is_raised_in_next() {
    let mut numbers = Generator::new(|y| {
        y.yield_(1);
        panic!("no more");
    });
    assert_eq!(numbers.next(), Some(1));
    assert_eq!(panic_message(|| numbers.next()), "no more");
    assert_eq!(numbers.next(), None);
}

/// A greenlet that the body has made cannot be the consumer: it would be its own ancestor.
#[test]
fn a_descendant_of_the_body_cannot_consume() {
    type Consumer = Greenlet<Generator<u32>, String>;
    let slot: Rc<RefCell<Option<Consumer>>> = Rc::default();
    let inside = Rc::clone(&slot);
    let mut numbers = Generator::new(move |y| {
        let asks = |mut numbers: Generator<u32>| panic_message(|| numbers.next());
        inside.replace(Some(Greenlet::new(asks)));
        y.yield_(1);
    });
    assert_eq!(numbers.next(), Some(1));
    let consumer = slot.take().unwrap();
    // It drops the generator, so that its parent, the body, is dead, and main gets the result.
    let message = consumer.switch(numbers);
    assert!(message.contains("by its own descendant"), "{message}");
}

#[test]
fn consumers_may_change() {
    let mut numbers = Generator::new(|y| (0..3).for_each(|n| y.yield_(n)));
    assert_eq!(numbers.next(), Some(0));
    let g = Greenlet::new(|mut numbers: Generator<i32>| -> Generator<i32> {
        assert_eq!(numbers.next(), Some(1));
        numbers
    });
    let mut numbers = g.switch(numbers);
    assert_eq!(numbers.next(), Some(2));
    assert_eq!(numbers.next(), None);
}

/// A consumer that is declared to take something else awaits values all the same.
#[test]
fn a_greenlet_of_another_type_may_consume() {
    let g = Greenlet::new(|factor: u64| -> u64 {
        let sum: u64 = Generator::new(|y| (1..=4).for_each(|n: u64| y.yield_(n))).sum();
        sum * factor
    });
    assert_eq!(g.switch(3), 30);
}

#[test]
fn a_scoped_body_borrows() {
    let words = vec!["one".to_string(), "two".to_string()];
    let mut seen = 0;
    let lengths: Vec<usize> = Generator::scoped(
        |y| {
            for word in &words {
                seen += 1;
                y.yield_(word.as_str());
            }
        },
        |generator| generator.map(str::len).collect(),
    )
    .unwrap();
    assert_eq!((lengths, seen), (vec![3, 3], 2));
}

/// Whatever is forgotten, swapped or kept: the body has ended when the scope has.
#[test]
fn a_scope_ends_its_body() {
    let log = Log::new();
    let number = 7;
    let (mut swapped, mut yielder) = (None, None);
    Generator::scoped(
        |y: Yielder<u32>| {
            let _guard = log.guard("unwound");
            y.yield_(number);
            y.yield_(number);
        },
        |generator| {
            assert_eq!(generator.next(), Some(7));
            let mut other: Generator<u32> = Generator::new(|y| y.yield_(1));
            mem::swap(generator, &mut other);
            swapped = Some(other);
            mem::forget(mem::replace(generator, Generator::new(|y| y.yield_(2))));
        },
    )
    .unwrap();
    assert_eq!(log.take(), ["unwound"]);
    let mut swapped = swapped.unwrap();
    assert!(swapped.is_finished());
    assert_eq!(swapped.next(), None);
    let slot = Rc::new(RefCell::new(None));
    Generator::scoped(|y: Yielder<u32>| drop(slot.replace(Some(y))), |generator| generator.next())
        .unwrap();
    yielder.replace(slot.take().unwrap());
    assert_eq!(yielder.unwrap().try_yield(1), Err(1));
}

/// The owner of a scope is unwound while the body is in the middle: the body goes first.
#[test]
fn the_owner_of_a_scope_is_dropped() {
    let log = Log::new();
    let outer = log.clone();
    let owner = Greenlet::new(move |()| {
        let local = outer.guard("owner's local");
        Generator::scoped(
            |y| {
                let _guard = outer.guard("body");
                let _borrowed = &local;
                y.yield_(());
            },
            |generator| {
                generator.next();
                pause();
            },
        )
        .unwrap();
    });
    owner.switch(());
    assert!(log.take().is_empty());
    drop(owner);
    assert_eq!(log.take(), ["body", "owner's local"]);
}

/// Somebody throws into the owner of a scope while it waits for a body that switches in its destructor:
/// the body ends first all the same.
#[test]
fn a_throw_into_an_owner_that_ends_its_scope_waits() {
    struct Pauses(Log);
    impl Drop for Pauses {
        fn drop(&mut self) {
            let main = Greenlet::new(|()| ());
            drop(main);
            self.0.add("body's destructor");
        }
    }
    let log = Log::new();
    let outer = log.clone();
    let owner = Greenlet::new(move |()| {
        let _local = outer.guard("owner's local");
        greenlet::scoped(
            |()| {
                let _pauses = Pauses(outer.clone());
                pause();
            },
            |body| {
                body.switch(());
                pause();
            },
        )
        .unwrap();
    });
    owner.switch(());
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| owner.throw("now")));
    assert_eq!(caught.unwrap_err().downcast_ref(), Some(&"now"));
    assert_eq!(log.take(), ["body's destructor", "owner's local"]);
}

/// {semantics 11.5}: several interleave.
#[test]
fn several_interleave() {
    let mut a = Generator::new(|y| "abc".chars().for_each(|c| y.yield_(c)));
    let mut b = Generator::new(|y| "123".chars().for_each(|c| y.yield_(c)));
    let mut text = String::new();
    while let (Some(x), Some(y)) = (a.next(), b.next()) {
        text.extend([x, y]);
    }
    assert_eq!(text, "a1b2c3");
    assert!(format!("{a:?}").starts_with("Generator(Greenlet(#"));
}

/// Something is thrown into the consumer while it waits: nobody awaits a value then. The body is resumed
/// by somebody else, and cannot yield, not even to the same greenlet, which awaits a value of another
/// generator by now. Nor can it ask itself: it would be its own parent.
#[test]
fn a_body_that_nobody_awaits() {
    type Slot<T> = Rc<RefCell<Option<T>>>;
    let log = Log::new();
    let (slot, body, other_body): (Slot<Generator<u32>>, Slot<AnyWeakGreenlet>, _) =
        Default::default();
    let other_handle: Slot<AnyWeakGreenlet> = Rc::clone(&other_body);
    let (main, home) = (current(), current());
    let (inside, its_own, handle) = (log.clone(), Rc::clone(&slot), Rc::clone(&body));
    let numbers = Generator::new(move |y| {
        let _guard = inside.guard("unwound");
        handle.replace(Some(current()));
        main.switch_any::<(), ()>(());
        inside.add(y.try_yield(1).unwrap_err());
        let mut itself: Generator<u32> = its_own.take().unwrap();
        inside.add(panic_message(|| itself.next()).split(':').next().unwrap());
        its_own.replace(Some(itself));
        main.switch_any::<(), ()>(());
    });
    let mut others = Generator::new(move |y| {
        other_handle.replace(Some(current()));
        home.switch_any::<(), ()>(());
        y.yield_(7);
    });
    let put_away = Rc::clone(&slot);
    let consumer = Greenlet::new(move |()| {
        let mut numbers = numbers;
        let caught = catch_unwind(AssertUnwindSafe(|| numbers.next()));
        assert_eq!(caught.unwrap_err().downcast_ref(), Some(&"enough"));
        put_away.replace(Some(numbers));
        assert_eq!(others.next(), Some(7));
    });
    consumer.switch(());
    consumer.throw("enough").unwrap();
    body.take().unwrap().switch_any::<(), ()>(());
    assert_eq!(log.take(), ["1", "a generator was resumed by its own descendant"]);
    drop(slot.take());
    assert_eq!(log.take(), ["unwound"]);
    other_body.take().unwrap().switch_any::<(), ()>(());
    assert!(consumer.is_dead());
}

/// Two scopes whose generators are swapped: each ends its own body, whoever has the handle.
#[test]
fn a_scope_ends_the_body_that_it_began() {
    let log = Log::new();
    let slot = RefCell::new(None);
    Generator::scoped(
        |y: Yielder<u32>| {
            let _guard = log.guard("outer body");
            (1..99).for_each(|n| y.yield_(n));
        },
        |outer| {
            assert_eq!(outer.next(), Some(1));
            Generator::scoped(
                |y: Yielder<u32>| {
                    let _guard = log.guard("inner body");
                    slot.replace(Some(y.clone()));
                    (10..99).for_each(|n| y.yield_(n));
                },
                |inner| {
                    assert_eq!(inner.next(), Some(10));
                    mem::swap(outer, inner);
                    assert_eq!((inner.next(), outer.next()), (Some(2), Some(11)));
                },
            )
            .unwrap();
            assert_eq!(log.take(), ["inner body"]);
            assert_eq!((outer.is_finished(), outer.next()), (true, None));
            // Kept from a body that was ended in the middle.
            assert_eq!(slot.take().unwrap().try_yield(5), Err(5));
        },
    )
    .unwrap();
    assert_eq!(log.take(), ["outer body"]);
    assert_eq!(greenlet::live_count(), 0);
}

/// {test_switching_holding_critical_section_no_crash}: in the middle of a sort on either side.
#[test]
fn a_sort_on_either_side() {
    let compared = Generator::new(|y| {
        let mut items = [3, 1, 2];
        items.sort_by(|a, b| {
            y.yield_(vec![*a, *b]);
            a.cmp(b)
        });
        y.yield_(items.to_vec());
    });
    let seen: Vec<Vec<u32>> = compared.collect();
    let (sorted, pairs) = seen.split_last().unwrap();
    assert_eq!(*sorted, [1, 2, 3]);
    assert!(pairs.len() >= 2 && pairs.iter().all(|pair| pair.len() == 2 && pair[0] != pair[1]));

    let mut turns = Generator::new(|y| (0..99).for_each(|n: u32| y.yield_(n)));
    let (mut items, mut calls) = ([5, 4, 9, 1], 0);
    items.sort_by(|a, b| {
        assert_eq!(turns.next(), Some(calls));
        calls += 1;
        let mut whole = 0;
        permutations(vec![1, 2, 3]).for_each(|_| whole += 1);
        assert_eq!(whole, 6);
        a.cmp(b)
    });
    assert_eq!(items, [1, 4, 5, 9]);
    assert_eq!(turns.next(), Some(calls));
}

/// A panic ends the body: its guards have run before it is raised, and `Debug` says so.
#[test]
fn a_failed_generator() {
    let log = Log::new();
    let inside = log.clone();
    let mut numbers: Generator<u32> = Generator::new(move |_| {
        let _outer = inside.guard("outer");
        let _inner = inside.guard("inner");
        resume_unwind(Box::new("failed"));
    });
    assert!(format!("{numbers:?}").ends_with(", unstarted))"));
    let caught = catch_unwind(AssertUnwindSafe(|| numbers.next()));
    assert_eq!(caught.unwrap_err().downcast_ref(), Some(&"failed"));
    assert_eq!(log.take(), ["inner", "outer"]);
    assert!(numbers.is_finished());
    assert!(format!("{numbers:?}").ends_with(", dead))"));
    assert_eq!((numbers.next(), numbers.next()), (None, None));
}

/// A coroutine kills itself in a generator of its own: it is the coroutine that ends.
#[test]
fn a_coroutine_kills_itself_in_a_generator() {
    let log = Log::new();
    let inside = log.clone();
    let one = spawn(move || {
        let mut numbers: Generator<u32> = Generator::new(|_| coroutine::current().kill());
        let next = numbers.next();
        inside.add(format!("goes on after {next:?}"));
    });
    assert!(matches!(one.join(), Err(JoinError::Killed)));
    assert!(log.take().is_empty());
}

/// A value that came with something else, and was not taken: it does not come once more at the end.
#[test]
fn a_value_that_was_not_taken_does_not_come_at_the_end() {
    let mut numbers = Generator::new(|y| y.yield_(1));
    let main = current();
    let hook: greenlet::TraceHook = Rc::new(move |event| {
        if matches!(event, greenlet::TraceEvent::Switch { to, .. } if *to == main) {
            resume_unwind(Box::new("from the hook"));
        }
    });
    greenlet::set_trace(Some(hook));
    let caught = catch_unwind(AssertUnwindSafe(|| numbers.next()));
    assert_eq!(caught.unwrap_err().downcast_ref(), Some(&"from the hook"));
    assert_eq!(numbers.next(), None);
    assert!(numbers.is_finished());
}

/// The end of another greenlet comes to the consumer: that is neither a value nor the generator's end.
#[test]
fn next_is_none_only_when_a_generator_has_ended() {
    let main = switchgrass::current();
    let other: switchgrass::Greenlet<(), ()> =
        switchgrass::Greenlet::new(move |()| main.switch_any(()));
    other.switch(());
    let mut numbers = switchgrass::Generator::new(move |y| {
        y.yield_(1);
        let _ = other.throw(switchgrass::GreenletExit);
        y.yield_(2);
    });
    assert_eq!(numbers.next(), Some(1));
    let said = crate::support::panic_message(|| numbers.next());
    assert!(said.contains("the end of another greenlet"), "{said}");
    assert!(!numbers.is_finished());
}

/// One generator's value is yielded by a child of another's body. That child dead, its parent is not resumed.
#[test]
fn a_generator_whose_yielding_greenlet_has_ended_resumes_no_other_generator() {
    use std::{cell::RefCell, rc::Rc};
    use switchgrass::{Generator, Greenlet, generator::Yielder};
    let yielder: Rc<RefCell<Option<Yielder<u32>>>> = Rc::default();
    let child: Rc<RefCell<Option<Greenlet<(), ()>>>> = Rc::default();
    let (give, theirs) = (Rc::clone(&yielder), Rc::clone(&child));
    let mut first = Generator::new(move |y: Yielder<u32>| {
        give.replace(Some(y));
        let child = theirs.borrow().as_ref().unwrap().downgrade();
        let _ = child.try_switch(());
    });
    let (take, make) = (Rc::clone(&yielder), Rc::clone(&child));
    let mut second = Generator::new(move |y: Yielder<u32>| {
        let child = Greenlet::new(move |()| {
            let yielder = take.borrow().clone().unwrap();
            yielder.yield_(1);
        });
        make.replace(Some(child));
        y.yield_(10);
        y.yield_(11);
    });
    assert_eq!((second.next(), first.next()), (Some(10), Some(1)));
    drop(child.take());
    let said = crate::support::panic_message(|| first.next());
    assert!(said.contains("the greenlet that yielded its last value has ended"), "{said}");
    assert_eq!((second.next(), second.next()), (Some(11), None));
}
