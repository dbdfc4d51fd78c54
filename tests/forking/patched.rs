//! What std's own types are in a child, where everything is patched.

use crate::tests;
use std::cell::{Cell, RefCell};
use std::hint::spin_loop;
use std::io::{Read, Write, pipe};
use std::net::{TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::thread;
use std::time::{Duration, Instant};
use switchgrass::coroutine::join_all;
use switchgrass::pool::ThreadPool;
use switchgrass::process::Process;
use switchgrass::{spawn, yield_now};

tests![
    a_lock_that_others_wait_for_is_free_in_the_child,
    one_who_is_parked_is_not_there_in_the_child,
    descriptors_that_were_waited_for,
    what_blocks_switches_in_the_child,
    a_lock_that_is_taken_around_a_fork,
];

fn a_lock_that_others_wait_for_is_free_in_the_child() {
    let lock = Rc::new(Mutex::new(0));
    let guard = lock.lock().unwrap();
    let waiting = spawn({
        let lock = Rc::clone(&lock);
        move || *lock.lock().unwrap() += 1
    });
    yield_now();
    let child = Process::spawn(|| {
        drop(guard);
        let counting = (0..4).map(|_| {
            let lock = Rc::clone(&lock);
            spawn(move || {
                let mut count = lock.lock().unwrap();
                thread::sleep(Duration::from_millis(2));
                *count += 1;
            })
        });
        join_all(counting.collect::<Vec<_>>());
        *lock.lock().unwrap()
    });
    // The guard was dropped here as well, as all that the body has taken.
    waiting.join().unwrap();
    assert_eq!(*lock.lock().unwrap(), 1);
    assert_eq!(child.unwrap().join().unwrap().code(), Some(4));
}

fn one_who_is_parked_is_not_there_in_the_child() {
    let flag = Rc::new(Cell::new(false));
    let parked = |flag: &Rc<Cell<bool>>| {
        let flag = Rc::clone(flag);
        // It may return for no reason.
        spawn(move || {
            while !flag.get() {
                thread::park();
            }
        })
    };
    let wake = || {
        flag.set(true);
        thread::current().unpark();
    };
    let here = parked(&flag);
    yield_now();
    let child = Process::spawn(|| {
        let there = parked(&flag);
        yield_now();
        wake();
        there.join().unwrap();
        i32::from(here.is_finished())
    });
    assert_eq!(child.unwrap().join().unwrap().code(), Some(0));
    assert!(!here.is_finished());
    wake();
    here.join().unwrap();
}

fn descriptors_that_were_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    let reading = spawn(move || {
        let mut bytes = [0; 3];
        stream.read_exact(&mut bytes).unwrap();
        (stream, bytes)
    });
    yield_now();
    client.write_all(b"one").unwrap();
    let (mut stream, bytes) = reading.join().unwrap();
    assert_eq!(&bytes, b"one");
    let child = Process::spawn(move || {
        let mut bytes = [0; 3];
        // The number is known here, and registered with no hub of this process.
        stream.read_exact(&mut bytes).unwrap();
        stream.write_all(&bytes).unwrap();
        drop(stream);
        // The number is used again.
        let (mut reader, mut writer) = pipe().unwrap();
        let late = spawn(move || {
            thread::sleep(Duration::from_millis(5));
            writer.write_all(b"x").unwrap();
        });
        reader.read_exact(&mut bytes[..1]).unwrap();
        late.join().unwrap();
        i32::from(bytes[0])
    });
    thread::sleep(Duration::from_millis(5));
    client.write_all(b"two").unwrap();
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"two");
    assert_eq!(child.unwrap().join().unwrap().code(), Some(i32::from(b'x')));
}

fn what_blocks_switches_in_the_child() {
    // A thread of the library's that makes a call goes on in the parent alone.
    let busy = spawn(|| std::fs::read("/proc/self/status").unwrap());
    yield_now();
    let child = Process::spawn(|| {
        let (sender, receiver) = mpsc::channel();
        let all: Vec<_> = (0..50)
            .map(|number| {
                let sender = sender.clone();
                spawn(move || {
                    thread::sleep(Duration::from_millis(20));
                    sender.send(number).unwrap();
                })
            })
            .collect();
        drop(sender);
        join_all(all);
        let threads: Arc<Mutex<Vec<_>>> = Arc::default();
        thread::scope(|scope| {
            for number in 0..3 {
                let threads = Arc::clone(&threads);
                scope.spawn(move || threads.lock().unwrap().push(number));
            }
        });
        assert_eq!(threads.lock().unwrap().len(), 3);
        receiver.iter().sum::<i32>() / 5
    });
    assert_eq!(child.unwrap().join().unwrap().code(), Some(1225 / 5));
    busy.join().unwrap();
}

fn a_lock_that_is_taken_around_a_fork() {
    static LOCK: Mutex<()> = Mutex::new(());
    thread_local! {
        static HELD: RefCell<Option<MutexGuard<'static, ()>>> = const { RefCell::new(None) };
    }
    extern "C" fn before() {
        HELD.set(LOCK.lock().ok());
    }
    extern "C" fn after() {
        drop(HELD.take());
    }
    // SAFETY: functions that are always there. In the child, what is locked is this thread's.
    let known = unsafe { libc::pthread_atfork(Some(before), Some(after), Some(after)) };
    assert_eq!(known, 0);
    let (tell, is_held) = mpsc::channel();
    let pool = ThreadPool::new(1);
    let job = pool.spawn(move || {
        let _guard = LOCK.lock().unwrap();
        tell.send(()).unwrap();
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(2) {
            spin_loop();
        }
    });
    is_held.recv().unwrap();
    let child = Process::spawn(|| i32::from(LOCK.try_lock().is_ok()));
    assert_eq!(child.unwrap().join().unwrap().code(), Some(1));
    job.unwrap().join().unwrap();
}
