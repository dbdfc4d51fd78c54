#![forbid(unsafe_code)]
//! Servers that span all hubs: a [`StreamServer`] on each, and one handle for them.
//!
//! ```text
//!                                commands            connections
//!   bind:            handle ───────────────► servers ◄─── the kernel
//!
//!                                stop                queues             connections
//!   hand_over:       handle ──► acceptor ───────────► servers' inlets       │
//!                                  ▲  └── stop, and the deadline ──►        │
//!                                  └────────────────────────────────────────┘
//! ```
//!
//! On each hub, one task lives as long as the server, owns the hub's part of it, and executes commands. The
//! acceptor is another such task. It passes the stop command on when it has ended and all connections that
//! it accepted are queued.

use super::hubs::Hubs;
use super::listeners::{HandOver, Inlet, connection_queue, hand_over};
use crate::coroutine::{self, Builder, yield_now};
use crate::net::{Listen, SocketAddr, StreamServer, TcpListener, ToSocketAddrs};
use crate::sync::{Event, Queue, Shared, select};
use crate::sys::lock::Lock;
use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Relaxed};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::{Duration, Instant};

/// A [`StreamServer`] on each of several hubs.
///
/// Each connection is handled in a coroutine of the hub that it reached.
///
/// With [`StreamServers::bind`], each hub listens at the same address. The kernel distributes the
/// connections, without an intermediate step; a connection that reaches a blocked hub waits for that hub.
/// With [`StreamServers::hand_over`], one hub accepts all connections and distributes them in turn. That
/// works for any listener and costs one message per connection; a connection handed to a blocked hub waits
/// for it, too.
///
/// When the handle is dropped, no more connections are accepted, and existing ones run to their end. The
/// same happens when the hubs are shut down.
///
/// # Examples
///
/// ```
/// use std::io::{Read, Write};
/// use switchgrass::multicore::{Hubs, StreamServers};
/// use switchgrass::net::TcpStream;
///
/// let hubs = Hubs::new(2)?;
/// let also = hubs.clone();
/// let servers = StreamServers::bind(&hubs, "127.0.0.1:0", move |mut stream, _| {
///     let hub = also.current().unwrap();
///     write!(stream, "hello from hub {hub}").unwrap();
/// })?;
/// servers.start();
/// let mut text = String::new();
/// TcpStream::connect(*servers.local_addr())?.read_to_string(&mut text)?;
/// assert!(text == "hello from hub 0" || text == "hello from hub 1");
/// assert!(servers.stop(None));
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct StreamServers<A = SocketAddr> {
    hubs: Hubs,
    control: Arc<Control>,
    address: A,
}

#[derive(Clone, Copy, Debug)]
enum Command {
    Start,
    Pause,
    /// With the deadline after which the remaining connections are killed.
    Stop(Option<Instant>),
}

struct Control {
    servers: Box<[Mailbox]>,
    acceptor: Option<Mailbox>,
    /// The number of tasks that have not ended, and the event set when it reaches 0.
    left: AtomicUsize,
    over: Event<Shared>,
    /// Whether connections were killed.
    has_killed: AtomicBool,
    /// The first error of a listener, and the event set by an error or by the end.
    failure: Lock<Option<io::Error>>,
    halted: Event<Shared>,
}

/// The commands for a server task, and its connections.
#[repr(align(128))]
struct Mailbox {
    commands: Queue<Command, Shared>,
    /// The ids of the coroutines on this hub that handle a connection.
    handling: Lock<HashSet<u64>>,
}

impl Mailbox {
    fn new() -> Self {
        Mailbox { commands: Queue::shared(), handling: Lock::default() }
    }

    fn send(&self, command: Command) {
        // The queue is never shut down.
        let _ = self.commands.put(command);
    }
}

impl Control {
    fn new(hubs: usize, has_acceptor: bool) -> Self {
        Control {
            servers: (0..hubs).map(|_| Mailbox::new()).collect(),
            acceptor: has_acceptor.then(Mailbox::new),
            left: AtomicUsize::new(hubs + usize::from(has_acceptor)),
            over: Event::shared(),
            has_killed: AtomicBool::new(false),
            failure: Lock::new(None),
            halted: Event::shared(),
        }
    }

