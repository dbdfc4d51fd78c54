//! A process that forks others, for a program that can no longer be forked.
//!
//! ```text
//!   program                              server: never has threads
//!   ForkServer::start ── fork ─────────► waits for requests
//!   ... threads start ...
//!   spawn(f, a) ── a socket ───────────► fork ──────────► process: calls f(a)
//!        ◄── process id ───────────────    │
//!   join ◄── exit status ──────────────── wait
//! ```
//!
//! Each process has its own socket, which carries the request to the server and the outcome back. So
//! processes share no state in the server.
//!
//! # Safety
//!
//! Contains `unsafe`, since it calls functions that a request names. Requests come only from the process
//! that started the server and its descendants by fork, which is the *same image* contract of
//! [`Function::call`].

use super::exit_code::IntoExitCode;
use super::exit_wait::{ChildHandle, Reaper, spawn_reaper};
use super::fork::{Builder, ForkError, Process};
use super::function::{Function, Undecodable, decode, encode};
use super::manager::{self, Key};
use super::pool::work;
use super::remote_child::RemoteChild;
use super::wire::Wire;
use crate::coroutine::{self, spawn};
use crate::io::{Descriptor, Pauses};
use crate::net::UnixStream;
use crate::pool::Group;
use crate::signal::{self, Signal};
use crate::sys::exit::at_exit;
use crate::sys::fd_passing::{self, Received};
use crate::sys::fork::{Fork, Generation, Side, around_fork};
use crate::sys::lock::Lock;
use crate::sys::process::Forked;
use crate::sys::signal::Installed;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net;
use std::rc::{Rc, Weak};
use std::sync::Arc;

/// A process that forks others on request.
///
/// It avoids [`ForkError::Threads`] in a program that needs processes when it already has threads.
///
/// Start it early, in `main`. It stays as it was at that moment: the processes that it makes have that
/// memory, those descriptors, and no threads.
///
/// The processes run functions of the program. The argument is sent by `serde`. Closures with captures are
/// not possible, since the captures are in memory that the server does not have.
///
/// The server can be used from all threads; cloning makes another handle. It ends when the last handle is
/// dropped and the processes that it made have ended, and at the latest with this process, which waits for
/// all of them but daemons.
///
/// # Examples
///
/// ```
/// use switchgrass::process::ForkServer;
///
/// let server = ForkServer::start()?;
/// let thread = std::thread::spawn(move || {
/// // Here `Process::spawn` would return an error.
///     let child = server.spawn(|(a, b): (i32, i32)| a + b, &(3, 4))?;
///     child.join()
/// });
/// assert_eq!(thread.join().unwrap()?.code(), Some(7));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct ForkServer {
    handle: Arc<Handle>,
}

/// The state that all handles of a server share. Dropped with the last handle.
struct Handle(Arc<Started>);

/// A server that was started and has not ended.
struct Started {
    control: net::UnixStream,
    /// The process id of the server.
    id: u32,
    /// The process that started the server. A copy in a child ends nothing.
    made_in: Generation,
}

/// The messages on the control socket.
const MAKE: u8 = b'M';
const NO_MORE: u8 = b'N';
const EXIT: u8 = b'X';

#[derive(Serialize, Deserialize)]
struct Request {
    action: Action,
    name: Option<String>,
    is_daemon: bool,
}

#[derive(Serialize, Deserialize)]
enum Action {
    Call(Function, ByteBuf),
    /// Become a worker of a pool, which sends jobs over a second socket and shares a log.
    Work,
    /// Become a manager with this key, which listens at a second socket.
    Manage(Key),
}

/// The servers to notify when this process ends.
static STARTED: Lock<Vec<Arc<Started>>> = Lock::new(Vec::new());

/// Holds the list around a fork, so that no thread is in the middle of a change.
fn hold_started(fork: Fork<'_>) -> io::Result<Side> {
    let _started = STARTED.lock();
    fork()
}

