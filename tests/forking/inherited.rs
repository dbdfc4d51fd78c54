//! What a child finds of its parent's, and what it does not touch.

use crate::tests;
use std::cell::Cell;
use std::io::{PipeWriter, Read, Write, pipe};
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::time::Duration;
use switchgrass::coroutine::{Remote, join_all, run_until_idle};
use switchgrass::fs::File;
use switchgrass::generator::Generator;
use switchgrass::io::{PipeWriter as OwnWriter, pipe as own_pipe};
use switchgrass::net::{TcpListener, TcpStream, ToSocketAddrs};
use switchgrass::pool::unblock;
use switchgrass::process::{ForkError, Process};
use switchgrass::sync::{
    AsyncResult, Barrier, Channel, Condvar, Event, Mutex, PutError, Queue, RLock, RwLock,
    Semaphore, Shared, Sharing,
};
use switchgrass::{Greenlet, GreenletExit, greenlet, sleep, spawn, timeout, yield_now};

tests![
    nobody_else_runs_in_a_child,
    a_child_uses_hub_sleep_names_and_locks_at_once,
    the_parents_sockets_go_on,
    a_connection_that_was_waited_for_goes_on_in_the_child,
    what_a_body_has_taken_is_closed_here,
    nothing_inherited_is_dropped_in_a_child,
    what_a_child_leaves_is_unwound,
    a_limit_around_a_fork_is_the_parents,
    forks_inside_a_generator,
    a_child_kills_nobody_of_its_parent,
    a_remote_reaches_the_hub_of_its_process,
    forks_by_many_coroutines,
    a_limit_of_a_child_in_a_generator_that_it_has_inherited,
    a_child_that_nobody_can_wake_in_a_generator_that_it_has_inherited,
    a_greenlet_that_waited_is_thrown_into_in_the_child,
    a_greenlet_that_waited_is_switched_to_in_the_child,
    a_coroutine_that_has_not_begun_is_not_killed_in_the_child,
    a_file_with_an_operation_that_was_cancelled,
    a_fork_while_the_stack_is_unwound,
    a_fork_in_a_trace_hook,
    nothing_goes_to_those_that_wait_in_the_parent,
    nothing_goes_to_those_that_wait_in_the_parent_for_shared_objects,
    run_until_idle_in_a_child_of_one_that_waits_until_idle,
    a_child_that_is_killed_says_so,
];

