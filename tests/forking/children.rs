//! How children begin, end, and are waited for.

use crate::{ALONE, run_alone, tests};
use std::cell::Cell;
use std::env;
use std::fs;
use std::io::{ErrorKind, Read, Write, pipe};
use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::panic::{catch_unwind, panic_any};
use std::process::{self, Command, exit};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};
use switchgrass::coroutine::{self, join_all};
use switchgrass::io::pipe as own_pipe;
use switchgrass::pool::ThreadPool;
use switchgrass::process::{Builder, ForkError, Process};
use switchgrass::signal::{self, Signal};
use switchgrass::{sleep, spawn, timeout, yield_now};

tests![
    what_a_body_returns_is_the_code,
    a_panic_is_code_1,
    a_signal_is_a_negative_code,
    exit_in_a_body,
    memory_is_not_shared,
    joining_with_a_limit_lets_others_run,
    several_join_one,
    fifty_children_that_end_at_once_are_all_reported,
    children_whose_handle_is_dropped_are_no_zombies,
    nothing_is_left_of_a_thousand_children,
    a_daemon_ends_with_its_parent,
    a_daemon_ends_with_a_parent_that_is_killed,
    a_child_that_is_no_daemon_is_waited_for_at_the_end,
    a_child_of_a_child,
    a_process_with_other_threads_is_not_forked,
    idle_threads_of_pools_are_no_obstacle,
    a_thread_of_a_pool_that_runs_a_job_is_an_obstacle,
    a_short_job_is_waited_for,
    a_child_that_panics_does_not_hang_beside_jobs_that_panic,
    children_of_a_process_that_ignores_sigchld,
    a_copy_of_a_handle_in_a_child_does_not_take_the_status_of_a_child_of_its_own,
    a_child_has_a_name,
    a_child_is_ended_by_a_signal_that_its_parent_handles,
    a_child_handles_signals_itself,
    a_child_that_nobody_can_wake_says_so,
    what_was_printed_before_is_printed_once,
    a_callback_in_the_hub_cannot_fork,
    no_descriptors_left,
    a_panic_whose_payload_panics_does_not_go_on_as_its_parent,
    a_pool_that_is_being_printed_is_no_obstacle,
    as_many_pools_as_there_may_be_are_no_obstacle,
    nobody_runs_while_a_process_is_made_or_refused,
    what_cannot_be_printed_first_is_an_error,
];

fn what_a_body_returns_is_the_code() {
    let codes = [
        Process::spawn(|| ()).unwrap(),
        Process::spawn(|| 3).unwrap(),
        Process::spawn(|| 256 + 7).unwrap(),
        Process::spawn(|| "4".parse::<i32>()).unwrap(),
        Process::spawn(|| "four".parse::<i32>()).unwrap(),
    ]
    .map(|child| (child.join().unwrap().code(), child.exit_code().unwrap()));
    assert_eq!(codes, [0, 3, 7, 4, 1].map(|code| (Some(code), Some(code))));
}

fn a_panic_is_code_1() {
    let child = Process::spawn(|| -> i32 { panic!("as expected") }).unwrap();
    assert_eq!(child.join().unwrap().code(), Some(1));
}

fn a_signal_is_a_negative_code() {
    let child = Process::spawn(|| sleep(Duration::from_secs(50))).unwrap();
    assert!(child.is_alive().unwrap());
    assert_eq!(child.exit_code().unwrap(), None);
    child.terminate().unwrap();
    assert_eq!(child.join().unwrap().signal(), Some(libc::SIGTERM));
    assert_eq!((child.exit_code().unwrap(), child.is_alive().unwrap()), (Some(-15), false));
    // It has ended: nobody else is meant.
    child.terminate().unwrap();
    let child = Process::spawn(|| sleep(Duration::from_secs(50))).unwrap();
    child.kill().unwrap();
    child.join().unwrap();
    assert_eq!(child.exit_code().unwrap(), Some(-9));
}

