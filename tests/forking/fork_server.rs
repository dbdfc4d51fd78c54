//! Processes made by a fork server.

use crate::tests;
use std::cell::Cell;
use std::io::{Read, Write, pipe};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::ExitStatusExt;
use std::rc::Rc;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use std::{env, process, thread};
use switchgrass::coroutine::join_all;
use switchgrass::process::{Builder, ForkServer, Process, ProcessPool};
use switchgrass::{sleep, spawn, timeout, yield_now};

tests![
    processes_for_a_program_with_threads,
    what_a_function_returns_is_the_code,
    signals_reach_its_processes,
    it_is_as_it_was_when_it_was_started,
    many_coroutines_and_threads_ask_at_once,
    joining_lets_others_run,
    many_coroutines_ask_for_the_end_of_one_process,
    it_ends_with_its_last_handle,
    a_server_that_is_killed_is_an_error,
    ends_are_known_where_the_program_ignores_sigchld,
    signals_without_a_descriptor_go_by_the_server,
    a_server_without_descriptors_says_so_and_goes_on,
    ctrl_c_is_for_its_processes,
    its_processes_are_waited_for_at_the_end_but_daemons,
    a_copy_in_a_child_ends_nothing,
    a_child_takes_no_end_of_a_process_from_its_parent,
    exit_while_others_ask_for_processes,
    exit_while_others_ask_for_daemons,
    no_descriptors_left_for_a_server,
    one_that_asks_is_killed_at_each_moment,
    the_server_is_killed_at_each_moment,
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

/// To ask the server lets others run now and then, and those may ask as well.
fn many_coroutines_ask_for_the_end_of_one_process() {
    let server = ForkServer::start().unwrap();
    let child = Rc::new(server.spawn(|()| sleep(Duration::from_millis(50)), &()).unwrap());
    let asking = (0..8).map(|_| {
        let child = Rc::clone(&child);
        spawn(move || while child.is_alive().unwrap() {})
    });
    let asking: Vec<_> = asking.collect();
    assert!(join_all(asking).iter().all(Result::is_ok));
    assert_eq!(child.exit_code().unwrap(), Some(0));
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

fn ends_are_known_where_the_program_ignores_sigchld() {
    let reap_by_itself = || {
        // SAFETY: all-zero is a valid action, which is that by default; no handler is involved.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_flags = libc::SA_NOCLDWAIT;
            libc::sigaction(libc::SIGCHLD, &action, std::ptr::null_mut());
        }
    };
    for ignore in [crate::children::ignore_sigchld, reap_by_itself] {
        ignore();
        let server = ForkServer::start().unwrap();
        let child = server.spawn(|n: i32| n, &3).unwrap();
        assert_eq!(child.join().unwrap().code(), Some(3));
        let child = server.spawn(|()| sleep(LONG), &()).unwrap();
        child.kill().unwrap();
        assert_eq!(child.join().unwrap().signal(), Some(9));
        // Its processes are as the program was.
        let its_own = |()| {
            // SAFETY: all-zero is a valid action, to be filled in.
            let action = unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                libc::sigaction(libc::SIGCHLD, std::ptr::null(), &mut action);
                action
            };
            i32::from(
                action.sa_sigaction == libc::SIG_IGN || action.sa_flags & libc::SA_NOCLDWAIT != 0,
            )
        };
        assert_eq!(server.spawn(its_own, &()).unwrap().join().unwrap().code(), Some(1));
    }
}

/// Takes all descriptors that there are.
fn take_all_descriptors() -> Vec<std::fs::File> {
    std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect()
}