/// Says in a pipe when it is dropped, or when it is asked to.
struct Teller(PipeWriter, &'static str);

impl Teller {
    fn tell(&self) {
        (&self.0).write_all(self.1.as_bytes()).unwrap();
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        (&self.0).write_all(self.1.to_uppercase().as_bytes()).unwrap();
    }
}

fn nobody_else_runs_in_a_child() {
    let (mut reader, writer) = pipe().unwrap();
    let teller = |name| Teller(writer.try_clone().unwrap(), name);
    let event = Rc::new(Event::new());
    let (mut end, mut other_end) = own_pipe().unwrap();
    let (ready, asleep, waiting, reading, pooled) =
        (teller("r"), teller("s"), teller("w"), teller("f"), teller("p"));
    let all = [
        spawn({
            let event = Rc::clone(&event);
            move || {
                event.wait();
                waiting.tell();
            }
        }),
        spawn(move || {
            sleep(Duration::from_millis(20));
            asleep.tell();
        }),
        spawn(move || {
            end.read_exact(&mut [0]).unwrap();
            reading.tell();
        }),
        spawn(move || {
            unblock(|| std::thread::sleep(Duration::from_millis(2)));
            pooled.tell();
        }),
    ];
    yield_now();
    let late = spawn(move || ready.tell());
    let child = spawn({
        let event = Rc::clone(&event);
        move || {
            let child = Process::spawn(|| {
                event.set();
                other_end.write_all(b"c").unwrap();
                sleep(Duration::from_millis(60));
                yield_now();
            });
            let child = child.unwrap();
            event.set();
            assert!(child.join().unwrap().success());
        }
    });
    child.join().unwrap();
    for result in join_all(all.into_iter().chain([late]).collect::<Vec<_>>()) {
        result.unwrap();
    }
    drop(writer);
    let mut told = String::new();
    reader.read_to_string(&mut told).unwrap();
    let mut told: Vec<char> = told.chars().collect();
    told.sort();
    assert_eq!(told.iter().collect::<String>(), "FPRSWfprsw", "each once, and in the parent");
}

fn a_child_uses_hub_sleep_names_and_locks_at_once() {
    let lock = Rc::new(Mutex::new(0));
    let queued = spawn(|| sleep(Duration::from_millis(5)));
    let busy = spawn(|| unblock(|| std::thread::sleep(Duration::from_millis(5))));
    let forking = spawn({
        let lock = Rc::clone(&lock);
        move || {
            sleep(Duration::from_millis(1));
            let child = Process::spawn(|| {
                sleep(Duration::from_millis(2));
                let names = ("localhost", 80).resolve().unwrap();
                assert!(!names.is_empty());
                assert!(timeout(Duration::from_millis(2), || Event::new().wait()).is_err());
                let counting = (0..10).map(|_| {
                    let lock = Rc::clone(&lock);
                    spawn(move || {
                        let mut count = lock.lock().unwrap();
                        yield_now();
                        *count += 1;
                    })
                });
                join_all(counting.collect::<Vec<_>>());
                assert_eq!(unblock(|| 1 + 2), 3);
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let address = listener.local_addr().unwrap();
                let client = spawn(move || {
                    TcpStream::connect(address).unwrap().write_all(b"hello").unwrap();
                });
                let mut text = String::new();
                listener.accept().unwrap().0.read_to_string(&mut text).unwrap();
                client.join().unwrap();
                assert_eq!(text, "hello");
                assert!(switchgrass::process::Command::new("true").status().unwrap().success());
                *lock.lock().unwrap()
            });
            child.unwrap().join().unwrap().code()
        }
    });
    assert_eq!(forking.join().unwrap(), Some(10));
    assert_eq!(*lock.lock().unwrap(), 0);
    queued.join().unwrap();
    busy.join().unwrap();
}

fn the_parents_sockets_go_on() {
    const EXCHANGES: usize = 1000;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    let server = spawn(move || {
        let mut bytes = [0; 8];
        for _ in 0..EXCHANGES {
            stream.read_exact(&mut bytes).unwrap();
            stream.write_all(&bytes).unwrap();
        }
    });
    let is_over = Rc::new(Cell::new(false));
    let forking = spawn({
        let is_over = Rc::clone(&is_over);
        move || {
            let mut children = 0;
            while !is_over.get() || children < 10 {
                let child = Process::spawn(|| sleep(Duration::from_millis(1))).unwrap();
                assert!(child.join().unwrap().success());
                children += 1;
            }
        }
    });
    for number in 0..EXCHANGES {
        let (sent, mut received) = (number.to_ne_bytes(), [0; 8]);
        client.write_all(&sent).unwrap();
        client.read_exact(&mut received).unwrap();
        assert_eq!(received, sent);
    }
    is_over.set(true);
    server.join().unwrap();
    forking.join().unwrap();
}

fn a_connection_that_was_waited_for_goes_on_in_the_child() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    let writing = spawn(move || {
        sleep(Duration::from_millis(1));
        client.write_all(b"one").unwrap();
        client
    });
    let mut bytes = [0; 3];
    stream.read_exact(&mut bytes).unwrap();
    let mut client = writing.join().unwrap();
    let child = Process::spawn(move || {
        let mut bytes = [0; 3];
        for word in [b"two", b"six"] {
            // Nothing is there yet: it waits by its own hub.
            stream.read_exact(&mut bytes).unwrap();
            assert_eq!(&bytes, word);
            stream.write_all(&bytes).unwrap();
        }
    });
    let child = child.unwrap();
    for word in [b"two", b"six"] {
        sleep(Duration::from_millis(5));
        client.write_all(word).unwrap();
        client.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, word);
    }
    assert!(child.join().unwrap().success());
    assert_eq!(client.read(&mut bytes).unwrap(), 0, "nobody has the other end any more");
}

fn what_a_body_has_taken_is_closed_here() {
    let (mut reader, writer) = own_pipe().unwrap();
    let child = Process::spawn(move || {
        let mut writer = writer;
        sleep(Duration::from_millis(5));
        writer.write_all(b"x").unwrap();
    });
    let child = child.unwrap();
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "x");
    assert!(child.join().unwrap().success());
}