    /// Sends a command to the tasks that accept connections from the kernel.
    fn send(&self, command: Command) {
        match &self.acceptor {
            Some(acceptor) => acceptor.send(command),
            None => self.servers.iter().for_each(|server| server.send(command)),
        }
    }

    fn fail(&self, error: io::Error) {
        self.failure.lock().get_or_insert(error);
        self.halted.set();
    }
}

/// A running server task. Dropping it records the end of the task, for any reason.
struct ServerTask {
    control: Arc<Control>,
    hubs: Arc<super::shared_state::SharedState>,
    /// The index of the hub; `None` for the acceptor.
    server: Option<usize>,
    deadline: Cell<Option<Instant>>,
    is_done: Cell<bool>,
}

impl ServerTask {
    fn new(control: &Arc<Control>, hubs: &Hubs, server: Option<usize>) -> Self {
        let (control, hubs) = (Arc::clone(control), Arc::clone(hubs.shared()));
        ServerTask { control, hubs, server, deadline: Cell::new(None), is_done: Cell::new(false) }
    }

    fn mailbox(&self) -> &Mailbox {
        match (self.server, &self.control.acceptor) {
            (Some(index), _) => &self.control.servers[index],
            (None, Some(acceptor)) => acceptor,
            (None, None) => unreachable!("a task without an index is the acceptor"),
        }
    }

    fn next_command(&self) -> Command {
        let commands = &self.mailbox().commands;
        // Where connections are handed over, only the acceptor watches for the shutdown, and passes it
        // on.
        let is_first = self.server.is_none() || self.control.acceptor.is_none();
        let is_closing = is_first && select(&[commands, &self.hubs.closing]) == 1;
        let command = if is_closing { None } else { commands.get().ok() };
        command.unwrap_or(Command::Stop(None))
    }

    /// Runs a server until it is told to stop.
    ///
    /// Then `settle` waits until no connections are queued for it.
    fn serve<L: Listen>(self, server: &StreamServer<L>, settle: impl Fn(Option<Duration>)) {
        let mut has_begun = false;
        loop {
            match self.next_command() {
                Command::Start if has_begun => {
                    if let Err(error) = server.try_start() {
                        self.control.fail(error);
                    }
                }
                Command::Start => {
                    let (server, control) = (server.clone(), Arc::clone(&self.control));
                    let serving = Builder::new().spawn(move || {
                        if let Err(error) = server.serve_forever() {
                            control.fail(error);
                        }
                    });
                    has_begun = serving.is_ok();
                    if let Err(error) = serving {
                        self.control.fail(io::Error::new(io::ErrorKind::OutOfMemory, error));
                    }
                    // Lets the coroutine begin, so that a `Pause` that follows takes effect.
                    yield_now();
                }
                Command::Pause => server.stop_accepting(),
                Command::Stop(deadline) => {
                    self.deadline.set(deadline);
                    let rest = || deadline.map(|end| end.saturating_duration_since(Instant::now()));
                    settle(rest());
                    self.is_done.set(server.stop(rest()));
                    return;
                }
            }
        }
    }
}

impl Drop for ServerTask {
    fn drop(&mut self) {
        let control = &self.control;
        if !self.is_done.get() {
            control.has_killed.store(true, Relaxed);
        }
        if self.server.is_none() {
            let stop = Command::Stop(self.deadline.get());
            control.servers.iter().for_each(|server| server.send(stop));
        }
        if control.left.fetch_sub(1, AcqRel) == 1 {
            control.halted.set();
            control.over.set();
        }
    }
}

/// Marks the current coroutine as handling a connection, until it is dropped.
struct Handling<'a>(&'a Mailbox, u64);

impl<'a> Handling<'a> {
    fn new(mailbox: &'a Mailbox) -> Self {
        let id = coroutine::current().id();
        mailbox.handling.lock().insert(id);
        Handling(mailbox, id)
    }
}

impl Drop for Handling<'_> {
    fn drop(&mut self) {
        self.0.handling.lock().remove(&self.1);
    }
}

fn server<L: Listen>(
    listener: L,
    limit: Option<usize>,
    handler: impl Fn(L::Stream, L::Address) + 'static,
) -> StreamServer<L> {
    match limit {
        None => StreamServer::new(listener, handler),
        Some(connections) => StreamServer::with_limit(listener, connections, handler),
    }
}

