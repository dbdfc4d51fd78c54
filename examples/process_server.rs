//! A server with a process a connection, as Python's with `os.fork()` or `multiprocessing.Process`: what goes
//! wrong in one harms no other, and each may compute for as long as it likes.
//!
//! ```sh
//! cargo run --release --example process_server 127.0.0.1:7777
//! nc 127.0.0.1 7777      # elsewhere: each line comes back in capitals
//! ps --forest -C process_server      # a child a connection, and no <defunct> when that has ended
//! ```
//!
//! At Ctrl-C or SIGTERM it takes no more connections, and gives those that there are two seconds.
//! `thread_server` and `coroutine_server` do the same in their ways.

use std::fmt::Display;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::time::Duration;
use switchgrass::net::{TcpListener, TcpStream};
use switchgrass::pool::Group;
use switchgrass::process::{Builder, Process};
use switchgrass::signal::{Signal, Signals};
use switchgrass::{sleep, spawn};

const LIMIT: Duration = Duration::from_secs(2);
const LONGEST_LINE: u64 = 64 * 1024;

fn serve(stream: TcpStream) -> io::Result<()> {
    let mut reader = BufReader::new(&stream);
    let mut line = Vec::new();
    while reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line)? > 0 {
        line.make_ascii_uppercase();
        (&stream).write_all(&line)?;
        line.clear();
    }
    Ok(())
}

/// Forks before the next connection is taken, so that no child has a copy of another's.
fn accept_and_fork(listener: &TcpListener) -> io::Result<Process> {
    let (stream, _) = listener.accept()?;
    // The body takes the connection, whose copy is closed here. The listener's copy is closed there.
    let child = Builder::new().daemon(true).spawn(move || {
        listener.close();
        // Ctrl-C is sent to all who were started at the terminal. When it is time to end, the parent knows:
        // a daemon ends with it at the latest.
        let _unheeded = Signals::new(&[Signal::INT, Signal::TERM]);
        // A connection that fails is one that has gone.
        let _ = serve(stream);
    });
    Ok(child?)
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
    let signals = Signals::new(&[Signal::INT, Signal::TERM])?;
    // With SO_REUSEADDR: it can be started again while the kernel still knows connections of the last time.
    let listener = TcpListener::bind(std::env::args().nth(1).unwrap_or("127.0.0.1:0".into()))?;
    say(format_args!("listening at {}", listener.local_addr()?));

    let children = Group::new();
    let joiners = children.clone();
    let acceptor = spawn(move || {
        loop {
            match accept_and_fork(&listener) {
                // Whoever waits for a child takes it from the kernel: none stays behind as a zombie.
                Ok(child) => drop(joiners.spawn(move || child.join())),
                Err(error) => {
                    complain(format_args!("a connection is not served: {error}"));
                    sleep(Duration::from_millis(10));
                }
            }
        }
    });
    let signal = signals.wait();
    say(format_args!("{signal}: {} connections have {LIMIT:?} to end", children.len()));
    // With it goes the listener.
    acceptor.kill_wait(None);
    say(format_args!("stopped, all ended by themselves: {}", children.join_timeout(LIMIT)));
    Ok(())
}