fn nothing_inherited_is_dropped_in_a_child() {
    let (mut reader, writer) = pipe().unwrap();
    let teller = |name| Teller(writer.try_clone().unwrap(), name);
    let on_a_stack = teller("a");
    let event = Rc::new(Event::new());
    let sibling = spawn({
        let (teller, event) = (teller("b"), Rc::clone(&event));
        move || {
            event.wait();
            drop(teller);
        }
    });
    let unstarted = spawn({
        let teller = teller("c");
        move || drop(teller)
    });
    let pending = teller("d");
    let timer = spawn(move || {
        sleep(Duration::from_millis(30));
        drop(pending);
    });
    // From main, whose thread-local destructors would unwind all coroutines of an ordinary process.
    let children = [
        Process::spawn(|| 0).unwrap(),
        Process::spawn(|| -> i32 { std::process::exit(0) }).unwrap(),
        Process::spawn(|| -> i32 { panic!("as expected") }).unwrap(),
    ];
    let codes = children.map(|child| child.join().unwrap().code());
    assert_eq!(codes, [Some(0), Some(0), Some(1)]);
    drop(writer);
    event.set();
    for one in [sibling, unstarted, timer] {
        one.join().unwrap();
    }
    drop(on_a_stack);
    let mut told = String::new();
    reader.read_to_string(&mut told).unwrap();
    let mut told: Vec<char> = told.chars().collect();
    told.sort();
    assert_eq!(told, ['A', 'B', 'C', 'D'], "each once, and in the parent");
}

fn what_a_child_leaves_is_unwound() {
    let (mut reader, writer) = pipe().unwrap();
    let child = Process::spawn(move || {
        let teller = Teller(writer, "x");
        spawn(move || {
            let _teller = teller;
            sleep(Duration::from_secs(50));
        });
        yield_now();
    });
    assert!(child.unwrap().join().unwrap().success());
    let mut told = String::new();
    reader.read_to_string(&mut told).unwrap();
    assert_eq!(told, "X");
}

fn a_limit_around_a_fork_is_the_parents() {
    let result = timeout(Duration::from_millis(20), || {
        let child = Process::spawn(|| {
            sleep(Duration::from_millis(60));
            5
        });
        let child = child.unwrap();
        spawn(move || child.join().unwrap().code()).join().unwrap_or_else(|error| error.resume())
    });
    assert!(result.is_err(), "in time here");
    let child = timeout(Duration::from_millis(20), || {
        Process::spawn(|| {
            sleep(Duration::from_millis(60));
            5
        })
    });
    assert_eq!(child.unwrap().unwrap().join().unwrap().code(), Some(5), "none there");
}

fn forks_inside_a_generator() {
    let codes = Generator::new(|y| {
        for code in 1..4 {
            let child = Process::spawn(|| {
                sleep(Duration::from_millis(1));
                code
            });
            y.yield_(child.unwrap().join().unwrap().code());
        }
    });
    assert_eq!(codes.collect::<Vec<_>>(), [Some(1), Some(2), Some(3)]);
}

fn a_child_kills_nobody_of_its_parent() {
    let (mut reader, writer) = pipe().unwrap();
    let teller = Teller(writer, "x");
    let sibling = spawn(move || {
        let _teller = teller;
        sleep(Duration::from_millis(50));
    });
    yield_now();
    let child = Process::spawn(|| {
        sibling.kill();
        sleep(Duration::from_millis(1));
    });
    assert!(child.unwrap().join().unwrap().success());
    assert!(!sibling.is_finished());
    sibling.join().unwrap();
    let mut told = String::new();
    reader.read_to_string(&mut told).unwrap();
    assert_eq!(told, "X");
}

fn a_remote_reaches_the_hub_of_its_process() {
    let here = Remote::here();
    let event: std::sync::Arc<Event<Shared>> = std::sync::Arc::new(Event::shared());
    let child = Process::spawn(|| {
        let setter = std::sync::Arc::clone(&event);
        let here = here.clone();
        // From a thread, so that it goes through the inbox.
        unblock(move || here.spawn(move || setter.set()));
        event.wait();
        3
    });
    assert_eq!(child.unwrap().join().unwrap().code(), Some(3));
    assert!(!event.is_set());
    let setter = std::sync::Arc::clone(&event);
    unblock(move || here.spawn(move || setter.set()));
    event.wait();
}

