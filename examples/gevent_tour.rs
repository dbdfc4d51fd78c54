//! What gevent's tutorial shows, in its order: spawn and join, taking turns, events, time limits,
//! kill; and what happens when all wait for each other.
//!
//! Type `cargo run --example gevent_tour`, and see what each part says that it shows.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;
use switchgrass::sync::Event;
use switchgrass::{JoinError, coroutine, sleep, spawn, timeout, yield_now};

const LONG: Duration = Duration::from_secs(60);

/// Prints when it is dropped, however its coroutine ends.
struct Goodbye;

impl Drop for Goodbye {
    fn drop(&mut self) {
        println!("killed: its destructors have run");
    }
}

fn main() {
    println!("-- spawn, join_all");
    let squares = coroutine::join_all((1..=3).map(|n| spawn(move || n * n)));
    println!("{:?}", squares.into_iter().map(Result::unwrap).collect::<Vec<u32>>());

    println!("-- two that take turns");
    let first = spawn(|| {
        println!("running in foo");
        sleep(Duration::ZERO);
        println!("back in foo again");
    });
    let second = spawn(|| {
        println!("explicit context to bar");
        yield_now();
        println!("implicit switch back to bar");
    });
    coroutine::join_all([first, second]);

    println!("-- one sets an event, two wait for it");
    let event = Rc::new(Event::new());
    let mut all: Vec<_> = (1..=2)
        .map(|number| {
            let event = Rc::clone(&event);
            spawn(move || {
                event.wait();
                println!("waiter {number} goes on");
            })
        })
        .collect();
    all.push(spawn(move || {
        println!("the setter sets it");
        event.set();
    }));
    coroutine::join_all(all);

    println!("-- a time limit");
    match timeout(Duration::from_millis(10), || sleep(LONG)) {
        Ok(()) => println!("a minute has passed"),
        Err(elapsed) => println!("{elapsed}"),
    }

    println!("-- kill");
    let endless = spawn(|| {
        let _goodbye = Goodbye;
        sleep(LONG);
    });
    yield_now();
    endless.kill();
    println!("its result: {:?}", endless.join());
    let failing = spawn(|| std::panic::resume_unwind(Box::new("of its own")));
    if let Err(JoinError::Panicked(payload)) = failing.join() {
        println!("another has failed: {:?}", payload.downcast_ref::<&str>());
    }

    println!("-- a deadlock");
    let never = Rc::new(Event::new());
    let waiter = coroutine::Builder::new().name("waiter").spawn(move || never.wait());
    let result = catch_unwind(AssertUnwindSafe(|| waiter.expect("a stack").join()));
    let report = result.expect_err("it is not set").downcast::<String>().expect("a message");
    println!("{report}");
}
