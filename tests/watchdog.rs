//! Who holds its thread for too long is told of: once, by name, and nobody else.

use std::env;
use std::hint::black_box;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};
use switchgrass::coroutine::Builder;
use switchgrass::watchdog::{Incident, Watchdog};
use switchgrass::{Greenlet, current, sleep, spawn, yield_now};

const LIMIT: Duration = Duration::from_millis(20);
/// No machine is as busy.
const LONG: Duration = Duration::from_secs(60);

fn watch() -> (Watchdog, Receiver<Incident>) {
    let (sender, receiver) = channel();
    let report = move |incident: &Incident| _ = sender.send(incident.clone());
    (Watchdog::with_report(LIMIT, report).unwrap(), receiver)
}

fn compute(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        black_box(0);
    }
}

/// Holds the thread until that was told of, or for very long.
fn compute_until_told(incidents: &Receiver<Incident>) -> Incident {
    let start = Instant::now();
    loop {
        if let Ok(incident) = incidents.try_recv() {
            return incident;
        }
        assert!(start.elapsed() < LONG, "nobody has told of it");
        compute(Duration::from_millis(1));
    }
}

#[test]
fn one_that_computes_is_told_of_once_with_its_name() {
    let (watchdog, incidents) = watch();
    let line = line!() + 1;
    let greedy = Builder::new().name("greedy").spawn(move || {
        let incident = compute_until_told(&incidents);
        compute(LIMIT * 5);
        assert!(incidents.try_recv().is_err(), "it was told of twice");
        (incident, incidents)
    });
    let (incident, incidents) = greedy.unwrap().join().unwrap();
    assert_eq!(incident.coroutine(), "coroutine 'greedy'");
    assert!(incident.held() >= LIMIT);
    assert_eq!(incident.site().map(|site| (site.file(), site.line())), Some((file!(), line)));
    assert!(!incident.frames().is_empty());
    let text = incident.to_string();
    let program = std::env::current_exe().unwrap();
    let name = program.file_name().unwrap().to_str().unwrap();
    assert!(text.starts_with("coroutine 'greedy' has held its thread for "), "{text}");
    assert!(text.contains(&format!("{name}+0x")), "{text}");
    let again = spawn(move || compute_until_told(&incidents)).join().unwrap();
    assert!(again.coroutine().starts_with("coroutine #"), "{again}");
    drop(watchdog);
}

#[test]
fn main_and_a_callback_are_told_of_too() {
    let (watchdog, incidents) = watch();
    assert_eq!(compute_until_told(&incidents).coroutine(), "main");
    let (sender, told) = channel();
    let short = spawn(|| ());
    short.link_in_hub(move || sender.send(compute_until_told(&incidents)).unwrap());
    short.join().unwrap();
    yield_now();
    assert_eq!(told.recv_timeout(LONG).unwrap().coroutine(), "a callback in the hub");
    drop(watchdog);
}

/// A call that blocks holds the thread as well.
#[test]
fn one_that_blocks_is_told_of() {
    let (watchdog, incidents) = watch();
    let blocks = spawn(move || incidents.recv_timeout(LONG).unwrap());
    let incident = blocks.join().unwrap();
    assert!(incident.coroutine().starts_with("coroutine #"));
    // And by the name of what it has called: std waits by this function.
    if cfg!(target_env = "gnu") && !incident.frames().is_empty() {
        assert!(incident.to_string().contains("(syscall)"), "{incident}");
    }
    drop(watchdog);
}

/// Asleep, or busy with changes.
#[test]
fn a_hub_that_is_idle_or_goes_on_is_not_told_of() {
    // A limit that a busy machine does not pass by itself.
    const LIMIT: Duration = Duration::from_millis(400);
    let (sender, incidents) = channel();
    let report = move |incident: &Incident| _ = sender.send(incident.clone());
    let watchdog = Watchdog::with_report(LIMIT, report).unwrap();
    sleep(LIMIT * 3);
    let start = Instant::now();
    while start.elapsed() < LIMIT * 3 {
        yield_now();
    }
    drop(watchdog);
    // It has ended, and has told nothing.
    assert_eq!(incidents.recv_timeout(LONG).unwrap_err(), RecvTimeoutError::Disconnected);
}

