//! Processes made by fork, and what they share. Each test runs in a process of its own, on its main thread, and
//! there is no other thread in it but those that the test makes: a fork has only the thread that forks. So the
//! harness is not std's, which runs tests on threads, but starts this executable again for each.
//!
//! With the feature `monkey` each runs twice: as it is, and with everything patched.

mod shared_array;
mod support;

use libtest_mimic::{Arguments, Failed, Trial};
use std::env;
use std::process::{Command, ExitCode, Stdio};

/// A test: its name, and what it does.
type Test = (&'static str, fn());

/// All tests, by the module that they are in.
const MODULES: &[(&str, &[Test])] = &[("shared_array", shared_array::TESTS)];

/// Names the test that is to be run in this process.
const ALONE: &str = "SWITCHGRASS_ALONE";

/// Ends the names of those that run with everything patched.
const PATCHED: &str = "_patched";

/// A test that hangs is ended after so many seconds.
const LIMIT: u32 = 60;

fn main() -> ExitCode {
    if let Some(name) = env::var_os(ALONE) {
        run(name.to_str().expect("names of tests are plain"));
        return ExitCode::SUCCESS;
    }
    let ways: &[&str] = if cfg!(feature = "monkey") { &["", PATCHED] } else { &[""] };
    let mut trials = Vec::new();
    for (module, tests) in MODULES {
        for (test, _) in *tests {
            for way in ways {
                let name = format!("{module}::{test}{way}");
                let wanted = name.clone();
                trials.push(Trial::test(name, move || alone(&wanted)));
            }
        }
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// Runs a test in a new process.
fn alone(name: &str) -> Result<(), Failed> {
    let mut again = Command::new(env::current_exe()?);
    let output = again.env(ALONE, name).stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said =
        [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
    Err(format!("{}\n{}{}", output.status, said[0], said[1]).into())
}

/// Runs a test in this process.
fn run(name: &str) {
    // SAFETY: no preconditions.
    unsafe { libc::alarm(LIMIT) };
    let (name, is_patched) = match name.strip_suffix(PATCHED) {
        Some(name) => (name, true),
        None => (name, false),
    };
    if is_patched {
        #[cfg(feature = "monkey")]
        switchgrass::monkey::patch_all();
    }
    let (module, test) = name.split_once("::").expect("a module and a test");
    let tests = MODULES.iter().find(|(known, _)| *known == module).map(|(_, tests)| *tests);
    let test = tests.and_then(|tests| tests.iter().find(|(known, _)| *known == test));
    test.unwrap_or_else(|| panic!("there is no {name}")).1();
}

/// The list of a module's tests, by the names of their functions.
macro_rules! tests {
    ($($test:ident,)*) => {
        pub(crate) const TESTS: &[crate::Test] = &[$((stringify!($test), $test)),*];
    };
}
pub(crate) use tests;
