//! Pools of processes.

use crate::tests;
use serde::{Deserialize, Serialize, Serializer};
use std::cell::{Cell, RefCell};
use std::fs::{self, File};
use std::io::{Read, Write, pipe};
use std::path::{Path, PathBuf};
use std::process;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};
use switchgrass::coroutine::join_all;
use switchgrass::process::{ForkServer, JobError, Process, ProcessPool};
use switchgrass::sync::Event;
use switchgrass::{sleep, spawn, timeout, yield_now};

tests![
    calls_are_made_in_other_processes,
    jobs_run_at_the_same_time,
    others_run_while_one_waits_for_a_job,
    a_callback_is_called_here_on_success_alone,
    a_slow_callback_holds_up_nobody,
    a_result_that_is_not_there_in_time,
    a_closed_pool_takes_no_jobs_and_does_those_it_has,
    join_is_refused_before_close,
    terminate_drops_what_waits_and_kills_what_runs,
    a_pool_that_is_dropped_is_terminated,
    a_panic_is_told_and_the_worker_goes_on,
    a_worker_that_is_killed_in_mid_job_is_replaced,
    a_worker_that_exits_in_mid_job_is_replaced,
    a_worker_that_is_killed_while_it_is_idle,
    map_keeps_the_order,
    map_raises_the_first_error_when_all_are_done,
    a_death_in_a_chunk_is_that_of_one_job,
    large_arguments_and_results,
    what_cannot_be_encoded,
    jobs_use_coroutines,
    a_job_goes_on_when_nobody_waits_for_it,
    nothing_is_left_of_a_pool,
    a_pool_in_a_program_with_threads,
    a_copy_of_a_pool_in_a_child,
    workers_end_with_a_program_that_is_killed,
    a_thousand_jobs_with_deaths_among_them,
    a_worker_that_is_killed_and_has_left_a_process,
    a_worker_that_leaves_a_process_with_its_socket_hangs_no_job,
    jobs_in_a_process_that_ignores_sigchld,
    workers_that_are_killed_at_each_moment,
];

const LONG: Duration = Duration::from_secs(50);

