//! Children, and signals.

mod children;
mod ends;
mod signals;

use std::process::{Command, Stdio};

/// The test that calls this, to be run again in a process of its own, where [`is_again`] says so.
fn again() -> Command {
    let current = std::thread::current();
    let test = current.name().expect("the harness names threads after tests");
    let mut again = Command::new(std::env::current_exe().expect("this test runs"));
    again.args([test, "--exact", "--nocapture", "--test-threads=1"]);
    again.env("SWITCHGRASS_AGAIN", "1").stdin(Stdio::null());
    again
}

fn is_again() -> bool {
    std::env::var_os("SWITCHGRASS_AGAIN").is_some()
}

/// Runs `body` in a process of its own: what it looks at belongs to the process, and other tests run in this.
#[track_caller]
fn alone(body: impl FnOnce()) {
    if is_again() {
        return body();
    }
    let output = again().output().expect("this test can run again");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:#?}");
    assert!(said.contains("1 passed"), "{said}");
}
