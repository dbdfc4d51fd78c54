//! A server with a coroutine a connection, as gevent's `StreamServer`: ten thousand of them take one thread.
//!
//! ```sh
//! cargo run --release --example coroutine_server 127.0.0.1:7777
//! nc 127.0.0.1 7777      # elsewhere: each line comes back in capitals
//! ```
//!
//! At Ctrl-C or SIGTERM it takes no more connections, and gives those that there are two seconds.
//! `process_server` and `thread_server` do the same in their ways, and `prefork_server` this on all cores.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::time::Duration;
use switchgrass::net::{StreamServer, TcpListener, TcpStream};
use switchgrass::signal::{Signal, Signals};

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

fn main() -> io::Result<()> {
    let signals = Signals::new(&[Signal::INT, Signal::TERM])?;
    let listener = TcpListener::bind(std::env::args().nth(1).unwrap_or("127.0.0.1:0".into()))?;
    let _ = writeln!(io::stdout(), "listening at {}", listener.local_addr()?);

    let server = StreamServer::new(listener, |stream, _| {
        // A connection that fails is one that has gone.
        let _ = serve(stream);
    });
    server.start();
    let signal = signals.wait();
    let _ = writeln!(
        io::stdout(),
        "{signal}: {} connections have {LIMIT:?} to end",
        server.connections()
    );
    let _ =
        writeln!(io::stdout(), "stopped, all ended by themselves: {}", server.stop(Some(LIMIT)));
    Ok(())
}
