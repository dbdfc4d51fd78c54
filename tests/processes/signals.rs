//! Signals: what hears of them, and what is left afterwards.

use crate::{again, alone, is_again};
use std::cell::{Cell, RefCell};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::mem;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Stdio;
use std::ptr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};
use switchgrass::net::{StreamServer, TcpListener, TcpStream};
use switchgrass::process::Command;
use switchgrass::signal::{self, Signal, Signals};
use switchgrass::sync::{Event, Queue, select, select_timeout};
use switchgrass::{sleep, spawn, timeout, yield_now};

/// A signal of a test's own: other tests run in this process at the same time.
fn own(number: i32) -> Signal {
    Signal::from_raw(libc::SIGRTMIN() + number)
}

/// Sends it to the calling thread: it has come when this returns.
fn raise(signal: Signal) {
    // SAFETY: no preconditions.
    assert_eq!(unsafe { libc::raise(signal.as_raw()) }, 0);
}

/// Sends it to the whole process, as others do: it comes on any thread, soon.
fn send(signal: Signal) {
    // SAFETY: no preconditions.
    assert_eq!(unsafe { libc::kill(std::process::id() as i32, signal.as_raw()) }, 0);
}

#[track_caller]
fn wait_until(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(10), "it has not come");
        sleep(Duration::from_millis(1));
    }
}

/// What is done at a signal.
fn disposition(signal: Signal) -> usize {
    // SAFETY: all-zero is a valid action, and there is room for one.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        assert_eq!(libc::sigaction(signal.as_raw(), ptr::null(), &mut action), 0);
        action.sa_sigaction
    }
}

fn counting() -> (Rc<Cell<usize>>, impl Fn() + 'static) {
    let count = Rc::new(Cell::new(0));
    let counter = Rc::clone(&count);
    (count, move || counter.set(counter.get() + 1))
}

/// {test_alarm, test_handler}: it is a coroutine, may wait, and stays installed.
#[test]
fn a_handler_is_a_coroutine_and_stays() {
    let timer = |millis: i64| {
        let time = libc::timeval { tv_sec: 0, tv_usec: millis * 1000 };
        let never = libc::timeval { tv_sec: 0, tv_usec: 0 };
        let once = libc::itimerval { it_interval: never, it_value: time };
        // SAFETY: a valid time, and nothing to be written to.
        unsafe { libc::setitimer(libc::ITIMER_REAL, &once, ptr::null_mut()) };
    };
    let log = Rc::new(RefCell::new(Vec::new()));
    let done = Rc::new(Event::new());
    let handler = signal::on(Signal::ALRM, {
        let (log, done) = (Rc::clone(&log), Rc::clone(&done));
        move || {
            log.borrow_mut().push("rings");
            sleep(Duration::from_millis(2));
            log.borrow_mut().push("has slept");
            done.set();
        }
    })
    .unwrap();
    assert_eq!(handler.signal(), Signal::ALRM);
    for _ in 0..2 {
        timer(5);
        assert!(
            timeout(Duration::from_secs(10), || while !done.is_set() {
                sleep(Duration::from_millis(1));
            })
            .is_ok()
        );
        done.clear();
    }
    assert_eq!(*log.borrow(), ["rings", "has slept", "rings", "has slept"]);
}

/// Several that come together may be one, but the last is heard of.
#[test]
fn a_thousand_in_a_row() {
    let signal = own(1);
    let (count, handler) = counting();
    let handler = signal::on(signal, handler).unwrap();
    for number in 0..1000 {
        raise(signal);
        if number % 10 == 0 {
            yield_now();
        }
    }
    wait_until(|| count.get() > 0);
    sleep(Duration::from_millis(5));
    let before = count.get();
    assert!((1..=1000).contains(&before), "{before}");
    raise(signal);
    wait_until(|| count.get() == before + 1);
    handler.cancel();
}

/// One that never waits is not to keep it from being heard.
#[test]
fn one_that_only_yields_lets_handlers_run() {
    let signal = own(2);
    let (count, handler) = counting();
    let _handler = signal::on(signal, handler).unwrap();
    send(signal);
    let start = Instant::now();
    while count.get() == 0 {
        assert!(start.elapsed() < Duration::from_secs(10));
        yield_now();
    }
}

