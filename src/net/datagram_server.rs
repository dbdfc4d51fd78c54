#![forbid(unsafe_code)]
//! Servers of datagrams: a coroutine a datagram.

use super::serving::{Serve, Serving, room_for};
use super::udp::UdpSocket;
use super::unix::UnixDatagram;
use crate::sync::Semaphore;
use std::cell::Cell;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

/// What a [`DatagramServer`] takes datagrams from.
pub trait Datagrams: 'static {
    /// Whom one is from.
    type Address: 'static;

    /// Waits for a datagram.
    ///
    /// # Errors
    ///
    /// As those of [`UdpSocket::recv_from`].
    ///
    /// # Switching
    ///
    /// Switches if there is none. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// No datagram is taken.
    fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, Self::Address)>;

    /// Takes a datagram that has come already. A server that is stopped takes the rest by it. An
    /// implementation that does not know says that there is none.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if there is none.
    ///
    /// # Switching
    ///
    /// Never switches.
    fn try_recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, Self::Address)> {
        let _ = buffer;
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// Has who waits fail, and who comes later.
    fn close(&self);
}

macro_rules! datagrams {
    ($socket:ident, $address:ty) => {
        impl Datagrams for $socket {
            type Address = $address;

            fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, $address)> {
                $socket::recv_from(self, buffer)
            }

            fn try_recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, $address)> {
                $socket::try_recv_from(self, buffer)
            }

            fn close(&self) {
                $socket::close(self);
            }
        }
    };
}

datagrams!(UdpSocket, SocketAddr);
datagrams!(UnixDatagram, std::os::unix::net::SocketAddr);

/// Bytes in a datagram at most. Of a longer one, which only Unix sockets have, the rest is lost.
const LONGEST: usize = 64 << 10;

/// Takes datagrams, and runs a handler for each in a coroutine of its own, with the socket for an answer. A
/// handler that panics harms no other. A datagram for which there is no memory for a coroutine is lost, and
/// the server pauses before it goes on.
///
/// A further handle of the same server is a clone.
///
/// # Examples
///
/// ```
/// use switchgrass::net::{DatagramServer, UdpSocket};
///
/// let socket = UdpSocket::bind("127.0.0.1:0")?;
/// let address = socket.local_addr()?;
/// let server = DatagramServer::new(socket, |socket: &UdpSocket, question: Vec<u8>, from| {
///     socket.send_to(&question.to_ascii_uppercase(), from).unwrap();
/// });
/// server.start();
/// let client = UdpSocket::bind("127.0.0.1:0")?;
/// client.send_to(b"hello", address)?;
/// let mut answer = [0; 16];
/// let count = client.recv(&mut answer)?;
/// assert_eq!(&answer[..count], b"HELLO");
/// assert!(server.stop(None));
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct DatagramServer<S: Datagrams = UdpSocket> {
    serving: Rc<Serving<Receiver<S>>>,
}

type Handler<S> = dyn Fn(&S, Vec<u8>, <S as Datagrams>::Address);

struct Receiver<S: Datagrams> {
    socket: S,
    handler: Box<Handler<S>>,
    /// Where the next one is received; empty while it is lent out.
    buffer: Cell<Vec<u8>>,
}

impl<S: Datagrams> Receiver<S> {
    fn receive(
        &self,
        by: impl FnOnce(&S, &mut [u8]) -> io::Result<(usize, S::Address)>,
    ) -> io::Result<(Vec<u8>, S::Address)> {
        let mut buffer = self.buffer.take();
        buffer.resize(LONGEST, 0);
        let received = by(&self.socket, &mut buffer);
        let taken = received.map(|(count, from)| (buffer[..count].to_vec(), from));
        self.buffer.set(buffer);
        taken
    }
}

impl<S: Datagrams> Serve for Receiver<S> {
    type Taken = (Vec<u8>, S::Address);

    fn take(&self) -> io::Result<Self::Taken> {
        self.receive(S::recv_from)
    }

    fn try_take(&self) -> io::Result<Self::Taken> {
        self.receive(S::try_recv_from)
    }

