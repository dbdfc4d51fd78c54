//! Scripts of calls, run on plain threads without patched calls, and in coroutines with them. Results, errno,
//! the bytes written, the state of descriptors afterwards, and the order in which calls return must be the
//! same.
//!
//! ```text
//! cargo test --features monkey --test differential                       the corpus, and some at random
//! cargo test --features monkey --test differential -- 1 100000           this many, from seed 1 on
//! cargo test --features monkey --test differential -- 17 1 pipe          with a pipe as the first fixture
//! SWITCHGRASS_DIFFERENTIAL=file ..                                       the scripts in a file
//! SWITCHGRASS_DIFFERENTIAL_SECONDS=600 ..                                for this long
//! SWITCHGRASS_DIFFERENTIAL_WITHOUT=signal,read ..                        without calls by their names
//! SWITCHGRASS_DIFFERENTIAL_ONLY_PLAIN=1 ..                               the test of this test
//! ```
//!
//! With `SWITCHGRASS_DIFFERENTIAL_VERBOSE` set, what the other processes say on standard error is shown.
//!
//! A script is made from a seed, and written as text (`script.rs`), so that `corpus.txt` does not depend on
//! how scripts are made. Each script runs in two processes (`worker.rs`). One that differs is run again,
//! slowly, to make sure that no trace of one side is a trace of the other, and is then reduced to the steps
//! that it needs. Intended differences are listed in `differences.rs`.

mod calls;
mod differences;
mod fixtures;
mod memory;
mod params;
mod random;
mod script;
mod worker;
mod world;

use libtest_mimic::{Arguments, Failed, Trial};
use script::Script;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

/// Scripts at random that `cargo test` runs.
const FIXED: u64 = 400;

/// Pairs of processes that run scripts at the same time.
const PAIRS: u64 = 4;

/// The findings after which the rest is not tried.
const ENOUGH: usize = 10;

/// Tells a process which side it is.
const SIDE: &str = "SWITCHGRASS_DIFFERENTIAL_SIDE";

/// Has plain threads compared with plain threads: what differs then is a fault of this test.
const ONLY_PLAIN: &str = "SWITCHGRASS_DIFFERENTIAL_ONLY_PLAIN";

