#![forbid(unsafe_code)]
//! Servers: a coroutine a connection.

use super::tcp::{TcpListener, TcpStream};
use super::unix::{UnixListener, UnixStream};
use crate::coroutine::{self, JoinHandle, sleep};
use crate::pool::Group;
use crate::sync::Semaphore;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

/// What a [`StreamServer`] takes connections from.
pub trait Listen: 'static {
    /// A connection.
    type Stream: 'static;
    /// Whom it is from.
    type Address: 'static;

    /// Waits for a connection.
    ///
    /// # Errors
    ///
    /// As those of [`TcpListener::accept`].
    ///
    /// # Switching
    ///
    /// Switches if there is none. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// No connection is taken.
    fn accept(&self) -> io::Result<(Self::Stream, Self::Address)>;

    /// Has who waits fail, and who comes later.
    fn close(&self);
}

impl Listen for TcpListener {
    type Stream = TcpStream;
    type Address = SocketAddr;

    fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        TcpListener::accept(self)
    }

    fn close(&self) {
        TcpListener::close(self);
    }
}

impl Listen for UnixListener {
    type Stream = UnixStream;
    type Address = std::os::unix::net::SocketAddr;

    fn accept(&self) -> io::Result<(UnixStream, Self::Address)> {
        UnixListener::accept(self)
    }

    fn close(&self) {
        UnixListener::close(self);
    }
}

/// Takes connections, and runs a handler for each in a coroutine of its own. A connection is closed when its
/// handler returns, or panics, which harms no other.
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
    shared: Rc<Shared<L>>,
}

struct Shared<L: Listen> {
    listener: L,
    handler: Box<dyn Fn(L::Stream, L::Address)>,
    /// So many connections more may be taken.
    room: Option<Semaphore>,
    group: Group,
    acceptor: RefCell<Option<JoinHandle<io::Result<()>>>>,
    is_stopped: Cell<bool>,
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
        assert!(connections > 0, "a server for no connections: let there be at least 1");
        Self::with_room(listener, Some(Semaphore::new(connections)), handler)
    }

    fn with_room(
        listener: L,
        room: Option<Semaphore>,
        handler: impl Fn(L::Stream, L::Address) + 'static,
    ) -> Self {
        let shared = Shared {
            listener,
            handler: Box::new(handler),
            room,
            group: Group::new(),
            acceptor: RefCell::new(None),
            is_stopped: Cell::new(false),
        };
        StreamServer { shared: Rc::new(shared) }
    }

    /// Begins to take connections, in a coroutine. Started or stopped already, it stays as it is.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn start(&self) {
        let mut acceptor = self.shared.acceptor.borrow_mut();
        if acceptor.is_none() && !self.shared.is_stopped.get() {
            let shared = Rc::clone(&self.shared);
            *acceptor = Some(coroutine::spawn(move || shared.accept()));
        }
    }

    /// Starts, and waits until it is stopped, by another coroutine or by an error.
    ///
    /// # Errors
    ///
    /// If the listener can take no more connections, ever. That there are no descriptors left is no such
    /// error: then it tries again, at first after 10 ms, later after up to a second.
    ///
    /// # Panics
    ///
    /// With what is raised in the current coroutine meanwhile. If it is waited for already.
    ///
    /// # Switching
    ///
    /// Switches. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The server goes on.
    pub fn serve_forever(&self) -> io::Result<()> {
        self.start();
        let acceptor = self.shared.acceptor.borrow_mut().take();
        match acceptor {
            None if self.shared.is_stopped.get() => Ok(()),
            None => panic!("somebody else waits for this server already"),
            Some(acceptor) => acceptor.join().unwrap_or_else(|error| error.resume()),
        }
    }

    /// Takes no more connections, and waits for those that there are, for at most `limit` (`None`: for ever).
    /// What is left then is killed, and its clean-up waited for. Whether nothing had to be killed.
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
        self.shared.is_stopped.set(true);
        self.shared.listener.close();
        match limit {
            None => {
                self.shared.group.join();
                true
            }
            Some(limit) => {
                let all = self.shared.group.join_timeout(limit);
                if !all {
                    self.shared.group.kill(None);
                }
                all
            }
        }
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.shared.group.len()
    }

    /// The listener.
    pub fn listener(&self) -> &L {
        &self.shared.listener
    }
}

impl<L: Listen> Shared<L> {
    /// Takes connections until it is stopped.
    fn accept(self: Rc<Self>) -> io::Result<()> {
        const FIRST: Duration = Duration::from_millis(10);
        const LONGEST: Duration = Duration::from_secs(1);
        let mut pause = FIRST;
        loop {
            let place = Place::take(&self);
            match self.listener.accept() {
                Ok((stream, address)) => {
                    pause = FIRST;
                    let shared = Rc::clone(&self);
                    self.group.spawn(move || {
                        let _place = place;
                        (shared.handler)(stream, address);
                    });
                }
                Err(_) if self.is_stopped.get() => return Ok(()),
                Err(error) if is_for_ever(&error) => return Err(error),
                // No descriptors, no memory: that may get better. Or the other end has gone already.
                Err(_) => {
                    sleep(pause);
                    pause = (pause * 2).min(LONGEST);
                }
            }
        }
    }
}

fn is_for_ever(error: &io::Error) -> bool {
    const ALL: [i32; 4] = [libc::EBADF, libc::EINVAL, libc::ENOTSOCK, libc::EOPNOTSUPP];
    error.raw_os_error().is_some_and(|number| ALL.contains(&number))
}

/// Room for one connection, given back when it is dropped.
struct Place<L: Listen>(Rc<Shared<L>>);

impl<L: Listen> Place<L> {
    /// Waits for room.
    fn take(shared: &Rc<Shared<L>>) -> Self {
        if let Some(room) = &shared.room {
            room.acquire();
        }
        Place(Rc::clone(shared))
    }
}

impl<L: Listen> Drop for Place<L> {
    fn drop(&mut self) {
        if let Some(room) = &self.0.room {
            room.release();
        }
    }
}

impl<L: Listen> Clone for StreamServer<L> {
    fn clone(&self) -> Self {
        StreamServer { shared: Rc::clone(&self.shared) }
    }
}

impl<L: Listen> fmt::Debug for StreamServer<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamServer")
            .field("connections", &self.connections())
            .field("is_stopped", &self.shared.is_stopped.get())
            .finish_non_exhaustive()
    }
}
