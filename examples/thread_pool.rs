//! Fifty jobs that block, on ten threads, with a callback for each: the thread pool of the
//! well-known tutorial, with `run(func, callback)`, `close`, and the `join` that it lacks there.
//!
//! Type `cargo run --example thread_pool`, and see which job ran on which thread, that one has
//! failed and nobody else noticed, and how long it took.

use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};
use switchgrass::pool::{Panic, ThreadPool};
use switchgrass::{spawn, yield_now};

const JOBS: u32 = 50;
const THREADS: usize = 10;
const WORK: Duration = Duration::from_millis(10);

/// What a job does: blocks its thread, as a call into some old library would.
fn action(job: u32) -> (u32, ThreadId) {
    thread::sleep(WORK);
    if job == 13 {
        // As `panic!`, but that nothing is printed.
        std::panic::resume_unwind(Box::new("bad luck"));
    }
    (job, thread::current().id())
}

fn main() {
    let pool = ThreadPool::new(THREADS);
    println!("{} threads before the first job", pool.live());
    let results = Arc::new(Mutex::new(Vec::new()));
    let start = Instant::now();
    for job in 0..JOBS {
        let results = Arc::clone(&results);
        // Called on the thread of the job when that is done.
        let callback = move |result: Result<(u32, ThreadId), Panic>| {
            let text = match &result {
                Ok((job, id)) => format!("job {job} ran on {id:?}"),
                Err(payload) => format!("job {job} failed: {:?}", payload.downcast_ref::<&str>()),
            };
            println!("{text}");
            results.lock().unwrap().push(result.ok());
        };
        pool.run(move || action(job), callback).expect("the pool is open");
    }
    println!("{} threads, {} jobs", pool.live(), JOBS);

    pool.close();
    println!("closed: {}", pool.run(|| (), |_| ()).unwrap_err());
    // The other coroutines of this thread run while it waits.
    let other = spawn(|| {
        yield_now();
        "a coroutine has run meanwhile"
    });
    pool.join().expect("it is closed");
    println!("{}", other.join().expect("it does not fail"));

    let elapsed = start.elapsed();
    let results = results.lock().unwrap();
    let mut ids: Vec<_> = results.iter().flatten().map(|(_, id)| format!("{id:?}")).collect();
    let done = ids.len();
    ids.sort();
    ids.dedup();
    println!("{done} done, {} failed, on {} threads", results.len() - done, ids.len());
    let alone = WORK * JOBS;
    println!("{} ms; on one thread {} or more", elapsed.as_millis(), alone.as_millis());
}