fn forks_by_many_coroutines() {
    let numbers: Rc<Queue<i32>> = Rc::new(Queue::new());
    (0..40).for_each(|number| numbers.put(number).unwrap());
    numbers.shut_down();
    let forking = (0..8).map(|_| {
        let numbers = Rc::clone(&numbers);
        spawn(move || {
            let mut sum = 0;
            while let Ok(number) = numbers.get() {
                let child = Process::spawn(|| {
                    sleep(Duration::from_millis(1));
                    number
                });
                sum += child.unwrap().join().unwrap().code().unwrap();
            }
            sum
        })
    });
    let sums = join_all(forking.collect::<Vec<_>>());
    assert_eq!(sums.into_iter().map(|sum| sum.unwrap()).sum::<i32>(), (0..40).sum());
}

fn a_limit_of_a_child_in_a_generator_that_it_has_inherited() {
    let mut numbers = Generator::new(|y| {
        y.yield_(1);
        sleep(Duration::from_secs(50));
        y.yield_(2);
    });
    assert_eq!(numbers.next(), Some(1));
    let child =
        Process::spawn(|| i32::from(timeout(Duration::from_millis(5), || numbers.next()).is_err()));
    assert_eq!(child.unwrap().join().unwrap().code(), Some(1));
}

fn a_child_that_nobody_can_wake_in_a_generator_that_it_has_inherited() {
    let mut numbers = Generator::new(|y| {
        y.yield_(1);
        Event::new().wait();
        y.yield_(2);
    });
    assert_eq!(numbers.next(), Some(1));
    let child = Process::spawn(|| {
        numbers.next();
    });
    assert_eq!(child.unwrap().join().unwrap().code(), Some(1), "it is told");
}

/// A greenlet of main's that waits for a byte. Its end comes to main, wherever that waits.
fn one_that_reads() -> (Greenlet<(), ()>, OwnWriter) {
    let (mut reader, writer) = own_pipe().unwrap();
    let one = Greenlet::new(move |()| drop(reader.read_exact(&mut [0])));
    spawn({
        let one = one.clone();
        move || one.switch(())
    });
    yield_now();
    (one, writer)
}

fn a_greenlet_that_waited_is_thrown_into_in_the_child() {
    let (one, mut writer) = one_that_reads();
    let child = Process::spawn(|| {
        let thrown = catch_unwind(AssertUnwindSafe(|| one.throw("out of there").is_ok()));
        assert!(thrown.is_err(), "it comes back to the one that has thrown it");
        // A deadlock is found, still.
        assert!(catch_unwind(|| Event::new().wait()).is_err());
    });
    assert!(child.unwrap().join().unwrap().success());
    writer.write_all(b"x").unwrap();
    sleep(Duration::from_millis(1));
    assert!(one.is_dead(), "it has gone on here");
}

fn a_greenlet_that_waited_is_switched_to_in_the_child() {
    let (one, mut writer) = one_that_reads();
    let child = Process::spawn(|| {
        // It waits once more, on behalf of this one.
        let limit = Duration::from_millis(5);
        assert!(timeout(limit, || one.switch_any::<(), ()>(())).is_err());
        assert!(catch_unwind(|| Event::new().wait()).is_err());
    });
    assert!(child.unwrap().join().unwrap().success());
    writer.write_all(b"x").unwrap();
    sleep(Duration::from_millis(1));
    assert!(one.is_dead(), "it has gone on here");
}

fn a_coroutine_that_has_not_begun_is_not_killed_in_the_child() {
    let (mut reader, writer) = pipe().unwrap();
    let teller = Teller(writer, "x");
    let unstarted = spawn(move || drop(teller));
    let child = Process::spawn(|| {
        unstarted.kill();
        yield_now();
    });
    assert!(child.unwrap().join().unwrap().success());
    unstarted.join().unwrap();
    let mut told = String::new();
    reader.read_to_string(&mut told).unwrap();
    assert_eq!(told, "X", "once, and in the parent");
}

