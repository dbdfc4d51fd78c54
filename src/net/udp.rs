#![forbid(unsafe_code)]
//! UDP sockets.

use super::addr::{ToSocketAddrs, each};
use super::socket::{Socket, as_std, common, timeouts};
use crate::sys::descriptor::Kind;
use std::io;
use std::net::{self, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A UDP socket, like [`std::net::UdpSocket`], but cooperative.
///
/// Waiting for it lets other coroutines run.
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
timeouts!(UdpSocket);

as_std! { UdpSocket:
    /// Returns the local address.
    fn local_addr(&self) -> SocketAddr;
    /// Returns the address that the socket is connected to.
    fn peer_addr(&self) -> SocketAddr;
    /// Returns whether the socket may send to broadcast addresses.
    fn broadcast(&self) -> bool;
    /// Sets whether the socket may send to broadcast addresses.
    fn set_broadcast(&self, broadcast: bool) -> ();
    /// Returns the time to live of datagrams: how many routers they may pass.
    fn ttl(&self) -> u32;
    /// Sets the time to live of datagrams: how many routers they may pass.
    fn set_ttl(&self, ttl: u32) -> ();
    /// Joins the multicast group `group` on the interface with the address `interface`; on any if
    /// unspecified.
    fn join_multicast_v4(&self, group: &Ipv4Addr, interface: &Ipv4Addr) -> ();
    /// Leaves a group joined with [`UdpSocket::join_multicast_v4`].
    fn leave_multicast_v4(&self, group: &Ipv4Addr, interface: &Ipv4Addr) -> ();
    /// Joins the multicast group `group` on the interface with the index `interface`; on any if it is 0.
    fn join_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> ();
    /// Leaves a group joined with [`UdpSocket::join_multicast_v6`].
    fn leave_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> ();
    /// Returns whether IPv4 multicast datagrams are looped back to this machine.
    fn multicast_loop_v4(&self) -> bool;
    /// Sets whether IPv4 multicast datagrams are looped back to this machine.
    fn set_multicast_loop_v4(&self, comes_back: bool) -> ();
    /// Returns the time to live of IPv4 multicast datagrams.
    fn multicast_ttl_v4(&self) -> u32;
    /// Sets the time to live of IPv4 multicast datagrams.
    fn set_multicast_ttl_v4(&self, ttl: u32) -> ();
    /// Returns whether IPv6 multicast datagrams are looped back to this machine.
    fn multicast_loop_v6(&self) -> bool;
    /// Sets whether IPv6 multicast datagrams are looped back to this machine.
    fn set_multicast_loop_v6(&self, comes_back: bool) -> ();
}

impl UdpSocket {
    /// Makes a socket bound to the first address that can be bound.
    ///
    /// # Errors
    ///
    /// Those of [`std::net::UdpSocket::bind`].
    ///
    /// # Switching
    ///
    /// May switch: other coroutines run while a name is looked up.
    pub fn bind(address: impl ToSocketAddrs) -> io::Result<Self> {
        each(address, |address| Self::from_std(net::UdpSocket::bind(address)?))
    }

    /// Connects to an address: [`UdpSocket::send`] sends to it, and only datagrams from it are received.
    ///
    /// # Errors
    ///
    /// Those of the std method of the same name.
    ///
    /// # Switching
    ///
    /// May switch: other coroutines run while a name is looked up.
    pub fn connect(&self, address: impl ToSocketAddrs) -> io::Result<()> {
        each(address, |address| self.socket.open()?.connect(address))
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
        let purpose = "UdpSocket::recv";
        self.socket.read_message(Kind::Datagram, purpose, || Ok(0), |socket| socket.recv(buffer))
    }

    /// Waits for a datagram, and returns its length and its sender.
    ///
    /// # Errors
    ///
    /// Those of [`UdpSocket::recv`].
    ///
    /// # Switching
    ///
    /// May switch: if no datagram is queued, other coroutines run until one arrives.
    ///
    /// # Cancellation
    ///
    /// No datagram is consumed.
    pub fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let purpose = "UdpSocket::recv_from";
        self.socket
            .read_message(Kind::Datagram, purpose, no_sender, |socket| socket.recv_from(buffer))
    }

    pub(super) fn try_recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.socket.open()?.recv_from(buffer)
    }

    /// Like [`UdpSocket::recv`], but leaves the datagram in the queue.
    ///
    /// # Errors
    ///
    /// Those of [`UdpSocket::recv`].
    ///
    /// # Switching
    ///
    /// May switch: if no datagram is queued, other coroutines run until one arrives.
    ///
    /// # Cancellation
    ///
    /// The operation has no effect.
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let purpose = "UdpSocket::peek";
        self.socket.read_message(Kind::Datagram, purpose, || Ok(0), |socket| socket.peek(buffer))
    }

    /// Like [`UdpSocket::recv_from`], but leaves the datagram in the queue.
    ///
    /// # Errors
    ///
    /// Those of [`UdpSocket::recv`].
    ///
    /// # Switching
    ///
    /// May switch: if no datagram is queued, other coroutines run until one arrives.
    ///
    /// # Cancellation
    ///
    /// The operation has no effect.
    pub fn peek_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let purpose = "UdpSocket::peek_from";
        self.socket
            .read_message(Kind::Datagram, purpose, no_sender, |socket| socket.peek_from(buffer))
    }

    /// Sends a datagram to the address that the socket is connected to.
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
        self.socket.write("UdpSocket::send", |socket| socket.send(buffer))
    }

    /// Sends a datagram to the first of the addresses.
    ///
    /// # Errors
    ///
    /// Those of [`UdpSocket::send`].
    ///
    /// # Switching
    ///
    /// May switch: other coroutines run while the send buffer is full, or while a name is looked up.
    ///
    /// # Cancellation
    ///
    /// The datagram is not sent.
    pub fn send_to(&self, buffer: &[u8], address: impl ToSocketAddrs) -> io::Result<usize> {
        let address = each(address, |address| Ok(*address))?;
        self.socket.write("UdpSocket::send_to", |socket| socket.send_to(buffer, address))
    }
}

/// The error after the end of input, where there is no message and so no sender.
///
/// The same as that of std.
fn no_sender<R>() -> io::Result<R> {
    let message = "reading was shut down, so there is no sender";
    Err(io::Error::new(io::ErrorKind::InvalidInput, message))
}
