#![forbid(unsafe_code)]
//! Sockets, with std's names and signatures: whoever waits for one lets the other coroutines run.
//!
//! Every operation is tried first, and waits only if it would block. A socket is registered with its thread's
//! hub once and for its life, and stays on that thread.
//!
//! `socket.rs` is what all have in common; `tcp.rs`, `unix.rs`, `udp.rs` are the types; `addr.rs` looks up
//! names; `listen.rs` takes connections; `serving.rs` is what the servers in `server.rs` and
//! `datagram_server.rs` have in common.

mod addr;
mod datagram_server;
mod listen;
mod server;
mod serving;
mod socket;
mod tcp;
mod udp;
mod unix;

pub use addr::ToSocketAddrs;
pub use datagram_server::{DatagramServer, Datagrams};
pub use listen::{Incoming, Listen};
pub use server::StreamServer;
pub use std::net::{Shutdown, SocketAddr};
pub use tcp::{TcpListener, TcpReadHalf, TcpStream, TcpWriteHalf};
pub use udp::UdpSocket;
pub use unix::{UnixDatagram, UnixListener, UnixReadHalf, UnixStream, UnixWriteHalf};