fn exit_in_a_body() {
    let sibling = spawn(|| sleep(Duration::from_millis(2)));
    let child = Process::spawn(|| -> i32 { exit(9) }).unwrap();
    assert_eq!(child.join().unwrap().code(), Some(9));
    // In a coroutine.
    let child = spawn(|| Process::spawn(|| -> i32 { exit(8) }).unwrap());
    assert_eq!(child.join().unwrap().join().unwrap().code(), Some(8));
    sibling.join().unwrap();
}

fn memory_is_not_shared() {
    let value = Cell::new(1);
    let child = Process::spawn(|| {
        value.set(value.get() + 1);
        value.get()
    });
    assert_eq!(child.unwrap().join().unwrap().code(), Some(2));
    assert_eq!(value.get(), 1);
}

fn joining_with_a_limit_lets_others_run() {
    let (reader, writer) = pipe().unwrap();
    let child = Process::spawn(move || {
        drop(writer);
        let mut reader = reader;
        reader.read_to_end(&mut Vec::new()).unwrap();
    });
    // Above, the body's copy of the writer was dropped here as well: so the child ends by itself.
    assert!(child.unwrap().join().unwrap().success());

    let (mut reader, mut writer) = pipe().unwrap();
    let child = Process::spawn(|| {
        let mut byte = [0];
        reader.read_exact(&mut byte).unwrap();
        i32::from(byte[0])
    });
    let child = child.unwrap();
    let turns = Rc::new(Cell::new(0));
    let counter = Rc::clone(&turns);
    let other = spawn(move || {
        loop {
            counter.set(counter.get() + 1);
            sleep(Duration::from_millis(1));
        }
    });
    assert!(child.join_timeout(Duration::from_millis(20)).unwrap().is_none());
    assert!(turns.get() > 2, "others have run");
    assert!(timeout(Duration::from_millis(2), || child.join()).is_err());
    writer.write_all(&[5]).unwrap();
    assert_eq!(child.join_timeout(Duration::from_secs(50)).unwrap().unwrap().code(), Some(5));
    other.kill();
}

fn several_join_one() {
    let child = Rc::new(Process::spawn(|| 6).unwrap());
    let joining = (0..5).map(|_| {
        let child = Rc::clone(&child);
        spawn(move || child.join().unwrap().code())
    });
    for result in join_all(joining.collect::<Vec<_>>()) {
        assert_eq!(result.unwrap(), Some(6));
    }
}

fn fifty_children_that_end_at_once_are_all_reported() {
    let (mut reader, writer) = pipe().unwrap();
    let children: Vec<_> = (0..50)
        .map(|number| {
            let child = Process::spawn(|| {
                // This copy, or nobody's would be the last.
                // SAFETY: the child's own, and not used again there.
                unsafe { libc::close(writer.as_raw_fd()) };
                reader.read_to_end(&mut Vec::new()).unwrap();
                number
            });
            child.unwrap()
        })
        .collect();
    let joining: Vec<_> = children
        .into_iter()
        .enumerate()
        .map(|(number, child)| spawn(move || (number, child.join().unwrap().code())))
        .collect();
    yield_now();
    drop(writer);
    for result in join_all(joining) {
        let (number, code) = result.unwrap();
        assert_eq!(code, Some(number as i32));
    }
}

/// Whether this process has a child, be it a zombie.
pub(crate) fn a_child_is_there() -> bool {
    // SAFETY: nobody is waited for, the answer alone is asked for.
    let found = unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        libc::syscall(libc::SYS_waitid, libc::P_ALL, 0, &raw mut info, options, 0)
    };
    found != -1
}

/// Waits until this process has no children, and says whether that has come about.
fn have_no_children() -> bool {
    let start = Instant::now();
    while a_child_is_there() {
        if start.elapsed() > Duration::from_secs(30) {
            return false;
        }
        sleep(Duration::from_millis(1));
    }
    true
}

