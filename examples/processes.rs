//! The tutorial's processes: they share nothing, unless it is an array in shared memory or a dictionary that a
//! manager keeps; and a pool of them makes calls.
//!
//! ```sh
//! cargo run --features process --example processes
//! ```
//!
//! Each part says what it does. Processes are made before the first thread, or by what was begun before it: the
//! manager and the pool are.

use std::time::Duration;
use switchgrass::process::{Builder, Dict, Manager, Process, ProcessPool, SharedArray};
use switchgrass::sleep;

fn square(n: u64) -> u64 {
    n * n
}

/// Counts the words of a text in a dictionary that several do this with.
fn count_words((counts, text): (Dict<String, u32>, String)) -> usize {
    let mut words = 0;
    for word in text.split_whitespace() {
        counts.update(word, |count| Some(count.unwrap_or(0) + 1)).unwrap();
        words += 1;
    }
    words
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("-- a Process, and what it ends with");
    let mut number = 1;
    let child = Process::spawn(|| {
        number += 6;
        number
    })?;
    println!("it ends with {:?}, and here is {number}, still", child.join()?.code());
    let sleeper =
        Builder::new().name("sleeper").daemon(true).spawn(|| sleep(Duration::from_secs(60)))?;
    println!("is alive: {}", sleeper.is_alive()?);
    sleeper.terminate()?;
    sleeper.join()?;
    println!("its exit code: {:?}", sleeper.exit_code()?);

    println!("-- an Array, which four processes add to");
    let array = SharedArray::<u64>::new(3)?;
    let children = [1, 2, 3, 4].map(|n| {
        let array = &array;
        Process::spawn(move || {
            for _ in 0..1000 {
                for element in array.lock().unwrap().iter() {
                    element.update(|sum| sum + n);
                }
            }
        })
    });
    for child in children {
        child?.join()?;
    }
    println!("{:?}", array.lock().unwrap().to_vec());

    println!("-- a Manager's dict, and a Pool");
    let (manager, pool) = (Manager::start()?, ProcessPool::new(2)?);
    println!("{:?}", pool.map(square, 1..=5)?);
    let job = pool.apply_async(|n: u64| 100 / n, 0);
    let told = job.then(|n| format!("the result is {n}"), |error| error.to_string());
    println!("the callback: {}", told.join().unwrap());
    let counts = manager.dict()?;
    let texts = ["a rose is a rose", "is a rose a rose"];
    let words = pool.map(count_words, texts.map(|text| (counts.clone(), text.to_owned())))?;
    let mut all = counts.items()?;
    all.sort();
    println!("{words:?} words: {all:?}");
    pool.close();
    pool.join()?;
    manager.shutdown()?;
    println!("the manager has ended: {}", counts.len().is_err());
    Ok(())
}