fn signals_without_a_descriptor_go_by_the_server() {
    let signal_to_server = |signal| {
        // SAFETY: no memory is involved.
        assert_eq!(unsafe { libc::kill(only_child(), signal) }, 0);
    };
    let without_descriptor = |server: &ForkServer| {
        let server_id = only_child();
        signal_to_server(libc::SIGSTOP);
        // The other takes them while this waits for the answer.
        let taking = spawn(move || {
            let taken = take_all_descriptors();
            // SAFETY: no memory is involved.
            assert_eq!(unsafe { libc::kill(server_id, libc::SIGCONT) }, 0);
            taken
        });
        let child = server.spawn(|()| sleep(LONG), &()).unwrap();
        let taken = taking.join().unwrap();
        assert!(!taken.is_empty());
        child
    };
    let server = ForkServer::start().unwrap();
    assert!(server.spawn(|()| (), &()).unwrap().join().unwrap().success());
    limit_descriptors(0, 64);
    let child = without_descriptor(&server);
    child.send_signal(libc::SIGTERM).unwrap();
    assert_eq!(child.join().unwrap().signal(), Some(15));
    child.kill().unwrap();
    // Without the server nobody knows whose number it is.
    let child = without_descriptor(&server);
    signal_to_server(libc::SIGKILL);
    assert!(child.join().is_err());
    let error = child.kill().unwrap_err();
    assert!(error.to_string().contains("fork server has ended"), "{error}");
    // SAFETY: no memory is involved. It lives, so that no test leaves it behind.
    assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGKILL) }, 0);
}

fn a_server_without_descriptors_says_so_and_goes_on() {
    let server = ForkServer::start().unwrap();
    assert!(server.spawn(|()| (), &()).unwrap().join().unwrap().success());
    let used = std::fs::read_dir(format!("/proc/{}/fd", only_child())).unwrap().count();
    let mut is_told = false;
    // From none that arrives to all but the last.
    for room in 0..8 {
        limit_descriptors(only_child(), used + room - 5);
        let pool = ProcessPool::by_server(server.clone(), 1);
        let error =
            pool.apply(|n: i32| n, 4).err().map_or(String::new(), |error| error.to_string());
        is_told |= error.ends_with("the fork server has no descriptors left");
        let says_so = ["no descriptors left", "Too many open files"];
        assert!(
            error.is_empty() || says_so.iter().any(|words| error.contains(words)),
            "{room}: {error}"
        );
        limit_descriptors(only_child(), 1024);
        // The pool has tried once more since.
        let again = (0..2).find_map(|_| pool.apply(|n: i32| n, 4).ok());
        assert_eq!(again, Some(4), "it goes on");
        pool.close();
        pool.join().unwrap();
    }
    assert!(is_told, "it says so itself, where it can");
}