impl StreamServers<SocketAddr> {
    /// Creates a server for which each hub listens at `address`.
    ///
    /// The listeners share the address by `SO_REUSEPORT`; see [`TcpListener::bind_reuse_port`].
    ///
    /// Once started, it calls `handler` with each connection.
    ///
    /// # Errors
    ///
    /// Those of [`TcpListener::bind_reuse_port`]; if the hubs were shut down.
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
    /// All listeners are closed.
    pub fn bind(
        hubs: &Hubs,
        address: impl ToSocketAddrs,
        handler: impl Fn(crate::net::TcpStream, SocketAddr) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        Self::bind_inner(hubs, address, None, handler)
    }

    /// Like [`StreamServers::bind`], but with a limit of connections per hub.
    ///
    /// A hub that has `connections` connections accepts no more; further ones wait in the kernel's backlog.
    ///
    /// # Errors
    ///
    /// Those of [`StreamServers::bind`].
    ///
    /// # Panics
    ///
    /// If `connections` is zero. Unwinds if a kill, a timeout or another panic is raised in the current
    /// coroutine while it waits.
    ///
    /// # Switching
    ///
    /// May switch: other coroutines run while this one waits.
    ///
    /// # Cancellation
    ///
    /// All listeners are closed.
    #[track_caller]
    pub fn bind_with_limit(
        hubs: &Hubs,
        address: impl ToSocketAddrs,
        connections: usize,
        handler: impl Fn(crate::net::TcpStream, SocketAddr) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        Self::bind_inner(hubs, address, connection_limit(connections), handler)
    }

    fn bind_inner(
        hubs: &Hubs,
        address: impl ToSocketAddrs,
        limit: Option<usize>,
        handler: impl Fn(crate::net::TcpStream, SocketAddr) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let first = TcpListener::bind_reuse_port(address)?;
        let address = first.local_addr()?;
        let mut listeners = vec![first.into_std()?];
        for _ in 1..hubs.len() {
            listeners.push(TcpListener::bind_reuse_port(address)?.into_std()?);
        }
        let startup = Startup::new(hubs, address, false);
        let handler = Arc::new(handler);
        for (index, listener) in listeners.into_iter().enumerate() {
            let handler = startup.counting(index, &handler);
            startup.spawn(index, Some(index), move |task, ready| {
                if let Some(listener) = ready(TcpListener::from_std(listener)) {
                    task.serve(&server(listener, limit, handler), |_| ());
                }
            })?;
        }
        startup.wait()
    }
}