/// Each call is a coroutine of its own; and so is each handler's.
#[test]
fn a_handler_that_waits_is_called_again_meanwhile() {
    let signal = own(3);
    let (count, counter) = counting();
    let goes_on = Rc::new(Event::new());
    let (other, other_handler) = counting();
    let first = signal::on(signal, {
        let goes_on = Rc::clone(&goes_on);
        move || {
            goes_on.wait();
            counter();
        }
    })
    .unwrap();
    let second = signal::on(signal, other_handler).unwrap();
    for number in 1..=3 {
        send(signal);
        wait_until(|| other.get() == number);
    }
    assert_eq!(count.get(), 0);
    // What is under way goes on.
    first.cancel();
    send(signal);
    wait_until(|| other.get() == 4);
    goes_on.set();
    wait_until(|| count.get() == 3);
    drop(second);
}

#[test]
fn a_handler_that_panics_harms_nobody() {
    let signal = own(4);
    let (count, counter) = counting();
    let _handler = signal::on(signal, move || {
        counter();
        panic!("the handler of a test");
    })
    .unwrap();
    for number in 1..=2 {
        send(signal);
        wait_until(|| count.get() == number);
    }
    yield_now();
}

/// Every thread's handlers and waiters hear of every one.
#[test]
fn three_threads_hear_of_the_same_signal() {
    let signal = own(5);
    let (ready, heard) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    // So that it is handled throughout.
    let own = Signals::new(&[signal]).unwrap();
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let (ready, heard) = (Arc::clone(&ready), Arc::clone(&heard));
            thread::spawn(move || {
                let (count, handler) = counting();
                let _handler = signal::on(signal, handler).unwrap();
                let signals = Signals::new(&[signal]).unwrap();
                ready.fetch_add(1, Relaxed);
                for number in 1..=2 {
                    assert_eq!(signals.wait(), signal);
                    wait_until(|| count.get() == number);
                    heard.fetch_add(1, Relaxed);
                }
            })
        })
        .collect();
    wait_until(|| ready.load(Relaxed) == 3);
    send(signal);
    wait_until(|| heard.load(Relaxed) == 3);
    send(signal);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(own.try_wait(), Some(signal));
    assert_eq!(own.try_wait(), None);
}

/// When the last one goes, and not before.
#[test]
fn what_was_done_before_is_done_again() {
    let signal = own(6);
    assert_eq!(disposition(signal), libc::SIG_DFL);
    let first = signal::on(signal, || ()).unwrap();
    let ours = disposition(signal);
    assert!(ours != libc::SIG_DFL && ours != libc::SIG_IGN);
    let second = Signals::new(&[signal, signal]).unwrap();
    drop(first);
    assert_eq!(disposition(signal), ours);
    drop(second);
    assert_eq!(disposition(signal), libc::SIG_DFL);
    // A Rust program ignores this one.
    let before = disposition(Signal::PIPE);
    let handler = signal::on(Signal::PIPE, || ()).unwrap();
    assert_eq!(disposition(Signal::PIPE), ours);
    handler.cancel();
    assert_eq!(disposition(Signal::PIPE), before);
}

#[test]
fn a_detached_handler_stays_until_its_thread_ends() {
    let signal = own(7);
    thread::spawn(move || {
        let (count, handler) = counting();
        signal::on(signal, handler).unwrap().detach();
        for number in 1..=2 {
            send(signal);
            wait_until(|| count.get() == number);
        }
    })
    .join()
    .unwrap();
    // Its variables are destroyed before it can be joined.
    assert_eq!(disposition(signal), libc::SIG_DFL);
}

static PLAIN: AtomicUsize = AtomicUsize::new(0);
static WITH_INFO: AtomicUsize = AtomicUsize::new(0);

extern "C" fn plain(_: libc::c_int) {
    PLAIN.fetch_add(1, Relaxed);
    // It does not care, as some do not.
    // SAFETY: this thread's own variable.
    unsafe { *libc::__errno_location() = 5 };
}