fn ctrl_c_is_for_its_processes() {
    // A shell without job control has what it runs in the background ignore it, and that is inherited.
    // SAFETY: no handler is involved.
    assert_ne!(unsafe { libc::signal(libc::SIGINT, libc::SIG_DFL) }, libc::SIG_ERR);
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

fn a_child_takes_no_end_of_a_process_from_its_parent() {
    let server = ForkServer::start().unwrap();
    let process = server.spawn(|n: i32| n, &3).unwrap();
    let child = Process::spawn(|| {
        let errors = [process.join().unwrap_err(), process.is_alive().unwrap_err()];
        assert!(errors.iter().all(|error| error.raw_os_error() == Some(libc::ECHILD)));
    });
    assert!(child.unwrap().join().unwrap().success());
    assert_eq!(process.join().unwrap().code(), Some(3));
    // What was known before is known there.
    let child = Process::spawn(|| process.join().unwrap().code().unwrap()).unwrap();
    assert_eq!(child.join().unwrap().code(), Some(3));
}

/// Its coroutines are not unwound, nor do they go on.
fn exit_in_a_coroutine(builder: fn() -> Builder, bytes: usize) {
    let program = Process::spawn(|| {
        let server = ForkServer::start().unwrap();
        for _ in 0..3 {
            let server = server.clone();
            let argument = vec![0_u8; bytes];
            spawn(move || drop(server.spawn_as(builder(), |_: Vec<u8>| sleep(LONG), &argument)));
        }
        spawn(|| -> () { process::exit(5) }).join().unwrap();
    });
    let program = program.unwrap();
    assert_eq!(program.join().unwrap().code(), Some(5));
}

fn exit_while_others_ask_for_processes() {
    exit_in_a_coroutine(Builder::new, 10_000_000);
}

fn exit_while_others_ask_for_daemons() {
    exit_in_a_coroutine(|| Builder::new().daemon(true), 1000);
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Waits until there are so few descriptors as before, and no child.
fn settle(before: usize) {
    let start = Instant::now();
    while descriptors() > before || crate::children::a_child_is_there() {
        assert!(start.elapsed() < LONG, "{} descriptors of {before}", descriptors());
        sleep(Duration::from_millis(1));
    }
}

/// How many descriptors there are when all that is kept has been made.
fn descriptors_at_first() -> usize {
    ForkServer::start().unwrap().spawn(|n: i32| n, &1).unwrap().join().unwrap();
    sleep(Duration::from_millis(20));
    while crate::children::a_child_is_there() {
        sleep(Duration::from_millis(1));
    }
    descriptors()
}

/// Lets this process, or another, have so many descriptors at most.
fn limit_descriptors(process: i32, most: usize) {
    let limit = libc::rlimit { rlim_cur: most as _, rlim_max: 1024 };
    // SAFETY: a valid limit; the one before is not asked for.
    let done = unsafe { libc::prlimit(process, libc::RLIMIT_NOFILE, &limit, std::ptr::null_mut()) };
    assert_eq!(done, 0);
}

fn no_descriptors_left_for_a_server() {
    let before = descriptors_at_first();
    let mut ends = Vec::new();
    for room in 0..14 {
        limit_descriptors(0, before - 1 + room);
        let started = ForkServer::start();
        let made = started.map_err(|error| error.to_string()).and_then(|server| {
            let made = server.spawn(|n: i32| n, &3).and_then(|process| process.join());
            made.map(|status| status.code()).map_err(|error| error.to_string())
        });
        let pool = ProcessPool::new(1).map(|pool| pool.apply(|n: i32| n, 4));
        limit_descriptors(0, 1024);
        ends.push((made, pool.is_ok_and(|result| result == Ok(4))));
        settle(before);
    }
    assert!(ends[0].0.is_err() && !ends[0].1, "{ends:?}");
    assert!(ends[13] == (Ok(Some(3)), true), "{ends:?}");
    // The same of the server.
    let mut ends = Vec::new();
    for room in 0..10 {
        let server = ForkServer::start().unwrap();
        assert!(server.spawn(|()| (), &()).unwrap().join().unwrap().success());
        let its_descriptors = format!("/proc/{}/fd", only_child());
        let used = std::fs::read_dir(its_descriptors).unwrap().count();
        limit_descriptors(only_child(), used + room);
        let made = server.spawn(|n: i32| n, &3).and_then(|process| process.join());
        let pool = ProcessPool::by_server(server, 1);
        ends.push((made.is_ok(), pool.apply(|n: i32| n, 4) == Ok(4)));
        drop(pool);
        settle(before);
    }
    assert_eq!((ends[0], ends[9]), ((false, false), (true, true)), "{ends:?}");
}

fn one_that_asks_is_killed_at_each_moment() {
    let before = descriptors_at_first();
    for step in 0..40 {
        let server = ForkServer::start().unwrap();
        let asking = spawn({
            let server = server.clone();
            move || server.spawn(|_: Vec<u8>| (), &vec![0; 1_000_000]).unwrap().join().unwrap()
        });
        sleep(Duration::from_micros(step * 50));
        asking.kill_wait(None);
        assert!(server.spawn(|()| (), &()).unwrap().join().unwrap().success());
    }
    settle(before);
}

fn the_server_is_killed_at_each_moment() {
    let before = descriptors_at_first();
    for step in 0..40 {
        let server = ForkServer::start().unwrap();
        let id = only_child();
        let asking = (0..4).map(|_| {
            let server = server.clone();
            spawn(move || server.spawn(|_: Vec<u8>| (), &vec![0; 100_000])?.join())
        });
        let asking: Vec<_> = asking.collect();
        sleep(Duration::from_micros(step * 50));
        // SAFETY: no memory is involved.
        assert_eq!(unsafe { libc::kill(id, libc::SIGKILL) }, 0);
        // An error or not, it has an end.
        join_all(asking).into_iter().for_each(|end| drop(end.unwrap()));
        let pool = ProcessPool::by_server(server, 1);
        assert!(pool.apply(|n: i32| n, 3).is_err());
        drop(pool);
        settle(before);
    }
}
