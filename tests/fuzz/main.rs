//! Random programs in safe code, made of everything that can be done with greenlets and coroutines. Whatever
//! they do, nothing may crash, hang, be lost, or be dropped twice.
//!
//! A program is a function of its seed. `cargo test --test fuzz` runs a fixed number of each kind, and the seeds
//! that once failed (`seeds.txt`). More of them:
//!
//! ```text
//! cargo test --test fuzz -- coroutines 1 10000        10,000 programs from seed 1 on
//! SWITCHGRASS_FUZZ=coroutines:17:1 cargo test --test fuzz
//! SWITCHGRASS_FUZZ_SECONDS=600 cargo test --test fuzz  as many of each kind as fit
//! ```
//!
//! Programs run in child processes, each program on a thread of its own. A child writes down the seed before it
//! begins, so that it is known whatever becomes of the process. What was found is printed with its seed.
//!
//! With `SWITCHGRASS_FUZZ_VERBOSE` set, the steps are printed, and what a child writes on its standard error.
//! `SWITCHGRASS_FUZZ_WITHOUT=throw,in_drop` leaves out some actions, by their names, or steps in some callbacks:
//! to find out which ones a failure needs.

#![forbid(unsafe_code)]

mod coroutines;
mod greenlets;
mod list;
mod random;
mod steps;
mod values;

use libtest_mimic::{Arguments, Failed, Trial};
use std::any::Any;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::process::{Child, Command, ExitCode, Stdio, abort};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};
use std::{env, panic};
use switchgrass::GreenletExit;

/// Programs of each kind that `cargo test` runs.
const FIXED: u64 = 400;

/// A program that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// A program that takes more memory grows without end.
const MEMORY: u64 = 3 << 30;

/// After so many findings of one range the rest is not tried.
const ENOUGH: usize = 20;

/// Programs per child process.
const BATCH: u64 = 500;

/// Names actions that are left out, separated by commas.
pub(crate) const WITHOUT: &str = "SWITCHGRASS_FUZZ_WITHOUT";

/// Tells a child which programs to run.
const CHILD: &str = "SWITCHGRASS_FUZZ_CHILD";

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Greenlets,
    Coroutines,
}

impl Kind {
    const ALL: [Kind; 2] = [Kind::Greenlets, Kind::Coroutines];

    fn name(self) -> &'static str {
        match self {
            Kind::Greenlets => "greenlets",
            Kind::Coroutines => "coroutines",
        }
    }

    fn named(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    fn program(self) -> fn() {
        match self {
            Kind::Greenlets => greenlets::program,
            Kind::Coroutines => coroutines::program,
        }
    }
}

/// Some programs of one kind.
#[derive(Clone, Debug)]
struct Range {
    kind: Kind,
    first: u64,
    count: u64,
    /// Actions that are left out.
    without: String,
}

impl Range {
    /// Of `kind:first:count`, or `kind:first:count:without`.
    fn parse(text: &str) -> Option<Range> {
        Range::of(&text.trim().split(':').collect::<Vec<_>>())
    }

    fn of(parts: &[impl AsRef<str>]) -> Option<Range> {
        let parts: Vec<&str> = parts.iter().map(AsRef::as_ref).collect();
        let [kind, first, count, ref without @ ..] = parts[..] else { return None };
        let range = Range::new(Kind::named(kind)?, first.parse().ok()?, count.parse().ok()?);
        match without {
            [] => Some(range),
            [without] => Some(Range { without: (*without).to_owned(), ..range }),
            _ => None,
        }
    }

    fn new(kind: Kind, first: u64, count: u64) -> Range {
        Range { kind, first, count, without: env::var(WITHOUT).unwrap_or_default() }
    }

    fn part(&self, first: u64, count: u64) -> Range {
        Range { first, count, ..self.clone() }
    }
}

fn main() -> ExitCode {
    if let Ok(range) = env::var(CHILD) {
        run_here(Range::parse(&range).expect("as the parent writes it"));
        return ExitCode::SUCCESS;
    }
    let arguments: Vec<String> = env::args().skip(1).collect();
    let given = env::var("SWITCHGRASS_FUZZ").ok();
    let range = match &given {
        Some(text) => Some(Range::parse(text).expect("SWITCHGRASS_FUZZ is kind:first:count")),
        None => Range::of(&arguments),
    };
    let seconds = env::var("SWITCHGRASS_FUZZ_SECONDS").ok();
    let seconds = seconds.map(|text| text.parse().expect("SWITCHGRASS_FUZZ_SECONDS is a number"));
    match (seconds.map(Duration::from_secs), range) {
        (Some(limit), range) => run_for(limit, range),
        (None, Some(range)) => exit_code(report(&range, run_range(&range, print))),
        (None, None) => {
            let fixed = Kind::ALL.map(|kind| {
                let range = Range::new(kind, 1, FIXED);
                Trial::test(format!("{}_at_random", kind.name()), move || test(&range))
            });
            let seeds = Trial::test("seeds_that_once_failed", || seeds().iter().try_for_each(test));
            let trials = fixed.into_iter().chain([seeds]).collect();
            libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
        }
    }
}

