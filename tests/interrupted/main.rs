//! Signals interrupt patched calls as they interrupt the kernel's: each situation in processes of its own, on a
//! plain thread, in main beside coroutines, and in coroutines; what it says must be the same.

#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "calls of libc with valid arguments, a line each"
)]

mod calls;
mod deadlocks;
mod support;
mod waits;

use std::env;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

/// A situation. It says what has happened.
type Case = (&'static str, fn() -> String);

/// Runs a situation somewhere.
type Place = fn(fn() -> String) -> String;

/// Where it is run. The first is the judge of the others.
const PLACES: [(&str, Place); 4] = [
    ("on a plain thread", |case| case()),
    ("in main", |case| {
        switchgrass::monkey::patch_all();
        switchgrass::spawn(|| ()).join().unwrap();
        case()
    }),
    ("in a coroutine", |case| {
        switchgrass::monkey::patch_all();
        let _sibling = switchgrass::spawn(|| {
            loop {
                thread::sleep(Duration::from_millis(7));
            }
        });
        switchgrass::spawn(case).join().unwrap()
    }),
    ("beside one that computes", |case| {
        switchgrass::monkey::patch_all();
        let _sibling = switchgrass::spawn(|| {
            loop {
                let start = Instant::now();
                while start.elapsed() < Duration::from_millis(5) {}
                switchgrass::yield_now();
            }
        });
        switchgrass::spawn(case).join().unwrap()
    }),
];

const CASE: &str = "SWITCHGRASS_INTERRUPTED_CASE";
const PLACE: &str = "SWITCHGRASS_INTERRUPTED_PLACE";

/// Runs this program again for a case. What it has printed, or how it has failed.
fn run(case: &str, place: usize) -> String {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=1", "60"]).arg(env::current_exe().expect("this runs"));
    command.env(CASE, case).env(PLACE, place.to_string()).stdin(Stdio::null());
    let output = command.output().expect("this can run again");
    let [said, complained] =
        [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    match output.status.success() {
        true => said,
        false => format!("{}\n{said}\n{complained}", output.status),
    }
}

fn main() -> ExitCode {
    let cases: Vec<Case> = [calls::CASES, waits::CASES].concat();
    if let Ok(wanted) = env::var(CASE) {
        if let Some((_, case)) = deadlocks::CASES.iter().find(|(name, _)| *name == wanted) {
            deadlocks::prepare();
            case();
            return ExitCode::SUCCESS;
        }
        let place: usize = env::var(PLACE).expect("a place").parse().expect("a number");
        let (_, case) = cases.iter().find(|(name, _)| *name == wanted).expect("a case");
        println!("{}", PLACES[place].1(*case));
        // Siblings wait still.
        unsafe { libc::_exit(0) };
    }
    let filters: Vec<String> = env::args().skip(1).filter(|one| !one.starts_with('-')).collect();
    let is_wanted =
        |name: &str| filters.is_empty() || filters.iter().any(|filter| name.contains(filter));
    let cases: Vec<Case> = cases.into_iter().filter(|(name, _)| is_wanted(name)).collect();
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while let Some((name, _)) = cases.get(next.fetch_add(1, Relaxed)) {
                    let judge = run(name, 0);
                    for (place, (title, _)) in PLACES.iter().enumerate().skip(1) {
                        let said = run(name, place);
                        if said != judge {
                            let failure = format!("{name}, {title}: {said}  on a thread: {judge}");
                            failures.lock().unwrap().push(failure);
                        }
                    }
                }
            });
        }
        scope.spawn(|| failures.lock().unwrap().extend(deadlocks::failures(&is_wanted)));
    });
    let failures = failures.into_inner().unwrap();
    for failure in &failures {
        println!("FAILED {failure}");
    }
    println!("test result: {} cases, {} failures", cases.len(), failures.len());
    ExitCode::from(u8::from(!failures.is_empty()))
}
