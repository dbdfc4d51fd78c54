//! How children end, and how that is learnt of.

use crate::alone;
use std::fs;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::rc::Rc;
use std::time::{Duration, Instant};
use switchgrass::process::{Child, Command, Stdio};
use switchgrass::{Greenlet, sleep, spawn, timeout, yield_now};

fn sleeper() -> Command {
    let mut command = Command::new("sleep");
    command.arg("60").stdout(Stdio::null());
    command
}

#[test]
fn an_end_by_a_signal_is_reported_as_such() {
    for signal in [libc::SIGKILL, libc::SIGTERM, libc::SIGUSR1] {
        let mut child = sleeper().spawn().unwrap();
        match signal {
            libc::SIGKILL => child.kill().unwrap(),
            libc::SIGTERM => child.terminate().unwrap(),
            _ => child.send_signal(signal).unwrap(),
        }
        let status = child.wait().unwrap();
        assert_eq!((status.code(), status.signal()), (None, Some(signal)));
        // Std's: all is well, it has ended.
        child.kill().unwrap();
        child.terminate().unwrap();
    }
    let child = sleeper().kill_on_drop(true).spawn().unwrap();
    assert_eq!(child.send_signal(1000).unwrap_err().raw_os_error(), Some(libc::EINVAL));
}

/// Only its end is one.
#[test]
fn to_be_stopped_and_continued_is_no_end() {
    let mut child = sleeper().spawn().unwrap();
    let limit = Duration::from_millis(20);
    for signal in [libc::SIGSTOP, libc::SIGCONT] {
        child.send_signal(signal).unwrap();
        assert_eq!(child.wait_timeout(limit).unwrap(), None);
    }
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
}

#[test]
fn a_limit_of_a_wait() {
    let child = sleeper().kill_on_drop(true).spawn().unwrap();
    let limit = Duration::from_millis(10);
    let start = Instant::now();
    assert_eq!(child.wait_timeout(limit).unwrap(), None);
    assert!(start.elapsed() >= limit);
    assert_eq!(child.wait_timeout(Duration::ZERO).unwrap(), None);
    timeout(limit, || child.wait_end()).unwrap_err();
    child.terminate().unwrap();
    let status = child.wait_timeout(Duration::from_secs(60)).unwrap().unwrap();
    assert_eq!(status.signal(), Some(libc::SIGTERM));
}

/// {test__monkey_sigchld}: a signal would tell of one of them only.
#[test]
fn fifty_that_end_at_once_are_all_reported() {
    let (mut begin, writer) = std::io::pipe().unwrap();
    let all: Vec<_> = (0..50)
        .map(|number| {
            // Each waits for the end of what is held open here.
            let mut command = Command::new("sh");
            command.args(["-c", &format!("cat >/dev/null; exit {number}")]);
            let child = command.stdin(begin.try_clone().unwrap()).spawn();
            (number, child)
        })
        .collect();
    let all: Vec<_> = all
        .into_iter()
        .map(|(number, child)| {
            let mut child = child.unwrap();
            (number, spawn(move || child.wait().unwrap().code()))
        })
        .collect();
    yield_now();
    assert!(all.iter().all(|(_, waiting)| !waiting.coroutine().is_finished()));
    drop(writer);
    for (number, waiting) in all {
        assert_eq!(waiting.join().unwrap(), Some(number));
    }
    assert_eq!(begin.read(&mut [0; 1]).unwrap(), 0);
}

