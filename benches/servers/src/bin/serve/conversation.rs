#![forbid(unsafe_code)]
//! Who blocks: may, threads, and switchgrass. A conversation reads the same in all three.

use crate::announce;
use servers::conversation::converse;
use servers::protocol::Protocol;
use std::io;
use std::net::SocketAddr;
use std::thread;

/// A coroutine of switchgrass's a connection.
pub(crate) fn by_switchgrass<P: Protocol, const ROOM: usize>(
    address: SocketAddr,
) -> io::Result<()> {
    use switchgrass::net::{StreamServer, TcpListener, TcpStream};
    let listener = TcpListener::bind(address)?;
    announce(listener.local_addr()?);
    let handler = |stream: TcpStream, _| {
        // A connection that breaks ends, and that is all.
        let _ = stream.set_nodelay(true).and_then(|()| converse::<P, ROOM>(stream));
    };
    StreamServer::new(listener, handler).serve_forever()
}

/// As [`by_switchgrass`], over two hubs, each with a listener of its own.
pub(crate) fn by_two_hubs<P: Protocol, const ROOM: usize>(address: SocketAddr) -> io::Result<()> {
    use switchgrass::multicore::{Hubs, StreamServers};
    use switchgrass::net::TcpStream;
    let handler = |stream: TcpStream, _| {
        let _ = stream.set_nodelay(true).and_then(|()| converse::<P, ROOM>(stream));
    };
    let servers = StreamServers::bind(&Hubs::new(2)?, address, handler)?;
    servers.start();
    announce(*servers.local_addr());
    servers.serve_forever()
}

/// A coroutine of may's a connection, on so many threads.
pub(crate) fn by_may<P: Protocol, const ROOM: usize>(
    address: SocketAddr,
    threads: usize,
) -> io::Result<()> {
    may::config().set_workers(threads);
    let acceptor = may::go!(move || -> io::Result<()> {
        let listener = may::net::TcpListener::bind(address)?;
        announce(listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept()?;
            stream.set_nodelay(true)?;
            may::go!(move || converse::<P, ROOM>(stream));
        }
    });
    acceptor.join().unwrap_or_else(|_| Err(io::Error::other("the coroutine that accepts panicked")))
}

/// A thread a connection, with a small stack.
pub(crate) fn by_threads<P: Protocol, const ROOM: usize>(address: SocketAddr) -> io::Result<()> {
    const STACK: usize = 64 * 1024;
    let listener = std::net::TcpListener::bind(address)?;
    announce(listener.local_addr()?);
    for stream in listener.incoming() {
        let stream = stream?;
        stream.set_nodelay(true)?;
        let builder = thread::Builder::new().stack_size(STACK);
        builder.spawn(move || converse::<P, ROOM>(stream))?;
    }
    Ok(())
}
