//! How hubs end.

use super::support::{LONG, ms, panic_message};
use super::{Held, hubs};
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};
use switchgrass::multicore::Hubs;
use switchgrass::sync::Event;
use switchgrass::{JoinError, sleep, spawn, yield_now};

/// All that there is ends by itself: what is queued, what runs, and what waits.
#[test]
fn shutdown_drains() {
    let hubs = hubs(3);
    let done = Arc::new(AtomicUsize::new(0));
    let held = Held::hold(&hubs, 0);
    for number in 0..300_usize {
        let done = Arc::clone(&done);
        let body = move || {
            if number % 10 == 0 {
                sleep(ms(3));
            }
            done.fetch_add(1, SeqCst);
        };
        match number % 3 {
            0 => drop(hubs.spawn(body)),
            1 => drop(hubs.spawn_on(number % 2, body)),
            _ => drop(hubs.spawn_preferring(0, body)),
        }
    }
    drop(held.end);
    assert!(hubs.shutdown(None));
    assert_eq!(done.load(SeqCst), 300);
    // Again, and from elsewhere.
    assert!(hubs.shutdown(None));
    assert!(thread::spawn(move || hubs.shutdown(Some(ms(1)))).join().unwrap());
}

/// Others of the thread that shuts down run meanwhile.
#[test]
fn others_run_meanwhile() {
    let hubs = hubs(2);
    let event = Arc::new(Event::shared());
    let waits = Arc::clone(&event);
    drop(hubs.spawn(move || waits.wait()));
    spawn(move || event.set());
    assert!(hubs.shutdown(None));
}

/// What is left is killed, and its destructors run, also those that wait.
#[test]
fn shutdown_kills_what_is_left() {
    struct Tells(mpsc::Sender<&'static str>, &'static str);

    impl Drop for Tells {
        fn drop(&mut self) {
            sleep(ms(1));
            self.0.send(self.1).unwrap();
        }
    }

    let hubs = hubs(2);
    let (sender, receiver) = mpsc::channel();
    let waits = Tells(sender.clone(), "waits");
    let waiting = hubs.spawn_on(0, move || {
        let _waits = waits;
        sleep(LONG);
    });
    let (child, queued) = (Tells(sender.clone(), "child"), Tells(sender, "queued"));
    let with_child = hubs.spawn_on(1, move || {
        spawn(move || {
            let _child = child;
            sleep(LONG);
        });
        yield_now();
        sleep(LONG);
    });
    with_child.is_finished();
    // It holds its hub until the limit has passed, so what is behind it has not begun by then.
    let (late, shut_down) = mpsc::channel::<()>();
    let (tell, told) = mpsc::channel();
    let holding = hubs.spawn_on(1, move || {
        tell.send(()).unwrap();
        let _ = shut_down.recv();
    });
    told.recv().unwrap();
    let never = hubs.spawn_on(1, move || {
        drop(queued);
        unreachable!("it has not begun in time");
    });
    let also = hubs.clone();
    let ending = thread::spawn(move || also.shutdown(Some(ms(20))));
    assert!(matches!(waiting.join(), Err(JoinError::Killed)), "after the limit");
    drop(late);
    assert!(!ending.join().unwrap());
    holding.join().unwrap();
    for body in [with_child, never] {
        assert!(matches!(body.join(), Err(JoinError::Killed)));
    }
    let mut told = Vec::from_iter(receiver);
    told.sort();
    assert_eq!(told, ["child", "queued", "waits"]);
    assert!(!hubs.shutdown(None), "it is known still");
}

#[test]
fn afterwards_bodies_come_back() {
    let hubs = hubs(2);
    let also = hubs.clone();
    let (tell, told) = mpsc::channel();
    // One that runs when the hubs are shut down.
    let event = Arc::new(Event::shared());
    let waits = Arc::clone(&event);
    let late = hubs.spawn(move || {
        tell.send(()).unwrap();
        waits.wait();
        also.try_spawn(|| 1).unwrap_err().into_inner()()
    });
    told.recv().unwrap();
    let ending = hubs.clone();
    let ending = thread::spawn(move || ending.shutdown(None));
    let own = String::from("own");
    let body = loop {
        match hubs.try_spawn_on(1, || ()) {
            Ok(_) => thread::yield_now(),
            Err(closed) => break closed,
        }
    };
    assert_eq!(body.to_string(), "the hubs were shut down and take no more tasks");
    let refused = hubs.try_spawn(move || own).unwrap_err();
    assert_eq!(refused.into_inner()(), "own");
    assert!(hubs.try_spawn_preferring(0, || ()).is_err());
    event.set();
    assert_eq!(late.join().unwrap(), 1);
    assert!(ending.join().unwrap());
    let message = panic_message(|| hubs.spawn(|| ()));
    assert_eq!(message, "the hubs were shut down and take no more tasks");
}

