//! A server of several processes, a coroutine a connection in each: all cores, and what ends one ends only
//! that.
//!
//! ```sh
//! cargo run --release --example prefork_server 127.0.0.1:7777 4
//! nc 127.0.0.1 7777      # elsewhere: each line comes back in capitals, and `pid` is answered by who serves
//! kill -TERM WORKER      # another takes its place; as it does if that is killed (KILL)
//! kill -HUP SERVER       # a graceful restart: all workers are replaced, and no connection notices
//! kill -TERM SERVER      # all end, as at Ctrl-C, those that there are within two seconds
//! ```
//!
//! Each worker has a listener of its own at the one address (`SO_REUSEPORT`): the kernel deals connections out,
//! and wakes nobody for nothing. But a connection belongs to its listener from the first packet on, and is
//! reset if that is closed before somebody accepts it. A worker that empties its queue and then closes still
//! loses those that come in between, and one that is killed loses all. (Since Linux 5.14 the kernel moves
//! them to the other listeners, if root sets `net.ipv4.tcp_migrate_req`.) So it is the parent that makes the
//! listeners and keeps them open, and a worker inherits one. They, and what waits in them, outlive every
//! worker:
//!
//! ```text
//!   listener 1 ◄── worker 1 ─────┬─ told to end: accepts no more ── its last connection ends ── gone
//!      │                         │
//!      └────────── worker 1' ────┴──────────────────────────────────────────────────────────►
//! ```
//!
//! The new worker says that it serves before the old one is told to end; for a moment both accept.

use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::rc::Rc;
use std::time::Duration;
use switchgrass::io::{PipeReader, PipeWriter, pipe};
use switchgrass::net::{StreamServer, TcpListener, TcpStream};
use switchgrass::pool::Group;
use switchgrass::process::{Builder, Process};
use switchgrass::signal::{Signal, Signals};
use switchgrass::sleep;

/// How long connections have to end in a worker that was replaced, and how long if all is to end.
const LIMIT: Duration = Duration::from_secs(10);
const LAST_LIMIT: Duration = Duration::from_secs(2);
const LONGEST_LINE: u64 = 64 * 1024;

fn serve(stream: TcpStream) -> io::Result<()> {
    let mut reader = BufReader::new(&stream);
    let mut line = Vec::new();
    while reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line)? > 0 {
        line.make_ascii_uppercase();
        if line == b"PID\n" {
            line = format!("{}\n", std::process::id()).into_bytes();
        }
        (&stream).write_all(&line)?;
        line.clear();
    }
    Ok(())
}

/// What a worker does. The pipe is open while it serves.
fn work(listener: TcpListener, mut serving: PipeWriter) -> io::Result<()> {
    let signals = Signals::new(&[Signal::INT, Signal::TERM, Signal::HUP])?;
    let server = StreamServer::new(listener, |stream, _| {
        // A connection that fails is one that has gone.
        let _ = serve(stream);
    });
    server.start();
    serving.write_all(b"!")?;
    signals.wait();
    drop(serving);
    server.stop(Some(LIMIT));
    Ok(())
}

struct Parent {
    /// One a worker. Nobody accepts from them here.
    listeners: Vec<TcpListener>,
    /// Who accepts from each.
    workers: RefCell<Vec<Option<Rc<Process>>>>,
    /// A coroutine for each worker that there is, also for those that were told to end.
    keepers: Group,
    is_ending: Cell<bool>,
}

impl Parent {
    /// Makes a worker, and waits until it serves. The pipe ends when it serves no more.
    fn begin(&self, place: usize) -> io::Result<(Process, PipeReader)> {
        let (mut is_serving, serving) = pipe()?;
        let listener = self.listeners[place].try_clone()?;
        let worker = Builder::new().daemon(true).spawn(move || {
            self.listeners.iter().for_each(TcpListener::close);
            work(listener, serving)
        })?;
        match is_serving.read(&mut [0])? {
            0 => Err(io::Error::other("it has ended before it served")),
            _ => Ok((worker, is_serving)),
        }
    }

    /// Has a new worker serve in a place, and tells the one before, if there is one, to end.
    fn renew(self: &Rc<Self>, place: usize) -> io::Result<()> {
        let (worker, is_serving) = self.begin(place)?;
        let worker = Rc::new(worker);
        say(format_args!("worker {} serves", worker.id()));
        let before = self.workers.borrow_mut()[place].replace(Rc::clone(&worker));
        let is_late = self.is_ending.get().then(|| Rc::clone(&worker));
        let parent = Rc::clone(self);
        self.keepers.spawn(move || parent.keep(place, &worker, is_serving));
        before.into_iter().chain(is_late).try_for_each(|worker| worker.terminate())
    }

    /// Waits until a worker serves no more, replaces it if nobody has, and waits for its end.
    fn keep(self: &Rc<Self>, place: usize, worker: &Rc<Process>, mut is_serving: PipeReader) {
        let _ = is_serving.read(&mut [0]);
        let is_missed =
            || self.workers.borrow()[place].as_ref().is_some_and(|one| Rc::ptr_eq(one, worker));
        loop {
            // Not in haste: one may end as soon as it begins, and at Ctrl-C they end before the parent does.
            sleep(Duration::from_millis(20));
            if self.is_ending.get() || !is_missed() {
                break;
            }
            if let Err(error) = self.renew(place) {
                complain(format_args!("there is no new worker: {error}"));
            }
        }
        say(format_args!("worker {} has ended: {:?}", worker.id(), worker.join()));
    }
}

/// Prints a line. If its reader has gone, the server goes on: `println!` would panic.
fn say(line: impl Display) {
    // In one piece: part of a line would stay in the buffer, which a fork has to write first.
    let _ = io::stdout().write_all(format!("{line}\n").as_bytes());
}

/// The same, of what has gone wrong.
fn complain(line: impl Display) {
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

fn main() -> io::Result<()> {
    let signals = Signals::new(&[Signal::HUP, Signal::INT, Signal::TERM])?;
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or("127.0.0.1:0".into());
    let count = match arguments.next() {
        Some(count) => count.parse().expect("a number of workers"),
        None => std::thread::available_parallelism()?.get(),
    };
    let mut listeners = vec![TcpListener::bind_reuse_port(address)?];
    let address = listeners[0].local_addr()?;
    for _ in 1..count {
        listeners.push(TcpListener::bind_reuse_port(address)?);
    }
    say(format_args!("listening at {address}"));

    let workers = RefCell::new(vec![None; listeners.len()]);
    let (keepers, is_ending) = (Group::new(), Cell::new(false));
    let parent = Rc::new(Parent { listeners, workers, keepers, is_ending });
    let all = 0..parent.listeners.len();
    all.clone().try_for_each(|place| parent.renew(place))?;
    let signal = loop {
        match signals.wait() {
            Signal::HUP => {
                say("SIGHUP: all workers are replaced");
                if let Err(error) = all.clone().try_for_each(|place| parent.renew(place)) {
                    complain(format_args!("the workers of before go on: {error}"));
                }
            }
            signal => break signal,
        }
    };
    say(format_args!("{signal}: {} workers have {LAST_LIMIT:?} to end", parent.keepers.len()));
    parent.is_ending.set(true);
    parent.listeners.iter().for_each(TcpListener::close);
    for worker in parent.workers.borrow().iter().flatten() {
        worker.terminate()?;
    }
    // Those that have not ended by then are killed with this process: they are its daemons.
    say(format_args!(
        "stopped, all ended by themselves: {}",
        parent.keepers.join_timeout(LAST_LIMIT)
    ));
    Ok(())
}
