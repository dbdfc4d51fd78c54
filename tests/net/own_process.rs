//! Tests that need a process for themselves.

use std::process::Command;

const IS_ALONE: &str = "SWITCHGRASS_TEST_IS_ALONE";

/// Runs `body` in a process of its own: this test binary once more, with this test alone. `name` is that of the
/// test, with its module.
#[track_caller]
pub(crate) fn alone(name: &str, body: impl FnOnce()) {
    if std::env::var_os(IS_ALONE).is_some() {
        return body();
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(IS_ALONE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{said}\n{complained}", output.status);
    assert!(said.contains("1 passed"), "there is no test `{name}`:\n{said}");
}

/// How many descriptors are open.
pub(crate) fn descriptors() -> usize {
    // One is that of the directory.
    std::fs::read_dir("/proc/self/fd").unwrap().count() - 1
}
