//! Stacks: sizes, one's own, what lies on them.

use crate::support::{Log, pause};
use corosensei::stack::{DefaultStack, Stack, StackPointer};
use std::hint::black_box;
use switchgrass::stack::{self, StackError};
use switchgrass::{BuildError, Builder, Greenlet, current, greenlet};

#[test]
fn sizes_out_of_range_are_errors() {
    for size in [0, stack::MIN_SIZE - 1, stack::MAX_SIZE + 1, usize::MAX] {
        let error = Builder::new().stack_size(size).build(|()| ()).unwrap_err();
        assert!(matches!(error, BuildError::Stack(StackError::Size { asked }) if asked == size));
        assert!(error.to_string().contains(&size.to_string()), "{error}");
    }
    let smallest = Builder::new().stack_size(stack::MIN_SIZE).build(|()| 1).unwrap();
    assert_eq!(smallest.stack_size(), Some(stack::MIN_SIZE));
    assert_eq!(smallest.switch(()), 1);
    assert_eq!(smallest.stack_size(), None);
    let rounded = Builder::new().stack_size(100_001).build(|()| ()).unwrap();
    assert_eq!(rounded.stack_size().unwrap() % 4096, 0);
    assert!(rounded.stack_size().unwrap() >= 100_001);
    let default = Greenlet::new(|()| ());
    assert_eq!(default.stack_size(), Some(stack::DEFAULT_SIZE));
    let large = Builder::new().stack_size(64 << 20).build(use_stack).unwrap();
    assert_eq!(large.switch(20_000), 20_000);
    assert_eq!(current().stack_size(), None);
}

/// Uses a kibibyte a level, and returns the number of levels.
fn use_stack(levels: usize) -> usize {
    let frame = black_box([levels as u8; 1024]);
    if levels == 0 { 0 } else { use_stack(levels - 1) + 1 + usize::from(frame[0] != levels as u8) }
}

struct Own(DefaultStack, Log);

// SAFETY: both are those of a stack that keeps its promises.
unsafe impl Stack for Own {
    fn base(&self) -> StackPointer {
        self.0.base()
    }

    fn limit(&self) -> StackPointer {
        self.0.limit()
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // It is dropped on another stack, where a greenlet may be made and switched to.
        assert_eq!(Greenlet::new(|()| 5).switch(()), 5);
        self.1.add("stack dropped");
    }
}

#[test]
fn a_stack_of_ones_own() {
    let log = Log::new();
    let own = || Own(DefaultStack::new(128 * 1024).unwrap(), log.clone());
    let g = Builder::new().stack(own()).build(|()| pause()).unwrap();
    assert!(g.stack_size().unwrap() >= 128 * 1024);
    g.switch(());
    assert!(g.stack_high_water().unwrap() > 0);
    assert!(log.take().is_empty());
    g.switch(());
    assert_eq!(log.take(), ["stack dropped"]);
    drop(Builder::new().stack(own()).build(|()| ()).unwrap());
    assert_eq!(log.take(), ["stack dropped"]);
    let suspended = Builder::new().stack(own()).build(|()| pause()).unwrap();
    suspended.switch(());
    drop(suspended);
    assert_eq!(log.take(), ["stack dropped"]);
}

#[test]
fn a_body_lies_on_its_stack() {
    let log = Log::new();
    let (large, guard) = ([7_u8; 40_000], log.guard("captured dropped"));
    let g = Greenlet::new(move |index: usize| {
        let _guard = guard;
        large[index]
    });
    assert_eq!(g.switch(39_999), 7);
    assert_eq!(log.take(), ["captured dropped"]);
    let too_large = [0_u8; 100 * 1024];
    let error = Builder::new().build(move |()| too_large[0]).unwrap_err();
    assert!(
        matches!(error, BuildError::Body { bytes, stack } if bytes == 102_400 && stack == 262_144)
    );
    assert!(error.to_string().contains("box what it captures"));

    #[repr(align(4096))]
    struct Page([u8; 4096]);
    let page = Page([9; 4096]);
    let g = Greenlet::new(move |()| {
        let page = &page;
        (std::ptr::from_ref(page).addr() % 4096, page.0[4095])
    });
    assert_eq!(g.switch(()), (0, 9));
}

#[test]
fn how_much_did_it_really_use() {
    let used = |levels: usize| {
        let g = Builder::new()
            .clean_stack()
            .build(move |()| {
                use_stack(levels);
                pause();
            })
            .unwrap();
        g.switch(());
        g.stack_high_water().unwrap()
    };
    let (little, much) = (used(5), used(100));
    assert!((5 * 1024..60 * 1024).contains(&little), "{little}");
    assert!((100 * 1024..=stack::DEFAULT_SIZE).contains(&much), "{much}");
    // The same stack again, and clean.
    assert!(used(5) < 60 * 1024);
    assert_eq!(current().stack_high_water(), None);
    let inside = Greenlet::new(|()| current().stack_high_water());
    assert!(inside.switch(()).unwrap() > 0);
    assert_eq!(inside.stack_high_water(), None);
}

/// Three hundred at once, each with data of its own all over its stack.
#[test]
fn stacks_are_apart() {
    fn fill(byte: u8, levels: usize) -> bool {
        let frame = black_box([byte; 1024]);
        let below = if levels == 0 {
            pause();
            true
        } else {
            fill(byte, levels - 1)
        };
        below && black_box(&frame).iter().all(|b| *b == byte)
    }
    let all: Vec<Greenlet<(), bool>> = (0..300)
        .map(|number| {
            let size = [stack::MIN_SIZE * 4, stack::DEFAULT_SIZE, 400_000][number % 3];
            Builder::new().stack_size(size).build(move |()| fill(number as u8, 20)).unwrap()
        })
        .collect();
    let untyped: Vec<_> = all.into_iter().map(|g| g.erase()).collect();
    untyped.iter().for_each(|g| g.switch_any::<(), ()>(()));
    greenlet::trim_stacks();
    assert!(untyped.iter().rev().all(|g| g.switch_any::<(), bool>(())));
}

#[test]
fn trimmed_stacks_are_used_again() {
    for _ in 0..3 {
        let all: Vec<_> = (0..50).map(|_| Greenlet::new(use_stack)).collect();
        all.iter().for_each(|g| assert_eq!(g.switch(20), 20));
        drop(all);
        greenlet::trim_stacks();
    }
    // One of the two, and the same always.
    assert_eq!(stack::guards_are_cheap(), stack::guards_are_cheap());
    let builder = Builder::new().name("x");
    assert!(format!("{builder:?}").starts_with(r#"Builder { name: Some("x"), stack_size: 262144"#));
}
