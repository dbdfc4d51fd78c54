#![forbid(unsafe_code)]
//! Unix sockets.

use super::socket::{Socket, common, limits, stream};
use crate::coroutine::sleep;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{self, SocketAddr};
use std::path::Path;
use std::time::Duration;

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
stream!(UnixStream, net::UnixStream, "UnixStream::read", "UnixStream::write");

impl UnixStream {
    /// Connects to the socket at `path`.
    ///
    /// # Errors
    ///
    /// As [`std::os::unix::net::UnixStream::connect`].
    ///
    /// # Switching
    ///
    /// Never switches, except that it tries again later while too many wait to be accepted there.
    ///
    /// # Cancellation
    ///
    /// The socket is closed.
    pub fn connect(path: impl AsRef<Path>) -> io::Result<Self> {
        let mut pause = Duration::from_millis(1);
        loop {
            match crate::sys::socket::connect_unix(path.as_ref()) {
                // The kernel offers nothing to wait for.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    sleep(pause);
                    pause = (pause * 2).min(Duration::from_millis(50));
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

    /// Ends one direction, or both.
    ///
    /// # Errors
    ///
    /// As std's.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.socket.get_ref().shutdown(how)
    }

    /// The address of the other end.
    ///
    /// # Errors
    ///
    /// As std's.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.socket.get_ref().peer_addr()
    }

    /// The address of this end.
    ///
    /// # Errors
    ///
    /// As std's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.get_ref().local_addr()
    }
}

/// A socket that takes connections at a path, as [`std::os::unix::net::UnixListener`].
pub struct UnixListener {
    socket: Socket<net::UnixListener>,
}

common!(UnixListener, net::UnixListener);

impl UnixListener {
    /// Listens at `path`, where there must be nothing yet.
    ///
    /// # Errors
    ///
    /// As [`std::os::unix::net::UnixListener::bind`].
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn bind(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::from_std(net::UnixListener::bind(path)?)
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

    /// The address at which it listens.
    ///
    /// # Errors
    ///
    /// As std's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.get_ref().local_addr()
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

impl UnixDatagram {
    /// A socket at `path`, where there must be nothing yet.
    ///
    /// # Errors
    ///
    /// As std's.
    pub fn bind(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::from_std(net::UnixDatagram::bind(path)?)
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
        self.socket.get_ref().connect(path)
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
        self.socket.read("UnixDatagram::recv", |socket| socket.recv(buffer))
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
        self.socket.read("UnixDatagram::recv_from", |socket| socket.recv_from(buffer))
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
    /// As [`UnixDatagram::send`].
    ///
    /// # Cancellation
    ///
    /// It is not sent.
    pub fn send_to(&self, buffer: &[u8], path: impl AsRef<Path>) -> io::Result<usize> {
        let path = path.as_ref();
        self.socket.write("UnixDatagram::send_to", |socket| socket.send_to(buffer, path))
    }

    /// Ends one direction, or both.
    ///
    /// # Errors
    ///
    /// As std's.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.socket.get_ref().shutdown(how)
    }

    /// The address of this socket.
    ///
    /// # Errors
    ///
    /// As std's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.get_ref().local_addr()
    }
}
