#![forbid(unsafe_code)]
//! Unix domain sockets.

use super::socket::{Socket, as_std, common, halves, stream, timeouts};
use crate::io::Pauses;
use crate::sys::descriptor::Kind;
use crate::sys::socket::{connect_unix, listen};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::{self, SocketAddr};
use std::path::Path;
use std::rc::Rc;

/// A Unix stream connection, like [`std::os::unix::net::UnixStream`], but cooperative.
///
/// Waiting for it lets other coroutines run. It may be shared and moved like a
/// [`TcpStream`](super::TcpStream).
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
timeouts!(UnixStream);
stream!(UnixStream, net::UnixStream, Kind::Stream, "UnixStream::read", "UnixStream::write");
halves!(UnixStream, UnixReadHalf, UnixWriteHalf);

as_std! { UnixStream:
    /// Shuts down the read half, the write half, or both.
    fn shutdown(&self, how: Shutdown) -> ();
    /// Returns the address of the peer.
    fn peer_addr(&self) -> SocketAddr;
    /// Returns the local address.
    fn local_addr(&self) -> SocketAddr;
}

impl UnixStream {
    /// Connects to the socket at `path`.
    ///
    /// # Errors
    ///
    /// Those of [`std::os::unix::net::UnixStream::connect`].
    ///
    /// # Panics
    ///
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits.
    ///
    /// # Switching
    ///
    /// May switch: while the listener's backlog is full, it retries at intervals, and other coroutines run.
    ///
    /// # Cancellation
    ///
    /// The socket is closed.
    pub fn connect(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::connect_addr(&SocketAddr::from_pathname(path)?)
    }

    /// Connects to the socket with the given address.
    ///
    /// # Errors
    ///
    /// Those of [`std::os::unix::net::UnixStream::connect_addr`].
    ///
    /// # Panics
    ///
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits.
    ///
    /// # Switching
    ///
    /// May switch: while the listener's backlog is full, it retries at intervals, and other coroutines run.
    ///
    /// # Cancellation
    ///
    /// The socket is closed.
    pub fn connect_addr(address: &SocketAddr) -> io::Result<Self> {
        let mut pauses = Pauses::until(None);
        loop {
            match connect_unix(address) {
                // The backlog is full, and the kernel has no event to wait for.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    pauses.pause("UnixStream::connect")?;
                }
                Err(error) => return Err(error),
                Ok(socket) => return Self::from_std(net::UnixStream::from(socket)),
            }
        }
    }

    /// Makes two connected sockets.
    ///
    /// # Errors
    ///
    /// Those of the std method of the same name.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = net::UnixStream::pair()?;
        Ok((Self::from_std(a)?, Self::from_std(b)?))
    }
}

/// A Unix socket listener, like [`std::os::unix::net::UnixListener`], but cooperative.
pub struct UnixListener {
    socket: Socket<net::UnixListener>,
}

common!(UnixListener, net::UnixListener);

as_std! { UnixListener:
    /// Returns the address that this listens on.
    fn local_addr(&self) -> SocketAddr;
}

impl UnixListener {
    /// Listens at `path`, which must not exist yet.
    ///
    /// The backlog is as long as the system allows, see [`TcpListener::bind`](super::TcpListener::bind).
    ///
    /// # Errors
    ///
    /// Those of [`std::os::unix::net::UnixListener::bind`].
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn bind(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::listen(net::UnixListener::bind(path)?)
    }

    /// Listens on the given address. See [`UnixListener::bind`].
    ///
    /// # Errors
    ///
    /// Those of [`std::os::unix::net::UnixListener::bind_addr`].
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
    /// Those of [`std::os::unix::net::UnixListener::accept`].
    ///
    /// # Panics
    ///
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits.
    ///
    /// # Switching
    ///
    /// May switch: if none is pending, other coroutines run until one arrives.
    ///
    /// # Cancellation
    ///
    /// No connection is accepted.
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

/// A Unix datagram socket, like [`std::os::unix::net::UnixDatagram`], but cooperative.
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
timeouts!(UnixDatagram);

as_std! { UnixDatagram:
    /// Shuts down the read half, the write half, or both.
    fn shutdown(&self, how: Shutdown) -> ();
    /// Returns the local address.
    fn local_addr(&self) -> SocketAddr;
    /// Returns the address that the socket is connected to.
    fn peer_addr(&self) -> SocketAddr;
    /// Connects to the socket with the given address.
    fn connect_addr(&self, address: &SocketAddr) -> ();
}

impl UnixDatagram {
    /// Makes a socket bound to `path`, which must not exist yet.
    ///
    /// # Errors
    ///
    /// Those of the std method of the same name.
    pub fn bind(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::from_std(net::UnixDatagram::bind(path)?)
    }

