//! An echo server of `std::net`, as in its documentation, but for a `spawn` that makes a coroutine and not a
//! thread: ten thousand connections on one thread.
//!
//! ```sh
//! cargo run --release --features monkey --example std_echo_server 127.0.0.1:7777
//! nc 127.0.0.1 7777      # elsewhere
//! ```
//!
//! Without an address it serves as many clients of its own, up to ten thousand, as it may have descriptors for.

use std::env;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use switchgrass::coroutine::join_all;
use switchgrass::{monkey, spawn};

/// Clients at most. Each takes two descriptors, since both ends are here.
const CLIENTS: usize = 10_000;
const CONNECTING: usize = 100;

fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = [0; 1024];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            count => stream.write_all(&buffer[..count])?,
        }
    }
}

fn serve(listener: TcpListener) -> io::Result<()> {
    for stream in listener.incoming() {
        let stream = stream?;
        // A connection that breaks ends, and that is all.
        spawn(move || _ = echo(stream));
    }
    Ok(())
}

/// Sends a message, and says whether it comes back.
fn ask(mut stream: &TcpStream, number: usize) -> io::Result<bool> {
    let message = format!("hello {number}");
    stream.write_all(message.as_bytes())?;
    let mut answer = vec![0; message.len()];
    stream.read_exact(&mut answer)?;
    Ok(answer == message.as_bytes())
}

/// So many descriptors may there be, after the limit was raised as far as it goes.
fn descriptors() -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: room for a limit, which is valid once it is filled in.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
    }
    usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX)
}

fn main() -> io::Result<()> {
    // From here on, whatever blocks in a coroutine lets the others run.
    monkey::patch_all();
    let most = descriptors().saturating_sub(100) / 2;
    let address: SocketAddr = match env::args().nth(1) {
        Some(address) => {
            let listener = TcpListener::bind(address)?;
            let _ = writeln!(io::stdout(), "listening at {}", listener.local_addr()?);
            return serve(listener);
        }
        None => {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            let address = listener.local_addr()?;
            // It ends when the program does: then the wait for a connection fails.
            spawn(move || serve(listener));
            address
        }
    };
    // A hundred connect at a time: more than that does not go into a listener's queue.
    let each = CLIENTS.min(most) / CONNECTING;
    let connect = move || (0..each).map(|_| TcpStream::connect(address)).collect();
    let connecting = join_all((0..CONNECTING).map(|_| spawn(connect))).into_iter();
    let streams: io::Result<Vec<Vec<TcpStream>>> =
        connecting.map(|all| all.expect("no panic")).collect();
    let streams: Vec<TcpStream> = streams?.into_iter().flatten().collect();
    let count = streams.len();
    println!("{count} connections at once, on one thread");

    let asking = streams.into_iter().enumerate();
    let asking = asking.map(|(number, stream)| spawn(move || ask(&stream, number)));
    let answers = join_all(asking.collect::<Vec<_>>()).into_iter();
    let right = answers.filter(|answer| matches!(answer, Ok(Ok(true)))).count();
    println!("{right} of {count} clients got back what they sent");
    Ok(())
}