/// A folder of this test's, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("switchgrass-pools-{}", process::id()));
        fs::create_dir(&path).unwrap();
        Folder(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// In a job, or here beside jobs.
fn wait_for(path: &Path) {
    let start = Instant::now();
    while !path.exists() {
        assert!(start.elapsed() < LONG, "{} never comes", path.display());
        sleep(Duration::from_millis(1));
    }
}

fn touch(path: &Path) {
    File::create(path).unwrap();
}

/// Says that it has begun, and waits until it may end.
fn meet((begun, end): (PathBuf, PathBuf)) -> u32 {
    touch(&begun);
    wait_for(&end);
    process::id()
}

fn id((): ()) -> u32 {
    process::id()
}

fn calls_are_made_in_other_processes() {
    let pool = ProcessPool::new(1).unwrap();
    let worker = pool.apply(id, ()).unwrap();
    assert_ne!(worker, process::id());
    assert_eq!(pool.apply(id, ()).unwrap(), worker, "one that goes on");
    assert_eq!(
        pool.apply(|(a, b): (i32, String)| b.repeat(a as usize), (2, "ab".into())).unwrap(),
        "abab"
    );
    assert_eq!(pool.workers(), 1);
}

fn jobs_run_at_the_same_time() {
    let (pool, folder) = (ProcessPool::new(2).unwrap(), Folder::new());
    // Each ends when the other has begun.
    let jobs = [("a", "b"), ("b", "a")]
        .map(|(own, other)| pool.apply_async(meet, (folder.path(own), folder.path(other))));
    let [a, b] = jobs.map(|job| job.join().unwrap());
    assert_ne!(a, b);
}

fn others_run_while_one_waits_for_a_job() {
    let (pool, folder) = (ProcessPool::new(1).unwrap(), Folder::new());
    let (begun, end) = (folder.path("begun"), folder.path("end"));
    let other = spawn({
        let (begun, end) = (begun.clone(), end.clone());
        move || {
            wait_for(&begun);
            touch(&end);
        }
    });
    pool.apply(meet, (begun, end)).unwrap();
    other.join().unwrap();
}

fn a_callback_is_called_here_on_success_alone() {
    let pool = ProcessPool::new(2).unwrap();
    let told = Rc::new(RefCell::new(Vec::new()));
    let callbacks = (0..4_u32).map(|n| {
        let (good, bad) = (Rc::clone(&told), Rc::clone(&told));
        pool.apply_async(|n: u32| 12 / n, n).then(
            move |result| good.borrow_mut().push((process::id(), format!("{result}"))),
            move |error| bad.borrow_mut().push((process::id(), format!("{error}"))),
        )
    });
    join_all(callbacks.collect::<Vec<_>>());
    let mut told = told.take();
    told.sort();
    assert!(told.iter().all(|(process, _)| *process == process::id()));
    let told: Vec<_> = told.into_iter().map(|(_, text)| text).collect();
    assert_eq!(told[..3], ["12", "4", "6"]);
    assert!(told[3].contains("divide by zero"), "{told:?}");
}

fn a_slow_callback_holds_up_nobody() {
    let pool = ProcessPool::new(1).unwrap();
    let event = Rc::new(Event::new());
    let waits = Rc::clone(&event);
    let slow = pool.apply_async(id, ()).then(move |_| waits.wait(), |_| ());
    pool.apply(id, ()).unwrap();
    assert!(!slow.is_finished());
    event.set();
    slow.join().unwrap();
}

fn a_result_that_is_not_there_in_time() {
    let (pool, folder) = (ProcessPool::new(1).unwrap(), Folder::new());
    let job = pool.apply_async(meet, (folder.path("begun"), folder.path("end")));
    wait_for(&folder.path("begun"));
    assert!(job.join_timeout(Duration::from_millis(5)).is_none());
    assert!(!job.is_finished());
    touch(&folder.path("end"));
    assert!(job.join_timeout(LONG).unwrap().is_ok());
    assert!(job.is_finished());
    assert!(job.join().is_ok(), "once more");
}

fn a_closed_pool_takes_no_jobs_and_does_those_it_has() {
    let pool = ProcessPool::new(2).unwrap();
    let jobs: Vec<_> = (0..20).map(|n| pool.apply_async(|n: i32| n * n, n)).collect();
    pool.close();
    assert_eq!(pool.apply(id, ()).unwrap_err(), JobError::Closed);
    assert_eq!(pool.map(|n: i32| n, [1, 2]).unwrap_err(), JobError::Closed);
    pool.join().unwrap();
    assert_eq!(pool.workers(), 0);
    for (n, job) in jobs.into_iter().enumerate() {
        assert!(job.is_finished());
        assert_eq!(job.join().unwrap(), (n * n) as i32);
    }
    pool.join().unwrap();
}

fn join_is_refused_before_close() {
    let pool = ProcessPool::new(1).unwrap();
    let error = pool.join().unwrap_err();
    assert!(error.to_string().contains("close()"), "{error}");
    pool.close();
    pool.join().unwrap();
}

fn terminate_drops_what_waits_and_kills_what_runs() {
    let (pool, folder) = (ProcessPool::new(1).unwrap(), Folder::new());
    let running = pool.apply_async(meet, (folder.path("begun"), folder.path("never")));
    let waiting = pool.apply_async(id, ());
    wait_for(&folder.path("begun"));
    pool.terminate();
    pool.join().unwrap();
    assert_eq!(running.join().unwrap_err(), JobError::Closed);
    assert_eq!(waiting.join().unwrap_err(), JobError::Closed);
    assert_eq!(pool.apply(id, ()).unwrap_err(), JobError::Closed);
}

fn a_pool_that_is_dropped_is_terminated() {
    let (pool, folder) = (ProcessPool::new(1).unwrap(), Folder::new());
    let running = pool.apply_async(meet, (folder.path("begun"), folder.path("never")));
    wait_for(&folder.path("begun"));
    drop(pool);
    assert_eq!(running.join().unwrap_err(), JobError::Closed);
    // Before its workers have been made.
    let pool = ProcessPool::new(3).unwrap();
    let waiting = pool.apply_async(id, ());
    drop(pool);
    assert_eq!(waiting.join().unwrap_err(), JobError::Closed);
}

fn a_panic_is_told_and_the_worker_goes_on() {
    let pool = ProcessPool::new(1).unwrap();
    let worker = pool.apply(id, ()).unwrap();
    let error = pool.apply(|n: i32| -> i32 { panic!("number {n}") }, 7).unwrap_err();
    assert_eq!(error, JobError::Panicked("number 7".into()));
    let error = pool.apply(|()| -> i32 { std::panic::panic_any(7) }, ()).unwrap_err();
    assert_eq!(error, JobError::Panicked("(no message)".into()));
    assert_eq!(pool.apply(id, ()).unwrap(), worker);
}

fn kill(process: u32) {
    // SAFETY: no memory is involved.
    assert_eq!(unsafe { libc::kill(process as i32, libc::SIGKILL) }, 0);
}

fn die((): ()) -> u32 {
    kill(process::id());
    unreachable!("it was killed")
}

fn a_worker_that_is_killed_in_mid_job_is_replaced() {
    let pool = ProcessPool::new(1).unwrap();
    let worker = pool.apply(id, ()).unwrap();
    let jobs = [pool.apply_async(id, ()), pool.apply_async(die, ()), pool.apply_async(id, ())];
    pool.close();
    pool.join().unwrap();
    let [before, death, after] = jobs.map(|job| job.join());
    assert_eq!(before.unwrap(), worker);
    let JobError::Died(status) = death.unwrap_err() else { panic!("it has died") };
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
    assert_ne!(after.unwrap(), worker);
}

fn a_worker_that_exits_in_mid_job_is_replaced() {
    let pool = ProcessPool::new(1).unwrap();
    let error = pool.apply(|n: i32| -> i32 { process::exit(n) }, 3).unwrap_err();
    let JobError::Died(status) = error else { panic!("{error}") };
    assert_eq!(status.code(), Some(3));
    assert_eq!(pool.apply(|n: i32| n, 4).unwrap(), 4);
}

fn a_worker_that_is_killed_while_it_is_idle() {
    let pool = ProcessPool::new(1).unwrap();
    let worker = pool.apply(id, ()).unwrap();
    kill(worker);
    // It cannot be told from one that dies of the job, unless that was not sent at all.
    match pool.apply(id, ()) {
        Ok(other) => assert_ne!(other, worker),
        Err(error) => assert!(matches!(error, JobError::Died(_)), "{error}"),
    }
    assert_ne!(pool.apply(id, ()).unwrap(), worker);
}

fn map_keeps_the_order() {
    let pool = ProcessPool::new(3).unwrap();
    let squares = pool.map(|n: u64| n * n, 0..1000).unwrap();
    assert!(squares.into_iter().eq((0..1000).map(|n| n * n)));
    assert!(pool.map(|n: u64| n, []).unwrap().is_empty());
}

fn map_raises_the_first_error_when_all_are_done() {
    let (pool, folder) = (ProcessPool::new(2).unwrap(), Folder::new());
    let all = (0..10).map(|n| (n, folder.path(&n.to_string())));
    let error = pool.map(
        |(n, path): (i32, PathBuf)| {
            touch(&path);
            assert!(n != 3 && n != 6, "number {n}");
        },
        all,
    );
    let JobError::Panicked(message) = error.unwrap_err() else { panic!("it has panicked") };
    assert!(message.contains("number 3"), "{message}");
    assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 10, "all were done");
}

