//! What a switch, a ring of them, a deep one and a whole life cost, beside the peers, in one run.
//!
//! `cargo bench --bench switch`; `benches/README.md` says how to read it.

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult, Yielder};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, criterion_group, criterion_main};
use std::cell::{Cell, RefCell};
use std::hint::black_box;
use std::rc::Rc;
use std::time::{Duration, Instant};
use switchgrass::{Greenlet, WeakGreenlet, current};

/// The machine layer itself, from the same source: the floor of what a switch can cost.
#[path = "../src/arch/mod.rs"]
#[allow(dead_code, unused_imports, reason = "a part of the crate, of which one function is used")]
mod arch;

/// Has criterion report the time of one operation, of which `batch` does two.
fn one_way(group: &mut BenchmarkGroup<'_, WallTime>, id: &str, mut batch: impl FnMut()) {
    group.bench_function(id, |bencher| {
        bencher.iter_custom(|iterations| {
            let rounds = iterations.div_ceil(2);
            let start = Instant::now();
            for _ in 0..rounds {
                batch();
            }
            start.elapsed().mul_f64(iterations as f64 / (2 * rounds) as f64)
        });
    });
}

mod floor {
    use crate::arch::{Context, Word, switch};
    use std::cell::Cell;
    use std::ptr;

    thread_local! {
        static PAIR: Cell<[*const Context; 2]> = const { Cell::new([ptr::null(); 2]) };
    }

    unsafe extern "C" fn back_and_forth(_: Word, _: usize) -> ! {
        // SAFETY: `run` has stored two contexts that live for ever, and has just switched from the
        // first to the second.
        unsafe {
            let [home, here] = PAIR.get();
            loop {
                switch(&*here, &*home, Word::uninit(), 0);
            }
        }
    }

    /// A function that switches there and back.
    pub(crate) fn round_trip() -> impl FnMut() {
        let home: &'static Context = Box::leak(Box::new(Context::new()));
        let there: &'static Context = Box::leak(Box::new(Context::new()));
        let stack: &'static mut [u128] = Box::leak(vec![0; 4096].into_boxed_slice());
        let range = stack.as_mut_ptr_range();
        // SAFETY: leaked memory of 64 KiB, aligned to 16, and nobody else's.
        unsafe { there.prepare(range.end.cast(), range.start.cast(), back_and_forth) };
        PAIR.set([home, there]);
        // SAFETY: `home` is the running computation's, `there` is fresh or suspended.
        move || unsafe {
            switch(home, there, Word::uninit(), 0);
        }
    }
}

fn switch(c: &mut Criterion) {
    let mut group = c.benchmark_group("switch");
    one_way(&mut group, "floor", floor::round_trip());

    // Main has no typed handle, so two greenlets switch to each other, and the pair to main in the end.
    for_a_pair(&mut group, "switchgrass_unit", (), |()| ());
    for_a_pair(&mut group, "switchgrass_u64", 0_u64, |number| number.wrapping_add(1));

    let mut suspended = Coroutine::new(|yielder: &Yielder<(), ()>, ()| -> () {
        loop {
            yielder.suspend(());
        }
    });
    one_way(&mut group, "corosensei_one_way", || {
        suspended.resume(());
    });
    let mut number = 0_u64;
    let mut counter = Coroutine::new(|yielder: &Yielder<u64, u64>, mut number| -> () {
        loop {
            number = yielder.suspend(number.wrapping_add(1));
        }
    });
    one_way(&mut group, "corosensei_one_way_u64", || match counter.resume(number) {
        CoroutineResult::Yield(next) => number = next.wrapping_add(1),
        CoroutineResult::Return(()) => unreachable!(),
    });
    let new = || {
        Coroutine::new(|yielder: &Yielder<(), ()>, ()| -> () {
            loop {
                yielder.suspend(());
            }
        })
    };
    let (mut a, mut b) = (new(), new());
    one_way(&mut group, "corosensei_handoff", || {
        a.resume(());
        b.resume(());
    });
    let mut generator = generator::Gn::<()>::new_scoped(|mut scope| {
        loop {
            scope.yield_(());
        }
    });
    one_way(&mut group, "generator_one_way", || {
        generator.next();
    });
    group.finish();
    // Their bodies never end.
    for coroutine in [suspended, a, b] {
        std::mem::forget(coroutine);
    }
    std::mem::forget((counter, generator));
}

/// Two greenlets that send each other `step` of what they are sent.
fn for_a_pair<T: Copy + 'static>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    id: &str,
    first: T,
    step: impl Fn(T) -> T + Copy + 'static,
) {
    group.bench_function(id, |bencher| {
        bencher.iter_custom(|iterations| {
            let rounds = iterations.div_ceil(2);
            let elapsed = Rc::new(Cell::new(Duration::ZERO));
            let result = Rc::clone(&elapsed);
            let ping = switchgrass::pair(
                move |pong: Greenlet<T, T>, mut value: T| {
                    value = pong.switch(value);
                    let start = Instant::now();
                    for _ in 0..rounds {
                        value = pong.switch(step(value));
                    }
                    result.set(start.elapsed());
                    value
                },
                move |ping, mut value| -> T {
                    loop {
                        value = ping.switch(step(value));
                    }
                },
            );
            black_box(ping.switch(first));
            elapsed.get().mul_f64(iterations as f64 / (2 * rounds) as f64)
        });
    });
}