#[test]
fn not_from_one_of_its_own() {
    let hubs = hubs(1);
    let also = hubs.clone();
    let message = hubs.spawn(move || panic_message(|| also.shutdown(None)));
    let expected = "a task cannot shut down its own hubs: it would wait for itself";
    assert_eq!(message.join().unwrap(), expected);
    // From a body of others it can be done.
    let others = self::hubs(1);
    assert!(others.spawn(move || hubs.shutdown(None)).join().unwrap());
}

/// The last handle is dropped: what there is is worked off, and then the threads end.
#[test]
fn dropped_they_work_off_what_there_is() {
    struct Ends(mpsc::Sender<()>);

    impl Drop for Ends {
        fn drop(&mut self) {
            self.0.send(()).unwrap();
        }
    }

    thread_local! {
        static ENDS: std::cell::OnceCell<Ends> = const { std::cell::OnceCell::new() };
    }

    let (sender, receiver) = mpsc::channel();
    let hubs = hubs(3);
    for hub in 0..3 {
        let ends = Ends(sender.clone());
        hubs.spawn_on(hub, || ENDS.with(|place| drop(place.set(ends)))).join().unwrap();
    }
    drop(sender);
    let event = Arc::new(Event::shared());
    // One has a handle of its own, and spawns another when all the rest are gone.
    let (waits, also) = (Arc::clone(&event), hubs.clone());
    let last = hubs.spawn(move || {
        waits.wait();
        also.spawn(|| 7)
    });
    drop(hubs);
    assert!(receiver.try_recv().is_err());
    event.set();
    assert_eq!(last.join().unwrap().join().unwrap(), 7);
    for _ in 0..3 {
        receiver.recv_timeout(LONG).unwrap();
    }
    assert!(receiver.recv_timeout(LONG).is_err(), "each ends once");
}

/// Very many crews, each with next to nothing to do.
#[test]
fn over_and_over() {
    for round in 0..200_usize {
        let hubs = hubs(1 + round % 4);
        let body = hubs.spawn(move || round);
        match round % 3 {
            0 => assert_eq!(body.join().unwrap(), round),
            1 => drop(body),
            _ => {
                assert!(hubs.shutdown(None));
                assert_eq!(body.join().unwrap(), round);
            }
        }
    }
}

/// One that is killed while it waits for the end leaves the hubs closed, and nothing else.
#[test]
fn a_shutdown_that_is_killed() {
    let hubs = hubs(1);
    let event = Arc::new(Event::shared());
    let waits = Arc::clone(&event);
    let body = hubs.spawn(move || waits.wait());
    let also = hubs.clone();
    let ending = spawn(move || also.shutdown(None));
    yield_now();
    ending.kill();
    assert!(matches!(ending.join(), Err(JoinError::Killed)));
    assert!(hubs.try_spawn(|| ()).is_err());
    event.set();
    body.join().unwrap();
    assert!(hubs.shutdown(None));
}

/// Runs in a process of its own, for the next one.
#[test]
#[ignore = "it is run by another"]
fn leaves_a_body_behind() {
    let hubs = hubs(2);
    drop(hubs.spawn(|| {
        sleep(ms(100));
        std::io::stderr().write_all(b"the last body has ended\n").unwrap();
    }));
}

/// The process waits at its end until the bodies have ended that there are.
#[test]
fn the_end_of_the_process() {
    let itself = std::env::current_exe().unwrap();
    let mut command = std::process::Command::new(itself);
    command.args(["--ignored", "--nocapture", "--exact", "ending::leaves_a_body_behind"]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("the last body has ended"), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
}

/// Runs a test of this file in a process of its own, which has ten seconds. What it ends with.
fn alone(test: &str) -> std::process::Output {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--nocapture", "--exact", &format!("ending::{test}")]);
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > Duration::from_secs(10) {
            child.kill().unwrap();
        }
        sleep(ms(5));
    }
    child.wait_with_output().unwrap()
}

