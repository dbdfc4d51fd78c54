//! Processes that are made by fork. The harness of `cargo test` runs tests on threads, and a process with
//! threads is not forked: so each test here is the main thread of a process of its own.

mod children;
mod copies;
#[cfg(feature = "process")]
mod fork_server;
mod inherited;
#[cfg(feature = "process")]
mod manager;
#[cfg(feature = "monkey")]
mod patched;
#[cfg(feature = "process")]
mod pools;
#[cfg(feature = "process")]
mod shared_array;
#[cfg(feature = "process")]
mod support;

use libtest_mimic::{Arguments, Failed, Trial};
use std::env;
use std::process::{Command, ExitCode, Output};

/// A test, by its name.
type Test = (&'static str, fn());

/// Lists functions as tests.
macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        pub(crate) const TESTS: &[crate::Test] =
            &[$((concat!(module_path!(), "::", stringify!($name)), $name)),*];
    };
}
pub(crate) use tests;

/// Those that are run as they are, and with everything patched.
fn all() -> impl Iterator<Item = Test> {
    let all = [
        children::TESTS,
        copies::TESTS,
        inherited::TESTS,
        #[cfg(feature = "process")]
        fork_server::TESTS,
        #[cfg(feature = "process")]
        manager::TESTS,
        #[cfg(feature = "process")]
        pools::TESTS,
        #[cfg(feature = "process")]
        shared_array::TESTS,
    ];
    all.into_iter().flatten().copied()
}

/// Those that are run with everything patched, and not otherwise.
fn all_patched() -> impl Iterator<Item = Test> {
    #[cfg(feature = "monkey")]
    let further = patched::TESTS;
    #[cfg(not(feature = "monkey"))]
    let further: &[Test] = &[];
    all().filter(|_| cfg!(feature = "monkey")).chain(further.iter().copied())
}

/// Names the test that this process is for.
const ALONE: &str = "SWITCHGRASS_ALONE";

/// A test that hangs is ended after so many seconds.
const LIMIT: u32 = 60;

fn main() -> ExitCode {
    if let Ok(wanted) = env::var(ALONE) {
        // SAFETY: no preconditions. A test that hangs is ended by SIGALRM.
        unsafe { libc::alarm(LIMIT) };
        #[cfg(feature = "monkey")]
        if env::var_os("SWITCHGRASS_PATCHED").is_some() {
            switchgrass::monkey::patch_all();
        }
        let (_, test) = all()
            .chain(all_patched())
            .find(|(name, _)| *name == wanted)
            .expect("a test of this name");
        test();
        return ExitCode::SUCCESS;
    }
    let arguments = Arguments::from_args();
    let trial = |(name, _): Test| {
        let title = name.trim_start_matches("forking::");
        Trial::test(title, move || check(&run_alone(name, false)))
    };
    let patched = |(name, _): Test| {
        let title = format!("patched::{}", name.trim_start_matches("forking::"));
        Trial::test(title, move || check(&run_alone(name, true)))
    };
    let mut trials: Vec<_> = all().map(trial).collect();
    trials.extend(all_patched().map(patched));
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Runs a test in a new process, with everything patched or nothing.
fn run_alone(name: &str, patched: bool) -> Output {
    let mut again = Command::new(env::current_exe().expect("this test runs"));
    if patched {
        again.env("SWITCHGRASS_PATCHED", "1");
    }
    again.env(ALONE, name).output().expect("this test can run again")
}

fn check(output: &Output) -> Result<(), Failed> {
    if output.status.success() {
        return Ok(());
    }
    Err(Failed::from(format!(
        "{}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    )))
}