fn children_whose_handle_is_dropped_are_no_zombies() {
    for _ in 0..20 {
        drop(Process::spawn(|| sleep(Duration::from_millis(2))).unwrap());
        drop(Builder::new().daemon(true).spawn(|| sleep(Duration::from_millis(2))).unwrap());
    }
    assert!(have_no_children());
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

fn nothing_is_left_of_a_thousand_children() {
    let round = || {
        let child = Process::spawn(|| sleep(Duration::from_micros(1))).unwrap();
        assert!(child.join().unwrap().success());
    };
    round();
    // The hub has its own by then.
    sleep(Duration::from_millis(1));
    let before = descriptors();
    (0..1000).for_each(|_| round());
    assert_eq!(descriptors(), before);
    assert!(have_no_children());
}

/// A daemon's life, seen by a pipe that it holds: a parent of its own, which makes it, and then does `end`.
fn daemon_of(end: impl FnOnce(&Process)) {
    let (mut is_begun, begun) = pipe().unwrap();
    let parent = Process::spawn(move || {
        let child = Builder::new().daemon(true).spawn(|| {
            let mut begun = begun;
            begun.write_all(b"x").unwrap();
            sleep(Duration::from_secs(50));
        });
        let _child = child.unwrap();
        sleep(Duration::from_millis(if cfg!(debug_assertions) { 200 } else { 100 }));
    });
    let parent = parent.unwrap();
    is_begun.read_exact(&mut [0]).unwrap();
    end(&parent);
    parent.join().unwrap();
    assert_eq!(is_begun.read(&mut [0]).unwrap(), 0, "nobody has the pipe any more");
}

fn a_daemon_ends_with_its_parent() {
    daemon_of(|_| ());
}

fn a_daemon_ends_with_a_parent_that_is_killed() {
    daemon_of(|parent| parent.kill().unwrap());
}

fn a_child_that_is_no_daemon_is_waited_for_at_the_end() {
    let (mut reader, writer) = pipe().unwrap();
    let parent = Process::spawn(move || {
        let child = Process::spawn(|| {
            sleep(Duration::from_millis(30));
            let mut writer = &writer;
            writer.write_all(b"done").unwrap();
        });
        child.unwrap();
    });
    assert!(parent.unwrap().join().unwrap().success());
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "done");
    // The same of one that ends by a return from `main`.
    if env::var_os("SWITCHGRASS_INNER").is_some() {
        let child = Process::spawn(|| {
            sleep(Duration::from_millis(30));
            println!("after main");
        });
        child.unwrap();
        println!("main");
        return;
    }
    let name = env::var(ALONE).unwrap();
    let output = Command::new(env::current_exe().unwrap())
        .env(ALONE, name)
        .env("SWITCHGRASS_INNER", "1")
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "main\nafter main\n");
}

fn a_child_of_a_child() {
    let child = Process::spawn(|| {
        let grandchild = Process::spawn(|| 4).unwrap();
        let code = grandchild.join().unwrap().code().unwrap();
        code + coroutine::spawn(|| Process::spawn(|| 5).unwrap().join().unwrap().code().unwrap())
            .join()
            .unwrap()
    });
    assert_eq!(child.unwrap().join().unwrap().code(), Some(9));
}

fn a_process_with_other_threads_is_not_forked() {
    let (end, is_to_end) = mpsc::channel::<()>();
    let thread =
        thread::Builder::new().name("a thread of ours".into()).spawn(move || is_to_end.recv());
    let error = Process::spawn(|| ()).unwrap_err();
    let ForkError::Threads(names) = &error else { panic!("{error}") };
    // The kernel keeps fifteen bytes.
    assert_eq!(names, &["a thread of our"]);
    assert!(error.to_string().contains("a thread of our"), "{error}");
    drop(end);
    let _ = thread.unwrap().join().unwrap();
    assert!(Process::spawn(|| ()).unwrap().join().unwrap().success());
}

