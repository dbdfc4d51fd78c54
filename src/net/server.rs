#![forbid(unsafe_code)]
//! Stream servers: one coroutine per connection.

use super::listen::Listen;
use super::serving::{Serve, Serving, room_for};
use super::tcp::TcpListener;
use crate::sync::Semaphore;
use std::fmt;
use std::io;
use std::rc::Rc;
use std::time::Duration;

/// A server that runs a handler for each connection, in a coroutine of its own.
///
/// A connection is closed when its handler returns or panics; a panic affects no other connection. If there
/// is no memory for a handler's coroutine, the connection is closed too: then the server pauses, as it does
/// when the process is out of descriptors, and continues.
///
/// A clone is another handle to the same server.
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
    /// Makes a server that calls `handler` with each connection of `listener`, once it is started.
    pub fn new(listener: L, handler: impl Fn(L::Stream, L::Address) + 'static) -> Self {
        Self::with_room(listener, None, handler)
    }

    /// Like [`StreamServer::new`], but handles at most `connections` connections at a time.
    ///
    /// While there are that many, no further one is accepted: it waits in the kernel's backlog.
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

    /// Starts a coroutine that accepts connections.
    ///
    /// Has no effect if the server is started or stopped already.
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

    /// Like [`StreamServer::start`], but returns an error instead of panicking.
    pub(crate) fn try_start(&self) -> io::Result<()> {
        self.serving.try_start()
    }

    /// Resumes accepting after [`StreamServer::stop_accepting`]. The same as [`StreamServer::start`].
    ///
    /// # Panics
    ///
    /// If there is no memory for the coroutine that accepts.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn start_accepting(&self) {
        self.serving.start();
    }

    /// Pauses accepting: new clients wait in the kernel's backlog.
    ///
    /// Existing connections continue, and [`StreamServer::serve_forever`] keeps waiting.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn stop_accepting(&self) {
        self.serving.pause();
    }

    /// Returns whether the server is accepting: started, and neither stopped nor paused.
    pub fn is_accepting(&self) -> bool {
        self.serving.is_accepting()
    }

    /// Starts the server, and waits until another coroutine stops it or it fails.
    ///
    /// # Errors
    ///
    /// If the listener can never accept again; only the first caller gets this error. If the server cannot
    /// start for lack of memory. Running out of descriptors, or of memory for a handler's coroutine, is not
    /// such an error: the server retries, first after 10 ms, later after up to a second.
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

    /// Stops the server: drains the backlog, closes the listener, and waits for all connections.
    ///
    /// The connections that the kernel has accepted already are still handled. It waits for at most
    /// `timeout` (`None`: indefinitely). Handlers that are left then are killed, and their cleanup is
    /// waited for. Returns whether none had to be killed.
    ///
    /// A server that was never started drains nothing. Under a limit of connections, the excess ones wait
    /// for a free handler. The kernel resets connections whose handshake is under way when the listener
    /// closes.
    ///
    /// # Panics
    ///
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits. If
    /// it is called in a handler of this server, which would wait for itself.
    ///
    /// # Switching
    ///
    /// May switch: while there are connections, other coroutines run.
    ///
    /// # Cancellation
    ///
    /// The server accepts no more connections; existing ones continue.
    pub fn stop(&self, timeout: Option<Duration>) -> bool {
        self.serving.end();
        self.listener().close();
        self.serving.join(timeout)
    }

    /// Returns the number of connections.
    pub fn connections(&self) -> usize {
        self.serving.running()
    }

    /// Returns the listener.
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
