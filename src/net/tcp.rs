#![forbid(unsafe_code)]
//! TCP connections and listeners.

use super::addr::{ToSocketAddrs, each};
use super::socket::{Socket, as_std, common, halves, stream, timeouts};
use crate::hub::Deadline;
use crate::io::check_timeout;
use crate::sys::descriptor::Kind;
use crate::sys::socket::{begin_to_connect, listen, listen_among_others};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{self, Shutdown, SocketAddr};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Duration;

/// A TCP connection, like [`std::net::TcpStream`], but cooperative.
///
/// Waiting for it lets other coroutines run. Several coroutines may read and several may write at the same
/// time, through references. It stays on its thread; [`TcpStream::into_std`] makes a socket that can move.
///
/// # Examples
///
/// ```
/// use std::io::{Read, Write};
/// use switchgrass::net::{TcpListener, TcpStream};
/// use switchgrass::spawn;
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let address = listener.local_addr()?;
/// let echo = spawn(move || -> std::io::Result<()> {
///     let (mut stream, _) = listener.accept()?;
///     let mut buffer = [0; 64];
///     let count = stream.read(&mut buffer)?;
///     stream.write_all(&buffer[..count])
/// });
/// let mut stream = TcpStream::connect(address)?;
/// stream.write_all(b"hello")?;
/// let mut answer = String::new();
/// stream.read_to_string(&mut answer)?;
/// assert_eq!(answer, "hello");
/// echo.join().unwrap()?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct TcpStream {
    socket: Socket<net::TcpStream>,
}

common!(TcpStream, net::TcpStream);
timeouts!(TcpStream);
stream!(TcpStream, net::TcpStream, Kind::Tcp, "TcpStream::read", "TcpStream::write");
halves!(TcpStream, TcpReadHalf, TcpWriteHalf);

as_std! { TcpStream:
    /// Shuts down the read half, the write half, or both.
    fn shutdown(&self, how: Shutdown) -> ();
    /// Returns the address of the peer.
    fn peer_addr(&self) -> SocketAddr;
    /// Returns the local address.
    fn local_addr(&self) -> SocketAddr;
    /// Returns whether small packets are sent immediately (`TCP_NODELAY`).
    fn nodelay(&self) -> bool;
    /// Sets whether small packets are sent immediately (`TCP_NODELAY`).
    fn set_nodelay(&self, nodelay: bool) -> ();
    /// Returns the time to live of packets: how many routers they may pass.
    fn ttl(&self) -> u32;
    /// Sets the time to live of packets: how many routers they may pass.
    fn set_ttl(&self, ttl: u32) -> ();
}

impl TcpStream {
    /// Connects to the first address that accepts the connection.
    ///
    /// # Errors
    ///
    /// Those of [`std::net::TcpStream::connect`], for the last address that was tried.
    ///
    /// # Panics
    ///
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits.
    ///
    /// # Switching
    ///
    /// May switch: other coroutines run while this one waits.
    ///
    /// # Cancellation
    ///
    /// The socket is closed.
    pub fn connect(address: impl ToSocketAddrs) -> io::Result<Self> {
        each(address, |address| Self::connect_until(address, None))
    }

    /// Connects to one address, like [`TcpStream::connect`], but waits for at most `timeout`.
    ///
    /// # Errors
    ///
    /// Those of [`std::net::TcpStream::connect_timeout`]: [`InvalidInput`](io::ErrorKind::InvalidInput) if
    /// `timeout` is zero.
    ///
    /// # Panics
    ///
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits.
    ///
    /// # Switching
    ///
    /// May switch: other coroutines run while this one waits.
    ///
    /// # Cancellation
    ///
    /// The socket is closed.
    pub fn connect_timeout(address: &SocketAddr, timeout: Duration) -> io::Result<Self> {
        let timeout = check_timeout(Some(timeout))?;
        Self::connect_until(address, timeout.and_then(Deadline::after))
    }

