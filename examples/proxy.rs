//! Passes TCP connections on to another address, both directions at once.
//!
//! ```sh
//! cargo run --release --example proxy 127.0.0.1:7000 example.org:80
//! curl -H "Host: example.org" http://127.0.0.1:7000/      # elsewhere: the page
//! ```
//!
//! When one side has said all that it has to say, the other is told so, and may go on. A connection ends when both
//! have, when one has failed, or when nothing has moved for a while: so many seconds as a third argument says, 60
//! if there is none. Without arguments it passes on the words of a few clients of its own, and says what came back.

use std::cell::Cell;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};
use switchgrass::coroutine::scope;
use switchgrass::net::{SocketAddr, StreamServer, TcpListener, TcpStream};
use switchgrass::pool::Pool;

/// Passes on what comes, until the end of it.
fn copy(from: &TcpStream, to: &TcpStream, moved: &Cell<Instant>, idle: Duration) -> io::Result<()> {
    let (mut reader, mut writer) = (from, to);
    let mut buffer = [0; 16 * 1024];
    loop {
        let count = match reader.read(&mut buffer) {
            Ok(0) => return to.shutdown(Shutdown::Write),
            Ok(count) => count,
            // The other direction may be busy.
            Err(error) if is_limit(&error) && moved.get().elapsed() < idle => continue,
            Err(error) => return Err(error),
        };
        writer.write_all(&buffer[..count])?;
        moved.set(Instant::now());
    }
}

fn is_limit(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::TimedOut
}

fn pass_on(client: TcpStream, target: &str, idle: Duration) -> io::Result<()> {
    let server = TcpStream::connect(target)?;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(idle))?;
        stream.set_write_timeout(Some(idle))?;
    }
    let moved = Cell::new(Instant::now());
    let copy_or_end = |from: &TcpStream, to: &TcpStream| {
        if copy(from, to, &moved, idle).is_err() {
            // The other direction ends with this one.
            from.close();
            to.close();
        }
    };
    scope(|scope| {
        scope.spawn(|| copy_or_end(&client, &server));
        copy_or_end(&server, &client);
    });
    Ok(())
}

fn proxy(address: &str, target: String, idle: Duration) -> io::Result<StreamServer> {
    Ok(StreamServer::with_limit(TcpListener::bind(address)?, 1000, move |client, from| {
        if let Err(error) = pass_on(client, &target, idle) {
            let _ = writeln!(io::stderr(), "{from}: cannot be passed on to {target}: {error}");
        }
    }))
}

/// Says some words and then that this is all, and returns the answer.
fn ask(address: SocketAddr, words: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(words.as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    if let Some(address) = arguments.next() {
        let target = arguments.next().expect("a second argument: the address to pass on to");
        let idle = arguments.next().map_or(60.0, |text| text.parse().expect("a number of seconds"));
        let server = proxy(&address, target, Duration::from_secs_f64(idle))?;
        let _ = writeln!(io::stdout(), "listening at {}", server.listener().local_addr()?);
        return server.serve_forever();
    }
    // One that answers when it has heard all, so that it must be told when that is.
    let shouting =
        StreamServer::new(TcpListener::bind("127.0.0.1:0")?, |mut stream: TcpStream, _| {
            let mut words = String::new();
            if stream.read_to_string(&mut words).is_ok() {
                let _ = stream.write_all(words.to_uppercase().as_bytes());
            }
        });
    shouting.start();
    let target = shouting.listener().local_addr()?.to_string();
    let proxy = proxy("127.0.0.1:0", target, Duration::from_secs(10))?;
    proxy.start();
    let here = proxy.listener().local_addr()?;
    let words = ["switch", "grass", "coroutine"];
    let answers = Pool::new(3).map(words, move |words| ask(here, words).unwrap()).unwrap();
    println!("{} came back as {}", words.join(" "), answers.join(" "));
    let both = [proxy, shouting].map(|server| server.stop(Some(Duration::from_secs(5))));
    println!("stopped, all connections ended by themselves: {}", both == [true; 2]);
    Ok(())
}
