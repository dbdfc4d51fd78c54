//! Processes made by a fork server.

use crate::tests;
use std::cell::Cell;
use std::io::{Read, Write, pipe};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::ExitStatusExt;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use std::{env, process, thread};
use switchgrass::coroutine::join_all;
use switchgrass::process::{Builder, ForkServer, Process};
use switchgrass::{sleep, spawn, timeout, yield_now};

tests![
    processes_for_a_program_with_threads,
    what_a_function_returns_is_the_code,
    signals_reach_its_processes,
    it_is_as_it_was_when_it_was_started,
    many_coroutines_and_threads_ask_at_once,
    joining_lets_others_run,
    it_ends_with_its_last_handle,
    a_server_that_is_killed_is_an_error,
    ctrl_c_is_for_its_processes,
    its_processes_are_waited_for_at_the_end_but_daemons,
    a_copy_in_a_child_ends_nothing,
];

const LONG: Duration = Duration::from_secs(50);

fn processes_for_a_program_with_threads() {
    let server = ForkServer::start().unwrap();
    let (end, is_to_end) = mpsc::channel::<()>();
    let thread = thread::spawn(move || is_to_end.recv().is_err());
    assert!(Process::spawn(|| ()).is_err());
    assert!(ForkServer::start().is_err());
    let child = server.spawn(|(a, b): (i32, String)| a + b.len() as i32, &(3, "four".into()));
    assert_eq!(child.unwrap().join().unwrap().code(), Some(7));
    drop(end);
    assert!(thread.join().unwrap());
}

fn what_a_function_returns_is_the_code() {
    let server = ForkServer::start().unwrap();
    let all = [
        server.spawn(|()| (), &()).unwrap(),
        server.spawn(|n: i32| n, &3).unwrap(),
        server.spawn(|text: String| text.parse::<i32>(), &"four".into()).unwrap(),
        server.spawn(|()| -> i32 { panic!("as expected") }, &()).unwrap(),
        server.spawn(|()| -> i32 { process::exit(9) }, &()).unwrap(),
    ];
    let codes = all.map(|child| {
        assert_ne!(child.id(), process::id());
        let code = child.join().unwrap().code().unwrap();
        assert_eq!((child.exit_code().unwrap(), child.is_alive().unwrap()), (Some(code), false));
        code
    });
    assert_eq!(codes, [0, 3, 1, 1, 9]);
}

fn signals_reach_its_processes() {
    let server = ForkServer::start().unwrap();
    let child = server.spawn(|()| sleep(LONG), &()).unwrap();
    assert!(child.join_timeout(Duration::from_millis(5)).unwrap().is_none());
    assert!(child.is_alive().unwrap());
    child.terminate().unwrap();
    assert_eq!(child.join().unwrap().signal(), Some(15));
    assert_eq!(child.exit_code().unwrap(), Some(-15));
    // It has ended: nobody else is meant.
    child.kill().unwrap();
    let child = server.spawn(|()| sleep(LONG), &()).unwrap();
    child.kill().unwrap();
    child.kill().unwrap();
    assert_eq!(child.join().unwrap().signal(), Some(9));
}

thread_local! {
    static STATE: Cell<i32> = const { Cell::new(1) };
}

fn it_is_as_it_was_when_it_was_started() {
    STATE.set(2);
    let server = ForkServer::start().unwrap();
    STATE.set(3);
    for _ in 0..2 {
        let child = server.spawn(|()| STATE.replace(5), &()).unwrap();
        assert_eq!(child.join().unwrap().code(), Some(2));
    }
    // With a name.
    let builder = Builder::new().name("named");
    let its_name = |()| std::fs::read_to_string("/proc/self/comm").map(|name| name.len() as i32);
    let child = server.spawn_as(builder, its_name, &()).unwrap();
    assert_eq!((child.name(), child.join().unwrap().code()), (Some("named"), Some(6)));
}

fn many_coroutines_and_threads_ask_at_once() {
    let server = ForkServer::start().unwrap();
    let ask = move |server: ForkServer, from: i32| {
        let all = (0..10).map(|n| {
            let server = server.clone();
            spawn(move || {
                let child = server.spawn(
                    |n: i32| {
                        sleep(Duration::from_millis(1));
                        n
                    },
                    &(from + n),
                );
                (from + n, child.unwrap().join().unwrap().code())
            })
        });
        for result in join_all(all.collect::<Vec<_>>()) {
            let (n, code) = result.unwrap();
            assert_eq!(code, Some(n));
        }
    };
    let threads = [10, 20, 30].map(|from| {
        let server = server.clone();
        thread::spawn(move || ask(server, from))
    });
    ask(server, 0);
    for thread in threads {
        thread.join().unwrap();
    }
}