impl<A: Send + Sync + 'static> StreamServers<A> {
    /// Creates a server whose first hub accepts all connections.
    ///
    /// Once started, it hands them over to the hubs in turn, starting with itself.
    ///
    /// `handler` is called with each connection on the hub that receives it.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::{Read, Write};
    /// use switchgrass::multicore::{Hubs, StreamServers};
    /// use switchgrass::net::{UnixListener, UnixStream};
    ///
    /// # let path = std::env::temp_dir().join(format!("switchgrass-servers-{}", std::process::id()));
    /// # let _ = std::fs::remove_file(&path);
    /// let hubs = Hubs::new(2)?;
    /// let listener = UnixListener::bind(&path)?;
    /// let servers = StreamServers::hand_over(&hubs, listener, |mut stream: UnixStream, _| {
    ///     stream.write_all(b"hello").unwrap();
    /// })?;
    /// servers.start();
    /// let mut text = String::new();
    /// UnixStream::connect(&path)?.read_to_string(&mut text)?;
    /// assert_eq!(text, "hello");
    /// assert!(servers.stop(None));
    /// # std::fs::remove_file(&path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If the listener is closed; if the hubs were shut down, or one has no descriptors left for it.
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
    /// The listener is closed.
    pub fn hand_over<L: HandOver<Address = A>>(
        hubs: &Hubs,
        listener: L,
        handler: impl Fn(L::Stream, A) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        Self::hand_over_inner(hubs, listener, None, handler)
    }

    /// Like [`StreamServers::hand_over`], but with a limit of connections per hub.
    ///
    /// A hub that has `connections` connections is skipped. If all have, further connections wait in the
    /// queues between the hubs, and then in the kernel's backlog.
    ///
    /// # Errors
    ///
    /// Those of [`StreamServers::hand_over`].
    ///
    /// # Panics
    ///
    /// If `connections` is zero. Unwinds if a kill, a timeout or another panic is raised in the current
    /// coroutine while it waits.
    ///
    /// # Switching
    ///
    /// May switch: other coroutines run while this one waits.
    ///
    /// # Cancellation
    ///
    /// The listener is closed.
    #[track_caller]
    pub fn hand_over_with_limit<L: HandOver<Address = A>>(
        hubs: &Hubs,
        listener: L,
        connections: usize,
        handler: impl Fn(L::Stream, A) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        Self::hand_over_inner(hubs, listener, connection_limit(connections), handler)
    }

    fn hand_over_inner<L: HandOver<Address = A>>(
        hubs: &Hubs,
        listener: L,
        limit: Option<usize>,
        handler: impl Fn(L::Stream, A) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let address = listener.address()?;
        let listener = listener.pack()?;
        let startup = Startup::new(hubs, address, true);
        let handler = Arc::new(handler);
        let queues: Vec<_> = (0..hubs.len()).map(|_| connection_queue::<L>()).collect();
        for (index, queue) in queues.iter().enumerate() {
            let handler = startup.counting(index, &handler);
            let queue = Arc::clone(queue);
            startup.spawn(index, Some(index), move |task, ready| {
                ready(Ok(()));
                let settle = |limit| match limit {
                    None => queue.join(),
                    Some(limit) => drop(queue.join_timeout(limit)),
                };
                task.serve(&server(Inlet::<L>(Arc::clone(&queue)), limit, handler), settle);
            })?;
        }
        startup.spawn(0, None, move |task, ready| {
            let Some(listener) = ready(L::unpack(listener)) else { return };
            let next = Cell::new(0);
            // One connection at a time: while no hub has room, no further connection is accepted.
            let acceptor = server(listener, Some(1), move |stream, address| {
                let index = next.replace((next.get() + 1) % queues.len());
                hand_over::<L>(&queues, index, stream, address);
            });
            task.serve(&acceptor, |_| ());
        })?;
        startup.wait()
    }
}

impl<A> StreamServers<A> {
    /// Starts to accept connections, on all hubs.
    ///
    /// No effect if the server was already started or stopped.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn start(&self) {
        if let Some(acceptor) = &self.control.acceptor {
            acceptor.send(Command::Start);
        }
        self.control.servers.iter().for_each(|server| server.send(Command::Start));
    }

    /// Pauses accepting: new connections wait in the kernel's backlog.
    ///
    /// Existing connections continue, and so does [`StreamServers::serve_forever`].
    /// [`StreamServers::start`] resumes. Each hub acts on this when it next processes its commands.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn stop_accepting(&self) {
        self.control.send(Command::Pause);
    }

    /// Starts the server, and waits until it is stopped or fails.
    ///
    /// # Errors
    ///
    /// The first error, on any hub, that [`StreamServer::serve_forever`] would return. The other hubs
    /// continue.
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
        self.start();
        self.control.halted.wait();
        match self.control.failure.lock().take() {
            None => Ok(()),
            Some(error) => Err(error),
        }
    }

    /// Stops the server: closes the listeners, and waits until all connections have ended.
    ///
    /// Connections that the kernel has already accepted are still handled. After `limit` (`None`: no
    /// timeout), the remaining connections are killed, and their destructors awaited. Returns `true` if
    /// none had to be killed.
    ///
    /// # Panics
    ///
    /// In a handler of this server, which would wait for itself; the server is not stopped then. Unwinds if
    /// a kill, a timeout or another panic is raised in the current coroutine while it waits.
    ///
    /// # Switching
    ///
    /// May switch, unless the server was already stopped: other coroutines run while this one waits.
    ///
    /// # Cancellation
    ///
    /// The server stops all the same.
    #[track_caller]
    pub fn stop(&self, limit: Option<Duration>) -> bool {
        assert!(
            !self.is_in_own_handler(),
            "a handler cannot stop its own server: it would wait for itself; stop it in another coroutine"
        );
        let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
        self.control.send(Command::Stop(deadline));
        self.control.over.wait();
        !self.control.has_killed.load(Relaxed)
    }

    fn is_in_own_handler(&self) -> bool {
        self.hubs.current().is_some_and(|hub| {
            let id = coroutine::current().id();
            self.control.servers[hub].handling.lock().contains(&id)
        })
    }

    /// The number of connections on all hubs.
    pub fn connections(&self) -> usize {
        (0..self.hubs.len()).map(|hub| self.connections_on(hub)).sum()
    }

    /// The number of connections on the given hub.
    ///
    /// # Panics
    ///
    /// If `hub` is not less than the number of hubs.
    pub fn connections_on(&self, hub: usize) -> usize {
        self.control.servers[hub].handling.lock().len()
    }

    /// The address that the server listens at.
    pub fn local_addr(&self) -> &A {
        &self.address
    }

    /// The hubs that the server runs on.
    pub fn hubs(&self) -> &Hubs {
        &self.hubs
    }
}