extern "C" fn with_info(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel hands over a valid one.
    let pid = unsafe { (*info).si_pid() };
    WITH_INFO.fetch_add(usize::from(pid as u32 == std::process::id()), Relaxed);
}

fn set(signal: Signal, handler: usize, flags: i32) {
    // SAFETY: an action that is otherwise zero, which is valid; the handlers only count.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        (action.sa_sigaction, action.sa_flags) = (handler, flags);
        assert_eq!(libc::sigaction(signal.as_raw(), &action, ptr::null_mut()), 0);
    }
}

/// The program's own handler is called, too, in both forms that there are; and no system call that was
/// interrupted finds another errno than its own.
#[test]
fn a_handler_that_was_there_is_called_too() {
    let signal = own(8);
    for (handler, flags, calls) in [
        (plain as *const () as usize, 0, &PLAIN),
        (with_info as *const () as usize, libc::SA_SIGINFO, &WITH_INFO),
    ] {
        set(signal, handler, flags);
        let signals = Signals::new(&[signal]).unwrap();
        // SAFETY: this thread's own variable; no preconditions.
        unsafe {
            *libc::__errno_location() = 77;
            raise(signal);
            assert_eq!(*libc::__errno_location(), 77);
        }
        assert_eq!(signals.wait(), signal);
        assert_eq!(calls.load(Relaxed), 1);
        drop(signals);
        assert_eq!(disposition(signal), handler);
    }
}

/// One that was put over ours stays, and if it was taken away, ours comes back with the next.
#[test]
fn a_handler_that_came_later_is_left_alone() {
    let signal = own(9);
    let later = plain as *const () as usize;
    let first = Signals::new(&[signal]).unwrap();
    let ours = disposition(signal);
    set(signal, later, 0);
    let second = Signals::new(&[signal]).unwrap();
    drop((first, second));
    assert_eq!(disposition(signal), later);
    set(signal, libc::SIG_DFL, 0);
    let third = Signals::new(&[signal]).unwrap();
    assert_eq!(disposition(signal), ours);
    send(signal);
    assert_eq!(third.wait(), signal);
    drop(third);
    assert_eq!(disposition(signal), libc::SIG_DFL);
}

#[test]
fn what_cannot_be_handled_is_refused() {
    let kill = Signal::from_raw(libc::SIGKILL);
    let error = signal::on(kill, || ()).unwrap_err();
    assert_eq!(error.to_string(), "SIGKILL cannot be handled: the kernel does not allow a handler");
    for number in [libc::SIGSTOP, libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL] {
        let signal = Signal::from_raw(number);
        let error = signal::wait(&[Signal::USR1, signal]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().starts_with(&format!("{signal} cannot be handled: ")), "{error}");
    }
    // The one beside it was handled for a moment.
    assert_eq!(disposition(Signal::USR1), libc::SIG_DFL);
    for number in [-1, 0, 65, 1000, i32::MAX, i32::MIN] {
        let error = Signals::new(&[Signal::from_raw(number)]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{number}");
    }
    assert_eq!(Signals::new(&[]).unwrap_err().kind(), ErrorKind::InvalidInput);
}

/// {hub.loop.signal(ref=False)}: a handler is nobody who could wake main.
#[test]
fn a_handler_keeps_no_deadlock_from_being_told() {
    let signal = own(10);
    let waiting = thread::spawn(move || {
        let event = Rc::new(Event::new());
        let to_set = Rc::clone(&event);
        let _handler = signal::on(signal, move || to_set.set()).unwrap();
        event.wait();
    });
    let payload = waiting.join().unwrap_err();
    let message = payload.downcast_ref::<String>().unwrap();
    assert!(
        message.starts_with("this would block for ever: main waits for Event::wait"),
        "{message}"
    );
}

/// To wait for one is to wait for something that can come.
#[test]
fn a_wait_for_a_signal_is_no_deadlock() {
    let (signal, other) = (own(11), own(12));
    let signals = Signals::new(&[other, signal]).unwrap();
    let sending = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        send(signal);
    });
    assert_eq!(signals.wait(), signal);
    sending.join().unwrap();

    let sending = spawn(move || send(signal));
    let event = Event::new();
    assert_eq!(select(&[&event, &signals]), 1);
    assert_eq!(signals.try_wait(), Some(signal));
    sending.join().unwrap();
}