fn a_death_in_a_chunk_is_that_of_one_job() {
    let (pool, folder) = (ProcessPool::new(1).unwrap(), Folder::new());
    let all = (0..40).map(|n| (n, folder.path(&n.to_string())));
    let result = pool.map(
        |(n, path): (i32, PathBuf)| {
            touch(&path);
            if n == 13 {
                die(());
            }
        },
        all,
    );
    assert!(matches!(result.unwrap_err(), JobError::Died(_)));
    assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 40, "all were done, each once");
}

fn large_arguments_and_results() {
    let pool = ProcessPool::new(2).unwrap();
    let bytes: Vec<u8> = (0..10_000_000_u32).map(|n| n as u8).collect();
    let mut turned = pool
        .apply(
            |mut bytes: Vec<u8>| {
                bytes.reverse();
                bytes
            },
            bytes.clone(),
        )
        .unwrap();
    turned.reverse();
    assert!(turned == bytes);
}

/// Cannot be encoded.
#[derive(Debug, Deserialize)]
struct Stubborn;

impl Serialize for Stubborn {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("not this one"))
    }
}

fn what_cannot_be_encoded() {
    let pool = ProcessPool::new(1).unwrap();
    let error = pool.apply(|_: Stubborn| 1, Stubborn).unwrap_err();
    assert!(matches!(&error, JobError::NotEncoded(text) if text.contains("Stubborn")), "{error}");
    let error = pool.apply(|()| Stubborn, ()).unwrap_err();
    assert!(matches!(&error, JobError::NotEncoded(text) if text.contains("Stubborn")), "{error}");
    // A type that is not read as it is written.
    let error = pool.apply(|text: String| text, "x".into()).map(|text: String| text);
    assert_eq!(error.unwrap(), "x");
    assert_eq!(pool.apply(|n: i32| n, 4).unwrap(), 4);
}

