//! A scheduler of one's own on greenlets: a queue of who is ready, `spawn`, `yield_now`, `join`.
//!
//! Type `cargo run --release --example embed`, and see three tasks take turns, the sum of their results,
//! and what a turn costs.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::thread;
use std::time::Instant;
use switchgrass::{Builder, Greenlet, current};

thread_local! {
    /// Who is ready, in order. Tasks switch to each other; main only begins and ends them.
    static READY: RefCell<VecDeque<Greenlet>> = RefCell::default();
}

struct Slot<T> {
    result: Cell<Option<thread::Result<T>>>,
    joiner: Cell<Option<Greenlet>>,
}

struct JoinHandle<T>(Rc<Slot<T>>);

fn ready(task: Greenlet) {
    READY.with_borrow_mut(|ready| ready.push_back(task));
}

fn me() -> Greenlet {
    current().to_types().and_then(|me| me.upgrade()).expect("called in a task")
}

fn spawn<T: 'static>(body: impl FnOnce() -> T + 'static) -> JoinHandle<T> {
    let slot = Rc::new(Slot { result: Cell::new(None), joiner: Cell::new(None) });
    let theirs = Rc::clone(&slot);
    let task = move |()| {
        theirs.result.set(Some(catch_unwind(AssertUnwindSafe(body))));
        theirs.joiner.take().into_iter().for_each(ready);
    };
    // Every task is a child of main, so whoever ends goes on with `run`.
    let main = current().parent().unwrap_or_else(current);
    ready(Builder::new().parent(&main).build(task).expect("a stack"));
    JoinHandle(slot)
}

/// Lets the next one run. Returns when the caller's turn has come, who is in the queue or will be.
fn suspend() {
    match READY.with_borrow_mut(VecDeque::pop_front) {
        Some(next) => next.switch(()),
        None => current().parent().expect("called in a task").switch_any(()),
    }
}

fn yield_now() {
    ready(me());
    suspend();
}

impl<T> JoinHandle<T> {
    fn join(self) -> thread::Result<T> {
        loop {
            if let Some(result) = self.0.result.take() {
                return result;
            }
            self.0.joiner.set(Some(me()));
            suspend();
        }
    }
}

/// Runs tasks until nobody is ready: `None` if the first then waits for ever.
fn run<T: 'static>(first: impl FnOnce() -> T + 'static) -> Option<thread::Result<T>> {
    let JoinHandle(first) = spawn(first);
    while let Some(task) = READY.with_borrow_mut(VecDeque::pop_front) {
        task.switch(());
    }
    first.result.take()
}

fn main() {
    fn count(name: &str, to: u32) -> u32 {
        for turn in 1..=to {
            println!("{name}{turn}");
            yield_now();
        }
        to
    }
    let sum = run(|| {
        let tasks = [("a", 2), ("b", 3), ("c", 1)].map(|(name, to)| spawn(move || count(name, to)));
        tasks.into_iter().map(|task| task.join().expect("no panic")).sum::<u32>()
    });
    println!("sum: {}", sum.expect("no deadlock").expect("no panic"));

    const TURNS: u32 = 1_000_000;
    let start = Instant::now();
    run(|| [(); 2].map(|()| spawn(|| (0..TURNS / 2).for_each(|_| yield_now()))));
    println!("{} ns a turn", start.elapsed().as_nanos() / u128::from(TURNS));
}
