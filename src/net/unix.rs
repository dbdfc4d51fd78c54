#![forbid(unsafe_code)]
//! Unix sockets.

use super::socket::{Socket, as_std, common, halves, limits, stream};
use crate::io::Pauses;
use crate::sys::descriptor::Kind;
use crate::sys::socket::{connect_unix, listen};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::{self, SocketAddr};
use std::path::Path;
use std::rc::Rc;

/// A connection over a Unix socket, as [`std::os::unix::net::UnixStream`]: whoever waits for it lets
/// the other coroutines run. Otherwise as [`TcpStream`](super::TcpStream).
///
/// # Examples
///
/// ```
/// use std::io::{Read, Write};
/// use switchgrass::net::UnixStream;
/// use switchgrass::spawn;
///
/// let (mut here, mut there) = UnixStream::pair()?;
/// let reader = spawn(move || {
///     let mut text = String::new();
///     there.read_to_string(&mut text).map(|_| text)
/// });
/// here.write_all(b"hello")?;
/// drop(here);
/// assert_eq!(reader.join().unwrap()?, "hello");
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct UnixStream {
    socket: Socket<net::UnixStream>,
}

common!(UnixStream, net::UnixStream);
limits!(UnixStream);
stream!(UnixStream, net::UnixStream, Kind::Stream, "UnixStream::read", "UnixStream::write");
halves!(UnixStream, UnixReadHalf, UnixWriteHalf);

as_std! { UnixStream:
    /// Ends one direction, or both.
    fn shutdown(&self, how: Shutdown) -> ();
    /// The address of the other end.
    fn peer_addr(&self) -> SocketAddr;
    /// The address of this end.
    fn local_addr(&self) -> SocketAddr;
}

impl UnixStream {
    /// Connects to the socket at `path`.
    ///
    /// # Errors
    ///
    /// As [`std::os::unix::net::UnixStream::connect`].
    ///
    /// # Panics
    ///
    /// With what is raised in the current coroutine meanwhile.
    ///
    /// # Switching
    ///
    /// Never switches, except that it tries again later while too many wait to be accepted there.
    ///
    /// # Cancellation
    ///
    /// The socket is closed.
    pub fn connect(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::connect_addr(&SocketAddr::from_pathname(path)?)
    }

    /// As [`UnixStream::connect`], to an address.
    ///
    /// # Errors
    ///
    /// As [`std::os::unix::net::UnixStream::connect_addr`].
    ///
    /// # Panics
    ///
    /// As [`UnixStream::connect`].
    ///
    /// # Switching
    ///
    /// As [`UnixStream::connect`].
    ///
    /// # Cancellation
    ///
    /// The socket is closed.
    pub fn connect_addr(address: &SocketAddr) -> io::Result<Self> {
        let mut pauses = Pauses::until(None);
        loop {
            match connect_unix(address) {
                // The kernel offers nothing to wait for.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    pauses.pause("UnixStream::connect")?;
                }
                Err(error) => return Err(error),
                Ok(socket) => return Self::from_std(net::UnixStream::from(socket)),
            }
        }
    }

    /// Two ends of a connection.
    ///
    /// # Errors
    ///
    /// As std's.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = net::UnixStream::pair()?;
        Ok((Self::from_std(a)?, Self::from_std(b)?))
    }
}

/// A socket that takes connections at a path, as [`std::os::unix::net::UnixListener`].
pub struct UnixListener {
    socket: Socket<net::UnixListener>,
}

common!(UnixListener, net::UnixListener);

as_std! { UnixListener:
    /// The address at which it listens.
    fn local_addr(&self) -> SocketAddr;
}

impl UnixListener {
    /// Listens at `path`, where there must be nothing yet. As many connections wait to be accepted as the
    /// system allows, see [`TcpListener::bind`](super::TcpListener::bind).
    ///
    /// # Errors
    ///
    /// As [`std::os::unix::net::UnixListener::bind`].
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn bind(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::listen(net::UnixListener::bind(path)?)
    }

    /// As [`UnixListener::bind`], at an address.
    ///
    /// # Errors
    ///
    /// As [`std::os::unix::net::UnixListener::bind_addr`].
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn bind_addr(address: &SocketAddr) -> io::Result<Self> {
        Self::listen(net::UnixListener::bind_addr(address)?)
    }

    fn listen(listener: net::UnixListener) -> io::Result<Self> {
        listen(listener.as_fd())?;
        Self::from_std(listener)
    }

    /// Waits for a connection.
    ///
    /// # Errors
    ///
    /// As [`std::os::unix::net::UnixListener::accept`].
    ///
    /// # Panics
    ///
    /// With what is raised in the current coroutine meanwhile.
    ///
    /// # Switching
    ///
    /// Switches if there is none. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// No connection is taken.
    pub fn accept(&self) -> io::Result<(UnixStream, SocketAddr)> {
        let (stream, address) =
            self.socket.read("UnixListener::accept", |socket| socket.accept())?;
        Ok((UnixStream::from_std(stream)?, address))
    }