#[test]
fn a_thread_that_ends_before_its_watchdog_is_watched_no_more() {
    let (watchdog, incidents) = thread::spawn(watch).join().unwrap();
    assert_eq!(incidents.recv_timeout(LONG).unwrap_err(), RecvTimeoutError::Disconnected);
    drop(watchdog);
}

// ------------------------------------------------------------- in the middle of a switch

/// Says to a new process that it is there to be looked at, and for how many milliseconds.
const SWITCHES: &str = "SWITCHGRASS_WATCHDOG_SWITCHES";

/// A frame that is larger than the stack of a greenlet that does nothing, with the switch inlined.
#[inline(never)]
fn switch_for(greenlet: &Greenlet<(), ()>, time: Duration) -> u8 {
    let mut frame = [1_u8; 8192];
    black_box(&mut frame);
    let end = Instant::now() + time;
    while Instant::now() < end {
        for _ in 0..2000 {
            greenlet.switch(());
        }
    }
    black_box(&frame)[17]
}

/// Does nothing but switch by hand, which the watchdog reports again and again.
fn be_looked_at(time: Duration) {
    let (incidents, cut) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counts = (Arc::clone(&incidents), Arc::clone(&cut));
    let report = move |incident: &Incident| {
        let text = incident.to_string();
        let says_why = text.contains("\n  (no ");
        assert_eq!(incident.coroutine(), "main", "{text}");
        assert_eq!(incident.frames().len() < 2, says_why, "{text}");
        counts.0.fetch_add(1, Relaxed);
        counts.1.fetch_add(usize::from(says_why), Relaxed);
    };
    let watchdog = Watchdog::with_report(Duration::from_millis(2), report).unwrap();
    let main = current();
    let greenlets: Vec<Greenlet<(), ()>> = (0..15)
        .map(|_| {
            let main = main.clone();
            Greenlet::new(move |()| {
                loop {
                    main.switch_any::<(), ()>(());
                }
            })
        })
        .collect();
    let end = Instant::now() + time;
    for greenlet in greenlets.iter().cycle() {
        switch_for(greenlet, Duration::from_millis(8));
        yield_now();
        if Instant::now() > end {
            break;
        }
    }
    // One of its reports may be under way.
    drop(watchdog);
    println!("{} incidents, {} without callers", incidents.load(Relaxed), cut.load(Relaxed));
}

/// The handler used to unwind by tables that describe another stack: SIGSEGV.
#[test]
fn a_look_in_the_middle_of_a_switch_does_not_end_the_process() {
    const NAME: &str = "a_look_in_the_middle_of_a_switch_does_not_end_the_process";
    if let Ok(time) = env::var(SWITCHES) {
        return be_looked_at(Duration::from_millis(time.parse().unwrap()));
    }
    let mut again = Command::new(env::current_exe().unwrap());
    again.args([NAME, "--exact", "--nocapture"]).env(SWITCHES, "1500");
    let output = again.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}\n{output:#?}", output.status);
    let line = text.lines().find(|line| line.contains(" incidents, ")).expect("it says how many");
    // libtest prints the test's name on the same line.
    let count = line.split(" incidents, ").next().and_then(|text| text.split(' ').next_back());
    assert!(count.is_some_and(|count| count.parse::<usize>().unwrap() > 0), "{line}");
}

#[test]
fn a_report_that_panics_does_not_end_the_watchdog() {
    let (sender, incidents) = channel();
    let mut is_first = true;
    let watchdog = Watchdog::with_report(LIMIT, move |incident| {
        _ = sender.send(incident.clone());
        assert!(!std::mem::replace(&mut is_first, false), "the first report fails");
    });
    let _watchdog = watchdog.unwrap();
    for _ in 0..2 {
        let incidents = &incidents;
        let told = switchgrass::coroutine::scope(|scope| {
            scope.spawn(|| compute_until_told(incidents)).join().unwrap()
        });
        assert!(told.held() >= LIMIT);
        sleep(LIMIT);
    }
}