/// The exit handler, which runs before children are waited for.
fn end_servers() {
    let all = std::mem::take(&mut *STARTED.lock());
    for server in all.iter().filter(|server| server.made_in == Generation::current()) {
        // The server also ends at the end of the socket.
        let _ = fd_passing::send(server.control.as_fd(), EXIT, &[]);
        let _ = server.control.shutdown(Shutdown::Both);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let Handle(server) = self;
        if server.made_in == Generation::current() {
            let _ = fd_passing::send(server.control.as_fd(), NO_MORE, &[]);
            let server = ChildHandle::new(Reaper::Forked(Forked::new(server.id, false)));
            spawn_reaper(&Rc::new(server), "the end of a fork server", |server| {
                if server.has_ended().is_ok_and(|has_ended| has_ended) {
                    STARTED.lock().retain(|started| started.id != server.id);
                }
            });
        }
    }
}

impl ForkServer {
    /// Starts a server.
    ///
    /// # Errors
    ///
    /// Those of [`Process::spawn`]. So start the server before the first thread.
    ///
    /// # Panics
    ///
    /// Those of [`Process::spawn`].
    ///
    /// # Switching
    ///
    /// Never switches.
    #[track_caller]
    pub fn start() -> Result<Self, ForkError> {
        let (here, there) = net::UnixStream::pair().map_err(ForkError::Os)?;
        let builder = Builder { ends_with_parent: true, ..Builder::new().name("fork server") };
        let id = builder.fork(|| serve(there))?;
        // Registers the wait for the server first. Exit handlers run in reverse order, so that the server is
        // notified before it is waited for.
        let _ = Forked::new(id, true);
        around_fork(hold_started);
        at_exit(end_servers);
        let server = Arc::new(Started { control: here, id, made_in: Generation::current() });
        STARTED.lock().push(Arc::clone(&server));
        Ok(ForkServer { handle: Arc::new(Handle(server)) })
    }

    /// Makes a process that calls `function` with `argument`, and ends with its result.
    ///
    /// See also [`Process::spawn`].
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the argument cannot be encoded, or if `function` is not part of the program but of
    /// a library loaded at run time. If the server has ended. If the kernel makes no process.
    ///
    /// # Panics
    ///
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits.
    ///
    /// # Switching
    ///
    /// May switch: other coroutines run until the server has made the process.
    ///
    /// # Cancellation
    ///
    /// The process may have been made, and then continues.
    pub fn spawn<A: Serialize + DeserializeOwned, T: IntoExitCode>(
        &self,
        function: fn(A) -> T,
        argument: &A,
    ) -> io::Result<Process> {
        self.spawn_as(Builder::new(), function, argument)
    }

    /// Like [`ForkServer::spawn`], but with the settings of `builder`.
    ///
    /// These are a name, and whether the process is a daemon.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchgrass::process::{Builder, ForkServer};
    ///
    /// let server = ForkServer::start()?;
    /// let builder = Builder::new().name("adder").daemon(true);
    /// let child = server.spawn_as(builder, |n: i32| n + 1, &1)?;
    /// assert_eq!((child.name(), child.join()?.code()), (Some("adder"), Some(2)));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`ForkServer::spawn`].
    ///
    /// # Panics
    ///
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits.
    ///
    /// # Switching
    ///
    /// May switch: other coroutines run until the server has made the process.
    ///
    /// # Cancellation
    ///
    /// The process may have been made, and then continues.
    pub fn spawn_as<A: Serialize + DeserializeOwned, T: IntoExitCode>(
        &self,
        builder: Builder,
        function: fn(A) -> T,
        argument: &A,
    ) -> io::Result<Process> {
        let function = Function::with_code(function)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error.to_string()))?;
        let argument = encode(argument)
            .map_err(|Undecodable(message)| io::Error::new(io::ErrorKind::InvalidInput, message))?;
        self.request(builder, Action::Call(function, argument.into()), vec![])
    }

    /// Makes a pool worker that receives jobs over `jobs`.
    pub(super) fn spawn_worker(&self, jobs: net::UnixStream, log: OwnedFd) -> io::Result<Process> {
        let builder = Builder::new().name("pool worker").daemon(true);
        self.request(builder, Action::Work, vec![jobs.into(), log])
    }

    /// Makes a manager that answers clients which connect to `listener` and know `key`.
    pub(super) fn spawn_manager(
        &self,
        listener: net::UnixListener,
        key: Key,
    ) -> io::Result<Process> {
        let builder = Builder::new().name("manager").daemon(true);
        self.request(builder, Action::Manage(key), vec![listener.into()])
    }

    fn request(
        &self,
        builder: Builder,
        action: Action,
        extra: Vec<OwnedFd>,
    ) -> io::Result<Process> {
        let (here, there) = net::UnixStream::pair()?;
        let mut all = vec![OwnedFd::from(there)];
        all.extend(extra);
        self.hand_over(&all.iter().map(AsFd::as_fd).collect::<Vec<_>>())?;
        drop(all);
        let mut wire = Wire::new(UnixStream::from_std(here)?);
        let (name, is_daemon) = (builder.name.clone(), builder.is_daemon);
        let request = Request { action, name: name.map(|name| name.into_owned()), is_daemon };
        let sent = wire.send(&request);
        // If the server refuses the request, its answer may arrive before all of the request has been
        // sent.
        let answer: Option<Result<u32, String>> = match wire.receive() {
            Ok(None) | Err(_) if sent.is_err() => return Err(sent.map_err(has_ended).unwrap_err()),
            answer => answer.map_err(has_ended)?,
        };
        let id = answer.ok_or_else(|| has_ended(io::ErrorKind::UnexpectedEof.into()))?;
        let remote = RemoteChild::new(id.map_err(io::Error::other)?, wire).map_err(has_ended)?;
        Ok(Process::new(ChildHandle::new(Reaper::Remote(remote)), builder.name))
    }

    /// Sends the server its ends of the sockets, and further descriptors.
    fn hand_over(&self, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut pauses = Pauses::until(None);
        loop {
            match fd_passing::send(self.handle.0.control.as_fd(), MAKE, descriptors) {
                // There is room again when the server has received what is in flight.
                Err(error)
                    if error.kind() == io::ErrorKind::WouldBlock
                        || error.raw_os_error() == Some(libc::ETOOMANYREFS) =>
                {
                    pauses.pause("ForkServer::spawn")?;
                }
                Err(error) => return Err(has_ended(error)),
                Ok(()) => return Ok(()),
            }
        }
    }
}

