//! Main's endless waits in patched calls do not end early. When nothing is left that could wake main, the report
//! is written to standard error, once, and main waits on, as on a thread: a signal still ends it.

use crate::support::{alarm_after, handle, later, mask, set_of};
use libc::{SIGALRM, SIGUSR1};
use std::env;
use std::io;
use std::process::Command;
use std::ptr;
use std::sync::{Condvar, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// How long main waits before something is done about it.
const WAIT: Duration = Duration::from_millis(1500);

/// What is left in main's process. The second: what it waits for, by the report. None if there is none.
const REPORTS: &[(&str, Option<&str>)] = &[
    ("sleeps for ever", Some("main waits for sleep")),
    ("polls nothing", Some("main waits for poll")),
    ("selects nothing", Some("main waits for select")),
    ("polls again after each signal", Some("main waits for poll")),
    ("pauses", None),
    ("waits for a signal", None),
    ("suspends", None),
    ("waits for a condition", None),
    ("parks", None),
    ("waits for a channel", None),
    ("accepts", None),
];

pub(crate) const CASES: &[(&str, fn())] = &[
    ("sleeps for ever", || {
        later(WAIT, look_at_the_clock_and_end);
        thread::sleep(Duration::MAX);
        unreachable!("it has come back");
    }),
    ("polls nothing", || {
        ends_by_alarm(|| unsafe { libc::poll(ptr::null_mut(), 0, -1) });
    }),
    ("selects nothing", || {
        let none = ptr::null_mut();
        ends_by_alarm(|| unsafe { libc::select(0, none, none, none, ptr::null_mut()) });
    }),
    ("polls again after each signal", || {
        handle(SIGALRM, 0);
        for _ in 0..10 {
            alarm_after(Duration::from_millis(20));
            assert_eq!(unsafe { libc::poll(ptr::null_mut(), 0, -1) }, -1);
            assert_eq!(io::Error::last_os_error().raw_os_error(), Some(libc::EINTR));
        }
    }),
    ("pauses", || ends_by_alarm(|| unsafe { libc::pause() })),
    ("waits for a signal", || {
        mask(libc::SIG_BLOCK, &[SIGUSR1]);
        ends_by_alarm(|| unsafe { libc::sigwaitinfo(&set_of(&[SIGUSR1]), ptr::null_mut()) });
    }),
    ("suspends", || ends_by_alarm(|| unsafe { libc::sigsuspend(&set_of(&[])) })),
    ("waits for a condition", || {
        static PAIR: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());
        let start = Instant::now();
        later(WAIT, || {
            *PAIR.0.lock().unwrap() = true;
            PAIR.1.notify_one();
        });
        drop(PAIR.1.wait_while(PAIR.0.lock().unwrap(), |is_over| !*is_over).unwrap());
        assert!(start.elapsed() >= WAIT);
    }),
    ("parks", || {
        let (main, start) = (thread::current(), Instant::now());
        later(WAIT, move || main.unpark());
        // It may return for no reason, now and then.
        while start.elapsed() < WAIT {
            thread::park();
        }
    }),
    ("waits for a channel", || {
        let (sender, receiver) = mpsc::channel();
        later(WAIT, move || sender.send(5).unwrap());
        assert_eq!(receiver.recv(), Ok(5));
    }),
    ("accepts", || {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let start = Instant::now();
        later(WAIT, move || drop(std::net::TcpStream::connect(address)));
        listener.accept().unwrap();
        assert!(start.elapsed() >= WAIT);
    }),
];

fn ends_by_alarm(call: impl FnOnce() -> i32) {
    handle(SIGALRM, 0);
    let start = Instant::now();
    alarm_after(WAIT);
    assert_eq!(call(), -1);
    let error = io::Error::last_os_error().raw_os_error();
    assert_eq!(error, Some(libc::EINTR));
    assert!(start.elapsed() >= WAIT, "{:?}", start.elapsed());
    look_at_the_clock();
}

/// Nobody has spun: of the time that was waited the process has used little.
fn look_at_the_clock() {
    let mut used = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut used) };
    let used = Duration::new(used.tv_sec as u64, used.tv_nsec as u32);
    assert!(used < WAIT / 2, "it has computed for {used:?}");
}

fn look_at_the_clock_and_end() {
    look_at_the_clock();
    unsafe { libc::_exit(0) };
}

/// Before a case, in its process: main beside a hub, and a coroutine that waits.
pub(crate) fn prepare() {
    switchgrass::monkey::patch_all();
    switchgrass::spawn(|| switchgrass::sleep(Duration::MAX));
    switchgrass::yield_now();
}

/// Runs those that are wanted, and says what has failed.
pub(crate) fn failures(is_wanted: &dyn Fn(&str) -> bool) -> Vec<String> {
    let mut failures = Vec::new();
    for (name, report) in REPORTS.iter().filter(|(name, _)| is_wanted(name)) {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=1", "60"]).arg(env::current_exe().expect("this runs"));
        let output = command.env(crate::CASE, name).output().expect("this can run again");
        let complained = String::from_utf8_lossy(&output.stderr);
        let reports: Vec<_> =
            complained.lines().filter(|line| line.contains("would block for ever")).collect();
        let is_right = match report {
            Some(text) => reports.len() == 1 && reports[0].contains(text),
            None => reports.is_empty(),
        };
        if !output.status.success() || !is_right {
            failures.push(format!("{name}: {}\n{complained}", output.status));
        }
    }
    failures
}