fn joining_lets_others_run() {
    let server = ForkServer::start().unwrap();
    let child = server.spawn(|()| sleep(Duration::from_millis(20)), &()).unwrap();
    let other = spawn(|| sleep(Duration::from_millis(1)));
    assert!(timeout(Duration::from_millis(2), || child.join()).is_err());
    assert!(child.join().unwrap().success());
    assert!(other.is_finished());
}

fn it_ends_with_its_last_handle() {
    let server = ForkServer::start().unwrap();
    let child = server.spawn(|()| sleep(Duration::from_millis(20)), &()).unwrap();
    let further = server.clone();
    drop(server);
    assert!(further.spawn(|()| (), &()).unwrap().join().unwrap().success());
    drop(further);
    assert!(child.join().unwrap().success(), "what it has made goes on");
    let start = Instant::now();
    while crate::children::a_child_is_there() {
        assert!(start.elapsed() < LONG, "a process is left");
        sleep(Duration::from_millis(1));
    }
}

/// The one child that this process has.
fn only_child() -> i32 {
    let path = format!("/proc/self/task/{}/children", process::id());
    let children = std::fs::read_to_string(path).unwrap();
    children.split_whitespace().next().unwrap().parse().unwrap()
}

fn a_server_that_is_killed_is_an_error() {
    let server = ForkServer::start().unwrap();
    let child = server.spawn(|()| sleep(LONG), &()).unwrap();
    // SAFETY: no memory is involved.
    assert_eq!(unsafe { libc::kill(only_child(), libc::SIGKILL) }, 0);
    let error = child.join().unwrap_err();
    assert!(error.to_string().contains("fork server has ended"), "{error}");
    let error = server.spawn(|()| (), &()).unwrap_err();
    assert!(error.to_string().contains("fork server has ended"), "{error}");
    child.kill().unwrap();
}

fn ctrl_c_is_for_its_processes() {
    let server = ForkServer::start().unwrap();
    let child = server.spawn(|()| sleep(LONG), &()).unwrap();
    // SAFETY: no memory is involved.
    assert_eq!(unsafe { libc::kill(only_child(), libc::SIGINT) }, 0);
    assert!(server.spawn(|()| (), &()).unwrap().join().unwrap().success());
    child.send_signal(libc::SIGINT).unwrap();
    assert_eq!(child.join().unwrap().signal(), Some(libc::SIGINT));
}

fn its_processes_are_waited_for_at_the_end_but_daemons() {
    /// Writes a letter after a while, and another in the end.
    fn write((number, first, pause): (RawFd, u8, u64)) {
        // SAFETY: inherited from the test, which has told the number, and not used otherwise here.
        let fd = unsafe { OwnedFd::from_raw_fd(number) };
        let mut file = std::fs::File::from(fd);
        file.write_all(&[first]).unwrap();
        sleep(Duration::from_millis(pause));
        file.write_all(&[first.to_ascii_uppercase()]).unwrap();
    }
    let (mut reader, writer) = pipe().unwrap();
    let program = Process::spawn(move || {
        let server = ForkServer::start().unwrap();
        let fd = writer.as_raw_fd();
        drop(server.spawn(write, &(fd, b'a', 50)).unwrap());
        let daemon = Builder::new().daemon(true);
        drop(server.spawn_as(daemon, write, &(fd, b'd', 40_000)).unwrap());
        sleep(Duration::from_millis(20));
    });
    assert!(program.unwrap().join().unwrap().success());
    let mut text = String::new();
    // To the end: nobody is left.
    reader.read_to_string(&mut text).unwrap();
    let mut letters: Vec<_> = text.chars().collect();
    letters.sort();
    assert_eq!(letters, ['A', 'a', 'd']);
}

fn a_copy_in_a_child_ends_nothing() {
    let server = ForkServer::start().unwrap();
    let child = Process::spawn(|| {
        // It can be used.
        let code = server.spawn(|n: i32| n, &4).unwrap().join().unwrap().code();
        drop(server.clone());
        code.unwrap()
    });
    assert_eq!(child.unwrap().join().unwrap().code(), Some(4));
    let other = server.clone();
    let child = Process::spawn(move || drop(other)).unwrap();
    assert!(child.join().unwrap().success());
    yield_now();
    assert_eq!(server.spawn(|n: i32| n, &5).unwrap().join().unwrap().code(), Some(5));
    assert!(env::var_os("SWITCHGRASS_ALONE").is_some());
}
