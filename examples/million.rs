//! A million suspended greenlets with guard pages, made as by default.
//!
//! Type `cargo run --release --example million` (another number as an argument), and see what each
//! takes: resident memory, page tables, mappings, time. It wants some 6 GB. Where the kernel gives no
//! more stacks, it says which limit that was, and goes on with those that there are.

use std::env;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use switchgrass::stack::guards_are_cheap;
use switchgrass::{BuildError, Builder, Greenlet, current};

/// Sends its number to its parent, and returns the next with what it is sent.
fn make(number: u64) -> Result<Greenlet<u64>, BuildError> {
    Builder::new().build(move |first: u64| {
        let main = current().parent().expect("made in main");
        let second: u64 = main.switch_any(number + first);
        number + second
    })
}

/// A number of kilobytes from the process's status, in bytes.
fn status(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kilobytes.map_or(0, |kilobytes| kilobytes * 1024)
}

/// Line by line, since near the limit there is no memory for all of them.
fn mappings() -> usize {
    File::open("/proc/self/maps").map_or(0, |maps| BufReader::new(maps).lines().count())
}

fn main() -> ExitCode {
    let argument = env::args().nth(1).map(|argument| argument.replace('_', "").parse::<usize>());
    let Ok(wanted) = argument.unwrap_or(Ok(1_000_000)) else {
        eprintln!("usage: million [NUMBER OF GREENLETS]");
        return ExitCode::from(2);
    };
    let mut all: Vec<Greenlet<u64>> = Vec::with_capacity(wanted);
    let (resident, tables, mapped) = (status("VmRSS"), status("VmPTE"), mappings());

    let start = Instant::now();
    let mut code = ExitCode::SUCCESS;
    for number in 0..wanted as u64 {
        match make(number) {
            Ok(greenlet) => all.push(greenlet),
            Err(error) => {
                eprintln!("there were to be {wanted}, but: {error}");
                code = ExitCode::FAILURE;
                break;
            }
        }
    }
    let made = start.elapsed();
    let start = Instant::now();
    let sum: u64 = all.iter().map(|greenlet| greenlet.switch(1)).sum();
    let begun = start.elapsed();

    let count = all.len() as u64;
    let numbers = count * count.saturating_sub(1) / 2;
    assert_eq!(sum, numbers + count);
    let each = |bytes: u64| bytes / count.max(1);
    println!("{count} suspended greenlets, guards are cheap: {}", guards_are_cheap());
    println!("{} bytes resident each", each(status("VmRSS") - resident));
    println!("{} bytes of page tables each", each(status("VmPTE") - tables));
    println!("{} mappings more than before", mappings() - mapped);

    let start = Instant::now();
    let sum: u64 = all.iter().map(|greenlet| greenlet.switch(2)).sum();
    let finished = start.elapsed();
    assert_eq!(sum, numbers + 2 * count);
    assert!(all.iter().all(|greenlet| greenlet.is_dead()));
    println!("every one resumed and finished, and the sums are right");
    let nanoseconds = |time: Duration| time.as_nanos() / u128::from(count.max(1));
    let (made, begun, finished) = (nanoseconds(made), nanoseconds(begun), nanoseconds(finished));
    println!("made in {made} ns each, begun in {begun} ns, finished in {finished} ns");
    code
}
