//! What the tests share, beside what `tests/it` has.

pub(crate) use crate::common::{LONG, Log, ms, panic_message};

use std::env;
use std::process::{Command, Output};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};
use switchgrass::{JoinError, sleep};

/// Which [`until`] does not exceed.
const PATIENCE: Duration = Duration::from_secs(30);

/// Something that threads wait for without any of the library.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn open(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_all();
    }

    pub(crate) fn pass(&self) {
        let closed = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (open, _) = self.0.1.wait_timeout_while(closed, PATIENCE, |open| !*open).unwrap();
        assert!(*open, "nobody has opened the gate");
    }
}

/// Lets others run until something is so that other threads make so.
#[track_caller]
pub(crate) fn until(what: impl Fn() -> bool) {
    let start = Instant::now();
    while !what() {
        assert!(start.elapsed() < PATIENCE, "it has not become so");
        sleep(ms(1));
    }
}

/// The message of a panic.
pub(crate) fn message(payload: Box<dyn std::any::Any + Send>) -> String {
    match payload.downcast::<String>() {
        Ok(message) => *message,
        Err(payload) => payload.downcast_ref::<&str>().expect("a message").to_string(),
    }
}

/// A result in a few letters.
pub(crate) fn brief<T: ToString>(result: Result<T, JoinError>) -> String {
    match result {
        Ok(value) => value.to_string(),
        Err(JoinError::Panicked(payload)) => format!("panicked: {}", message(payload)),
        Err(error) => format!("{error:?}"),
    }
}

/// Says to the new process which case it is there for.
const CASE: &str = "SWITCHGRASS_POOLS_CASE";

/// Runs `body` in a new process: this executable again, with the current test's name as the filter.
/// In that process returns `None` when `body` has returned.
pub(crate) fn in_child(body: impl FnOnce()) -> Option<Output> {
    let current = std::thread::current();
    let test = current.name().expect("the harness names threads after tests");
    if env::var(CASE).is_ok_and(|case| case == test) {
        // SAFETY: no preconditions. A case that hangs is ended by SIGALRM.
        unsafe { libc::alarm(20) };
        body();
        return None;
    }
    let mut again = Command::new(env::current_exe().expect("this test runs"));
    again.args([test, "--exact", "--nocapture", "--test-threads=1"]).env(CASE, test);
    Some(again.output().expect("this test can run again"))
}

/// What a new process has printed, if it has ended by this code.
#[track_caller]
pub(crate) fn printed(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{}: {output:#?}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}