    fn handle(&self, (datagram, from): Self::Taken) {
        (self.handler)(&self.socket, datagram, from);
    }
}

impl<S: Datagrams> DatagramServer<S> {
    /// A server that calls `handler` with each datagram that `socket` receives, once it is started.
    pub fn new(socket: S, handler: impl Fn(&S, Vec<u8>, S::Address) + 'static) -> Self {
        Self::with_room(socket, None, handler)
    }

    /// As [`DatagramServer::new`], for so many handlers at a time: while there are as many, no further
    /// datagram is taken. Those wait where the kernel keeps them, which drops those of UDP that are too many.
    ///
    /// # Panics
    ///
    /// If `handlers` is zero.
    #[track_caller]
    pub fn with_limit(
        socket: S,
        handlers: usize,
        handler: impl Fn(&S, Vec<u8>, S::Address) + 'static,
    ) -> Self {
        Self::with_room(socket, room_for(handlers), handler)
    }

    fn with_room(
        socket: S,
        room: Option<Semaphore>,
        handler: impl Fn(&S, Vec<u8>, S::Address) + 'static,
    ) -> Self {
        let receiver = Receiver { socket, handler: Box::new(handler), buffer: Cell::default() };
        DatagramServer { serving: Serving::new(receiver, room) }
    }

    /// Begins to take datagrams, in a coroutine. Started or stopped already, it stays as it is.
    ///
    /// # Panics
    ///
    /// If there is no memory for that coroutine. [`DatagramServer::serve_forever`] returns an error instead.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn start(&self) {
        self.serving.start();
    }

    /// Goes on with taking datagrams after [`DatagramServer::stop_accepting`]. The same as
    /// [`DatagramServer::start`].
    ///
    /// # Panics
    ///
    /// As [`DatagramServer::start`].
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn start_accepting(&self) {
        self.serving.start();
    }

    /// Takes no datagrams for now. Handlers that run go on, and so does [`DatagramServer::serve_forever`].
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn stop_accepting(&self) {
        self.serving.pause();
    }

    /// Whether it takes datagrams: it was started, and is neither stopped nor paused.
    pub fn is_accepting(&self) -> bool {
        self.serving.is_accepting()
    }

    /// Starts, and waits until it is stopped, by another coroutine or by an error.
    ///
    /// # Errors
    ///
    /// If the socket can receive no more, ever: the first who asks is told. If the server cannot start for
    /// want of memory. That nobody was there for an answer (`ECONNREFUSED`) is no such error; after others
    /// it tries again, at first after 10 ms, later after up to a second.
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
    /// The server goes on.
    pub fn serve_forever(&self) -> io::Result<()> {
        self.serving.serve_forever()
    }

    /// Takes the datagrams that have come already and no more, waits for the handlers, for at most `limit`
    /// (`None`: for ever), and closes the socket, by which they answer until then. What is left after
    /// `limit` is killed, and its clean-up waited for. Whether nothing had to be killed. A server that was
    /// never started takes none.
    ///
    /// # Panics
    ///
    /// With what is raised in the current coroutine meanwhile. In one of its own handlers, which would wait
    /// for itself.
    ///
    /// # Switching
    ///
    /// Switches if handlers run. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// It takes no more datagrams; the handlers that run go on, and the socket stays open.
    pub fn stop(&self, limit: Option<Duration>) -> bool {
        self.serving.end();
        let all = self.serving.join(limit);
        self.socket().close();
        all
    }

    /// How many handlers run.
    pub fn running(&self) -> usize {
        self.serving.running()
    }

    /// The socket.
    pub fn socket(&self) -> &S {
        &self.serving.serve.socket
    }
}

impl<S: Datagrams> Clone for DatagramServer<S> {
    fn clone(&self) -> Self {
        DatagramServer { serving: Rc::clone(&self.serving) }
    }
}

impl<S: Datagrams> fmt::Debug for DatagramServer<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatagramServer")
            .field("running", &self.running())
            .field("is_accepting", &self.is_accepting())
            .field("is_over", &self.serving.is_over())
            .finish_non_exhaustive()
    }
}