fn idle_threads_of_pools_are_no_obstacle() {
    let pool = ThreadPool::new(2);
    let (meet, met) = mpsc::channel();
    let first = pool.spawn(move || met.recv().unwrap()).unwrap();
    let second = pool.spawn(move || meet.send(1).unwrap()).unwrap();
    second.join().unwrap();
    assert_eq!((first.join().unwrap(), pool.live()), (1, 2));
    let child = Process::spawn(|| {
        assert_eq!((pool.live(), pool.idle(), pool.queued()), (0, 0, 0));
        let sums: Vec<_> = (0..8).map(|n| pool.spawn(move || n).unwrap()).collect();
        let sum: i32 = sums.into_iter().map(|job| job.join().unwrap()).sum();
        pool.close();
        pool.join().unwrap();
        sum
    });
    assert_eq!(child.unwrap().join().unwrap().code(), Some(28));
    pool.close();
    pool.join().unwrap();
}

fn a_thread_of_a_pool_that_runs_a_job_is_an_obstacle() {
    let pool = ThreadPool::new(1);
    let (end, is_to_end) = mpsc::channel::<()>();
    let busy = pool.spawn(move || is_to_end.recv().is_ok()).unwrap();
    let error = Process::spawn(|| ()).unwrap_err();
    let ForkError::Threads(names) = &error else { panic!("{error}") };
    assert_eq!(names, &["switchgrass-poo, busy with a job"]);
    end.send(()).unwrap();
    assert!(busy.join().unwrap());
    assert!(Process::spawn(|| ()).unwrap().join().unwrap().success());
}

fn a_short_job_is_waited_for() {
    let pool = ThreadPool::new(1);
    let (end, is_to_end) = mpsc::channel::<()>();
    let busy = pool.spawn(move || {
        is_to_end.recv().unwrap();
        thread::sleep(Duration::from_millis(2));
        4
    });
    end.send(()).unwrap();
    let child = Process::spawn(|| pool.live() as i32).unwrap();
    assert_eq!(child.join().unwrap().code(), Some(0));
    assert_eq!(busy.unwrap().join().unwrap(), 4);
}

/// std prints backtraces under a lock, which a job may have that panics at the moment of a fork.
fn a_child_that_panics_does_not_hang_beside_jobs_that_panic() {
    // SAFETY: this process has one thread.
    unsafe { env::set_var("RUST_BACKTRACE", "1") };
    let pool = Rc::new(ThreadPool::new(2));
    for round in 0..8_u64 {
        let jobs =
            [0, 1].map(|_| pool.spawn(|| -> () { panic!("as expected, in a job") }).unwrap());
        thread::sleep(Duration::from_micros(500 * round));
        match Process::spawn(|| -> i32 { panic!("as expected, in a child") }) {
            Ok(child) => {
                let end = child.join_timeout(Duration::from_secs(10)).unwrap();
                assert_eq!(end.expect("it does not hang").code(), Some(1));
            }
            Err(ForkError::Threads(names)) => assert!(names[0].ends_with("busy with a job")),
            Err(error) => panic!("{error}"),
        }
        assert!(jobs.into_iter().all(|job| job.join().is_err()));
    }
}

/// Has the kernel keep no statuses of children.
pub(crate) fn ignore_sigchld() {
    // SAFETY: no handler is involved.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
}

fn children_of_a_process_that_ignores_sigchld() {
    ignore_sigchld();
    let is_lost = |error: std::io::Error| error.raw_os_error() == Some(libc::ECHILD);
    let child = Process::spawn(|| 3).unwrap();
    assert!(is_lost(child.join().unwrap_err()));
    assert!(is_lost(child.try_join().unwrap_err()));
    assert!(!child.is_alive().unwrap(), "that it has ended is known");
    child.kill().unwrap();
    let child = Process::spawn(|| sleep(Duration::from_secs(50))).unwrap();
    assert!(child.is_alive().unwrap());
    child.kill().unwrap();
    assert!(is_lost(child.join().unwrap_err()));
    drop(Process::spawn(|| ()).unwrap());
    let output = switchgrass::process::Command::new("true").status();
    assert!(is_lost(output.unwrap_err()));
}

