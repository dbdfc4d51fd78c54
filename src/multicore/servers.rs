#![forbid(unsafe_code)]
//! Servers over all hubs: a [`StreamServer`] on each, and one handle for them.
//!
//! ```text
//!                                commands            connections
//!   each listens:    handle ───────────────► servers ◄─── the kernel
//!
//!                                stop                 ways              connections
//!   handed over:     handle ──► acceptor ───────────► servers' inlets       │
//!                                  ▲  └── its end, and the limit ──►        │
//!                                  └────────────────────────────────────────┘
//! ```
//!
//! On each hub a body stays for as long as the server lives, keeps what belongs to that hub, and does what it
//! is told. The acceptor is one more; when it has ended, and all that it has taken is on its way, it passes
//! the end on.

use super::hubs::Hubs;
use super::listeners::{HandOver, Inlet, hand_over, way};
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

/// Takes connections on all of several hubs, and runs a handler for each in a coroutine of the hub that it
/// has come to. As [`StreamServer`] is of one thread.
///
/// Either each hub listens for itself at the same address ([`StreamServers::bind`]): then the kernel decides
/// who gets a connection, nobody is in between, and who comes to a hub that is held up waits for it. Or one
/// hub accepts for all and hands over in turn ([`StreamServers::hand_over`]): for whatever can be listened
/// with, at the cost of a message a connection, and one that is handed to a hub that is held up does not move
/// either.
///
/// Dropped, it takes no more connections, and those that there are go on to their end. The same happens when
/// the hubs are shut down.
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
    /// With the moment after which what is left is killed.
    Stop(Option<Instant>),
}

struct Control {
    servers: Box<[Post]>,
    acceptor: Option<Post>,
    /// Bodies that have not ended, and an event for when there are none.
    left: AtomicUsize,
    over: Event<Shared>,
    /// Connections were killed.
    has_killed: AtomicBool,
    /// The first error of a listener, and an event for that or the end.
    failure: Lock<Option<io::Error>>,
    halted: Event<Shared>,
}

/// What is said to a body, and what it says.
#[repr(align(128))]
struct Post {
    commands: Queue<Command, Shared>,
    /// The coroutines of this hub that have a connection, by their numbers.
    handling: Lock<HashSet<u64>>,
}

impl Post {
    fn new() -> Self {
        Post { commands: Queue::shared(), handling: Lock::default() }
    }

    fn tell(&self, command: Command) {
        // Nobody shuts it down.
        let _ = self.commands.put(command);
    }
}

impl Control {
    fn new(hubs: usize, has_acceptor: bool) -> Self {
        Control {
            servers: (0..hubs).map(|_| Post::new()).collect(),
            acceptor: has_acceptor.then(Post::new),
            left: AtomicUsize::new(hubs + usize::from(has_acceptor)),
            over: Event::shared(),
            has_killed: AtomicBool::new(false),
            failure: Lock::new(None),
            halted: Event::shared(),
        }
    }

    /// Tells those that take connections from the kernel.
    fn tell(&self, command: Command) {
        match &self.acceptor {
            Some(acceptor) => acceptor.tell(command),
            None => self.servers.iter().for_each(|server| server.tell(command)),
        }
    }

    fn fail(&self, error: io::Error) {
        self.failure.lock().get_or_insert(error);
        self.halted.set();
    }
}

/// A body at work. Its end is noted when this is dropped, however it comes.
struct Duty {
    control: Arc<Control>,
    hubs: Arc<super::crew::Crew>,
    /// `None` is the acceptor.
    server: Option<usize>,
    deadline: Cell<Option<Instant>>,
    is_done: Cell<bool>,
}

impl Duty {
    fn new(control: &Arc<Control>, hubs: &Hubs, server: Option<usize>) -> Self {
        let (control, hubs) = (Arc::clone(control), Arc::clone(hubs.crew()));
        Duty { control, hubs, server, deadline: Cell::new(None), is_done: Cell::new(false) }
    }

    fn post(&self) -> &Post {
        match (self.server, &self.control.acceptor) {
            (Some(index), _) => &self.control.servers[index],
            (None, Some(acceptor)) => acceptor,
            (None, None) => unreachable!("only an acceptor is no server"),
        }
    }

