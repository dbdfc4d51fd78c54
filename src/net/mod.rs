#![forbid(unsafe_code)]
//! Cooperative sockets, with the names and signatures of std.
//!
//! Waiting for a socket lets other coroutines run. Every operation is tried first, and waits only if it
//! would block. A socket is registered with its thread's hub once, for its lifetime, and stays on that
//! thread.
//!
//! `socket.rs` has what all types share; `tcp.rs`, `unix.rs` and `udp.rs` are the types; `addr.rs` resolves
//! names; `listen.rs` abstracts over listeners; `serving.rs` has what the servers in `server.rs` and
//! `datagram_server.rs` share.

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