    fn connect_until(address: &SocketAddr, deadline: Option<Deadline>) -> io::Result<Self> {
        let stream = net::TcpStream::from(begin_to_connect(address)?);
        let stream = TcpStream { socket: Socket::of_nonblocking(stream)? };
        stream.socket.wait_until_connected(deadline)?;
        match stream.take_error()? {
            Some(error) => Err(error),
            None => Ok(stream),
        }
    }

    /// Reads without consuming the data.
    ///
    /// # Errors
    ///
    /// Those of the std method of the same name; [`TimedOut`](io::ErrorKind::TimedOut) after the timeout.
    ///
    /// # Switching
    ///
    /// May switch: if no data is available, other coroutines run until some arrives.
    ///
    /// # Cancellation
    ///
    /// The operation has no effect.
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.read("TcpStream::peek", |socket| socket.peek(buffer))
    }
}

/// A TCP listener, like [`std::net::TcpListener`], but cooperative.
///
/// Several coroutines may accept from it. See [`TcpStream`] for an example.
pub struct TcpListener {
    socket: Socket<net::TcpListener>,
}

common!(TcpListener, net::TcpListener);

as_std! { TcpListener:
    /// Returns the address that this listens on.
    fn local_addr(&self) -> SocketAddr;
    /// Returns the time to live of packets: how many routers they may pass.
    fn ttl(&self) -> u32;
    /// Sets the time to live of packets: how many routers they may pass.
    fn set_ttl(&self, ttl: u32) -> ();
}

impl TcpListener {
    /// Listens on the first address that can be bound (with `SO_REUSEADDR`, like std).
    ///
    /// The backlog is as long as the system allows (`net.core.somaxconn`, usually 4,096; std's listeners
    /// have 128). [`TcpListener::from_std`] keeps the backlog of the given listener.
    ///
    /// # Errors
    ///
    /// Those of [`std::net::TcpListener::bind`].
    ///
    /// # Switching
    ///
    /// May switch: other coroutines run while a name is looked up.
    pub fn bind(address: impl ToSocketAddrs) -> io::Result<Self> {
        each(address, |address| {
            let listener = net::TcpListener::bind(address)?;
            listen(listener.as_fd())?;
            Self::from_std(listener)
        })
    }

    /// Like [`TcpListener::bind`], but shares the address with other such listeners (`SO_REUSEPORT`).
    ///
    /// The kernel assigns each connection to one of the listeners, about evenly, and disregards how busy
    /// they are.
    ///
    /// A connection belongs to its listener before it is accepted: if that listener is closed, with its
    /// last copy in any process, the connection is reset, and not given to another. With port 0 the first
    /// listener finds a port, and its [`local_addr`](TcpListener::local_addr) is for the others.
    /// [`StreamServers`](crate::multicore::StreamServers) is a server of this kind.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchgrass::net::TcpListener;
    ///
    /// let one = TcpListener::bind_reuse_port("127.0.0.1:0")?;
    /// let another = TcpListener::bind_reuse_port(one.local_addr()?)?;
    /// assert_eq!(one.local_addr()?, another.local_addr()?);
    /// assert!(TcpListener::bind(one.local_addr()?).is_err(), "not with one who has not agreed");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`std::net::TcpListener::bind`]; also if a listener on the address was made without
    /// `SO_REUSEPORT`, or by another user.
    ///
    /// # Switching
    ///
    /// May switch: other coroutines run while a name is looked up.
    pub fn bind_reuse_port(address: impl ToSocketAddrs) -> io::Result<Self> {
        each(address, |address| {
            let listener = net::TcpListener::from(listen_among_others(address)?);
            Ok(TcpListener { socket: Socket::of_nonblocking(listener)? })
        })
    }

    /// Waits for a connection.
    ///
    /// # Errors
    ///
    /// Those of [`std::net::TcpListener::accept`].
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
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, address) =
            self.socket.read("TcpListener::accept", |socket| socket.accept())?;
        Ok((TcpStream::from_std(stream)?, address))
    }

    pub(super) fn try_accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, address) = self.socket.open()?.accept()?;
        Ok((TcpStream::from_std(stream)?, address))
    }
}
