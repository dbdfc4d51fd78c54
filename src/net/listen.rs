#![forbid(unsafe_code)]
//! Listeners of any kind, as the servers see them.

use super::tcp::{TcpListener, TcpStream};
use super::unix::{UnixListener, UnixStream};
use std::io;
use std::iter::FusedIterator;
use std::net::SocketAddr;

/// A source of connections.
pub trait Listen: 'static {
    /// A connection.
    type Stream: 'static;
    /// The address of a peer.
    type Address: 'static;

    /// Waits for a connection.
    ///
    /// # Errors
    ///
    /// Such as those of [`TcpListener::accept`].
    ///
    /// # Switching
    ///
    /// May switch: if none is pending, other coroutines run until one arrives.
    ///
    /// # Cancellation
    ///
    /// No connection is accepted.
    fn accept(&self) -> io::Result<(Self::Stream, Self::Address)>;

    /// Accepts a connection that is already pending.
    ///
    /// A server that is stopped drains the backlog with it. The default implementation reports that none is
    /// pending.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if none is pending.
    ///
    /// # Switching
    ///
    /// Never switches.
    fn try_accept(&self) -> io::Result<(Self::Stream, Self::Address)> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// Closes the listener: current and later calls fail.
    fn close(&self);
}

macro_rules! listen {
    ($listener:ident, $stream:ident, $address:ty) => {
        impl Listen for $listener {
            type Stream = $stream;
            type Address = $address;

            fn accept(&self) -> io::Result<($stream, $address)> {
                $listener::accept(self)
            }

            fn try_accept(&self) -> io::Result<($stream, $address)> {
                $listener::try_accept(self)
            }

            fn close(&self) {
                $listener::close(self);
            }
        }

        impl $listener {
            /// Returns an endless iterator over connections. Each step is an `accept`.
            pub fn incoming(&self) -> Incoming<'_, $listener> {
                Incoming(self)
            }
        }

        impl<'a> IntoIterator for &'a $listener {
            type Item = io::Result<$stream>;
            type IntoIter = Incoming<'a, $listener>;

            fn into_iter(self) -> Incoming<'a, $listener> {
                self.incoming()
            }
        }
    };
}

listen!(TcpListener, TcpStream, SocketAddr);
listen!(UnixListener, UnixStream, std::os::unix::net::SocketAddr);

/// An endless iterator over accepted connections: see [`TcpListener::incoming`].
#[derive(Debug)]
pub struct Incoming<'a, L>(&'a L);

impl<L: Listen> Iterator for Incoming<'_, L> {
    type Item = io::Result<L::Stream>;

    fn next(&mut self) -> Option<io::Result<L::Stream>> {
        Some(self.0.accept().map(|(stream, _)| stream))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::MAX, None)
    }
}

impl<L: Listen> FusedIterator for Incoming<'_, L> {}