fn a_copy_of_a_handle_in_a_child_does_not_take_the_status_of_a_child_of_its_own() {
    let sibling = Process::spawn(|| sleep(Duration::from_secs(50))).unwrap();
    let child = Process::spawn(|| {
        assert_eq!(sibling.is_alive().unwrap_err().raw_os_error(), Some(libc::ECHILD));
        assert_eq!(sibling.kill().unwrap_err().raw_os_error(), Some(libc::ECHILD));
    });
    assert!(child.unwrap().join().unwrap().success());
    assert!(sibling.is_alive().unwrap());
    sibling.kill().unwrap();
    assert_eq!(sibling.join().unwrap().signal(), Some(libc::SIGKILL));
}

fn a_child_has_a_name() {
    let child = Builder::new().name("grass that grows").spawn(|| {
        let name = fs::read_to_string("/proc/self/comm").unwrap();
        assert_eq!(name, "grass that grow\n");
    });
    let child = child.unwrap();
    assert_eq!(child.name(), Some("grass that grows"));
    assert!(child.join().unwrap().success());
    assert!(format!("{child:?}").contains("grass that grows"));
}

fn a_child_is_ended_by_a_signal_that_its_parent_handles() {
    let handled = Rc::new(Cell::new(0));
    let counter = Rc::clone(&handled);
    let handler = signal::on(Signal::TERM, move || counter.set(counter.get() + 1)).unwrap();
    let child = Process::spawn(|| sleep(Duration::from_secs(50))).unwrap();
    child.terminate().unwrap();
    assert_eq!(child.join().unwrap().signal(), Some(libc::SIGTERM));
    assert_eq!(handled.get(), 0, "it was not ours");
    // SAFETY: no preconditions.
    unsafe { libc::raise(libc::SIGTERM) };
    while handled.get() == 0 {
        sleep(Duration::from_millis(1));
    }
    handler.cancel();
}

fn a_child_handles_signals_itself() {
    let (mut is_ready, ready) = pipe().unwrap();
    let inherited = signal::on(Signal::TERM, || panic!("the parent's")).unwrap();
    let child = Process::spawn(|| {
        let mut ready = &ready;
        let code = Rc::new(Cell::new(0));
        let setter = Rc::clone(&code);
        let _handler = signal::on(Signal::TERM, move || setter.set(11)).unwrap();
        ready.write_all(b"x").unwrap();
        while code.get() == 0 {
            sleep(Duration::from_millis(1));
        }
        code.get()
    });
    let child = child.unwrap();
    is_ready.read_exact(&mut [0]).unwrap();
    child.terminate().unwrap();
    assert_eq!(child.join().unwrap().code(), Some(11));
    drop(inherited);
}

fn a_child_that_nobody_can_wake_says_so() {
    let event = switchgrass::sync::Event::new();
    let other = spawn(|| sleep(Duration::from_millis(5)));
    let child = Process::spawn(|| event.wait()).unwrap();
    assert_eq!(child.join().unwrap().code(), Some(1), "it does not wait for ever");
    other.join().unwrap();
    // Nor for one who does not run there.
    let other = spawn(|| sleep(Duration::from_millis(5)));
    let child = Process::spawn(|| drop(other.join())).unwrap();
    assert_eq!(child.join().unwrap().code(), Some(1));
}

fn what_was_printed_before_is_printed_once() {
    if env::var_os("SWITCHGRASS_INNER").is_some() {
        print!("once,");
        let child = Process::spawn(|| print!("child,")).unwrap();
        child.join().unwrap();
        print!("parent");
        return;
    }
    // SAFETY: this process has one thread.
    unsafe { env::set_var("SWITCHGRASS_INNER", "1") };
    let output = run_alone("forking::children::what_was_printed_before_is_printed_once", false);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "once,child,parent");
}