    fn next_command(&self) -> Command {
        let commands = &self.post().commands;
        // Where connections are handed over, the acceptor passes it on.
        let is_first = self.server.is_none() || self.control.acceptor.is_none();
        let is_closing = is_first && select(&[commands, &self.hubs.closing]) == 1;
        let command = if is_closing { None } else { commands.get().ok() };
        command.unwrap_or(Command::Stop(None))
    }

    /// Runs a server, until it is told to stop. `settle` waits then until no connections are under way to it.
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
                    // It has begun before it could be told to pause.
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

impl Drop for Duty {
    fn drop(&mut self) {
        let control = &self.control;
        if !self.is_done.get() {
            control.has_killed.store(true, Relaxed);
        }
        if self.server.is_none() {
            let stop = Command::Stop(self.deadline.get());
            control.servers.iter().for_each(|server| server.tell(stop));
        }
        if control.left.fetch_sub(1, AcqRel) == 1 {
            control.halted.set();
            control.over.set();
        }
    }
}

/// The current coroutine has a connection, until this is dropped.
struct Handling<'a>(&'a Post, u64);

impl<'a> Handling<'a> {
    fn new(post: &'a Post) -> Self {
        let id = coroutine::current().id();
        post.handling.lock().insert(id);
        Handling(post, id)
    }
}

impl Drop for Handling<'_> {
    fn drop(&mut self) {
        self.0.handling.lock().remove(&self.1);
    }
}

fn server<L: Listen>(
    listener: L,
    room: Option<usize>,
    handler: impl Fn(L::Stream, L::Address) + 'static,
) -> StreamServer<L> {
    match room {
        None => StreamServer::new(listener, handler),
        Some(connections) => StreamServer::with_limit(listener, connections, handler),
    }
}

impl StreamServers<SocketAddr> {
    /// A server of which each hub listens at `address` for itself (`SO_REUSEPORT`; see
    /// [`TcpListener::bind_reuse_port`]), and calls `handler` with what comes to it, once it is started.
    ///
    /// # Errors
    ///
    /// As [`TcpListener::bind_reuse_port`]; if the hubs were shut down.
    ///
    /// # Panics
    ///
    /// With what is raised in the current coroutine meanwhile.
    ///
    /// # Switching
    ///
    /// Switches. All others of this thread may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// Nobody listens.
    pub fn bind(
        hubs: &Hubs,
        address: impl ToSocketAddrs,
        handler: impl Fn(crate::net::TcpStream, SocketAddr) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        Self::bind_with_room(hubs, address, None, handler)
    }

    /// As [`StreamServers::bind`], for so many connections at a time on each hub: while a hub has as many, it
    /// takes no further one, and those wait where the kernel keeps them.
    ///
    /// # Errors
    ///
    /// As [`StreamServers::bind`].
    ///
    /// # Panics
    ///
    /// As [`StreamServers::bind`]; if `connections` is zero.
    ///
    /// # Switching
    ///
    /// As [`StreamServers::bind`].
    ///
    /// # Cancellation
    ///
    /// Nobody listens.
    #[track_caller]
    pub fn bind_with_limit(
        hubs: &Hubs,
        address: impl ToSocketAddrs,
        connections: usize,
        handler: impl Fn(crate::net::TcpStream, SocketAddr) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        Self::bind_with_room(hubs, address, room_for(connections), handler)
    }

    fn bind_with_room(
        hubs: &Hubs,
        address: impl ToSocketAddrs,
        room: Option<usize>,
        handler: impl Fn(crate::net::TcpStream, SocketAddr) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let first = TcpListener::bind_reuse_port(address)?;
        let address = first.local_addr()?;
        let mut listeners = vec![first.into_std()?];
        for _ in 1..hubs.len() {
            listeners.push(TcpListener::bind_reuse_port(address)?.into_std()?);
        }
        let opening = Opening::new(hubs, address, false);
        let handler = Arc::new(handler);
        for (index, listener) in listeners.into_iter().enumerate() {
            let handler = opening.counting(index, &handler);
            opening.spawn(index, Some(index), move |duty, tell| {
                if let Some(listener) = tell(TcpListener::from_std(listener)) {
                    duty.serve(&server(listener, room, handler), |_| ());
                }
            })?;
        }
        opening.wait()
    }
}

