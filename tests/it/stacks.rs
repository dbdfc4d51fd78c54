//! Stacks: sizes, one's own, what lies on them.

use crate::support::{Log, pause};
use corosensei::stack::{DefaultStack, Stack, StackPointer};
use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc;
use std::thread;
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

/// However the greenlet ends, and whatever is not made of it.
#[test]
fn a_stack_of_ones_own_is_dropped_once() {
    let log = Log::new();
    let own = || Builder::new().stack(Own(DefaultStack::new(128 * 1024).unwrap(), log.clone()));
    let panics = own().build(|()| -> () { resume_unwind(Box::new(1)) }).unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| panics.switch(()))).is_err());
    assert_eq!(log.take(), ["stack dropped"]);
    let unstarted = own().build(|()| ()).unwrap();
    assert!(unstarted.throw(switchgrass::GreenletExit).is_err());
    assert_eq!(log.take(), ["stack dropped"]);
    drop(own());
    assert_eq!(log.take(), ["stack dropped"]);
    let (large, guard) = ([0_u8; 100 * 1024], log.guard("captured dropped"));
    let error = own().build(move |()| (large[0], drop(guard))).unwrap_err();
    assert!(matches!(error, BuildError::Body { .. }));
    let mut dropped = log.take();
    dropped.sort();
    assert_eq!(dropped, ["captured dropped", "stack dropped"]);
    assert_eq!(greenlet::live_count(), 0);
}

struct Sends(DefaultStack, mpsc::Sender<thread::ThreadId>);

// SAFETY: both are those of a stack that keeps its promises.
unsafe impl Stack for Sends {
    fn base(&self) -> StackPointer {
        self.0.base()
    }

    fn limit(&self) -> StackPointer {
        self.0.limit()
    }
}

impl Drop for Sends {
    fn drop(&mut self) {
        self.1.send(thread::current().id()).unwrap();
    }
}

#[test]
fn a_stack_of_ones_own_at_a_threads_end() {
    let (sender, receiver) = mpsc::channel();
    let thread = thread::spawn(move || {
        let stack = || Sends(DefaultStack::new(64 * 1024).unwrap(), sender.clone());
        let suspended = Builder::new().stack(stack()).build(|()| pause()).unwrap();
        suspended.switch(());
        let unstarted = Builder::new().stack(stack()).build(|()| ()).unwrap();
        std::mem::forget((suspended, unstarted));
    });
    let id = thread.thread().id();
    thread.join().unwrap();
    assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [id, id]);
}

/// Says where it was when it was dropped: zero if that was as its alignment demands.
struct Placed<T>(T, Log);

impl<T> Drop for Placed<T> {
    fn drop(&mut self) {
        let place = std::ptr::from_ref(self);
        // Opaque: the compiler would take a reference's word for it.
        self.1.add(black_box(place).addr() % align_of::<T>());
    }
}

/// Captured values of every alignment are where they must be, and are dropped once: whether the body
/// begins or not, and whether it is built or not. Those of one that never begins are dropped where the
/// library has put them.
#[test]
fn over_aligned_captures() {
    fn check<T: 'static>(aligned: impl Fn() -> T) {
        let log = Log::new();
        let capture = || Placed(aligned(), log.clone());
        let (begins, never) = (capture(), capture());
        Greenlet::new(move |()| drop(begins)).switch(());
        assert_eq!(log.take(), ["0"], "{}", align_of::<T>());
        drop(Greenlet::new(move |()| drop(never)));
        assert_eq!(log.take(), ["0"], "{}", align_of::<T>());
        let (refused, small) = (capture(), Builder::new().stack_size(stack::MIN_SIZE));
        let built = small.build(move |()| drop(refused));
        assert_eq!(built.is_ok(), size_of::<Placed<T>>() <= stack::MIN_SIZE / 4);
        drop(built);
        assert_eq!(log.take(), ["0"], "{}", align_of::<T>());
    }
    #[repr(align(64))]
    struct Align64;
    #[repr(align(2048))]
    struct Align2048;
    #[repr(align(4096))]
    struct Align4096 {
        _bytes: [u8; 10_000],
    }
    #[repr(align(16384))]
    struct Align16384;
    check(|| Align64);
    check(|| Align2048);
    check(|| Align4096 { _bytes: [1; 10_000] });
    check(|| Align16384);
}

#[test]
fn a_builder_shows_what_it_was_told() {
    assert_eq!(
        format!("{:?}", Builder::new()),
        "Builder { name: None, stack_size: 262144, own_stack: false, parent: None, .. }"
    );
    let parent = Builder::new().name("above").build(|()| ()).unwrap();
    let own = DefaultStack::new(64 * 1024).unwrap();
    let builder = Builder::new().name("x").stack_size(100_001).stack(own).parent(&parent);
    assert_eq!(
        format!("{builder:?}"),
        r#"Builder { name: Some("x"), stack_size: 100001, own_stack: true, parent: Some(Greenlet("above", unstarted)), .. }"#
    );
    let child = builder.build(|()| ()).unwrap();
    assert_eq!(child.parent().unwrap(), parent);
}