fn a_file_with_an_operation_that_was_cancelled() {
    let name = format!("switchgrass-forking-{}", std::process::id());
    let path = std::env::temp_dir().join(name);
    let mut file = File::create(&path).unwrap();
    // Until its job is left behind, which may then take longer than a fork waits for it.
    while timeout(Duration::ZERO, || file.sync_all()).is_ok() {}
    let child = loop {
        let child = Process::spawn(|| {
            file.write_all(b"x").unwrap();
            file.sync_all().unwrap();
        });
        match child {
            Err(ForkError::Threads(_)) => sleep(Duration::from_millis(10)),
            other => break other.unwrap(),
        }
    };
    assert!(child.join().unwrap().success());
    file.sync_all().unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"x");
    std::fs::remove_file(path).unwrap();
}

/// Makes a child when it is dropped.
struct Forks(Rc<Cell<Option<i32>>>);

impl Drop for Forks {
    fn drop(&mut self) {
        let child = Process::spawn(|| -> i32 {
            assert!(catch_unwind(|| panic!("as expected")).is_err());
            assert!(timeout(Duration::from_millis(1), || Event::new().wait()).is_err());
            spawn(|| sleep(Duration::from_millis(1))).join().unwrap();
            panic!("as expected, too")
        });
        self.0.set(child.unwrap().join().unwrap().code());
    }
}

fn a_fork_while_the_stack_is_unwound() {
    let code = Rc::new(Cell::new(None));
    let forks = Forks(Rc::clone(&code));
    let unwinding = spawn(move || {
        let _forks = forks;
        panic!("as expected");
    });
    assert!(unwinding.join().is_err());
    assert_eq!(code.get(), Some(1));
}

fn a_fork_in_a_trace_hook() {
    let code = Rc::new(Cell::new(None));
    let (setter, is_first) = (Rc::clone(&code), Cell::new(true));
    greenlet::set_trace(Some(Rc::new(move |_| {
        if is_first.replace(false) {
            let child = Process::spawn(|| {
                sleep(Duration::from_millis(1));
                spawn(|| 4).join().unwrap()
            });
            setter.set(child.unwrap().join().unwrap().code());
        }
    })));
    Greenlet::new(|()| ()).switch(());
    greenlet::set_trace(None);
    assert_eq!(code.get(), Some(4));
}

/// One of each kind that others can wait for.
struct Objects<S: Sharing> {
    mutex: Mutex<u32, S>,
    free: Mutex<u32, S>,
    relock: RLock<S>,
    rwlock: RwLock<u32, S>,
    semaphore: Semaphore<S>,
    event: Event<S>,
    result: AsyncResult<u32, S>,
    barrier: Barrier<S>,
    condvar: Condvar<S>,
    empty: Queue<u32, S>,
    full: Queue<u32, S>,
    to_get: Channel<u32, S>,
    to_put: Channel<u32, S>,
}

fn nothing_goes_to_those_that_wait_in_the_parent() {
    nothing_goes_to_ghosts(Objects {
        mutex: Mutex::new(1),
        free: Mutex::new(1),
        relock: RLock::new(),
        rwlock: RwLock::new(1),
        semaphore: Semaphore::new(0),
        event: Event::new(),
        result: AsyncResult::new(),
        barrier: Barrier::new(3),
        condvar: Condvar::new(),
        empty: Queue::new(),
        full: Queue::bounded(1),
        to_get: Channel::new(),
        to_put: Channel::new(),
    });
}

fn nothing_goes_to_those_that_wait_in_the_parent_for_shared_objects() {
    nothing_goes_to_ghosts(Objects {
        mutex: Mutex::shared(1),
        free: Mutex::shared(1),
        relock: RLock::shared(),
        rwlock: RwLock::shared(1),
        semaphore: Semaphore::shared(0),
        event: Event::shared(),
        result: AsyncResult::shared(),
        barrier: Barrier::shared(3),
        condvar: Condvar::shared(),
        empty: Queue::shared(),
        full: Queue::shared_bounded(1),
        to_get: Channel::shared(),
        to_put: Channel::shared(),
    });
}

