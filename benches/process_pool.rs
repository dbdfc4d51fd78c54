//! `ProcessPool` beside `multiprocessing.Pool` of CPython, the same jobs, in turns: see `benches/README.md`.
//!
//! A program of its own, since a harness has threads, and a process with threads is not forked.

use serde_bytes::ByteBuf;
use std::env;
use std::process::Command;
use std::time::Instant;
use switchgrass::process::ProcessPool;

const WORKERS: usize = 2;
const ROUNDS: usize = 7;

/// The jobs, by the names that `process_pool.py` has for them, and how many.
const KINDS: [(&str, u64); 4] =
    [("apply", 3_000), ("apply_async", 10_000), ("map", 200_000), ("map_bytes", 400)];

fn square(n: u64) -> u64 {
    n * n
}

/// A hundred kilobytes there and back.
fn reverse(mut bytes: ByteBuf) -> ByteBuf {
    bytes.reverse();
    bytes
}

/// Seconds that so many jobs of a kind take.
fn measure(pool: &ProcessPool, kind: &str, count: u64) -> f64 {
    let bytes = ByteBuf::from(vec![7; 100_000]);
    let start = Instant::now();
    match kind {
        "apply" => {
            for n in 0..count {
                assert_eq!(pool.apply(square, n).unwrap(), n * n);
            }
        }
        "apply_async" => {
            let jobs: Vec<_> = (0..count).map(|n| pool.apply_async(square, n)).collect();
            for (n, job) in jobs.into_iter().enumerate() {
                assert_eq!(job.join().unwrap(), (n * n) as u64);
            }
        }
        "map" => {
            let squares = pool.map(square, 0..count).unwrap();
            assert_eq!(squares.len() as u64, count);
        }
        "map_bytes" => {
            let all = pool.map(reverse, (0..count).map(|_| bytes.clone())).unwrap();
            assert_eq!(all.len() as u64, count);
        }
        other => unreachable!("{other}"),
    }
    start.elapsed().as_secs_f64()
}

/// The same by CPython. `None` where there is none.
fn measure_python(kind: &str, count: u64) -> Option<f64> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/process_pool.py");
    let arguments = [script, &WORKERS.to_string(), kind, &count.to_string()];
    let output = Command::new("python3").args(arguments).output().ok()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().parse().ok()
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

fn main() {
    // `cargo test --benches` and the like only want to know whether it runs.
    let rounds = if env::args().any(|argument| argument == "--bench") { ROUNDS } else { 1 };
    let pool = ProcessPool::new(WORKERS).expect("a program without threads can fork");
    println!("| jobs, {WORKERS} workers | jobs a second | CPython's | ratio |");
    println!("|---|---:|---:|---:|");
    for (kind, count) in KINDS {
        let count = if rounds == 1 { count / 100 } else { count };
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            ours.push(count as f64 / measure(&pool, kind, count));
            theirs.extend(measure_python(kind, count).map(|seconds| count as f64 / seconds));
        }
        let ours = median(ours);
        match theirs.is_empty() {
            true => println!("| {kind} | {ours:.0} | not measured: there is no python3 | |"),
            false => {
                let theirs = median(theirs);
                println!("| {kind} | {ours:.0} | {theirs:.0} | {:.1} |", ours / theirs);
            }
        }
    }
    pool.close();
    pool.join().expect("it is closed");
}