fn exit_code(passed: bool) -> ExitCode {
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The lines of `seeds.txt`: a range, and a comment after `#`.
fn seeds() -> Vec<Range> {
    let lines = include_str!("seeds.txt").lines();
    let lines = lines.map(|line| line.split('#').next().unwrap_or_default().trim());
    let parse = |line| Range::parse(line).unwrap_or_else(|| panic!("no seeds: {line:?}"));
    lines.filter(|line| !line.is_empty()).map(parse).collect()
}

fn test(range: &Range) -> Result<(), Failed> {
    let mut findings = Vec::new();
    run_range(range, |finding| findings.push(finding));
    if findings.is_empty() { Ok(()) } else { Err(findings.join("\n").into()) }
}

fn print(finding: String) {
    println!("{finding}");
}

/// Prints how many programs have run, and how many findings there are. Whether there are none.
fn report(range: &Range, findings: usize) -> bool {
    let Range { kind, first, count, .. } = range;
    println!("{count} programs of {} from {first} on: {findings} findings", kind.name());
    findings == 0
}

/// Runs programs of both kinds side by side, or of the one of `range`, until the time is over.
fn run_for(limit: Duration, range: Option<Range>) -> ExitCode {
    let end = Instant::now() + limit;
    let run = move |range: Range| {
        let (mut next, mut findings) = (range.first, 0);
        while Instant::now() < end && findings < ENOUGH {
            findings += run_range(&range.part(next, BATCH), print);
            next += BATCH;
        }
        report(&range.part(range.first, next - range.first), findings)
    };
    let ranges = match range {
        Some(range) => vec![range],
        None => Kind::ALL.map(|kind| Range::new(kind, 1, BATCH)).into(),
    };
    let runs: Vec<_> = ranges.into_iter().map(|range| thread::spawn(move || run(range))).collect();
    exit_code(
        runs.into_iter().fold(true, |passed, run| run.join().is_ok_and(|this| this && passed)),
    )
}

/// Runs programs in child processes, one after the other, and calls `found` with what is wrong. Returns how often.
fn run_range(range: &Range, mut found: impl FnMut(String)) -> usize {
    let (mut next, end, mut count) = (range.first, range.first + range.count, 0);
    while next < end && count < ENOUGH {
        let batch = range.part(next, BATCH.min(end - next));
        let crashed_at = run_child(&batch, &mut |finding| {
            count += 1;
            found(finding);
        });
        next = match crashed_at {
            // With the next one in a new process.
            Some(seed) => seed + 1,
            None => batch.first + batch.count,
        };
    }
    count
}

/// Runs programs in one child process. Returns the seed of the one that has ended the process, if one has.
fn run_child(range: &Range, found: &mut dyn FnMut(String)) -> Option<u64> {
    let mut child = start(range);
    let errors = child.stderr.take().map(|errors| thread::spawn(move || last_of(errors)));
    let (kind, mut seed) = (range.kind.name(), range.first);
    let (mut last, mut is_done) = (String::new(), false);
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    for line in lines.map_while(Result::ok) {
        match line.split_once(' ') {
            Some(("@", number)) => seed = number.parse().expect("a child writes its seed"),
            Some(("!", text)) => {
                let finding = format!("!!! {kind}:{seed}: {text}");
                if finding != last {
                    last.clone_from(&finding);
                    found(finding);
                }
            }
            _ => is_done |= line == "done",
        }
    }
    let status = child.wait().expect("a child of this process");
    let said = errors.and_then(|errors| errors.join().ok()).unwrap_or_default();
    if is_done && status.success() {
        return None;
    }
    if !DOCUMENTED_ENDS.iter().any(|text| said.contains(text)) {
        let ended = match status.signal() {
            Some(signal) => format!("signal {signal}"),
            None => status.to_string(),
        };
        let said = last_words(&said).map(|line| format!("\n    {line}")).collect::<String>();
        found(format!("!!! {kind}:{seed}: the process ended by {ended}{said}"));
    }
    Some(seed)
}

/// What tells most of an end: the first lines of AddressSanitizer's report, or the last ones there are.
fn last_words(said: &str) -> impl Iterator<Item = &str> {
    let lines: Vec<_> = said.lines().collect();
    let report = lines.iter().position(|line| line.contains("ERROR: AddressSanitizer"));
    let first = report.unwrap_or(lines.len().saturating_sub(8));
    lines.into_iter().skip(first).take(if report.is_some() { 40 } else { 8 })
}

fn start(range: &Range) -> Child {
    let Range { kind, first, count, without } = range;
    Command::new(env::current_exe().expect("this test runs"))
        .env(CHILD, format!("{}:{first}:{count}", kind.name()))
        .env(WITHOUT, without)
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("this test can run again")
}

/// Reads all there is, and returns the end of it.
fn last_of(mut from: impl Read) -> String {
    const KEPT: usize = 64 << 10;
    let is_verbose = env::var_os("SWITCHGRASS_FUZZ_VERBOSE").is_some();
    let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        all.extend_from_slice(&buffer[..count]);
        if is_verbose {
            let _ = io::stderr().write_all(&buffer[..count]);
        }
        if all.len() > 2 * KEPT {
            all.drain(..all.len() - KEPT);
        }
    }
    String::from_utf8_lossy(&all).into_owned()
}