/// Nothing is lost between two waits; the same one twice is one.
#[test]
fn what_comes_before_anybody_waits_is_kept() {
    let (a, b) = (own(13), own(14));
    let signals = Signals::new(&[a, b]).unwrap();
    assert_eq!(signals.try_wait(), None);
    raise(b);
    raise(a);
    raise(a);
    let both: Vec<_> = (&signals).take(2).collect();
    assert_eq!(both, [a, b]);
    let limit = Duration::from_millis(5);
    let start = Instant::now();
    assert_eq!(signals.wait_timeout(limit), None);
    assert!(start.elapsed() >= limit);
    timeout(limit, || signals.wait()).unwrap_err();
    raise(a);
    assert_eq!(signals.wait_timeout(limit), Some(a));

    let waiting = spawn(move || signal::wait(&[a, b]).unwrap());
    yield_now();
    raise(b);
    assert_eq!(waiting.join().unwrap(), b);
    assert_eq!(signals.wait(), b);
}

/// Each goes to one of those who share the same; one that is killed takes none.
#[test]
fn several_wait_for_the_same_signals() {
    let signal = own(15);
    let signals = Rc::new(Signals::new(&[signal]).unwrap());
    let got = Rc::new(Cell::new(0));
    let all: Vec<_> = (0..3)
        .map(|_| {
            let (signals, got) = (Rc::clone(&signals), Rc::clone(&got));
            spawn(move || {
                signals.wait();
                got.set(got.get() + 1);
            })
        })
        .collect();
    yield_now();
    assert_eq!(all[0].coroutine().waits_for(), Some("Signals::wait"));
    send(signal);
    wait_until(|| got.get() == 1);
    sleep(Duration::from_millis(5));
    assert_eq!(got.get(), 1);
    let left: Vec<_> = all.into_iter().filter(|one| !one.coroutine().is_finished()).collect();
    assert_eq!(left.len(), 2);
    left[0].coroutine().kill();
    send(signal);
    wait_until(|| got.get() == 2);
    assert!(left[1].coroutine().is_finished());
}

#[test]
fn a_select_of_signals_and_others() {
    let signal = own(16);
    let signals = Signals::new(&[signal]).unwrap();
    let queue = Rc::new(Queue::new());
    assert_eq!(select_timeout(&[&signals, &*queue], Duration::from_millis(2)), None);
    let putting = spawn({
        let queue = Rc::clone(&queue);
        move || {
            queue.put(1).unwrap();
            yield_now();
            send(signal);
        }
    });
    assert_eq!(select(&[&signals, &*queue]), 1);
    assert_eq!(queue.try_get(), Ok(1));
    assert_eq!(select(&[&signals, &*queue]), 0);
    // It is taken by those who ask for it.
    assert_eq!(select(&[&signals, &*queue]), 0);
    assert_eq!(signals.try_wait(), Some(signal));
    putting.join().unwrap();
}

/// {monkey_sigchld}: a handler of that signal, and those who wait for children.
#[test]
fn children_are_waited_for_beside_a_handler_of_their_signal() {
    let (count, handler) = counting();
    let _handler = signal::on(Signal::CHLD, handler).unwrap();
    let all: Vec<_> =
        (0..5).map(|_| spawn(|| Command::new("true").status().unwrap().success())).collect();
    assert!(all.into_iter().all(|one| one.join().unwrap()));
    wait_until(|| count.get() > 0);
}

