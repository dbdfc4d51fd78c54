#![forbid(unsafe_code)]
//! UDP.

use super::addr::{ToSocketAddrs, each};
use super::socket::{Socket, as_std, common, limits};
use crate::sys::descriptor::Kind;
use std::io;
use std::net::{self, Ipv4Addr, Ipv6Addr, SocketAddr};

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

as_std! { UdpSocket:
    /// The address of this socket.
    fn local_addr(&self) -> SocketAddr;
    /// The address that it is connected to.
    fn peer_addr(&self) -> SocketAddr;
    /// Whether it may send to all at once.
    fn broadcast(&self) -> bool;
    /// Sets whether it may send to all at once.
    fn set_broadcast(&self, broadcast: bool) -> ();
    /// Over how many routers a datagram may go.
    fn ttl(&self) -> u32;
    /// Sets over how many routers a datagram may go.
    fn set_ttl(&self, ttl: u32) -> ();
    /// Joins the group `group`, by the interface with the address `interface`; by any if unspecified.
    fn join_multicast_v4(&self, group: &Ipv4Addr, interface: &Ipv4Addr) -> ();
    /// Leaves a group that was joined by [`UdpSocket::join_multicast_v4`].
    fn leave_multicast_v4(&self, group: &Ipv4Addr, interface: &Ipv4Addr) -> ();
    /// Joins the group `group`, by the interface with the number `interface`; by any if it is 0.
    fn join_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> ();
    /// Leaves a group that was joined by [`UdpSocket::join_multicast_v6`].
    fn leave_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> ();
    /// Whether what is sent to a group comes back to this machine.
    fn multicast_loop_v4(&self) -> bool;
    /// Sets whether what is sent to a group comes back to this machine.
    fn set_multicast_loop_v4(&self, comes_back: bool) -> ();
    /// Over how many routers a datagram to a group may go.
    fn multicast_ttl_v4(&self) -> u32;
    /// Sets over how many routers a datagram to a group may go.
    fn set_multicast_ttl_v4(&self, ttl: u32) -> ();
    /// Whether what is sent to a group comes back to this machine.
    fn multicast_loop_v6(&self) -> bool;
    /// Sets whether what is sent to a group comes back to this machine.
    fn set_multicast_loop_v6(&self, comes_back: bool) -> ();
}

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
        each(address, |address| self.socket.open()?.connect(address))
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
        let purpose = "UdpSocket::recv";
        self.socket.read_message(Kind::Datagram, purpose, || Ok(0), |socket| socket.recv(buffer))
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
        let purpose = "UdpSocket::recv_from";
        self.socket
            .read_message(Kind::Datagram, purpose, no_sender, |socket| socket.recv_from(buffer))
    }

    pub(super) fn try_recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.socket.open()?.recv_from(buffer)
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
        let purpose = "UdpSocket::peek";
        self.socket.read_message(Kind::Datagram, purpose, || Ok(0), |socket| socket.peek(buffer))
    }

    /// As [`UdpSocket::recv_from`], and leaves it where it is.
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
    pub fn peek_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let purpose = "UdpSocket::peek_from";
        self.socket
            .read_message(Kind::Datagram, purpose, no_sender, |socket| socket.peek_from(buffer))
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
}

/// After the end there is no message, so that nobody has sent it. As std says.
fn no_sender<R>() -> io::Result<R> {
    let message = "reading was shut down, so there is no sender";
    Err(io::Error::new(io::ErrorKind::InvalidInput, message))
}