    pub(super) fn try_accept(&self) -> io::Result<(UnixStream, SocketAddr)> {
        let (stream, address) = self.socket.open()?.accept()?;
        Ok((UnixStream::from_std(stream)?, address))
    }
}

/// A socket for datagrams, as [`std::os::unix::net::UnixDatagram`].
///
/// # Examples
///
/// ```
/// use switchgrass::net::UnixDatagram;
///
/// let (here, there) = UnixDatagram::pair()?;
/// here.send(b"hello")?;
/// let mut buffer = [0; 16];
/// assert_eq!(there.recv(&mut buffer)?, 5);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct UnixDatagram {
    socket: Socket<net::UnixDatagram>,
}

common!(UnixDatagram, net::UnixDatagram);
limits!(UnixDatagram);

as_std! { UnixDatagram:
    /// Ends one direction, or both.
    fn shutdown(&self, how: Shutdown) -> ();
    /// The address of this socket.
    fn local_addr(&self) -> SocketAddr;
    /// The address that it is connected to.
    fn peer_addr(&self) -> SocketAddr;
    /// Has what is sent go to a socket by its address.
    fn connect_addr(&self, address: &SocketAddr) -> ();
}

impl UnixDatagram {
    /// A socket at `path`, where there must be nothing yet.
    ///
    /// # Errors
    ///
    /// As std's.
    pub fn bind(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::from_std(net::UnixDatagram::bind(path)?)
    }

    /// As [`UnixDatagram::bind`], at an address.
    ///
    /// # Errors
    ///
    /// As std's.
    pub fn bind_addr(address: &SocketAddr) -> io::Result<Self> {
        Self::from_std(net::UnixDatagram::bind_addr(address)?)
    }

    /// A socket without an address.
    ///
    /// # Errors
    ///
    /// As std's.
    pub fn unbound() -> io::Result<Self> {
        Self::from_std(net::UnixDatagram::unbound()?)
    }

    /// Two sockets that are connected to each other.
    ///
    /// # Errors
    ///
    /// As std's.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = net::UnixDatagram::pair()?;
        Ok((Self::from_std(a)?, Self::from_std(b)?))
    }

    /// Has what is sent go to the socket at `path`.
    ///
    /// # Errors
    ///
    /// As std's.
    pub fn connect(&self, path: impl AsRef<Path>) -> io::Result<()> {
        self.socket.open()?.connect(path)
    }

    /// Waits for a datagram.
    ///
    /// # Errors
    ///
    /// As std's, and [`TimedOut`](io::ErrorKind::TimedOut).
    ///
    /// # Switching
    ///
    /// Switches if there is none. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// No datagram is taken.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let end = || Ok(0);
        let purpose = "UnixDatagram::recv";
        self.socket.read_message(Kind::UnixDatagram, purpose, end, |socket| socket.recv(buffer))
    }

    /// As [`UnixDatagram::recv`], and says from whom.
    ///
    /// # Errors
    ///
    /// As [`UnixDatagram::recv`].
    ///
    /// # Switching
    ///
    /// As [`UnixDatagram::recv`].
    ///
    /// # Cancellation
    ///
    /// No datagram is taken.
    pub fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let end = || Ok((0, SocketAddr::from_pathname("")?));
        let purpose = "UnixDatagram::recv_from";
        self.socket
            .read_message(Kind::UnixDatagram, purpose, end, |socket| socket.recv_from(buffer))
    }

    pub(super) fn try_recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.socket.open()?.recv_from(buffer)
    }

    /// Sends a datagram to whom it is connected to.
    ///
    /// # Errors
    ///
    /// As std's, and [`TimedOut`](io::ErrorKind::TimedOut).
    ///
    /// # Switching
    ///
    /// Switches if there is no room for it. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// It is not sent.
    pub fn send(&self, buffer: &[u8]) -> io::Result<usize> {
        self.socket.write("UnixDatagram::send", |socket| socket.send(buffer))
    }

    /// Sends a datagram to the socket at `path`.
    ///
    /// # Errors
    ///
    /// As [`UnixDatagram::send`].
    ///
    /// # Switching
    ///
    /// Switches if there is no room for it: then it tries again later, every 50 ms in the end, as the kernel
    /// says when there is room only of a socket that this one is connected to. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// It is not sent.
    pub fn send_to(&self, buffer: &[u8], path: impl AsRef<Path>) -> io::Result<usize> {
        self.send_to_addr(buffer, &SocketAddr::from_pathname(path)?)
    }

    /// As [`UnixDatagram::send_to`], to an address.
    ///
    /// # Errors
    ///
    /// As [`UnixDatagram::send`].
    ///
    /// # Switching
    ///
    /// As [`UnixDatagram::send_to`].
    ///
    /// # Cancellation
    ///
    /// It is not sent.
    pub fn send_to_addr(&self, buffer: &[u8], address: &SocketAddr) -> io::Result<usize> {
        self.socket.write_with_pauses("UnixDatagram::send_to", |socket| {
            socket.send_to_addr(buffer, address)
        })
    }
}