impl<A> Drop for StreamServers<A> {
    fn drop(&mut self) {
        self.control.send(Command::Stop(None));
    }
}

impl<A: fmt::Debug> fmt::Debug for StreamServers<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamServers")
            .field("local_addr", &self.address)
            .field("connections", &self.connections())
            .field("is_over", &self.control.over.is_set())
            .finish_non_exhaustive()
    }
}

/// A server that is being set up. If it is dropped, the tasks spawned so far end.
struct Startup<A> {
    servers: StreamServers<A>,
    /// Receives from each task whether it has its listener.
    ready: Arc<Queue<io::Result<()>, Shared>>,
}

impl<A> Startup<A> {
    fn new(hubs: &Hubs, address: A, has_acceptor: bool) -> Self {
        let control = Arc::new(Control::new(hubs.len(), has_acceptor));
        let servers = StreamServers { hubs: hubs.clone(), control, address };
        Startup { servers, ready: Arc::new(Queue::shared()) }
    }

    /// Spawns a server task on a hub. `body` first reports whether it has its listener.
    fn spawn<R>(
        &self,
        hub: usize,
        server: Option<usize>,
        body: impl FnOnce(ServerTask, &dyn Fn(io::Result<R>) -> Option<R>) + Send + 'static,
    ) -> io::Result<()> {
        let StreamServers { hubs, control, .. } = &self.servers;
        let task = ServerTask::new(control, hubs, server);
        let report = Report { ready: Arc::clone(&self.ready), is_made: Cell::new(false) };
        let body = move || {
            let ready = |result: io::Result<R>| {
                let (listener, result) = match result {
                    Ok(listener) => (Some(listener), Ok(())),
                    Err(error) => (None, Err(error)),
                };
                report.make(result);
                listener
            };
            body(task, &ready);
        };
        match hubs.try_spawn_on(hub, body) {
            Ok(_) => Ok(()),
            Err(closed) => Err(io::Error::other(closed.to_string())),
        }
    }

    /// Wraps `handler` so that each connection on a hub is counted.
    fn counting<S, C>(
        &self,
        index: usize,
        handler: &Arc<impl Fn(S, C) + Send + Sync + 'static>,
    ) -> impl Fn(S, C) + Send + 'static {
        let (control, handler) = (Arc::clone(&self.servers.control), Arc::clone(handler));
        move |stream, address| {
            let _handling = Handling::new(&control.servers[index]);
            handler(stream, address);
        }
    }

    /// Waits until all tasks have reported that they are ready.
    fn wait(self) -> io::Result<StreamServers<A>> {
        let control = &self.servers.control;
        for _ in 0..control.servers.len() + usize::from(control.acceptor.is_some()) {
            self.ready.get().expect("the queue is never shut down")?;
        }
        Ok(self.servers)
    }
}

/// Sends a task's report about its listener, once; an error if it is dropped first.
struct Report {
    ready: Arc<Queue<io::Result<()>, Shared>>,
    is_made: Cell<bool>,
}

impl Report {
    fn make(&self, result: io::Result<()>) {
        if !self.is_made.replace(true) {
            // The queue is never shut down.
            let _ = self.ready.put(result);
        }
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        self.make(Err(io::Error::other(
            "a hub cannot serve: it has no memory left, or was shut down",
        )));
    }
}

#[track_caller]
fn connection_limit(connections: usize) -> Option<usize> {
    assert!(connections > 0, "connection limit must be at least 1, got 0");
    Some(connections)
}