/// Nobody waited when it did.
#[test]
fn one_that_has_ended_long_ago_is_reported() {
    let mut command = Command::new("sh");
    let mut child = command.args(["-c", "echo x; exit 5"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    while !fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap().contains(") Z") {
        sleep(Duration::from_millis(1));
    }
    assert_eq!(child.wait().unwrap().code(), Some(5));
}

/// {test_subprocess_in_native_thread}: works on every thread, not on main's only.
#[test]
fn children_of_several_threads() {
    let threads: Vec<_> = (0..3)
        .map(|thread| {
            std::thread::spawn(move || {
                let all: Vec<_> = (0..5)
                    .map(|number| {
                        spawn(move || {
                            let mut command = Command::new("sh");
                            command.args(["-c", &format!("exit {}", thread * 10 + number)]);
                            command.status().unwrap().code()
                        })
                    })
                    .collect();
                all.into_iter().map(|one| one.join().unwrap().unwrap()).collect::<Vec<_>>()
            })
        })
        .collect();
    for (thread, codes) in (0..).zip(threads) {
        let expected: Vec<i32> = (0..5).map(|number| thread * 10 + number).collect();
        assert_eq!(codes.join().unwrap(), expected);
    }
}

fn is_gone(id: u32) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(10) {
        if !fs::exists(format!("/proc/{id}")).unwrap() {
            return true;
        }
        sleep(Duration::from_millis(1));
    }
    false
}

/// As std's and tokio's: it goes on, unless it is said that it is not to.
#[test]
fn one_that_is_dropped_goes_on_unless_it_is_to_be_killed() {
    let child = sleeper().spawn().unwrap();
    let id = child.id();
    drop(child);
    sleep(Duration::from_millis(5));
    assert!(!fs::read_to_string(format!("/proc/{id}/stat")).unwrap().contains(") Z"));
    // SAFETY: a child of ours that was not waited for.
    unsafe { libc::kill(id as i32, libc::SIGKILL) };

    let child = sleeper().kill_on_drop(true).spawn().unwrap();
    let id = child.id();
    drop(child);
    assert!(is_gone(id));
}

/// Where there is no hub any more, and where nobody may wait.
#[test]
fn one_that_is_to_be_killed_is_dropped_late() {
    thread_local! {
        static LATE: std::cell::RefCell<Option<Child>> = const { std::cell::RefCell::new(None) };
    }
    let id = std::thread::spawn(|| {
        // Registered first, so dropped last.
        LATE.with(|_| ());
        let child = sleeper().kill_on_drop(true).spawn().unwrap();
        let id = child.id();
        assert_eq!(child.wait_timeout(Duration::from_millis(1)).unwrap(), None);
        LATE.set(Some(child));
        id
    });
    assert!(is_gone(id.join().unwrap()));

    let id = std::thread::spawn(|| {
        let child = sleeper().kill_on_drop(true).spawn().unwrap();
        let id = child.id();
        // Unwound when the thread ends.
        spawn(move || child.wait_end());
        yield_now();
        id
    });
    assert!(is_gone(id.join().unwrap()));

    let child = sleeper().kill_on_drop(true).spawn().unwrap();
    let id = child.id();
    spawn(|| ()).coroutine().link_in_hub(move || drop(child));
    assert!(is_gone(id));
}

#[test]
fn one_is_waited_for_in_a_greenlet_made_by_hand() {
    let by_hand =
        Greenlet::new(|()| Command::new("sh").args(["-c", "exit 7"]).status().unwrap().code());
    assert_eq!(by_hand.switch(()), Some(7));
}

/// Old kernels have none, and there may be none left.
#[test]
fn without_descriptors_a_child_is_waited_for_all_the_same() {
    alone(|| {
        // What the hub itself needs it has by then.
        drop(switchgrass::io::pipe().unwrap());
        let mut child = Command::new("sh").args(["-c", "sleep 0.1; exit 6"]).spawn().unwrap();
        let other = sleeper().kill_on_drop(true).spawn().unwrap();
        // The lowest number that is free.
        let free = fs::File::open("/dev/null").unwrap().as_raw_fd() as u64;
        let limit = libc::rlimit { rlim_cur: free, rlim_max: free };
        // SAFETY: a limit of the kind that the call wants.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
        assert!(fs::File::open("/dev/null").is_err());
        let ran = spawn(|| sleep(Duration::from_millis(5)));
        assert_eq!(other.wait_timeout(Duration::from_millis(5)).unwrap(), None);
        timeout(Duration::from_millis(5), || other.wait_end()).unwrap_err();
        assert_eq!(child.wait().unwrap().code(), Some(6));
        assert!(ran.coroutine().is_finished());
    });
}

/// {wait: ECHILD}: somebody else has taken the status.
#[test]
fn a_status_that_somebody_else_has_taken_is_an_error() {
    let mut child = Command::new("true").spawn().unwrap();
    // SAFETY: nothing is written.
    unsafe { libc::waitpid(child.id() as i32, std::ptr::null_mut(), 0) };
    assert_eq!(child.wait().unwrap_err().raw_os_error(), Some(libc::ECHILD));
}

/// Somebody in there is one that can be woken: this is no deadlock.
#[test]
fn to_wait_for_a_child_is_not_to_wait_for_ever() {
    let child = Rc::new(Command::new("sleep").arg("0.05").spawn().unwrap());
    let waiting = spawn(move || child.wait_end().unwrap().success());
    assert!(waiting.join().unwrap());
}
