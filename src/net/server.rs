#![forbid(unsafe_code)]
//! Servers of streams: a coroutine a connection.

use super::listen::Listen;
use super::serving::{Serve, Serving, room_for};
use super::tcp::TcpListener;
use crate::sync::Semaphore;
use std::fmt;
use std::io;
use std::rc::Rc;
use std::time::Duration;

/// Takes connections, and runs a handler for each in a coroutine of its own. A connection is closed when its
/// handler returns, or panics, which harms no other. It is also closed if there is no memory for a coroutine:
/// then the server pauses as it does without descriptors, and goes on.
///
/// A further handle of the same server is a clone.
///
/// # Examples
///
/// ```
/// use std::io::{Read, Write};
/// use switchgrass::net::{StreamServer, TcpListener, TcpStream};
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let address = listener.local_addr()?;
/// let server = StreamServer::new(listener, |mut stream: TcpStream, _| {
///     stream.write_all(b"hello").unwrap();
/// });
/// server.start();
/// let mut text = String::new();
/// TcpStream::connect(address)?.read_to_string(&mut text)?;
/// assert_eq!(text, "hello");
/// assert!(server.stop(None));
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct StreamServer<L: Listen = TcpListener> {
    serving: Rc<Serving<Streams<L>>>,
}

struct Streams<L: Listen> {
    listener: L,
    handler: Box<dyn Fn(L::Stream, L::Address)>,
}

impl<L: Listen> Serve for Streams<L> {
    type Taken = (L::Stream, L::Address);

    fn take(&self) -> io::Result<Self::Taken> {
        self.listener.accept()
    }

    fn try_take(&self) -> io::Result<Self::Taken> {
        self.listener.try_accept()
    }

    fn handle(&self, (stream, address): Self::Taken) {
        (self.handler)(stream, address);
    }
}

impl<L: Listen> StreamServer<L> {
    /// A server that calls `handler` with each connection of `listener`, once it is started.
    pub fn new(listener: L, handler: impl Fn(L::Stream, L::Address) + 'static) -> Self {
        Self::with_room(listener, None, handler)
    }

    /// As [`StreamServer::new`], for so many connections at a time: while there are as many, no further
    /// one is taken, and those wait where the kernel keeps them.
    ///
    /// # Panics
    ///
    /// If `connections` is zero.
    #[track_caller]
    pub fn with_limit(
        listener: L,
        connections: usize,
        handler: impl Fn(L::Stream, L::Address) + 'static,
    ) -> Self {
        Self::with_room(listener, room_for(connections), handler)
    }

    fn with_room(
        listener: L,
        room: Option<Semaphore>,
        handler: impl Fn(L::Stream, L::Address) + 'static,
    ) -> Self {
        let streams = Streams { listener, handler: Box::new(handler) };
        StreamServer { serving: Serving::new(streams, room) }
    }

    /// Begins to take connections, in a coroutine. Started or stopped already, it stays as it is.
    ///
    /// # Panics
    ///
    /// If there is no memory for that coroutine. [`StreamServer::serve_forever`] returns an error instead.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn start(&self) {
        self.serving.start();
    }

    /// As [`StreamServer::start`], without a panic.
    pub(crate) fn try_start(&self) -> io::Result<()> {
        self.serving.try_start()
    }

    /// Goes on with taking connections after [`StreamServer::stop_accepting`]. The same as
    /// [`StreamServer::start`].
    ///
    /// # Panics
    ///
    /// As [`StreamServer::start`].
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn start_accepting(&self) {
        self.serving.start();
    }

    /// Takes no connections for now: who connects waits where the kernel keeps them. Those that there are go
    /// on, and so does [`StreamServer::serve_forever`].
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn stop_accepting(&self) {
        self.serving.pause();
    }

    /// Whether it takes connections: it was started, and is neither stopped nor paused.
    pub fn is_accepting(&self) -> bool {
        self.serving.is_accepting()
    }

    /// Starts, and waits until it is stopped, by another coroutine or by an error.
    ///
    /// # Errors
    ///
    /// If the listener can take no more connections, ever: the first who asks is told. If the server cannot
    /// start for want of memory. That there are no descriptors left is no such error, nor that there is no
    /// memory for a handler's coroutine: then it tries again, at first after 10 ms, later after up to a
    /// second.
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

    /// Takes the connections that the kernel has accepted already, closes the listener, and waits for all
    /// connections, for at most `limit` (`None`: for ever). What is left then is killed, and its clean-up
    /// waited for. Whether nothing had to be killed.
    ///
    /// A server that was never started takes none. With a limit of connections, those that are too many wait
    /// for their handlers. Connections whose handshake is under way while the listener closes are reset by
    /// the kernel.
    ///
    /// # Panics
    ///
    /// With what is raised in the current coroutine meanwhile. In one of its own handlers, which would wait
    /// for itself.
    ///
    /// # Switching
    ///
    /// Switches if there are connections. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// It takes no more connections; those that there are go on.
    pub fn stop(&self, limit: Option<Duration>) -> bool {
        self.serving.end();
        self.listener().close();
        self.serving.join(limit)
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.serving.running()
    }

    /// The listener.
    pub fn listener(&self) -> &L {
        &self.serving.serve.listener
    }
}

impl<L: Listen> Clone for StreamServer<L> {
    fn clone(&self) -> Self {
        StreamServer { serving: Rc::clone(&self.serving) }
    }
}

impl<L: Listen> fmt::Debug for StreamServer<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamServer")
            .field("connections", &self.connections())
            .field("is_accepting", &self.is_accepting())
            .field("is_over", &self.serving.is_over())
            .finish_non_exhaustive()
    }
}