// --------------------------------------------------------------------------------- in the child

/// Programs that have ended, so that the watch sees that one does not.
static ENDED: AtomicU64 = AtomicU64::new(0);

/// Whether something was found in the program that runs.
static FOUND: AtomicBool = AtomicBool::new(false);

/// Writes down what must not be, for the program that runs. Does not panic: that might be caught.
pub(crate) fn finding(text: &str) {
    FOUND.store(true, SeqCst);
    tell(&format!("! {}", text.replace('\n', " | ")));
}

/// Writes a line to the parent.
fn tell(line: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Runs programs in this process.
fn run_here(range: Range) {
    panic::set_hook(Box::new(look_at_panic));
    thread::spawn(watch);
    for seed in range.first..range.first + range.count {
        tell(&format!("@ {seed}"));
        values::reset();
        FOUND.store(false, SeqCst);
        run_program(range.kind, seed);
        ENDED.fetch_add(1, SeqCst);
    }
    tell("done");
}

fn run_program(kind: Kind, seed: u64) {
    let thread = thread::Builder::new().stack_size(8 << 20).spawn(move || {
        random::start(seed);
        kind.program()();
        steps::is_tame()
    });
    let result = thread.expect("a thread for a program").join();
    let is_tame = match result {
        Ok(is_tame) => is_tame,
        Err(payload) => {
            let text = match text_of(&*payload) {
                Some(text) => text,
                None if payload.is::<GreenletExit>() => "GreenletExit",
                None => "another payload",
            };
            finding(&format!("the program has panicked: {text}"));
            return drop(catch_unwind(AssertUnwindSafe(|| drop(payload))));
        }
    };
    if FOUND.load(SeqCst) {
        return;
    }
    // The thread's variables are gone: what a body owns is alive only if the body is.
    let (values, bodies) = (values::alive(), values::bodies());
    if bodies == 0 && values != 0 {
        finding(&format!(
            "{values} values are never dropped, and no body is left: they were made in lines {}",
            values::origins()
        ));
    }
    if is_tame && bodies != 0 {
        finding(&format!(
            "{bodies} bodies and {values} values are left of a tame program: they were made in lines {}",
            values::origins()
        ));
    }
}

/// Ends the process when a program does not end.
fn watch() {
    let (mut ended, mut since) = (0, Instant::now());
    loop {
        thread::sleep(Duration::from_millis(100));
        let now = ENDED.load(SeqCst);
        if now != ended {
            (ended, since) = (now, Instant::now());
        }
        let text = match resident() {
            memory if memory > MEMORY => format!("{} MiB are in use", memory >> 20),
            _ if since.elapsed() > PATIENCE => format!("it has not ended for {PATIENCE:?}"),
            _ => continue,
        };
        finding(&text);
        abort();
    }
}

/// Bytes of memory in use.
fn resident() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: Option<u64> = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    pages.unwrap_or(0) * 4096
}

/// What the library panics with when it is used wrongly, as its documentation says.
const DOCUMENTED: &[&str] = &[
    "would block",
    "would wait",
    "nobody is left",
    "thread is ending",
    "thread has ended",
    "awaits a value",
    "ended by GreenletExit",
    "ended with a result",
    "generator",
    "main ends with its thread",
    "the coroutine was killed",
    "the coroutine has panicked",
    "was used by a callback that it is in the middle of calling",
];

/// How a process is ended on purpose: what such a program would have done next is not tried.
const DOCUMENTED_ENDS: &[&str] = &[
    "borrows from a scope that has ended, and does not let itself be unwound",
    "a scope can never end",
    "this was caught 250 times, and waited for again",
    "main cannot receive it where it is suspended",
];

/// What no program must ever bring about.
const INTERNAL: &[&str] = &[
    "bug",
    "unreachable",
    "already borrowed",
    "already mutably borrowed",
    "overflow",
    "index out of bounds",
    "on a `None` value",
    "on an `Err` value",
    "fatal",
];

fn text_of(payload: &(dyn Any + Send)) -> Option<&str> {
    let literal = payload.downcast_ref::<&'static str>().copied();
    literal.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
}

fn look_at_panic(info: &PanicHookInfo<'_>) {
    let Some(text) = text_of(info.payload()) else { return };
    let file = info.location().map_or("", |location| location.file());
    let is_internal = INTERNAL.iter().any(|word| text.contains(word));
    let is_documented = DOCUMENTED.iter().any(|word| text.contains(word));
    let is_ours = file.starts_with("src/") && !is_documented;
    if is_internal || is_ours {
        let line = info.location().map_or(0, |location| location.line());
        finding(&format!("a panic at {file}:{line}: {text}"));
    }
}
