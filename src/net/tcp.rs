#![forbid(unsafe_code)]
//! TCP.

use super::addr::{ToSocketAddrs, each};
use super::socket::{Socket, as_std, common, halves, limits, stream};
use crate::hub::Deadline;
use crate::io::check_limit;
use crate::sys::descriptor::Kind;
use crate::sys::socket::{begin_to_connect, listen, listen_among_others};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{self, Shutdown, SocketAddr};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Duration;

/// A TCP connection, as [`std::net::TcpStream`]: whoever waits for it lets the other coroutines run.
///
/// Several coroutines may read from it, and several write to it, by references. It stays on its thread:
/// to move it to another, use [`TcpStream::into_std`].
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
limits!(TcpStream);
stream!(TcpStream, net::TcpStream, Kind::Tcp, "TcpStream::read", "TcpStream::write");
halves!(TcpStream, TcpReadHalf, TcpWriteHalf);

as_std! { TcpStream:
    /// Ends one direction, or both.
    fn shutdown(&self, how: Shutdown) -> ();
    /// The address of the other end.
    fn peer_addr(&self) -> SocketAddr;
    /// The address of this end.
    fn local_addr(&self) -> SocketAddr;
    /// Whether small packets are sent at once.
    fn nodelay(&self) -> bool;
    /// Sets whether small packets are sent at once.
    fn set_nodelay(&self, nodelay: bool) -> ();
    /// Over how many routers a packet may go.
    fn ttl(&self) -> u32;
    /// Sets over how many routers a packet may go.
    fn set_ttl(&self, ttl: u32) -> ();
}

impl TcpStream {
    /// Connects to the first address that takes the connection.
    ///
    /// # Errors
    ///
    /// As [`std::net::TcpStream::connect`]: of the last address that was tried.
    ///
    /// # Panics
    ///
    /// With what is raised in the current coroutine meanwhile.
    ///
    /// # Switching
    ///
    /// Switches. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The socket is closed.
    pub fn connect(address: impl ToSocketAddrs) -> io::Result<Self> {
        each(address, |address| Self::connect_until(address, None))
    }

    /// As [`TcpStream::connect`], to one address, for at most `limit`.
    ///
    /// # Errors
    ///
    /// As [`std::net::TcpStream::connect_timeout`]:
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) if `limit` is zero.
    ///
    /// # Panics
    ///
    /// With what is raised in the current coroutine meanwhile.
    ///
    /// # Switching
    ///
    /// Switches. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The socket is closed.
    pub fn connect_timeout(address: &SocketAddr, limit: Duration) -> io::Result<Self> {
        let limit = check_limit(Some(limit))?;
        Self::connect_until(address, limit.and_then(Deadline::after))
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

    /// Reads without taking out.
    ///
    /// # Errors
    ///
    /// As std's, and [`TimedOut`](io::ErrorKind::TimedOut).
    ///
    /// # Switching
    ///
    /// Switches if there is nothing to be read. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// Nothing has happened.
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.read("TcpStream::peek", |socket| socket.peek(buffer))
    }
}

/// A socket that takes TCP connections, as [`std::net::TcpListener`]. Several coroutines may accept from it.
/// See [`TcpStream`] for an example.
pub struct TcpListener {
    socket: Socket<net::TcpListener>,
}

common!(TcpListener, net::TcpListener);

as_std! { TcpListener:
    /// The address at which it listens.
    fn local_addr(&self) -> SocketAddr;
    /// Over how many routers a packet may go.
    fn ttl(&self) -> u32;
    /// Sets over how many routers a packet may go.
    fn set_ttl(&self, ttl: u32) -> ();
}

impl TcpListener {
    /// Listens at the first address that can be had. One that was in use a moment ago can be had at once.
    ///
    /// As many connections wait to be accepted as the system allows (`net.core.somaxconn`, 4,096 as a rule;
    /// of std's listeners it is 128). [`TcpListener::from_std`] keeps the number that a listener has.
    ///
    /// # Errors
    ///
    /// As [`std::net::TcpListener::bind`].
    ///
    /// # Switching
    ///
    /// Switches if a name has to be looked up.
    pub fn bind(address: impl ToSocketAddrs) -> io::Result<Self> {
        each(address, |address| {
            let listener = net::TcpListener::bind(address)?;
            listen(listener.as_fd())?;
            Self::from_std(listener)
        })
    }

    /// As [`TcpListener::bind`], at an address where others listen that were made by this, too
    /// (`SO_REUSEPORT`). The kernel gives each connection to one of them, about as many to each, and does
    /// not ask who has time.
    ///
    /// A connection belongs to one of them before anybody accepts it: if that is closed, with its last copy
    /// in whatever process, the connection is reset, and not given to another. With port 0 the first finds
    /// a port, and its [`local_addr`](TcpListener::local_addr) is for the others.
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
    /// As [`std::net::TcpListener::bind`]: also if one listens there that was not made so, or that another
    /// user has made.
    ///
    /// # Switching
    ///
    /// Switches if a name has to be looked up.
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
    /// As [`std::net::TcpListener::accept`].
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
