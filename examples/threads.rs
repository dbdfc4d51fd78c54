//! The tutorial's threads: they are joined, or left to themselves as daemons; they share a lock that may be
//! taken again by who has it, an event that several wait for, and a queue.
//!
//! ```sh
//! cargo run --example threads
//! ```
//!
//! Each part says what it does. The last line comes after main has returned: the process waits for the thread
//! that prints it, and not for the daemon, which would sleep for an hour.

use std::sync::{Arc, Mutex};
use std::time::Duration;
use switchgrass::sync::{Event, Queue, RLock, Shared};
use switchgrass::thread::{Builder, spawn};

/// Takes the lock at every step, though the step before still has it.
fn climb(lock: &RLock<Shared>, deepest: &Mutex<usize>, steps: u32) {
    let _guard = lock.lock();
    match steps {
        0 => *deepest.lock().unwrap() = lock.depth(),
        _ => climb(lock, deepest, steps - 1),
    }
}

fn main() {
    println!("-- threads with results");
    let squares = [1, 2, 3].map(|n| spawn(move || n * n));
    println!("{:?}", squares.map(|thread| thread.join().unwrap()));
    let error = spawn(|| std::panic::resume_unwind(Box::new("bad luck"))).join().unwrap_err();
    println!("one has failed: {:?}", error.downcast_ref::<&str>());

    println!("-- an RLock, taken again by who has it");
    let (lock, deepest) = (Arc::new(RLock::shared()), Arc::new(Mutex::new(0)));
    let climbers = [(); 2].map(|()| {
        let (lock, deepest) = (Arc::clone(&lock), Arc::clone(&deepest));
        spawn(move || climb(&lock, &deepest, 4))
    });
    climbers.into_iter().for_each(|thread| thread.join().unwrap());
    println!("{} times by one thread, and now {}", deepest.lock().unwrap(), lock.depth());
    let guard = lock.lock();
    let other = Arc::clone(&lock);
    let is_free = spawn(move || other.try_lock().is_some()).join().unwrap();
    println!("another thread gets it meanwhile: {is_free}");
    drop(guard);

    println!("-- an Event, which three threads wait for");
    let event = Arc::new(Event::shared());
    let waiters = [1, 2, 3].map(|number| {
        let event = Arc::clone(&event);
        spawn(move || {
            event.wait();
            format!("waiter {number} goes on")
        })
    });
    let gone_on = waiters.iter().filter(|waiter| waiter.is_finished()).count();
    println!("{gone_on} go on before it is set");
    event.set();
    waiters.into_iter().for_each(|waiter| println!("{}", waiter.join().unwrap()));

    println!("-- a Queue, one thread puts, two get");
    let numbers = Arc::new(Queue::shared_bounded(4));
    let getters = [(); 2].map(|()| {
        let numbers = Arc::clone(&numbers);
        spawn(move || (&*numbers).into_iter().sum::<u32>())
    });
    let putter = Arc::clone(&numbers);
    spawn(move || (1..=100).for_each(|number| putter.put(number).unwrap())).join().unwrap();
    numbers.shut_down();
    println!("{}", getters.map(|thread| thread.join().unwrap()).iter().sum::<u32>());

    println!("-- the end");
    let daemon = Builder::new().name("daemon").daemon(true);
    daemon.spawn(|| std::thread::sleep(Duration::from_secs(3600))).unwrap();
    let is_over = Arc::new(Event::shared());
    let end = Arc::clone(&is_over);
    spawn(move || {
        end.wait();
        println!("a thread that is no daemon ends after main");
    });
    println!("main returns");
    is_over.set();
}
