//! A program that uses everything that asks the kernel for something.

use crate::refusals::{self, Kind, Mode};
use std::io::{self, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use switchgrass::multicore::Hubs;
use switchgrass::net::{TcpListener, TcpStream};
use switchgrass::pool::ThreadPool;
use switchgrass::sync::{Event, Queue};
use switchgrass::{Builder, Generator, JoinError, coroutine, sleep, spawn, timeout, yield_now};

type Part = fn() -> io::Result<()>;

const MILLISECOND: Duration = Duration::from_millis(1);

/// Each part is right if it returns `Ok`, and says why not by an error or a panic.
const PARTS: &[(&str, Part)] = &[
    ("sleep", sleeping),
    ("join", joining),
    ("a thread of its own", on_a_thread),
    ("woken by a thread", woken_by_a_thread),
    ("stacks of its own size", stacks),
    ("many coroutines", many),
    ("generator", generating),
    ("pool", pool),
    ("sockets", sockets),
    ("hubs", hubs),
];

/// Runs all parts with the refusal in force, twice, and once more without: then all must be right.
pub(crate) fn run(kind: Kind, number: u32, mode: Mode) {
    std::panic::set_hook(Box::new(|_| ()));
    let body = move || {
        refusals::begin(kind, number, mode);
        for _ in 0..2 {
            PARTS.iter().for_each(|part| drop(attempt(part)));
        }
        let calls = refusals::end();
        let wrong: Vec<String> = PARTS.iter().filter_map(|part| attempt(part).err()).collect();
        assert!(wrong.is_empty(), "without refusals: {wrong:?}");
        calls
    };
    // The harness's own thread has used none of this.
    let calls = thread::spawn(body).join();
    match calls {
        Ok(calls) if calls < number => println!("no call was refused"),
        Ok(_) => println!("all is well"),
        Err(payload) => {
            let text = payload.downcast_ref::<String>().cloned().unwrap_or_default();
            println!("wrong: {text}");
            std::process::exit(1);
        }
    }
}

fn attempt((name, part): &(&str, Part)) -> Result<(), String> {
    match catch_unwind(AssertUnwindSafe(part)) {
        Ok(result) => result.map_err(|error| format!("{name}: {error}")),
        Err(payload) => {
            let text = payload.downcast_ref::<String>().map(String::as_str);
            let text = text.or(payload.downcast_ref::<&str>().copied());
            Err(format!("{name}: {}", text.unwrap_or("a panic without a message")))
        }
    }
}

fn joined<T>(result: Result<T, JoinError>) -> io::Result<T> {
    result.map_err(|error| io::Error::other(error.to_string()))
}

fn right(is_right: bool) -> io::Result<()> {
    if is_right { Ok(()) } else { Err(io::Error::other("a wrong result")) }
}

fn sleeping() -> io::Result<()> {
    sleep(MILLISECOND);
    right(timeout(MILLISECOND, || sleep(Duration::from_secs(60))).is_err())
}

fn joining() -> io::Result<()> {
    let handles: Vec<_> = (0..4).map(|n| spawn(move || (yield_now(), n).1)).collect();
    let mut sum = 0;
    for handle in handles {
        sum += joined(handle.join())?;
    }
    right(sum == 6)
}

fn on_a_thread() -> io::Result<()> {
    let thread = thread::Builder::new().spawn(|| sleep(MILLISECOND))?;
    thread.join().map_err(|_| io::Error::other("the thread has panicked"))
}

fn woken_by_a_thread() -> io::Result<()> {
    let event = Arc::new(Event::shared());
    let other = Arc::clone(&event);
    let thread = thread::Builder::new().spawn(move || {
        thread::sleep(MILLISECOND);
        other.set();
    })?;
    event.wait();
    thread.join().map_err(|_| io::Error::other("the thread has panicked"))
}

fn stacks() -> io::Result<()> {
    for size in [1 << 14, 1 << 17, 1 << 20] {
        let greenlet = Builder::new().stack_size(size).build(|n: u64| n + 1);
        let greenlet = greenlet.map_err(|error| io::Error::other(error.to_string()))?;
        right(greenlet.switch(4) == 5)?;
    }
    Ok(())
}

fn many() -> io::Result<()> {
    let queue = Rc::new(Queue::new());
    let mut handles = Vec::new();
    for number in 0..300 {
        let queue = Rc::clone(&queue);
        let spawned = coroutine::Builder::new().spawn(move || {
            yield_now();
            let _ = queue.put(number);
        });
        handles.push(spawned.map_err(|error| io::Error::other(error.to_string()))?);
    }
    for handle in handles {
        joined(handle.join())?;
    }
    right(queue.len() == 300)
}

fn generating() -> io::Result<()> {
    let numbers = Generator::new(|y| {
        for n in 0..3 {
            sleep(MILLISECOND);
            y.yield_(n);
        }
    });
    right(numbers.sum::<i32>() == 3)
}

fn pool() -> io::Result<()> {
    let pool = ThreadPool::new(2);
    let result = pool.apply(|| {
        sleep(MILLISECOND);
        7
    });
    right(result.map_err(|error| io::Error::other(error.to_string()))? == 7)
}

fn sockets() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let server = spawn(move || -> io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        let mut bytes = [0; 4];
        stream.read_exact(&mut bytes)?;
        stream.write_all(&bytes)
    });
    let asked = timeout(Duration::from_secs(5), || -> io::Result<[u8; 4]> {
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(b"echo")?;
        let mut bytes = [0; 4];
        stream.read_exact(&mut bytes)?;
        Ok(bytes)
    });
    let asked = asked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    server.kill();
    let _ = server.join();
    right(&asked? == b"echo")
}

fn hubs() -> io::Result<()> {
    let hubs = Hubs::new(2)?;
    let result = hubs.spawn(|| {
        sleep(MILLISECOND);
        7
    });
    let result = joined(result.join())?;
    hubs.shutdown(None);
    right(result == 7)
}