    /// Makes a socket bound to the given address.
    ///
    /// # Errors
    ///
    /// Those of the std method of the same name.
    pub fn bind_addr(address: &SocketAddr) -> io::Result<Self> {
        Self::from_std(net::UnixDatagram::bind_addr(address)?)
    }

    /// Makes a socket without an address.
    ///
    /// # Errors
    ///
    /// Those of the std method of the same name.
    pub fn unbound() -> io::Result<Self> {
        Self::from_std(net::UnixDatagram::unbound()?)
    }

    /// Makes two connected sockets.
    ///
    /// # Errors
    ///
    /// Those of the std method of the same name.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = net::UnixDatagram::pair()?;
        Ok((Self::from_std(a)?, Self::from_std(b)?))
    }

    /// Connects to the socket at `path`: [`UnixDatagram::send`] sends to it.
    ///
    /// # Errors
    ///
    /// Those of the std method of the same name.
    pub fn connect(&self, path: impl AsRef<Path>) -> io::Result<()> {
        self.socket.open()?.connect(path)
    }

    /// Waits for a datagram, and returns its length.
    ///
    /// # Errors
    ///
    /// Those of the std method of the same name; [`TimedOut`](io::ErrorKind::TimedOut) after the timeout.
    ///
    /// # Switching
    ///
    /// May switch: if none is pending, other coroutines run until one arrives.
    ///
    /// # Cancellation
    ///
    /// No datagram is consumed.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let end = || Ok(0);
        let purpose = "UnixDatagram::recv";
        self.socket.read_message(Kind::UnixDatagram, purpose, end, |socket| socket.recv(buffer))
    }

    /// Waits for a datagram, and returns its length and its sender.
    ///
    /// # Errors
    ///
    /// Those of [`UnixDatagram::recv`].
    ///
    /// # Switching
    ///
    /// May switch: if no datagram is queued, other coroutines run until one arrives.
    ///
    /// # Cancellation
    ///
    /// No datagram is consumed.
    pub fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let end = || Ok((0, SocketAddr::from_pathname("")?));
        let purpose = "UnixDatagram::recv_from";
        self.socket
            .read_message(Kind::UnixDatagram, purpose, end, |socket| socket.recv_from(buffer))
    }

    pub(super) fn try_recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.socket.open()?.recv_from(buffer)
    }

    /// Sends a datagram to the socket that this one is connected to.
    ///
    /// # Errors
    ///
    /// Those of the std method of the same name; [`TimedOut`](io::ErrorKind::TimedOut) after the timeout.
    ///
    /// # Switching
    ///
    /// May switch: while the send buffer is full, other coroutines run.
    ///
    /// # Cancellation
    ///
    /// The datagram is not sent.
    pub fn send(&self, buffer: &[u8]) -> io::Result<usize> {
        self.socket.write("UnixDatagram::send", |socket| socket.send(buffer))
    }

    /// Sends a datagram to the socket at `path`.
    ///
    /// # Errors
    ///
    /// Those of [`UnixDatagram::send`].
    ///
    /// # Switching
    ///
    /// May switch: while the receiver's queue is full, it retries at growing intervals of up to 50 ms, and
    /// other coroutines run. (The kernel reports room only for the socket that this one is connected to.)
    ///
    /// # Cancellation
    ///
    /// The datagram is not sent.
    pub fn send_to(&self, buffer: &[u8], path: impl AsRef<Path>) -> io::Result<usize> {
        self.send_to_addr(buffer, &SocketAddr::from_pathname(path)?)
    }

    /// Sends a datagram to the socket with the given address.
    ///
    /// # Errors
    ///
    /// Those of [`UnixDatagram::send`].
    ///
    /// # Switching
    ///
    /// May switch, as [`UnixDatagram::send_to`] does.
    ///
    /// # Cancellation
    ///
    /// The datagram is not sent.
    pub fn send_to_addr(&self, buffer: &[u8], address: &SocketAddr) -> io::Result<usize> {
        self.socket.write_with_pauses("UnixDatagram::send_to", |socket| {
            socket.send_to_addr(buffer, address)
        })
    }
}