/// What waits in the kernel is interrupted all the time.
#[test]
fn nothing_goes_wrong_in_a_rain_of_signals() {
    alone(|| {
        let signal = own(17);
        let (count, handler) = counting();
        let _handler = signal::on(signal, handler).unwrap();
        let stop = Arc::new(AtomicUsize::new(0));
        let rain = thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                while stop.load(Relaxed) == 0 {
                    send(signal);
                    thread::sleep(Duration::from_micros(50));
                }
            }
        });
        let all: Vec<_> = (0..20)
            .map(|_| {
                spawn(|| {
                    let mut command = Command::new("cat");
                    command.stdin(Stdio::piped()).stdout(Stdio::piped());
                    let mut child = command.spawn().unwrap();
                    sleep(Duration::from_millis(5));
                    child.communicate(&[7; 200_000]).unwrap().stdout.len()
                })
            })
            .collect();
        assert!(all.into_iter().all(|one| one.join().unwrap() == 200_000));
        wait_until(|| count.get() > 10);
        stop.store(1, Relaxed);
        rain.join().unwrap();
    });
}

#[test]
fn no_descriptor_is_left_of_a_handler() {
    alone(|| {
        let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let all = || {
            let handler = signal::on(Signal::USR1, || ()).unwrap();
            let signals = Signals::new(&[Signal::USR1, Signal::USR2]).unwrap();
            signals.wait_timeout(Duration::from_millis(1));
            drop((handler, signals));
            signal::on(Signal::from_raw(libc::SIGKILL), || ()).unwrap_err();
        };
        all();
        let before = open();
        (0..10).for_each(|_| all());
        assert_eq!(open(), before);
    });
}

/// This test again, in a process and a process group of its own, up to the line it says it is ready by.
fn begin_again() -> (std::process::Child, BufReader<std::process::ChildStdout>) {
    let mut child = again();
    // Whoever runs this in the background may have it ignore Ctrl-C.
    // SAFETY: one system call, which may be made after fork.
    unsafe {
        child.pre_exec(|| match libc::signal(libc::SIGINT, libc::SIG_DFL) {
            libc::SIG_ERR => Err(std::io::Error::last_os_error()),
            _ => Ok(()),
        });
    }
    let mut child = child.stdout(Stdio::piped()).process_group(0).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.ends_with("ready\n") {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0, "it has ended: {:?}", child.wait());
    }
    (child, lines)
}

/// Sends a signal to a process and its children, as a terminal does.
fn send_to_all(child: &std::process::Child, signal: Signal) {
    // SAFETY: no preconditions.
    assert_eq!(unsafe { libc::kill(-(child.id() as i32), signal.as_raw()) }, 0);
}

/// {461_471}: Ctrl-C ends a process whose hub waits for a child, as long as nobody handles it.
#[test]
fn ctrl_c_ends_a_process_that_waits() {
    if is_again() {
        println!("ready");
        let _ = Command::new("sleep").arg("60").status();
        unreachable!("it should have been ended");
    }
    let (mut child, _lines) = begin_again();
    send_to_all(&child, Signal::INT);
    let start = Instant::now();
    assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGINT));
    assert!(start.elapsed() < Duration::from_secs(20));
}

/// {461_471}: and if it is handled, everything ends in order.
#[test]
fn ctrl_c_stops_a_server_in_order() {
    if is_again() {
        let signals = Signals::new(&[Signal::INT]).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = StreamServer::new(listener, |mut stream: TcpStream, _| {
            stream.write_all(b"hello").unwrap();
            // Until the other end says so.
            let _ = stream.read(&mut [0; 1]);
            stream.write_all(b" and goodbye").unwrap();
        });
        server.start();
        let client = spawn(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            let mut text = [0; 5];
            stream.read_exact(&mut text).unwrap();
            println!("ready");
            sleep(Duration::from_millis(50));
            stream.write_all(b"x").unwrap();
            let mut rest = String::new();
            stream.read_to_string(&mut rest).unwrap();
            rest
        });
        assert_eq!(signals.wait(), Signal::INT);
        assert!(server.stop(Some(Duration::from_secs(10))));
        assert_eq!(client.join().unwrap(), " and goodbye");
        println!("stopped in order");
        return;
    }
    let (mut child, mut lines) = begin_again();
    send_to_all(&child, Signal::INT);
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(rest.contains("stopped in order"), "{rest}");
}