/// N greenlets, each of which switches to the next, the last to the first.
fn ring(c: &mut Criterion) {
    let mut group = c.benchmark_group("ring");
    for size in [2, 10, 100, 1_000, 10_000, 100_000] {
        let ring = Ring::new(size);
        group.bench_function(BenchmarkId::new("switchgrass", size), |bencher| {
            bencher.iter_custom(|hops| ring.turn(hops));
        });
        drop(ring);
        // Each of its stacks costs two mappings, of which a process may have some 65,000.
        let stacks: Result<Vec<_>, _> = (0..size).map(|_| DefaultStack::new(64 * 1024)).collect();
        let Ok(stacks) = stacks else {
            eprintln!("ring/corosensei/{size}: so many stacks are beyond vm.max_map_count");
            continue;
        };
        let body = |yielder: &Yielder<(), ()>, ()| -> () {
            loop {
                yielder.suspend(());
            }
        };
        let mut all: Vec<_> =
            stacks.into_iter().map(|stack| Coroutine::with_stack(stack, body)).collect();
        let mut next = 0;
        group.bench_function(BenchmarkId::new("corosensei", size), |bencher| {
            bencher.iter_custom(|hops| {
                let start = Instant::now();
                for _ in 0..hops {
                    all[next].resume(());
                    next = if next + 1 == size { 0 } else { next + 1 };
                }
                start.elapsed()
            });
        });
    }
    group.finish();
}

struct Ring {
    first: Greenlet<(), ()>,
    _rest: Vec<Greenlet<(), ()>>,
    hops: Rc<Cell<u64>>,
}

impl Ring {
    fn new(size: usize) -> Self {
        let hops = Rc::new(Cell::new(0_u64));
        let links: Rc<RefCell<Vec<WeakGreenlet<(), ()>>>> = Rc::default();
        let body = |index: usize| {
            let (links, hops) = (Rc::clone(&links), Rc::clone(&hops));
            move |()| {
                let next = links.borrow()[(index + 1) % size].clone();
                let main = current().parent().expect("made by main");
                loop {
                    let left = hops.get();
                    if left == 0 {
                        main.switch_any::<(), ()>(());
                    } else {
                        hops.set(left - 1);
                        next.switch(());
                    }
                }
            }
        };
        let all: Vec<Greenlet<(), ()>> =
            (0..size).map(|index| Greenlet::new(body(index))).collect();
        links.borrow_mut().extend(all.iter().map(|greenlet| greenlet.downgrade()));
        let mut rest = all.into_iter();
        let first = rest.next().expect("at least one");
        Ring { first, _rest: rest.collect(), hops }
    }

    fn turn(&self, hops: u64) -> Duration {
        self.hops.set(hops);
        let start = Instant::now();
        self.first.switch(());
        start.elapsed()
    }
}

/// Switches from `D` frames below the body, back up and down again for each. With the same code on both
/// sides, each return goes where the processor thinks; with different code, none does.
fn depth(c: &mut Criterion) {
    macro_rules! descent {
        ($descend:ident, $rounds:ident, $number:ty) => {
            #[inline(never)]
            fn $descend(depth: u32, peer: &WeakGreenlet<(), ()>) -> $number {
                if depth == 0 {
                    peer.switch(());
                    0
                } else {
                    $descend(black_box(depth - 1), peer) + 1
                }
            }
            #[inline(never)]
            fn $rounds(depth: u32, peer: &WeakGreenlet<(), ()>, rounds: u64) {
                for _ in 0..rounds {
                    black_box($descend(depth, peer));
                }
            }
        };
    }
    descent!(descend, rounds_of_one, u32);
    descent!(descend_otherwise, rounds_of_another, u64);
    let mut group = c.benchmark_group("depth");
    for depth in [0, 2, 4, 8] {
        for (id, same) in [("switchgrass_same", true), ("switchgrass_different", false)] {
            group.bench_function(BenchmarkId::new(id, depth), |bencher| {
                bencher.iter_custom(|iterations| {
                    let rounds = iterations.div_ceil(2);
                    let elapsed = Rc::new(Cell::new(Duration::ZERO));
                    let result = Rc::clone(&elapsed);
                    let ping = switchgrass::pair(
                        move |pong: Greenlet<(), ()>, ()| {
                            let start = Instant::now();
                            rounds_of_one(depth, &pong, rounds);
                            result.set(start.elapsed());
                        },
                        move |ping: WeakGreenlet<(), ()>, ()| {
                            if same {
                                rounds_of_one(depth, &ping, u64::MAX);
                            } else {
                                rounds_of_another(depth, &ping, u64::MAX);
                            }
                        },
                    );
                    ping.switch(());
                    elapsed.get().mul_f64(iterations as f64 / (2 * rounds) as f64)
                });
            });
        }
    }
    group.finish();
}

/// Create, run, finish.
fn spawn(c: &mut Criterion) {
    let mut group = c.benchmark_group("spawn");
    group.bench_function("switchgrass_pooled", |bencher| {
        bencher.iter(|| Greenlet::new(|number: usize| number).switch(black_box(1)));
    });
    group.bench_function("corosensei_reused_stack", |bencher| {
        let mut stack = DefaultStack::default();
        bencher.iter(|| {
            let coroutine = corosensei::ScopedCoroutine::<usize, (), usize, _>::with_stack(
                &mut stack,
                |_, number| number,
            );
            coroutine.scope(|mut coroutine| coroutine.resume(black_box(1)).as_return());
        });
    });
    group.bench_function("corosensei_fresh_stack", |bencher| {
        bencher.iter(|| {
            Coroutine::<usize, (), usize>::new(|_, number| number).resume(black_box(1)).as_return()
        });
    });
    group.bench_function("generator_fresh", |bencher| {
        bencher.iter(|| {
            let mut generator = generator::Gn::<usize>::new_scoped(|mut scope| {
                black_box(scope.get_yield());
                1_usize
            });
            generator.send(black_box(1))
        });
    });
    group.finish();
}

fn quick() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(50)
}

criterion_group!(name = all; config = quick(); targets = switch, ring, depth, spawn);
criterion_main!(all);
