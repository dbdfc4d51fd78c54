//! A server that ends in order: at Ctrl-C or SIGTERM it takes no more connections, gives those that there are
//! some time, and ends what is left then. A second signal does not wait for that.
//!
//! ```sh
//! cargo run --release --example shutdown 127.0.0.1:7777
//! nc 127.0.0.1 7777      # elsewhere; then press Ctrl-C here
//! ```

use std::io::{self, Read, Write};
use std::time::Duration;
use switchgrass::net::{SocketAddr, StreamServer, TcpListener, TcpStream};
use switchgrass::signal::{Signal, Signals};
use switchgrass::spawn;

const LIMIT: Duration = Duration::from_secs(2);

fn echo(mut stream: TcpStream, _: SocketAddr) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
}

fn main() -> io::Result<()> {
    // Before anybody can know of this server: from here on no signal ends it by itself.
    let signals = Signals::new(&[Signal::INT, Signal::TERM])?;
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:0".into());
    let server = StreamServer::new(TcpListener::bind(address)?, echo);
    server.start();
    let _ = writeln!(io::stdout(), "listening at {}", server.listener().local_addr()?);

    let signal = signals.wait();
    let _ = writeln!(
        io::stdout(),
        "{signal}: {} connections have {LIMIT:?} to end",
        server.connections()
    );
    spawn(move || {
        signals.wait();
        std::process::exit(1);
    });
    let all = server.stop(Some(LIMIT));
    let _ = writeln!(io::stdout(), "stopped, all ended by themselves: {all}");
    Ok(())
}