/// Adds to an error of a closed connection that the server has ended.
///
/// The server closes a connection by itself only if it has no descriptors left and cannot even send a
/// refusal.
fn has_ended(error: io::Error) -> io::Error {
    match error.kind() {
        kind @ (io::ErrorKind::BrokenPipe
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::NotConnected
        | io::ErrorKind::UnexpectedEof) => io::Error::new(
            kind,
            format!("the fork server has ended, or has no descriptors left: {error}"),
        ),
        _ => error,
    }
}

impl fmt::Debug for ForkServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForkServer").finish_non_exhaustive()
    }
}

/// The state of the server process.
struct ServerState {
    control: Descriptor<OwnedFd>,
    requests: RefCell<Vec<Weak<ChildSockets>>>,
    daemons: RefCell<Vec<Weak<Process>>>,
}

/// The sockets of a requested process.
///
/// Other processes made in the meantime must close them.
struct ChildSockets {
    stream: Rc<UnixStream>,
    /// The further descriptors of a worker or a manager.
    extra: Cell<Vec<OwnedFd>>,
}

impl ChildSockets {
    /// `None` if these are not the descriptors of a request.
    fn new(descriptors: Vec<OwnedFd>) -> Option<Rc<Self>> {
        let mut descriptors = descriptors.into_iter();
        let stream = Rc::new(UnixStream::try_from(descriptors.next()?).ok()?);
        Some(Rc::new(ChildSockets { stream, extra: Cell::new(descriptors.collect()) }))
    }
}