fn jobs_use_coroutines() {
    let pool = ProcessPool::new(1).unwrap();
    let sum = pool.apply(
        |numbers: Vec<u32>| {
            let all: Vec<_> = numbers
                .into_iter()
                .map(|n| {
                    spawn(move || {
                        sleep(Duration::from_millis(1));
                        n
                    })
                })
                .collect();
            join_all(all).into_iter().map(|n| n.unwrap()).sum::<u32>()
        },
        (0..10).collect(),
    );
    assert_eq!(sum.unwrap(), 45);
}

fn a_job_goes_on_when_nobody_waits_for_it() {
    let (pool, folder) = (ProcessPool::new(1).unwrap(), Folder::new());
    let paths = (folder.path("begun"), folder.path("end"));
    assert!(timeout(Duration::from_millis(5), || pool.apply(meet, paths)).is_err());
    drop(pool.apply_async(meet, (folder.path("second"), folder.path("end"))));
    touch(&folder.path("end"));
    pool.close();
    pool.join().unwrap();
    assert!(folder.path("begun").exists() && folder.path("second").exists());
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

fn nothing_is_left_of_a_pool() {
    let round = || {
        let pool = ProcessPool::new(3).unwrap();
        assert_eq!(pool.map(|n: i32| n + 1, 0..10).unwrap().len(), 10);
        let _ = pool.apply(die, ());
        pool.close();
        pool.join().unwrap();
    };
    round();
    let before = descriptors();
    (0..5).for_each(|_| round());
    // The servers end a moment later.
    let start = Instant::now();
    while descriptors() > before && start.elapsed() < LONG {
        sleep(Duration::from_millis(1));
    }
    assert!(descriptors() <= before);
    while crate::children::a_child_is_there() {
        assert!(start.elapsed() < LONG, "a process is left");
        sleep(Duration::from_millis(1));
    }
}

fn a_pool_in_a_program_with_threads() {
    let (pool, server) = (ProcessPool::new(2).unwrap(), ForkServer::start().unwrap());
    let (end, is_to_end) = mpsc::channel::<()>();
    let thread = thread::spawn(move || {
        let pool = ProcessPool::by_server(server, 2);
        let sum = pool.map(|n: i32| n + 1, 0..10).unwrap().into_iter().sum::<i32>();
        let _ = is_to_end.recv();
        sum
    });
    assert!(Process::spawn(|| ()).is_err(), "there are threads");
    let worker = pool.apply(id, ()).unwrap();
    for _ in 0..3 {
        assert!(matches!(pool.apply(die, ()).unwrap_err(), JobError::Died(_)));
    }
    let others = pool.map(id, [(); 8]).unwrap();
    assert!(!others.is_empty() && worker != process::id());
    drop(end);
    assert_eq!(thread.join().unwrap(), 55);
}

fn a_copy_of_a_pool_in_a_child() {
    let pool = ProcessPool::new(1).unwrap();
    let worker = pool.apply(id, ()).unwrap();
    let child = Process::spawn(|| {
        let error = pool.apply(id, ()).unwrap_err();
        assert!(matches!(error, JobError::NoWorker(_)), "{error}");
        let own = ProcessPool::new(1).unwrap();
        assert_eq!(own.apply(|n: i32| n, 5).unwrap(), 5);
        pool.terminate();
        drop(own);
    });
    assert!(child.unwrap().join().unwrap().success());
    assert_eq!(pool.apply(id, ()).unwrap(), worker);
}

fn workers_end_with_a_program_that_is_killed() {
    let (mut reader, writer) = pipe().unwrap();
    let program = Process::spawn(move || {
        let pool = ProcessPool::new(3).unwrap();
        pool.map(|n: i32| n, 0..12).unwrap();
        let _job = pool.apply_async(|()| sleep(LONG), ());
        (&writer).write_all(b"x").unwrap();
        sleep(LONG);
    });
    let program = program.unwrap();
    reader.read_exact(&mut [0]).unwrap();
    program.kill().unwrap();
    // All of them have a copy of the other end.
    assert_eq!(reader.read(&mut [0]).unwrap(), 0);
}

fn a_thousand_jobs_with_deaths_among_them() {
    let pool = Rc::new(ProcessPool::new(3).unwrap());
    let done = Rc::new(Cell::new(0));
    let askers = (0..10).map(|asker| {
        let (pool, done) = (Rc::clone(&pool), Rc::clone(&done));
        spawn(move || {
            for n in 0..100 {
                let deadly = n % 25 == 24;
                let result = pool.apply(
                    |(deadly, n): (bool, u32)| {
                        if deadly {
                            die(());
                        }
                        n
                    },
                    (deadly, asker * 100 + n),
                );
                match result {
                    Ok(result) => assert!(!deadly && result == asker * 100 + n),
                    Err(error) => assert!(deadly && matches!(error, JobError::Died(_)), "{error}"),
                }
                done.set(done.get() + 1);
                yield_now();
            }
        })
    });
    for result in join_all(askers.collect::<Vec<_>>()) {
        result.unwrap();
    }
    assert_eq!(done.get(), 1000);
    pool.close();
    pool.join().unwrap();
}

fn a_worker_that_is_killed_and_has_left_a_process() {
    let pool = ProcessPool::new(1).unwrap();
    let left = |()| -> u32 {
        // It has a copy of whatever the worker has.
        let child = Process::spawn(|| thread::sleep(Duration::from_secs(20))).unwrap();
        thread::sleep(Duration::from_millis(20));
        drop(child);
        die(())
    };
    let job = pool.apply_async(left, ());
    let result = job.join_timeout(Duration::from_secs(10)).expect("the worker is dead");
    assert!(matches!(result.unwrap_err(), JobError::Died(_)));
    assert_eq!(pool.apply(|n: i32| n, 4).unwrap(), 4);
}

fn a_worker_that_leaves_a_process_with_its_socket_hangs_no_job() {
    let pool = ProcessPool::new(1).unwrap();
    let left = |then: i32| -> i32 {
        // SAFETY: what it does in the child is allowed after a fork. It ends by SIGALRM.
        unsafe {
            if libc::fork() == 0 {
                libc::alarm(40);
                libc::pause();
                libc::_exit(0);
            }
        }
        if then < 0 {
            die(());
        }
        process::exit(then)
    };
    // The job itself, one that is waiting behind it, and the end of the pool.
    let jobs = [pool.apply_async(left, -1), pool.apply_async(left, 5)];
    let next = pool.apply_async(|n: i32| n, 4);
    let limit = Duration::from_secs(10);
    let [killed, exited] = jobs.map(|job| job.join_timeout(limit).expect("the worker is dead"));
    let JobError::Died(status) = killed.unwrap_err() else { panic!("it has died") };
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
    let JobError::Died(status) = exited.unwrap_err() else { panic!("it has died") };
    assert_eq!(status.code(), Some(5));
    assert_eq!(next.join_timeout(limit).expect("it has a worker").unwrap(), 4);
    pool.close();
    assert!(timeout(limit, || pool.join().unwrap()).is_ok());
}

fn jobs_in_a_process_that_ignores_sigchld() {
    crate::children::ignore_sigchld();
    let pool = ProcessPool::new(2).unwrap();
    assert_eq!(pool.map(|n: i32| n + 1, 0..4).unwrap(), [1, 2, 3, 4]);
    let error = pool.apply(die, ()).unwrap_err();
    let JobError::Died(status) = error else { panic!("{error}") };
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
    assert_eq!(pool.apply(|n: i32| n, 4).unwrap(), 4);
    pool.close();
    pool.join().unwrap();
}

fn workers_that_are_killed_at_each_moment() {
    let pool = ProcessPool::new(2).unwrap();
    let path = format!("/proc/self/task/{}/children", process::id());
    let children = |path: &str| -> Vec<u32> {
        let all = fs::read_to_string(path).unwrap_or_default();
        all.split_whitespace().map(|id| id.parse().unwrap()).collect()
    };
    let server = children(&path)[0];
    let its_children = format!("/proc/{server}/task/{server}/children");
    let is_over = Rc::new(Cell::new(false));
    let killing = spawn({
        let is_over = Rc::clone(&is_over);
        move || {
            for round in 0.. {
                sleep(Duration::from_micros(8000 + 137 * (round % 31)));
                if is_over.get() {
                    return;
                }
                // Nobody but the server waits for them, and it may have.
                for worker in children(&its_children).into_iter().take(1) {
                    // SAFETY: no memory is involved.
                    unsafe { libc::kill(worker as i32, libc::SIGKILL) };
                }
            }
        }
    });
    let repeat = |count: usize| vec![1_u8; count];
    for round in 0..100 {
        let jobs = [10, 500_000, round, 2000].map(|n| (n, pool.apply_async(repeat, n)));
        for (n, job) in jobs {
            match job.join() {
                Ok(bytes) => assert_eq!(bytes.len(), n),
                Err(error) => assert!(matches!(error, JobError::Died(_)), "{error}"),
            }
        }
    }
    is_over.set(true);
    killing.join().unwrap();
    pool.close();
    pool.join().unwrap();
}