/// Runs in a process of its own, for the next one.
#[test]
#[ignore = "it is run by another"]
fn exits_with_idle_hubs() {
    let hubs = hubs(2);
    hubs.spawn(|| ()).join().unwrap();
    let (tell, told) = mpsc::channel();
    drop(hubs.spawn_on(0, move || {
        tell.send(()).unwrap();
        sleep(ms(50));
        std::io::stderr().write_all(b"the last body has ended\n").unwrap();
    }));
    told.recv().unwrap();
    std::process::exit(7);
}

/// Runs in a process of its own, for the next one.
#[test]
#[ignore = "it is run by another"]
fn exits_on_a_hub() {
    let hubs = hubs(2);
    let _ = hubs.spawn(|| -> () { std::process::exit(7) }).join();
}

/// `exit` waits for bodies, and not for hubs that have none.
#[test]
fn exit_does_not_hang_with_idle_hubs() {
    let output = alone("exits_with_idle_hubs");
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("the last body has ended"), "{output:?}");
    let output = alone("exits_on_a_hub");
    assert_eq!(output.status.code(), Some(7), "{output:?}");
}

/// Runs in a process of its own, for the next one.
#[test]
#[ignore = "it is run by another"]
fn has_few_descriptors() {
    // All that is made once.
    assert!(hubs(1).shutdown(None));
    let used = descriptors();
    let mut ends = Vec::new();
    for room in 0..8 {
        set_most_descriptors(1024);
        assert_eq!(descriptors(), used);
        set_most_descriptors(used + room);
        match Hubs::new(2) {
            Ok(hubs) => {
                let bodies = [0, 1].map(|hub| hubs.spawn_on(hub, move || hub));
                assert_eq!(bodies.map(|body| body.join().unwrap()), [0, 1]);
                assert!(hubs.shutdown(None));
                ends.push(true);
            }
            Err(error) => {
                assert!(error.to_string().contains("cannot be started"), "{error}");
                ends.push(false);
            }
        }
    }
    assert_eq!((ends[0], ends[7]), (false, true), "{ends:?}");
}

/// How many descriptors there are, when the threads of hubs that were shut down have closed theirs.
fn descriptors() -> usize {
    let count = || std::fs::read_dir("/proc/self/fd").unwrap().count() - 1;
    let (mut last, mut same) = (count(), 0);
    while same < 10 {
        thread::sleep(ms(10));
        let now = count();
        same = if now == last { same + 1 } else { 0 };
        last = now;
    }
    last
}

fn set_most_descriptors(count: usize) {
    let limit = libc::rlimit { rlim_cur: count as _, rlim_max: 1024 };
    // SAFETY: a valid limit.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
}

/// They are not made, instead of never running what is spawned on them.
#[test]
fn hubs_without_descriptors_are_an_error() {
    let output = alone("has_few_descriptors");
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
}

/// Runs in a process of its own, for the next one.
#[test]
#[ignore = "it is run by another"]
fn leaves_a_body_behind_that_exits() {
    let hubs = hubs(2);
    drop(hubs.spawn(|| -> () {
        std::thread::sleep(ms(200));
        std::process::exit(3);
    }));
}

/// `main` has returned already, with 0.
#[test]
fn exit_in_a_body_after_main_has_returned_does_not_hang() {
    let output = alone("leaves_a_body_behind_that_exits");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

/// Runs in a process of its own, for the next one.
#[test]
#[ignore = "it is run by another"]
fn starts_hubs_in_a_thread_late() {
    drop(switchgrass::thread::spawn(|| {
        thread::sleep(ms(200));
        let error = Hubs::new(1).unwrap_err();
        std::io::stderr().write_all(format!("in a thread: {error}\n").as_bytes()).unwrap();
    }));
}

/// Runs in a process of its own, for the next one.
#[test]
#[ignore = "it is run by another"]
fn starts_hubs_in_a_body_late() {
    let hubs = hubs(1);
    drop(hubs.spawn(|| {
        sleep(ms(200));
        let error = Hubs::new(1).unwrap_err();
        std::io::stderr().write_all(format!("in a body: {error}\n").as_bytes()).unwrap();
    }));
}

/// The process waits for them, and nobody would close them: there are to be none.
#[test]
fn hubs_that_are_started_after_main_has_returned_are_refused() {
    for (test, place) in
        [("starts_hubs_in_a_thread_late", "thread"), ("starts_hubs_in_a_body_late", "body")]
    {
        let output = alone(test);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            said.contains(&format!("in a {place}: cannot start hubs while the process is ending")),
            "{output:?}"
        );
    }
}