/// A child uses what others of its parent wait for, who are not there: what it gives, it finds.
fn nothing_goes_to_ghosts<S: Sharing>(objects: Objects<S>) {
    let objects: &'static Objects<S> = Box::leak(Box::new(objects));
    let o = objects;
    o.full.put(1).unwrap();
    let held = (o.mutex.lock().unwrap(), o.relock.lock(), o.rwlock.write().unwrap());
    let waits: Vec<Box<dyn FnOnce()>> = vec![
        Box::new(|| drop(o.mutex.lock().unwrap())),
        Box::new(|| drop(o.relock.lock())),
        Box::new(|| drop(o.rwlock.write().unwrap())),
        Box::new(|| drop(o.rwlock.read().unwrap())),
        Box::new(|| o.semaphore.acquire()),
        Box::new(|| o.event.wait()),
        Box::new(|| {
            let _ = o.result.get();
        }),
        Box::new(|| {
            let _ = o.barrier.wait();
        }),
        Box::new(|| drop(o.condvar.wait(o.free.lock().unwrap()))),
        Box::new(|| {
            let _ = o.empty.get();
        }),
        Box::new(|| o.full.put(2).unwrap()),
        Box::new(|| {
            let _ = o.to_get.get();
        }),
        Box::new(|| o.to_put.put(2).unwrap()),
    ];
    let others: Vec<_> = waits.into_iter().map(|wait| spawn(wait)).collect();
    for _ in 0..3 {
        yield_now();
    }
    let child = Process::spawn(move || {
        drop(held);
        assert_eq!(*o.mutex.try_lock().unwrap(), 1);
        assert!(o.relock.try_lock().is_some());
        assert_eq!(*o.rwlock.try_read().unwrap(), 1);
        assert_eq!(*o.rwlock.try_write().unwrap(), 1);
        assert_eq!(o.semaphore.waiting(), 0);
        o.semaphore.release();
        assert_eq!(o.semaphore.permits(), 1);
        o.event.set();
        o.event.wait();
        o.result.set(3).unwrap();
        assert_eq!(o.result.get(), 3);
        assert!(o.barrier.wait_timeout(Duration::from_millis(1)).is_err(), "one of three");
        o.condvar.notify_one();
        o.empty.put(5).unwrap();
        assert_eq!((o.empty.len(), o.empty.try_get()), (1, Ok(5)));
        assert_eq!((o.full.try_get(), o.full.len()), (Ok(1), 0), "2 is not put here");
        assert_eq!((o.to_get.getters(), o.to_put.putters()), (0, 0));
        assert!(matches!(o.to_get.try_put(1), Err(PutError::Full(1))));
        assert!(o.to_put.try_get().is_err());
        // And those that come after them do not miss anything.
        let later = spawn(|| (o.empty.get().unwrap(), o.to_get.get().unwrap()));
        yield_now();
        o.empty.put(6).unwrap();
        yield_now();
        o.to_get.put(7).unwrap();
        assert_eq!(later.join().unwrap(), (6, 7));
        let notified = spawn(|| drop(o.condvar.wait(o.free.lock().unwrap())));
        yield_now();
        o.condvar.notify_one();
        notified.join().unwrap();
    });
    assert_eq!(child.unwrap().join().unwrap().code(), Some(0));
    drop(others);
}

fn run_until_idle_in_a_child_of_one_that_waits_until_idle() {
    let parent = spawn(|| {
        let child = Process::spawn(|| {
            let steps = Rc::new(Cell::new(0));
            let count = Rc::clone(&steps);
            drop(spawn(move || {
                for _ in 0..10 {
                    count.set(count.get() + 1);
                    yield_now();
                }
            }));
            run_until_idle();
            steps.get()
        });
        assert_eq!(child.unwrap().join().unwrap().code(), Some(10));
    });
    run_until_idle();
    parent.join().unwrap();
}

/// Also when main, which it has switched to by hand, has ended.
fn a_child_that_is_killed_says_so() {
    let (mut reader, writer) = pipe().unwrap();
    let child = Process::spawn(move || -> i32 {
        // SAFETY: both are open.
        assert_eq!(unsafe { libc::dup2(writer.as_raw_fd(), 2) }, 2);
        resume_unwind(Box::new(GreenletExit))
    });
    let mut said = String::new();
    reader.read_to_string(&mut said).unwrap();
    assert_eq!(child.unwrap().join().unwrap().code(), Some(1));
    assert!(said.contains("the body of a child process was killed"), "{said:?}");
}
