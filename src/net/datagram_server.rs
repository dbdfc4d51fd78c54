#![forbid(unsafe_code)]
//! Datagram servers: one coroutine per datagram.

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

/// A source of datagrams for a [`DatagramServer`].
pub trait Datagrams: 'static {
    /// The address of a sender.
    type Address: 'static;

    /// Waits for a datagram.
    ///
    /// # Errors
    ///
    /// Such as those of [`UdpSocket::recv_from`].
    ///
    /// # Switching
    ///
    /// May switch: if none is pending, other coroutines run until one arrives.
    ///
    /// # Cancellation
    ///
    /// No datagram is consumed.
    fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, Self::Address)>;

    /// Receives a datagram that is already queued.
    ///
    /// A server that is stopped drains the queue with it. The default implementation reports that none is
    /// queued.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if none is queued.
    ///
    /// # Switching
    ///
    /// Never switches.
    fn try_recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, Self::Address)> {
        let _ = buffer;
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// Closes the socket: current and later calls fail.
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

/// The longest datagram, in bytes. A longer one, which only Unix sockets have, is truncated.
const LONGEST: usize = 64 << 10;

/// A server that runs a handler for each datagram, in a coroutine of its own.
///
/// The handler gets the socket to reply with. A handler that panics affects no other. If there is no memory
/// for a handler's coroutine, the datagram is lost, and the server pauses before it continues.
///
/// A clone is another handle to the same server.
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
    /// Receive buffer; empty while a receive is using it.
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
    /// Makes a server that calls `handler` with each datagram from `socket`, once it is started.
    pub fn new(socket: S, handler: impl Fn(&S, Vec<u8>, S::Address) + 'static) -> Self {
        Self::with_room(socket, None, handler)
    }

    /// Like [`DatagramServer::new`], but runs at most `handlers` handlers at a time.
    ///
    /// While that many run, no further datagram is received: datagrams wait in the kernel's queue, and UDP
    /// drops those that do not fit.
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

    /// Starts a coroutine that receives datagrams.
    ///
    /// Has no effect if the server is started or stopped already.
    ///
    /// # Panics
    ///
    /// If there is no memory for that coroutine. [`DatagramServer::serve_forever`] returns an error
    /// instead.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn start(&self) {
        self.serving.start();
    }

    /// Resumes receiving after [`DatagramServer::stop_accepting`]. The same as [`DatagramServer::start`].
    ///
    /// # Panics
    ///
    /// If there is no memory for the coroutine that receives.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn start_accepting(&self) {
        self.serving.start();
    }

    /// Pauses receiving. Running handlers continue, and [`DatagramServer::serve_forever`] keeps waiting.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn stop_accepting(&self) {
        self.serving.pause();
    }

    /// Returns whether the server is receiving: started, and neither stopped nor paused.
    pub fn is_accepting(&self) -> bool {
        self.serving.is_accepting()
    }

    /// Starts the server, and waits until another coroutine stops it or it fails.
    ///
    /// # Errors
    ///
    /// If the socket can never receive again; only the first caller gets this error. If the server cannot
    /// start for lack of memory. An unreachable peer (`ECONNREFUSED`) is not such an error. After other
    /// errors the server retries, first after 10 ms, later after up to a second.
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
    /// The server continues.
    pub fn serve_forever(&self) -> io::Result<()> {
        self.serving.serve_forever()
    }

    /// Stops the server: drains the queued datagrams, waits for the handlers, and closes the socket.
    ///
    /// Handlers can reply through the socket until then. It waits for at most `timeout` (`None`:
    /// indefinitely). Handlers that are left then are killed, and their cleanup is waited for. Returns
    /// whether none had to be killed. A server that was never started drains nothing.
    ///
    /// # Panics
    ///
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits. If
    /// it is called in a handler of this server, which would wait for itself.
    ///
    /// # Switching
    ///
    /// May switch: while handlers run, other coroutines run too.
    ///
    /// # Cancellation
    ///
    /// The server receives no more datagrams; running handlers continue, and the socket stays open.
    pub fn stop(&self, timeout: Option<Duration>) -> bool {
        self.serving.end();
        let all = self.serving.join(timeout);
        self.socket().close();
        all
    }

    /// Returns the number of running handlers.
    pub fn running(&self) -> usize {
        self.serving.running()
    }

    /// Returns the socket.
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
