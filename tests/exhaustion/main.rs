//! The kernel refuses: epoll instances, eventfds, sockets, threads, memory and signal stacks fail at each single place
//! where a program asks for one, once and from there on. Whatever the place, the program gets an error or a panic with
//! a message, nothing spins, and nothing hangs; and when the kernel refuses no more, everything works.
//!
//! The functions of libc that this crate asks are defined here, so that one of their calls can fail: see `refusals.rs`.
//! Each place is tried in a process of its own, which is this executable again.

#![cfg(all(target_arch = "x86_64", target_env = "gnu", not(feature = "monkey")))]

mod program;
mod refusals;

use refusals::{Kind, Mode};
use std::env;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Says to the new process what is to be refused, and which call.
const CASE: &str = "SWITCHGRASS_REFUSAL";

/// Seconds until a process that hangs is ended by SIGALRM.
const PATIENCE: u32 = 30;

/// Processor time of a process that does not spin: the program itself takes some hundredths of a second.
const MOST_CPU: Duration = Duration::from_secs(5);

/// What became of a process.
struct Outcome {
    code: Option<i32>,
    signal: Option<i32>,
    stdout: String,
    stderr: String,
    cpu: Duration,
}

/// Runs `test` again in a new process, where the call number `number` is refused.
fn run(test: &str, kind: Kind, number: u32, mode: Mode) -> Outcome {
    let mut again = Command::new(env::current_exe().expect("this test runs"));
    again.args([test, "--exact", "--nocapture", "--test-threads=1"]);
    again.env(CASE, format!("{kind:?} {number} {mode:?}")).env("RUST_BACKTRACE", "0");
    again.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // SAFETY: `alarm` may be called between fork and exec, and outlives the latter.
    unsafe {
        again.pre_exec(|| {
            libc::alarm(PATIENCE);
            Ok(())
        });
    }
    let before = children_cpu();
    let output = again.output().expect("this test can run again");
    Outcome {
        code: output.status.code(),
        signal: output.status.signal(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        cpu: children_cpu() - before,
    }
}

/// The processor time of all children that have been waited for.
fn children_cpu() -> Duration {
    // SAFETY: all-zero is a valid value, and the call only writes to it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &mut usage);
        usage
    };
    let time = |time: libc::timeval| {
        Duration::from_secs(time.tv_sec as u64) + Duration::from_micros(time.tv_usec as u64)
    };
    time(usage.ru_utime) + time(usage.ru_stime)
}

/// Tries every place at which the program asks for what is of this kind.
fn refuse_each(test: &str, kind: Kind) {
    if let Ok(case) = env::var(CASE) {
        let mut words = case.split(' ');
        let mut word = || words.next().expect("three words");
        assert_eq!(word(), format!("{kind:?}"));
        let number = word().parse().expect("a number");
        let mode = if word() == "Once" { Mode::Once } else { Mode::FromThenOn };
        return program::run(kind, number, mode);
    }
    for mode in [Mode::Once, Mode::FromThenOn] {
        let mut places = 0;
        for number in 1.. {
            let outcome = run(test, kind, number, mode);
            let what = format!(
                "{kind:?} refused at place {number}, {mode:?}: code {:?}, signal {:?}, {:?} of processor\n{}\n{}",
                outcome.code, outcome.signal, outcome.cpu, outcome.stdout, outcome.stderr
            );
            assert!(outcome.cpu < MOST_CPU, "it spins: {what}");
            let says_why =
                outcome.signal == Some(libc::SIGABRT) && outcome.stderr.contains("switchgrass: ");
            assert!(outcome.code == Some(0) || says_why, "{what}");
            if outcome.stdout.contains("no call was refused") {
                break;
            }
            places = number;
        }
        assert!(places > 0, "{kind:?}: the program never asks for one");
    }
}

macro_rules! tests {
    ($($(#[$doc:meta])* $name:ident: $kind:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[test]
        fn $name() {
            refuse_each(stringify!($name), Kind::$kind);
        }
    )*};
}

tests! {
    no_epoll_instance: Epoll,
    no_registration_with_epoll: Registration,
    no_wait_for_events: Wait,
    no_eventfd: Eventfd,
    no_socket: Socket,
    no_thread: Thread,
    no_mapping: Mapping,
    no_guard: Guard,
    no_signal_stack: SignalStack,
}