impl<A: Send + Sync + 'static> StreamServers<A> {
    /// A server of which the first hub accepts for all, once it is started, and hands connections over in
    /// turn: to itself, to the second, and so on. `handler` is called with each where it has come to.
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
    /// If the listener is closed; if the hubs were shut down, or one has no descriptors for it.
    ///
    /// # Panics
    ///
    /// With what is raised in the current coroutine meanwhile.
    ///
    /// # Switching
    ///
    /// Switches. All others of this thread may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The listener is closed.
    pub fn hand_over<L: HandOver<Address = A>>(
        hubs: &Hubs,
        listener: L,
        handler: impl Fn(L::Stream, A) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        Self::hand_over_with_room(hubs, listener, None, handler)
    }

    /// As [`StreamServers::hand_over`], for so many connections at a time on each hub: one that has as many
    /// is passed over. Beyond that some wait between the hubs, and the others where the kernel keeps them.
    ///
    /// # Errors
    ///
    /// As [`StreamServers::hand_over`].
    ///
    /// # Panics
    ///
    /// As [`StreamServers::hand_over`]; if `connections` is zero.
    ///
    /// # Switching
    ///
    /// As [`StreamServers::hand_over`].
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
        Self::hand_over_with_room(hubs, listener, room_for(connections), handler)
    }

    fn hand_over_with_room<L: HandOver<Address = A>>(
        hubs: &Hubs,
        listener: L,
        room: Option<usize>,
        handler: impl Fn(L::Stream, A) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let address = listener.address()?;
        let listener = listener.pack()?;
        let opening = Opening::new(hubs, address, true);
        let handler = Arc::new(handler);
        let ways: Vec<_> = (0..hubs.len()).map(|_| way::<L>()).collect();
        for (index, way) in ways.iter().enumerate() {
            let handler = opening.counting(index, &handler);
            let way = Arc::clone(way);
            opening.spawn(index, Some(index), move |duty, tell| {
                tell(Ok(()));
                let settle = |limit| match limit {
                    None => way.join(),
                    Some(limit) => drop(way.join_timeout(limit)),
                };
                duty.serve(&server(Inlet::<L>(Arc::clone(&way)), room, handler), settle);
            })?;
        }
        opening.spawn(0, None, move |duty, tell| {
            let Some(listener) = tell(L::unpack(listener)) else { return };
            let next = Cell::new(0);
            // One at a time: while none has room, no further one is accepted.
            let acceptor = server(listener, Some(1), move |stream, address| {
                let index = next.replace((next.get() + 1) % ways.len());
                hand_over::<L>(&ways, index, stream, address);
            });
            duty.serve(&acceptor, |_| ());
        })?;
        opening.wait()
    }
}

impl<A> StreamServers<A> {
    /// Begins to take connections, on all hubs. Started already, or stopped, it stays as it is.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn start(&self) {
        if let Some(acceptor) = &self.control.acceptor {
            acceptor.tell(Command::Start);
        }
        self.control.servers.iter().for_each(|server| server.tell(Command::Start));
    }

    /// Takes no connections for now: who connects waits where the kernel keeps them. Those that there are go
    /// on, and so does [`StreamServers::serve_forever`]. [`StreamServers::start`] goes on with it. (Each hub
    /// does so when it comes to it.)
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn stop_accepting(&self) {
        self.control.tell(Command::Pause);
    }

    /// Starts, and waits until it is stopped, by another or by an error.
    ///
    /// # Errors
    ///
    /// As [`StreamServer::serve_forever`], if that happens on one of the hubs. The others go on.
    ///
    /// # Panics
    ///
    /// With what is raised in the current coroutine meanwhile.
    ///
    /// # Switching
    ///
    /// Switches. All others of this thread may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The server goes on.
    pub fn serve_forever(&self) -> io::Result<()> {
        self.start();
        self.control.halted.wait();
        match self.control.failure.lock().take() {
            None => Ok(()),
            Some(error) => Err(error),
        }
    }

    /// Takes the connections that the kernel has accepted already, closes the listeners, and waits for all
    /// connections, for at most `limit` (`None`: for ever). What is left then is killed, and its clean-up
    /// waited for. Whether nothing had to be killed.
    ///
    /// # Panics
    ///
    /// With what is raised in the current coroutine meanwhile. In one of its own handlers, which would wait
    /// for itself; nothing is stopped then.
    ///
    /// # Switching
    ///
    /// Switches, unless it was stopped before. All others of this thread may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// It is stopped all the same.
    #[track_caller]
    pub fn stop(&self, limit: Option<Duration>) -> bool {
        assert!(
            !self.is_in_own_handler(),
            "a handler that stops its own server would wait for itself: have another coroutine do it"
        );
        let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
        self.control.tell(Command::Stop(deadline));
        self.control.over.wait();
        !self.control.has_killed.load(Relaxed)
    }

    fn is_in_own_handler(&self) -> bool {
        self.hubs.current().is_some_and(|hub| {
            let id = coroutine::current().id();
            self.control.servers[hub].handling.lock().contains(&id)
        })
    }

    /// How many connections there are, on all hubs.
    pub fn connections(&self) -> usize {
        (0..self.hubs.len()).map(|hub| self.connections_on(hub)).sum()
    }

    /// How many there are on the hub of this number.
    ///
    /// # Panics
    ///
    /// If there is no such hub.
    pub fn connections_on(&self, hub: usize) -> usize {
        self.control.servers[hub].handling.lock().len()
    }

    /// Where it listens.
    pub fn local_addr(&self) -> &A {
        &self.address
    }

    /// The hubs that it is on.
    pub fn hubs(&self) -> &Hubs {
        &self.hubs
    }
}

