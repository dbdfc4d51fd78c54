//! The examples as programs, for those tests that run them.

use std::env;
use std::path::Path;
use std::process::Command;

/// `cargo test` builds the examples beside the tests; `cargo test --test examples` does not.
pub(crate) fn command(name: &str) -> Command {
    let mut directory = env::current_exe().expect("this test runs");
    directory.pop();
    if directory.ends_with("deps") {
        directory.pop();
    }
    let program = directory.join("examples").join(name);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("examples/{name}.rs"));
    let written = |path: &Path| path.metadata().and_then(|data| data.modified()).ok();
    assert!(
        written(&program).is_some_and(|built| Some(built) >= written(&source)),
        "{} is not there, or is older than its source: first do `cargo build --examples`, with the \
         profile and features of this test",
        program.display(),
    );
    Command::new(program)
}
