//! Producers and consumers with a bounded queue between them.
//!
//! Type `cargo run --example producer_consumer`, and see two producers that wait while the queue is
//! full, three consumers that wait while it is empty, and that all of the work is done at the end.

use std::rc::Rc;
use std::time::Duration;
use switchgrass::sync::Queue;
use switchgrass::{sleep, spawn};

const ROOM: usize = 2;

type Jobs = Rc<Queue<(&'static str, u32)>>;

fn produce(name: &'static str, jobs: &Jobs) {
    for number in 1..=4 {
        let waits = if jobs.is_full() { ", when there is room" } else { "" };
        println!("{name} puts {number}{waits}");
        jobs.put((name, number)).expect("nobody has shut it down");
    }
}

/// Works jobs off until there will be no more, and returns how many it has had.
fn consume(name: &str, jobs: &Jobs) -> usize {
    let mut count = 0;
    while let Ok((producer, number)) = jobs.get() {
        println!("  {name} works on {producer} {number}");
        sleep(Duration::from_millis(5));
        count += 1;
        jobs.task_done().expect("once for each that was got");
    }
    count
}

fn main() {
    let jobs: Jobs = Rc::new(Queue::bounded(ROOM));
    let consumers = ["x", "y", "z"].map(|name| {
        let jobs = Rc::clone(&jobs);
        spawn(move || consume(name, &jobs))
    });
    let producers = ["a", "b"].map(|name| {
        let jobs = Rc::clone(&jobs);
        spawn(move || produce(name, &jobs))
    });
    for producer in producers {
        producer.join().expect("it does not fail");
    }
    println!("all is put, {} not done", jobs.unfinished());
    jobs.join();
    println!("all is done");
    // The consumers wait for more: tell them that there is none.
    jobs.shut_down();
    let counts = consumers.map(|consumer| consumer.join().expect("it does not fail"));
    println!("{} jobs, {} consumers at work", counts.iter().sum::<usize>(), counts.len());
}