impl<A> Drop for StreamServers<A> {
    fn drop(&mut self) {
        self.control.tell(Command::Stop(None));
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

/// One that is being made. Dropped, it ends what there is of it.
struct Opening<A> {
    servers: StreamServers<A>,
    /// What each body has to say of its listener.
    ready: Arc<Queue<io::Result<()>, Shared>>,
}

impl<A> Opening<A> {
    fn new(hubs: &Hubs, address: A, has_acceptor: bool) -> Self {
        let control = Arc::new(Control::new(hubs.len(), has_acceptor));
        let servers = StreamServers { hubs: hubs.clone(), control, address };
        Opening { servers, ready: Arc::new(Queue::shared()) }
    }

    /// Has a body run on a hub. It says first what has become of its listener.
    fn spawn<R>(
        &self,
        hub: usize,
        server: Option<usize>,
        body: impl FnOnce(Duty, &dyn Fn(io::Result<R>) -> Option<R>) + Send + 'static,
    ) -> io::Result<()> {
        let StreamServers { hubs, control, .. } = &self.servers;
        let duty = Duty::new(control, hubs, server);
        let report = Report { ready: Arc::clone(&self.ready), is_made: Cell::new(false) };
        let body = move || {
            let tell = |result: io::Result<R>| {
                let (listener, result) = match result {
                    Ok(listener) => (Some(listener), Ok(())),
                    Err(error) => (None, Err(error)),
                };
                report.make(result);
                listener
            };
            body(duty, &tell);
        };
        match hubs.try_spawn_on(hub, body) {
            Ok(_) => Ok(()),
            Err(closed) => Err(io::Error::other(closed.to_string())),
        }
    }

    /// Calls `handler` for each connection on a hub, and counts it.
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

    /// Waits until all have said that they are well.
    fn wait(self) -> io::Result<StreamServers<A>> {
        let control = &self.servers.control;
        for _ in 0..control.servers.len() + usize::from(control.acceptor.is_some()) {
            self.ready.get().expect("nobody shuts it down")?;
        }
        Ok(self.servers)
    }
}

/// What a body has to say of its listener. It says so once, also if it is dropped before it begins.
struct Report {
    ready: Arc<Queue<io::Result<()>, Shared>>,
    is_made: Cell<bool>,
}

impl Report {
    fn make(&self, result: io::Result<()>) {
        if !self.is_made.replace(true) {
            // Nobody shuts it down.
            let _ = self.ready.put(result);
        }
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        self.make(Err(io::Error::other(
            "a hub does not serve: it has no memory, or was shut down",
        )));
    }
}

#[track_caller]
fn room_for(connections: usize) -> Option<usize> {
    assert!(connections > 0, "a server for none at a time: let there be at least 1");
    Some(connections)
}