fn a_callback_in_the_hub_cannot_fork() {
    let said = Rc::new(Cell::new(false));
    let setter = Rc::clone(&said);
    let one = spawn(|| ());
    one.link_in_hub(move || {
        let forked = std::panic::catch_unwind(|| Process::spawn(|| ()));
        setter.set(forked.is_err());
    });
    one.join().unwrap();
    sleep(Duration::from_millis(1));
    assert!(said.get());
}

fn no_descriptors_left() {
    sleep(Duration::from_millis(1));
    let limit = libc::rlimit { rlim_cur: descriptors() as _, rlim_max: 1024 };
    // SAFETY: a valid limit.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
    let mut held = Vec::new();
    while let Ok(file) = fs::File::open("/dev/null") {
        held.push(file);
    }
    let error = Process::spawn(|| ()).unwrap_err();
    assert!(matches!(error, ForkError::Os(_)), "{error}");
    held.clear();
    let limit = libc::rlimit { rlim_cur: 1024, rlim_max: 1024 };
    // SAFETY: a valid limit.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
    assert!(Process::spawn(|| ()).unwrap().join().unwrap().success());
}

/// Panics when it is dropped, but not in a destructor.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(thread::panicking(), "as expected, too");
    }
}

fn a_panic_whose_payload_panics_does_not_go_on_as_its_parent() {
    let parent = process::id();
    let forked = catch_unwind(|| Process::spawn(|| -> i32 { panic_any(Bomb) }));
    if process::id() != parent {
        // Here it would return, and drop all that its parent has.
        exit(77);
    }
    assert_eq!(forked.unwrap().unwrap().join().unwrap().code(), Some(1));
}

fn a_pool_that_is_being_printed_is_no_obstacle() {
    let pool = Rc::new(ThreadPool::new(1));
    let (reader, mut writer) = own_pipe().unwrap();
    let filled = timeout(Duration::from_millis(20), || writer.write_all(&[0; 1_000_000]));
    assert!(filled.is_err());
    let printing = spawn({
        let pool = Rc::clone(&pool);
        move || write!(writer, "{pool:?}").is_err()
    });
    yield_now();
    assert!(!printing.is_finished());
    assert_eq!(pool.live(), 0);
    assert_eq!(Process::spawn(|| 3).unwrap().join().unwrap().code(), Some(3));
    drop(reader);
    assert!(printing.join().unwrap());
}

fn as_many_pools_as_there_may_be_are_no_obstacle() {
    let pools: Vec<_> = (0..20_000).map(|_| ThreadPool::new(1)).collect();
    let code = spawn(|| Process::spawn(|| 3).unwrap().join().unwrap().code());
    assert_eq!(code.join().unwrap(), Some(3));
    drop(pools);
}

fn nobody_runs_while_a_process_is_made_or_refused() {
    let turns = Rc::new(Cell::new(0));
    let counter = Rc::clone(&turns);
    let other = spawn(move || {
        loop {
            counter.set(counter.get() + 1);
            yield_now();
        }
    });
    let child = Process::spawn(|| ()).unwrap();
    assert_eq!(turns.get(), 0);
    let (end, is_to_end) = mpsc::channel::<()>();
    let thread = thread::spawn(move || is_to_end.recv().is_err());
    assert!(Process::spawn(|| ()).is_err());
    assert_eq!(turns.get(), 0);
    other.kill();
    drop(end);
    assert!(thread.join().unwrap());
    child.join().unwrap();
}

fn what_cannot_be_printed_first_is_an_error() {
    let child = Process::spawn(|| {
        let (reader, writer) = pipe().unwrap();
        // SAFETY: both are open, and both stay so.
        unsafe { libc::dup2(writer.as_raw_fd(), libc::STDOUT_FILENO) };
        drop((reader, writer));
        print!("to nobody");
        let error = Process::spawn(|| ()).unwrap_err();
        assert!(matches!(&error, ForkError::Os(error) if error.kind() == ErrorKind::BrokenPipe));
    });
    assert!(child.unwrap().join().unwrap().success());
}
