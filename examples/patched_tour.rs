//! What std blocks in, in coroutines of one thread: each part would hang or take its time, one after the
//! other, without `patch_all`.
//!
//! ```sh
//! cargo run --features monkey --example patched_tour
//! ```

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Barrier, Condvar, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};
use switchgrass::coroutine::join_all;
use switchgrass::{monkey, spawn};

const SHORT: Duration = Duration::from_millis(20);

fn main() {
    monkey::patch_all();
    let start = Instant::now();

    println!("-- a hundred sleep at once");
    let sleepers = join_all((0..100).map(|_| spawn(|| thread::sleep(SHORT))));
    println!("{} have slept", sleepers.len());

    println!("-- a mutex that is held across a sleep");
    let total = Arc::new(Mutex::new(Vec::new()));
    let holders = (1..=3).map(|number| {
        let total = Arc::clone(&total);
        spawn(move || {
            let mut total = total.lock().unwrap();
            thread::sleep(SHORT);
            total.push(number);
        })
    });
    join_all(holders.collect::<Vec<_>>());
    println!("{:?}", total.lock().unwrap());

    println!("-- a condition variable");
    let pair = Arc::new((Mutex::new(false), Condvar::new()));
    let theirs = Arc::clone(&pair);
    let waiter = spawn(move || {
        let (is_open, changed) = &*theirs;
        let guard = is_open.lock().unwrap();
        println!("the gate is shut");
        drop(changed.wait_while(guard, |is_open| !*is_open).unwrap());
        println!("the gate is open");
    });
    let opener = spawn(move || {
        println!("somebody opens it");
        *pair.0.lock().unwrap() = true;
        pair.1.notify_all();
    });
    join_all([waiter, opener]);

    println!("-- a channel of std's, from another thread");
    let (sender, receiver) = mpsc::sync_channel(1);
    let producer = thread::spawn(move || (1..=5).for_each(|number| sender.send(number).unwrap()));
    let consumer = spawn(move || println!("{:?}", receiver.iter().collect::<Vec<u32>>()));
    consumer.join().unwrap();
    producer.join().unwrap();

    println!("-- a barrier: nobody passes before the last has come");
    let barrier = Arc::new(Barrier::new(3));
    let all = (0..3).map(|_| {
        let barrier = Arc::clone(&barrier);
        spawn(move || barrier.wait().is_leader())
    });
    let leaders = join_all(all.collect::<Vec<_>>()).into_iter();
    println!("{} leader of 3", leaders.filter(|leads| matches!(leads, Ok(true))).count());

    println!("-- five children that sleep 0.2 s each");
    let begin = Instant::now();
    let children = (0..5).map(|number| {
        spawn(move || {
            let script = format!("sleep 0.2; echo child {number}");
            let output = Command::new("sh").args(["-c", &script]).output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        })
    });
    for said in join_all(children.collect::<Vec<_>>()) {
        print!("{}", said.unwrap());
    }
    eprintln!("(in {} ms)", begin.elapsed().as_millis());

    println!("-- park, and another thread that unparks");
    let here = thread::current();
    let is_time = Arc::new(AtomicBool::new(false));
    let theirs = Arc::clone(&is_time);
    let parked = spawn(move || {
        // All coroutines of a thread are unparked at once: each looks whether it is meant.
        while !is_time.load(SeqCst) {
            thread::park();
        }
        println!("unparked");
    });
    let meanwhile = spawn(|| println!("another runs meanwhile"));
    let there = thread::spawn(move || {
        thread::sleep(SHORT);
        theirs.store(true, SeqCst);
        here.unpark();
    });
    join_all([parked, meanwhile]);
    there.join().unwrap();

    println!("-- done");
    eprintln!("(all in {} ms)\n{}", start.elapsed().as_millis(), monkey::report());
}
