#![forbid(unsafe_code)]
//! The yardstick: a loop around `epoll_wait`, as fast as it can be written by hand.
//!
//! Edge triggered, registered once for both directions; try first; a read that gets less than it could has
//! got all there was, so there is no second one; nothing is allocated but when a connection comes.

use crate::announce;
use servers::epoll::{Epoll, receive, send};
use servers::protocol::Protocol;
use servers::received::Received;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream};

/// The listener's token. Those of connections are their places.
const LISTENER: u64 = u64::MAX;

pub(crate) fn serve<P: Protocol, const ROOM: usize>(address: SocketAddr) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    announce(listener.local_addr()?);
    let mut epoll = Epoll::new()?;
    epoll.add(&listener, LISTENER)?;
    let mut connections = Connections::<ROOM>::default();
    loop {
        for index in 0..epoll.wait(-1)? {
            let event = epoll.event(index);
            if event.token == LISTENER {
                connections.accept(&listener, &epoll)?;
                continue;
            }
            let place = event.token as usize;
            let Some(connection) = &mut connections.all[place] else { continue };
            if !connection.go_on::<P>(event.hung_up).unwrap_or(false) {
                connections.close(place);
            }
        }
    }
}

/// Connections and free places.
#[derive(Default)]
struct Connections<const ROOM: usize> {
    all: Vec<Option<Box<Connection<ROOM>>>>,
    free: Vec<usize>,
}

impl<const ROOM: usize> Connections<ROOM> {
    /// Takes all that there are.
    fn accept(&mut self, listener: &TcpListener, epoll: &Epoll) -> io::Result<()> {
        loop {
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            let place = self.free.pop().unwrap_or_else(|| {
                self.all.push(None);
                self.all.len() - 1
            });
            epoll.add(&stream, place as u64)?;
            self.all[place] = Some(Box::new(Connection {
                stream,
                received: Received::new(),
                unsent: Vec::new(),
            }));
        }
    }

    fn close(&mut self, place: usize) {
        self.all[place] = None;
        self.free.push(place);
    }
}

struct Connection<const ROOM: usize> {
    stream: TcpStream,
    received: Received<ROOM>,
    /// Replies that the socket had no room for. Nothing is read while there are any.
    unsent: Vec<u8>,
}

impl<const ROOM: usize> Connection<ROOM> {
    /// Does what can be done. Whether the connection goes on.
    #[inline]
    fn go_on<P: Protocol>(&mut self, hung_up: bool) -> io::Result<bool> {
        if !self.unsent.is_empty() {
            self.send_rest()?;
        }
        while self.unsent.is_empty() {
            let room = self.received.room();
            let size = room.len();
            let count = match receive(&self.stream, room) {
                Ok(0) => return Ok(false),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            };
            self.received.add(count);
            while let Some(reply) = self.received.answer::<P>()? {
                let sent =
                    if self.unsent.is_empty() { some(send(&self.stream, reply))? } else { 0 };
                if sent < reply.len() {
                    self.unsent.extend_from_slice(&reply[sent..]);
                }
            }
            // After a hang-up no further event says that there is more, or the end.
            if count < size && !hung_up {
                break;
            }
        }
        Ok(true)
    }

    #[cold]
    fn send_rest(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            let sent = some(send(&self.stream, &self.unsent))?;
            if sent == 0 {
                break;
            }
            self.unsent.drain(..sent);
        }
        Ok(())
    }
}

/// Nothing was sent if there was no room.
#[inline]
fn some(sent: io::Result<usize>) -> io::Result<usize> {
    match sent {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        other => other,
    }
}