/// The main function of the server.
fn serve(control: net::UnixStream) -> io::Result<()> {
    // Ctrl-C is meant for the processes that the server makes. They receive it, too, with its previous
    // action: functions registered with this library are not inherited.
    let _handler = signal::on(Signal::INT, || ())?;
    // If the program ignores `SIGCHLD`, its children still do, but in the server the kernel must keep
    // each status.
    let _statuses = Installed::new(libc::SIGCHLD)?;
    let control = Descriptor::new(OwnedFd::from(control))?;
    let state =
        Rc::new(ServerState { control, requests: RefCell::default(), daemons: RefCell::default() });
    let group = Rc::new(Group::new());
    loop {
        // An error or the end of the socket means that the program has ended.
        let received = state.control.read_with(|control| fd_passing::receive(control.as_fd()));
        match received.ok().flatten() {
            Some(Received { byte: MAKE, descriptors, is_whole }) => {
                let Some(sockets) = ChildSockets::new(descriptors) else { continue };
                if !is_whole {
                    refuse(&sockets, "no descriptors");
                    continue;
                }
                remember(&state.requests, &sockets);
                // An error concerns this request only: its client finds the socket closed.
                let making = coroutine::Builder::new().spawn({
                    let (sockets, state) = (Rc::clone(&sockets), Rc::clone(&state));
                    move || make(&sockets, &state)
                });
                match making {
                    Ok(making) => group.add(&making),
                    Err(_) => refuse(&sockets, "no memory"),
                }
            }
            Some(Received { byte: NO_MORE, .. }) => {
                let (state, group) = (Rc::clone(&state), Rc::clone(&group));
                spawn(move || {
                    group.join();
                    state.control.close();
                });
            }
            _ => break,
        }
    }
    // A client that has not sent its request yet may never do so: when the program ends, its coroutines
    // are not resumed.
    for sockets in state.requests.take().iter().filter_map(Weak::upgrade) {
        sockets.stream.close();
    }
    for daemon in state.daemons.take().iter().filter_map(Weak::upgrade) {
        daemon.kill()?;
    }
    group.join();
    Ok(())
}

/// Reports that no process can be made, since some resource is missing.
///
/// (If descriptors of the request were lost in transit, the first, which carries this answer, may have
/// arrived.)
fn refuse(sockets: &Rc<ChildSockets>, missing: &str) {
    let mut wire = Wire::new(Rc::clone(&sockets.stream));
    // The few bytes fit into the socket's buffer. If not, the client sees the end of the connection.
    let _ = wire.send(&Err::<u32, _>(format!("the fork server has {missing} left")));
}

/// Makes a process, and reports its id and its exit status.
fn make(sockets: &Rc<ChildSockets>, state: &ServerState) -> io::Result<()> {
    let mut wire = Wire::new(Rc::clone(&sockets.stream));
    let Some(request) = wire.receive::<Request>()? else { return Ok(()) };
    let builder = Builder { name: request.name.map(Into::into), ..Builder::new() };
    let child = builder.daemon(request.is_daemon).spawn(|| {
        let extra = sockets.extra.take();
        state.control.close();
        for other in state.requests.take().iter().filter_map(Weak::upgrade) {
            other.stream.close();
            drop(other.extra.take());
        }
        let (function, argument) = match request.action {
            Action::Call(function, argument) => (function, argument),
            Action::Work => {
                let extra = <[OwnedFd; 2]>::try_from(extra);
                let [jobs, log] = extra.map_err(|_| io::ErrorKind::InvalidInput)?;
                return work(Wire::new(UnixStream::try_from(jobs)?), log).map(|()| 0);
            }
            Action::Manage(key) => {
                let listener = extra.into_iter().next().ok_or(io::ErrorKind::InvalidInput)?;
                return manager::serve(listener.into(), key).map(|()| 0);
            }
        };
        // SAFETY: *same image*: the request came over one end of a socket pair, whose other end has never
        // left the process that started this server, or its children.
        let code = unsafe { function.call(&argument) };
        let code = code.and_then(|code| decode::<i32>(&code));
        code.map_err(|Undecodable(message)| io::Error::other(message))
    });
    drop(sockets.extra.take());
    let child = match child {
        Ok(child) => Rc::new(child),
        Err(error) => return wire.send(&Err::<u32, _>(error.to_string())),
    };
    if request.is_daemon {
        remember(&state.daemons, &child);
    }
    let announced = RemoteChild::send_id(&mut wire, child.id());
    let signals = coroutine::Builder::new().spawn({
        let child = Rc::clone(&child);
        move || {
            while let Some(signal) = RemoteChild::next_signal(&mut wire) {
                // An invalid or forbidden signal cannot be reported to the client any more.
                let _ = child.send_signal(signal);
            }
        }
    });
    let status = child.join().ok();
    // If no coroutine could be created, signals are not forwarded, and a client without a pidfd cannot
    // send any.
    signals.iter().for_each(|signals| signals.kill());
    announced?;
    RemoteChild::send_status(&sockets.stream, status)
}

fn remember<T>(all: &RefCell<Vec<Weak<T>>>, one: &Rc<T>) {
    let mut all = all.borrow_mut();
    all.retain(|known| known.strong_count() > 0);
    all.push(Rc::downgrade(one));
}
