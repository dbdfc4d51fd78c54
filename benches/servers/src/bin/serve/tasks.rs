#![forbid(unsafe_code)]
//! Tokio: a task a connection.

use crate::announce;
use servers::protocol::Protocol;
use servers::received::Received;
use std::io;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;

pub(crate) fn on_this_thread<P: Protocol, const ROOM: usize>(
    address: SocketAddr,
) -> io::Result<()> {
    Builder::new_current_thread().enable_io().build()?.block_on(accept::<P, ROOM>(address))
}

pub(crate) fn on_two_threads<P: Protocol, const ROOM: usize>(
    address: SocketAddr,
) -> io::Result<()> {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_io().build()?;
    runtime.block_on(accept::<P, ROOM>(address))
}

async fn accept<P: Protocol, const ROOM: usize>(address: SocketAddr) -> io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    announce(listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(converse::<P, ROOM>(stream));
    }
}

/// Answers until the other end closes.
async fn converse<P: Protocol, const ROOM: usize>(mut stream: TcpStream) -> io::Result<()> {
    let mut received = Received::<ROOM>::new();
    loop {
        let count = stream.read(received.room()).await?;
        if count == 0 {
            return Ok(());
        }
        received.add(count);
        while let Some(reply) = received.answer::<P>()? {
            stream.write_all(reply).await?;
        }
    }
}
