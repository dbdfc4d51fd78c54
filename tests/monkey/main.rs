//! Unmodified blocking code, made cooperative. Each test runs in a process of its own, since what is patched is
//! patched for the whole process: it starts this executable again with its own name as the filter.

#[allow(
    clippy::undocumented_unsafe_blocks,
    clippy::zombie_processes,
    reason = "each table says once what it gives to libc, and its lines wait for children as C does"
)]
mod arguments;
mod c11;
mod children;
mod copies;
mod cut_short;
mod descriptors;
mod dns;
mod files;
mod forks;
mod in_handlers;
mod lingering;
mod lock_model;
mod locks;
mod mutexes;
mod owners;
mod peers;
mod polling;
mod promises;
mod reports;
mod rows;
mod runtimes;
mod rwlocks;
mod scripts;
mod signals;
mod sleeping;
mod sockets;
mod stdio;
mod streams_of_c;
mod sync;
mod threads;
mod waits;

use std::cell::Cell;
use std::env;
use std::fmt::Debug;
use std::process::Command;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};
use switchgrass::coroutine::join_all;
use switchgrass::spawn;

/// Runs `body` in a new process in which everything is patched.
#[track_caller]
fn patched(body: impl FnOnce()) {
    alone(|| {
        switchgrass::monkey::patch_all();
        body();
    });
}

/// Runs `body` in a new process.
#[track_caller]
fn alone(body: impl FnOnce()) {
    const ALONE: &str = "SWITCHGRASS_ALONE";
    let current = thread::current();
    let test = current.name().expect("the harness names threads after tests");
    if env::var_os(ALONE).is_some_and(|wanted| *wanted == *test) {
        // SAFETY: no preconditions. A test that hangs is ended by SIGALRM.
        unsafe { libc::alarm(60) };
        return body();
    }
    let mut again = Command::new(env::current_exe().expect("this test runs"));
    again.args([test, "--exact", "--nocapture", "--test-threads=1"]).env(ALONE, test);
    let output = again.output().expect("this test can run again");
    assert!(
        output.status.success(),
        "{test}: {}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
}

/// How long a call blocks that is tested.
const BLOCK: Duration = Duration::from_millis(100);

/// The test of a row: eight coroutines make a call that blocks for [`BLOCK`], and all of them have begun
/// before the first is done. And so does a plain thread, with the same result.
#[track_caller]
fn row<R: Copy + Debug + PartialEq + Send + 'static>(call: impl Fn() -> R + Copy + Send + 'static) {
    const TASKS: usize = 8;
    patched(move || {
        let timed = move || {
            let start = Instant::now();
            let result = call();
            assert!(start.elapsed() >= BLOCK, "it has not blocked: {:?}", start.elapsed());
            result
        };
        let on_a_thread = thread::spawn(timed).join().unwrap();
        let begun = Rc::new(Cell::new(0));
        let tasks = (0..TASKS).map(|_| {
            let begun = Rc::clone(&begun);
            spawn(move || {
                begun.set(begun.get() + 1);
                (timed(), begun.get())
            })
        });
        for result in join_all(tasks.collect::<Vec<_>>()) {
            assert_eq!(result.unwrap(), (on_a_thread, TASKS));
        }
    });
}

/// The test of a row that another thread does: eight coroutines make a call on what each is given, and others have
/// begun before one is done. That thread may be faster than we can look, once or twice. And a plain thread gets
/// the same result.
#[track_caller]
fn together<T: Send + 'static, R: Debug + PartialEq + Send + 'static>(
    given: impl Fn() -> T,
    call: impl Fn(T) -> R + Copy + Send + 'static,
) {
    const TASKS: usize = 8;
    patched(move || {
        let own = given();
        let on_a_thread = thread::spawn(move || call(own)).join().unwrap();
        for _ in 0..100 {
            let begun = Rc::new(Cell::new(0));
            let all: Vec<T> = (0..TASKS).map(|_| given()).collect();
            let tasks = all.into_iter().map(|own| {
                let begun = Rc::clone(&begun);
                spawn(move || {
                    begun.set(begun.get() + 1);
                    let me = begun.get();
                    (call(own), begun.get() > me)
                })
            });
            let mut have_switched = false;
            for result in join_all(tasks.collect::<Vec<_>>()) {
                let (result, has_switched) = result.unwrap();
                assert_eq!(result, on_a_thread);
                have_switched |= has_switched;
            }
            if have_switched {
                return;
            }
        }
        panic!("they were never inside at the same time");
    });
}