fn main() -> ExitCode {
    if let Ok(side) = env::var(SIDE) {
        worker::run(side == "coroutines");
        return ExitCode::SUCCESS;
    }
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let Ok(path) = env::var("SWITCHGRASS_DIFFERENTIAL") {
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        return report(&all_of(&text));
    }
    if let [Ok(first), Ok(count)] =
        [0, 1].map(|at| arguments.get(at).map_or("", |text| text).parse::<u64>())
    {
        return report(&at_random(first, count, arguments.get(2).map(|text| text.as_str())));
    }
    let corpus = || test(all_of(include_str!("corpus.txt")));
    let trials = vec![
        Trial::test("scripts_that_once_differed", corpus),
        Trial::test("every_row_is_called", every_row_is_called),
        Trial::test("scripts_at_random", || test(at_random(1, FIXED, None))),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// Each symbol of the table is called by a row here.
fn every_row_is_called() -> Result<(), Failed> {
    /// What no script can call.
    const LEFT_OUT: &[&str] = &[
        // `std` calls it, which is called here.
        "pthread_join",
        // It reads standard input, by which scripts come.
        "getchar",
        "getchar_unlocked",
        // Two threads must not read a stream by these at the same time.
        "fgetc_unlocked",
        "getc_unlocked",
        "__uflow",
        "fgets_unlocked",
        "__fgets_unlocked_chk",
        "fread_unlocked",
        "__fread_unlocked_chk",
        // What they use is the whole system's, and outlives a process.
        "msgrcv",
        "msgsnd",
        "semop",
        "semtimedop",
        // There is no use of it while anything is locked, nor afterwards.
        "pthread_rwlock_destroy",
        "pthread_spin_destroy",
        "mtx_destroy",
        // They never wait, and would replace the handlers by which signals are counted here.
        "sigaction",
        "__sigaction",
        "signal",
        "bsd_signal",
        "ssignal",
        "sysv_signal",
        "__sysv_signal",
        "sigset",
        "siginterrupt",
    ];
    let calls = [
        include_str!("calls/copying.rs"),
        include_str!("calls/files.rs"),
        include_str!("calls/locks.rs"),
        include_str!("calls/polling.rs"),
        include_str!("calls/queues.rs"),
        include_str!("calls/settings.rs"),
        include_str!("calls/signals.rs"),
        include_str!("calls/sockets.rs"),
        include_str!("calls/stdio.rs"),
        include_str!("calls/streams.rs"),
        include_str!("calls/threads.rs"),
        include_str!("calls/waiting.rs"),
    ];
    let table = include_str!("../../src/monkey/table.rs").split("$expand! {").nth(1);
    let table = table.and_then(|text| text.split("\n        }\n").next()).ok_or("no table")?;
    let symbols = table.split(" fn ").skip(1).filter_map(|row| row.split('(').next());
    let is_called = |symbol: &str| {
        let is_call = |text: &str| text.starts_with(&format!("{symbol}("));
        let words = |text: &'static str| {
            text.split(|c: char| !(c == '_' || c == '(' || c.is_alphanumeric()))
        };
        LEFT_OUT.contains(&symbol) || calls.iter().any(|text| words(text).any(is_call))
    };
    let missing: Vec<_> = symbols.filter(|symbol| !is_called(symbol)).collect();
    if missing.is_empty() { Ok(()) } else { Err(format!("no call of {missing:?}").into()) }
}

fn test(findings: Vec<String>) -> Result<(), Failed> {
    if findings.is_empty() { Ok(()) } else { Err(findings.join("\n").into()) }
}

fn report(findings: &[String]) -> ExitCode {
    println!("{} findings", findings.len());
    if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The scripts of a text, with empty lines between them, and comments.
fn scripts_in(text: &str) -> Vec<Script> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let text = lines.collect::<Vec<_>>().join("\n");
    let scripts = text.split("\n\n").filter(|script| !script.trim().is_empty());
    scripts
        .map(|text| Script::parse(text).unwrap_or_else(|| panic!("no script:\n{text}")))
        .collect()
}

/// Runs the scripts of a text.
fn all_of(text: &str) -> Vec<String> {
    let scripts = scripts_in(text);
    find(&|number| {
        let script = scripts.get(number as usize).cloned();
        script.map(|script| (format!("script {number}"), script))
    })
}

/// Runs scripts from a seed on.
fn at_random(first: u64, count: u64, only: Option<&str>) -> Vec<String> {
    let seconds = env::var("SWITCHGRASS_DIFFERENTIAL_SECONDS").ok();
    let seconds = seconds.and_then(|text| text.parse().ok());
    let end = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    find(&|number| {
        let is_over = number >= count || end.is_some_and(|end| Instant::now() > end);
        let seed = first + number;
        (!is_over).then(|| (format!("seed {seed}"), Script::random(seed, only)))
    })
}

/// Runs scripts by their numbers, until there are no more of them or too many have differed. Several run at
/// the same time, since they mostly wait.
fn find(script: &(dyn Fn(u64) -> Option<(String, Script)> + Sync)) -> Vec<String> {
    let (next, findings) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    let run = || {
        let mut pair = Pair::start();
        while findings.lock().expect("no panics").len() < enough() {
            let Some((name, script)) = script(next.fetch_add(1, SeqCst)) else { break };
            if let Some(finding) = pair.finding(&script) {
                let finding = format!("{name}\n{finding}");
                println!("{finding}");
                findings.lock().expect("no panics").push(finding);
            }
        }
    };
    thread::scope(|scope| (0..PAIRS).for_each(|_| drop(scope.spawn(run))));
    println!("{} scripts", next.into_inner() - PAIRS);
    differences::report();
    findings.into_inner().expect("no panics")
}

fn enough() -> usize {
    env::var("SWITCHGRASS_DIFFERENTIAL_ENOUGH").ok().and_then(|n| n.parse().ok()).unwrap_or(ENOUGH)
}

/// What a script has brought about, line by line.
type Trace = Vec<String>;

/// A process that runs scripts.
struct Worker {
    child: Child,
    scripts: Option<ChildStdin>,
    traces: BufReader<ChildStdout>,
}

impl Worker {
    fn start(side: &str) -> Self {
        let is_verbose = env::var_os("SWITCHGRASS_DIFFERENTIAL_VERBOSE").is_some();
        let mut child = Command::new(env::current_exe().expect("this test runs"))
            .env(SIDE, side)
            .env("RUST_BACKTRACE", "0")
            .stderr(if is_verbose { Stdio::inherit() } else { Stdio::null() })
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this test can run again");
        let scripts = child.stdin.take();
        let traces = BufReader::new(child.stdout.take().expect("a pipe"));
        Worker { child, scripts, traces }
    }

    fn send(&mut self, script: &Script, is_slow: bool) {
        let slow = if is_slow { "slow\n" } else { "" };
        let scripts = self.scripts.as_mut().expect("open until the end");
        let sent =
            writeln!(scripts, "{slow}{script}{}", worker::END).and_then(|()| scripts.flush());
        sent.expect("the other process lives on");
    }

    fn trace(&mut self) -> Trace {
        let mut trace = Vec::new();
        loop {
            let mut line = String::new();
            let count = self.traces.read_line(&mut line).expect("the other process writes text");
            assert!(count > 0, "the other process has ended");
            match line.trim_end() {
                worker::END => return trace,
                line => trace.push(line.to_owned()),
            }
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.scripts.take());
        let _ = self.child.wait();
    }
}

/// Both sides.
struct Pair {
    plain: Worker,
    coroutines: Worker,
}

impl Pair {
    fn start() -> Self {
        let other = if env::var_os(ONLY_PLAIN).is_some() { "plain" } else { "coroutines" };
        Pair { plain: Worker::start("plain"), coroutines: Worker::start(other) }
    }

    fn run(&mut self, script: &Script, is_slow: bool) -> (Trace, Trace) {
        self.plain.send(script, is_slow);
        self.coroutines.send(script, is_slow);
        (self.plain.trace(), self.coroutines.trace())
    }

    /// Whether the sides differ, whenever they are run, and each in its own way.
    fn differ(&mut self, script: &Script, rounds: usize) -> Option<(Trace, Trace)> {
        let (mut plain, mut coroutines) = (BTreeSet::new(), BTreeSet::new());
        for _ in 0..rounds {
            let (one, other) = self.run(script, true);
            plain.insert(one);
            coroutines.insert(other);
            let is_same = |one: &Trace| {
                coroutines.iter().any(|other| differences::are_same(script, one, other))
            };
            if plain.iter().any(is_same) {
                return None;
            }
        }
        Some((plain.pop_first()?, coroutines.pop_first()?))
    }

    /// The shortest script that shows how the sides differ, and how, if they do.
    fn finding(&mut self, script: &Script) -> Option<String> {
        let (plain, coroutines) = self.run(script, false);
        if differences::are_same(script, &plain, &coroutines) {
            return None;
        }
        self.differ(script, 3)?;
        let mut script = script.clone();
        let mut index = script.steps.len();
        while index > 0 {
            index -= 1;
            let shorter = script.without(index);
            if self.differ(&shorter, 1).is_some() {
                script = shorter;
            }
        }
        let (plain, coroutines) = self.differ(&script, 3)?;
        Some(format!("{script}{}", compared(&plain, &coroutines)))
    }
}

/// Both traces, line by line as long as they are the same.
fn compared(plain: &Trace, coroutines: &Trace) -> String {
    let same = plain.iter().zip(coroutines).take_while(|(one, other)| one == other).count();
    let lines = |mark: &'static str, lines: &[String]| -> Vec<String> {
        lines.iter().take(6).map(|line| format!("  {mark} {line}")).collect()
    };
    let mut all = lines(" ", &plain[same.saturating_sub(6)..same]);
    all.extend(lines("-", &plain[same..]));
    all.extend(lines("+", &coroutines[same..]));
    all.join("\n") + "\n"
}
