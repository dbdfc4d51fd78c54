//! Sockets: what they do, and what they do to each other and to the rest.

mod closing;
mod connecting;
mod datagram_servers;
mod datagrams;
mod fairness;
mod few_descriptors;
mod few_stacks;
mod few_threads;
mod idle_memory;
mod own_process;
mod peers;
mod servers;
mod shared_ports;
mod signals;
mod std_methods;
mod stopping_short;
mod streams;

use std::io;
use switchgrass::net::{TcpListener, TcpStream};
use switchgrass::spawn;

/// The two ends of a TCP connection.
fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let accepting = spawn(move || listener.accept().unwrap().0);
    let here = TcpStream::connect(address).unwrap();
    (here, accepting.join().unwrap())
}

/// What kind of error it is.
#[track_caller]
fn kind<T: std::fmt::Debug>(result: io::Result<T>) -> io::ErrorKind {
    result.expect_err("it should fail").kind()
}
