#![forbid(unsafe_code)]
//! Taking connections, whatever they are of.

use super::tcp::{TcpListener, TcpStream};
use super::unix::{UnixListener, UnixStream};
use std::io;
use std::iter::FusedIterator;
use std::net::SocketAddr;

/// What connections are taken from.
pub trait Listen: 'static {
    /// A connection.
    type Stream: 'static;
    /// Whom it is from.
    type Address: 'static;

    /// Waits for a connection.
    ///
    /// # Errors
    ///
    /// As those of [`TcpListener::accept`].
    ///
    /// # Switching
    ///
    /// Switches if there is none. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// No connection is taken.
    fn accept(&self) -> io::Result<(Self::Stream, Self::Address)>;

    /// Takes a connection that is there already. A server that is stopped takes the rest by it. An
    /// implementation that does not know says that there is none.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if there is none.
    ///
    /// # Switching
    ///
    /// Never switches.
    fn try_accept(&self) -> io::Result<(Self::Stream, Self::Address)> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// Has who waits fail, and who comes later.
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
            /// Connections, one after the other, for ever. Each step is an `accept`.
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

/// The connections that a listener takes: see [`TcpListener::incoming`].
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
