//! A server that sends back what it gets, a coroutine a connection.
//!
//! ```sh
//! cargo run --release --example echo_server 127.0.0.1:7777
//! nc 127.0.0.1 7777      # elsewhere
//! ```
//!
//! Without an address it serves a thousand clients of its own, and says what they got.

use std::io::{self, Read, Write};
use std::time::Duration;
use switchgrass::net::{SocketAddr, StreamServer, TcpListener, TcpStream};
use switchgrass::pool::Pool;

fn echo(mut stream: TcpStream, _: SocketAddr) {
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(count) if stream.write_all(&buffer[..count]).is_err() => return,
            Ok(_) => {}
        }
    }
}

/// Sends a message, and says whether it comes back.
fn ask(address: SocketAddr, number: usize) -> io::Result<bool> {
    let message = format!("hello {number}");
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(message.as_bytes())?;
    let mut answer = vec![0; message.len()];
    stream.read_exact(&mut answer)?;
    Ok(answer == message.as_bytes())
}

fn main() -> io::Result<()> {
    if let Some(address) = std::env::args().nth(1) {
        return StreamServer::new(TcpListener::bind(address)?, echo).serve_forever();
    }
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let server = StreamServer::with_limit(listener, 100, echo);
    server.start();

    // A hundred at a time.
    let answers = Pool::new(100).map(0..1000, move |number| ask(address, number).unwrap());
    let right = answers.unwrap().into_iter().filter(|is_right| *is_right).count();
    println!("{right} of 1000 clients got back what they sent");

    let all = server.stop(Some(Duration::from_secs(5)));
    println!("stopped, {} connections left, all ended by themselves: {all}", server.connections());
    Ok(())
}
