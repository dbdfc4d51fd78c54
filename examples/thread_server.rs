//! A server with a thread a connection, as Python's with `threading.Thread` or `ThreadingTCPServer`: the
//! connections are std's, and block.
//!
//! ```sh
//! cargo run --release --example thread_server 127.0.0.1:7777
//! nc 127.0.0.1 7777      # elsewhere: each line comes back in capitals
//! ps -T -C thread_server      # a thread a connection
//! ```
//!
//! At Ctrl-C or SIGTERM it takes no more connections, and gives those that there are two seconds.
//! `process_server` and `coroutine_server` do the same in their ways.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;
use switchgrass::net::TcpListener;
use switchgrass::pool::Group;
use switchgrass::signal::{Signal, Signals};
use switchgrass::thread::{Builder, JoinHandle};
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

/// Only the listener is this library's, so that main can wait for it and for signals.
fn accept_and_start(listener: &TcpListener) -> io::Result<JoinHandle<io::Result<()>>> {
    let (stream, _) = listener.accept()?;
    let stream = stream.into_std()?;
    // The process may end while it runs.
    Builder::new().daemon(true).spawn(move || serve(stream))
}

fn main() -> io::Result<()> {
    let signals = Signals::new(&[Signal::INT, Signal::TERM])?;
    let listener = TcpListener::bind(std::env::args().nth(1).unwrap_or("127.0.0.1:0".into()))?;
    let _ = writeln!(io::stdout(), "listening at {}", listener.local_addr()?);

    let threads = Group::new();
    let joiners = threads.clone();
    let acceptor = spawn(move || {
        loop {
            match accept_and_start(&listener) {
                // A coroutine a thread, to know when all have ended.
                Ok(thread) => drop(joiners.spawn(move || thread.join())),
                Err(error) => {
                    let _ = writeln!(io::stderr(), "a connection is not served: {error}");
                    sleep(Duration::from_millis(10));
                }
            }
        }
    });
    let signal = signals.wait();
    let _ = writeln!(io::stdout(), "{signal}: {} connections have {LIMIT:?} to end", threads.len());
    // With it goes the listener.
    acceptor.kill_wait(None);
    let _ =
        writeln!(io::stdout(), "stopped, all ended by themselves: {}", threads.join_timeout(LIMIT));
    Ok(())
}
