#![forbid(unsafe_code)]
//! UDP.

use super::addr::{ToSocketAddrs, each};
use super::socket::{Socket, common, limits};
use std::io;
use std::net::{self, SocketAddr};

/// A UDP socket, as [`std::net::UdpSocket`]: whoever waits for it lets the other coroutines run.
///
/// # Examples
///
/// ```
/// use switchgrass::net::UdpSocket;
///
/// let (here, there) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
/// here.send_to(b"hello", there.local_addr()?)?;
/// let mut buffer = [0; 16];
/// let (count, from) = there.recv_from(&mut buffer)?;
/// assert_eq!((&buffer[..count], from), (&b"hello"[..], here.local_addr()?));
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct UdpSocket {
    socket: Socket<net::UdpSocket>,
}

common!(UdpSocket, net::UdpSocket);
limits!(UdpSocket);

impl UdpSocket {
    /// A socket at the first address that can be had.
    ///
    /// # Errors
    ///
    /// As [`std::net::UdpSocket::bind`].
    ///
    /// # Switching
    ///
    /// Switches if a name has to be looked up.
    pub fn bind(address: impl ToSocketAddrs) -> io::Result<Self> {
        each(address, |address| Self::from_std(net::UdpSocket::bind(address)?))
    }

    /// Has what is sent go to an address, and takes only what comes from there.
    ///
    /// # Errors
    ///
    /// As std's.
    ///
    /// # Switching
    ///
    /// Switches if a name has to be looked up.
    pub fn connect(&self, address: impl ToSocketAddrs) -> io::Result<()> {
        each(address, |address| self.socket.get_ref().connect(address))
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
        self.socket.read("UdpSocket::recv", |socket| socket.recv(buffer))
    }

    /// As [`UdpSocket::recv`], and says from whom.
    ///
    /// # Errors
    ///
    /// As [`UdpSocket::recv`].
    ///
    /// # Switching
    ///
    /// As [`UdpSocket::recv`].
    ///
    /// # Cancellation
    ///
    /// No datagram is taken.
    pub fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.socket.read("UdpSocket::recv_from", |socket| socket.recv_from(buffer))
    }

    /// As [`UdpSocket::recv`], and leaves it where it is.
    ///
    /// # Errors
    ///
    /// As [`UdpSocket::recv`].
    ///
    /// # Switching
    ///
    /// As [`UdpSocket::recv`].
    ///
    /// # Cancellation
    ///
    /// Nothing has happened.
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.read("UdpSocket::peek", |socket| socket.peek(buffer))
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
        self.socket.write("UdpSocket::send", |socket| socket.send(buffer))
    }

    /// Sends a datagram to the first of the addresses.
    ///
    /// # Errors
    ///
    /// As [`UdpSocket::send`].
    ///
    /// # Switching
    ///
    /// As [`UdpSocket::send`]; also if a name has to be looked up.
    ///
    /// # Cancellation
    ///
    /// It is not sent.
    pub fn send_to(&self, buffer: &[u8], address: impl ToSocketAddrs) -> io::Result<usize> {
        let address = each(address, |address| Ok(*address))?;
        self.socket.write("UdpSocket::send_to", |socket| socket.send_to(buffer, address))
    }

    /// The address of this socket.
    ///
    /// # Errors
    ///
    /// As std's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.get_ref().local_addr()
    }

    /// The address that it is connected to.
    ///
    /// # Errors
    ///
    /// As std's.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.socket.get_ref().peer_addr()
    }

    /// Whether it may send to all at once.
    ///
    /// # Errors
    ///
    /// As std's.
    pub fn broadcast(&self) -> io::Result<bool> {
        self.socket.get_ref().broadcast()
    }

    /// Sets whether it may send to all at once.
    ///
    /// # Errors
    ///
    /// As std's.
    pub fn set_broadcast(&self, broadcast: bool) -> io::Result<()> {
        self.socket.get_ref().set_broadcast(broadcast)
    }
}
