//! A process that makes others, on behalf of one that cannot be forked any more.
//!
//! ```text
//!   program                              server: has no threads, and never gets any
//!   ForkServer::start ── fork ─────────► waits for requests
//!   ... threads begin ...
//!   spawn(f, a) ── a socket ───────────► fork ──────────► process: calls f(a)
//!        ◄── its number ───────────────    │
//!   join ◄── how it has ended ─────────── wait
//! ```
//!
//! Each process has a socket of its own, over which the request goes and what becomes of it comes back. So
//! the server keeps nothing that two of them share.
//!
//! One of the few places of the module with `unsafe`: it calls functions that it is told of.

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

/// A process that makes others when it is asked to: the way round [`ForkError::Threads`] for a program that
/// needs processes later. It is to be started early, in `main`, and is then as it was at that moment: what it
/// makes has that memory, those descriptors, and no threads.
///
/// What it runs are functions of the program with an argument that goes there by `serde`: a closure that
/// captures something lies in memory that the server does not have.
///
/// It can be used from all threads, and a further handle is a clone. It ends when the last is dropped and the
/// processes that it has made have ended; at the latest with this process, which waits for those that are no
/// daemons.
///
/// # Examples
///
/// ```
/// use switchgrass::process::ForkServer;
///
/// let server = ForkServer::start()?;
/// let thread = std::thread::spawn(move || {
///     // Here Process::spawn would be refused.
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

/// What all handles of a server share.
struct Handle(Arc<Started>);

/// A server that was started, and has not ended.
struct Started {
    control: net::UnixStream,
    /// The number of the process.
    id: u32,
    /// The process that has started it. A copy in a child ends nothing.
    made_in: Generation,
}

/// What goes over the socket beside those of the processes.
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
    /// To be a worker of a pool, which gives it jobs over a second socket, and shares a log with it.
    Work,
    /// To be a manager that knows this key, and listens at a second socket.
    Manage(Key),
}

/// Those that are to be told when this process ends.
static STARTED: Lock<Vec<Arc<Started>>> = Lock::new(Vec::new());

/// Around a fork: no thread is in the middle of a change.
fn hold_started(fork: Fork<'_>) -> io::Result<Side> {
    let _started = STARTED.lock();
    fork()
}

/// At the end of the process, before its children are waited for.
fn end_servers() {
    let all = std::mem::take(&mut *STARTED.lock());
    for server in all.iter().filter(|server| server.made_in == Generation::current()) {
        // It ends by the end of the socket, too.
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
    /// Starts one.
    ///
    /// # Errors
    ///
    /// As [`Process::spawn`]: so before the first thread.
    ///
    /// # Panics
    ///
    /// As [`Process::spawn`].
    ///
    /// # Switching
    ///
    /// Never switches.
    #[track_caller]
    pub fn start() -> Result<Self, ForkError> {
        let (here, there) = net::UnixStream::pair().map_err(ForkError::Os)?;
        let builder = Builder { ends_with_parent: true, ..Builder::new().name("fork server") };
        let id = builder.fork(|| serve(there))?;
        // At the end of the process it is told before it is waited for: what was said last comes first.
        let _ = Forked::new(id, true);
        around_fork(hold_started);
        at_exit(end_servers);
        let server = Arc::new(Started { control: here, id, made_in: Generation::current() });
        STARTED.lock().push(Arc::clone(&server));
        Ok(ForkServer { handle: Arc::new(Handle(server)) })
    }

    /// Has a process made that calls `function` with `argument`, and ends with what it returns. Otherwise as
    /// [`Process::spawn`].
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the argument cannot be encoded, or `function` is not part of the program but of a
    /// library that was loaded at run time. If the server has ended. If the kernel makes no process.
    ///
    /// # Panics
    ///
    /// With what is raised in the current coroutine meanwhile.
    ///
    /// # Switching
    ///
    /// Switches until the process has been made. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The process may have been made, and goes on.
    pub fn spawn<A: Serialize + DeserializeOwned, T: IntoExitCode>(
        &self,
        function: fn(A) -> T,
        argument: &A,
    ) -> io::Result<Process> {
        self.spawn_as(Builder::new(), function, argument)
    }

    /// As [`ForkServer::spawn`], with a name or as a daemon.
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
    /// As [`ForkServer::spawn`].
    ///
    /// # Panics
    ///
    /// As [`ForkServer::spawn`].
    ///
    /// # Switching
    ///
    /// As [`ForkServer::spawn`].
    ///
    /// # Cancellation
    ///
    /// As [`ForkServer::spawn`].
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

    /// Has a worker of a pool made, which is given jobs over `jobs`.
    pub(super) fn spawn_worker(&self, jobs: net::UnixStream, log: OwnedFd) -> io::Result<Process> {
        let builder = Builder::new().name("pool worker").daemon(true);
        self.request(builder, Action::Work, vec![jobs.into(), log])
    }

    /// Has a manager made, which answers those who connect to `listener` and know `key`.
    pub(super) fn spawn_manager(
        &self,
        listener: net::UnixListener,
        key: Key,
    ) -> io::Result<Process> {
        let builder = Builder::new().name("manager").daemon(true);
        self.request(builder, Action::Manage(key), vec![listener.into()])
    }

    fn request(&self, builder: Builder, action: Action, more: Vec<OwnedFd>) -> io::Result<Process> {
        let (here, there) = net::UnixStream::pair()?;
        let mut all = vec![OwnedFd::from(there)];
        all.extend(more);
        self.hand_over(&all.iter().map(AsFd::as_fd).collect::<Vec<_>>())?;
        drop(all);
        let mut wire = Wire::new(UnixStream::from_std(here)?);
        let (name, is_daemon) = (builder.name.clone(), builder.is_daemon);
        let request = Request { action, name: name.map(|name| name.into_owned()), is_daemon };
        let sent = wire.send(&request);
        // If it was refused, there may be an answer before all of the request has been sent.
        let answer: Option<Result<u32, String>> = match wire.receive() {
            Ok(None) | Err(_) if sent.is_err() => return Err(sent.map_err(has_ended).unwrap_err()),
            answer => answer.map_err(has_ended)?,
        };
        let id = answer.ok_or_else(|| has_ended(io::ErrorKind::UnexpectedEof.into()))?;
        let remote = RemoteChild::new(id.map_err(io::Error::other)?, wire).map_err(has_ended)?;
        Ok(Process::new(ChildHandle::new(Reaper::Remote(remote)), builder.name))
    }

    /// Gives the server the other ends of sockets, and what goes with them.
    fn hand_over(&self, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut pauses = Pauses::until(None);
        loop {
            match fd_passing::send(self.handle.0.control.as_fd(), MAKE, descriptors) {
                // There is room again when the server has taken what is under way to it.
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

/// Says so if it is an error of a connection whose other end is closed. The server closes one by itself only
/// if it has no descriptors left, not even for a word about it.
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

/// What the server keeps.
struct ServerState {
    control: Descriptor<OwnedFd>,
    asked: RefCell<Vec<Weak<ChildSockets>>>,
    daemons: RefCell<Vec<Weak<Process>>>,
}

/// The sockets of a process that is to be made, or was. They are not for others that are made meanwhile.
struct ChildSockets {
    stream: Rc<UnixStream>,
    /// A worker's, or a manager's.
    more: Cell<Vec<OwnedFd>>,
}

impl ChildSockets {
    /// `None` if they are not what is sent along.
    fn new(descriptors: Vec<OwnedFd>) -> Option<Rc<Self>> {
        let mut descriptors = descriptors.into_iter();
        let stream = Rc::new(UnixStream::try_from(descriptors.next()?).ok()?);
        Some(Rc::new(ChildSockets { stream, more: Cell::new(descriptors.collect()) }))
    }
}

/// What the server does.
fn serve(control: net::UnixStream) -> io::Result<()> {
    // Ctrl-C is for the processes that it makes, which get it, too, and as they were: handlers of this
    // library's are not inherited.
    let _handler = signal::on(Signal::INT, || ())?;
    // If the program ignores `SIGCHLD`, its children still do, but here the kernel is to keep each status.
    let _statuses = Installed::new(libc::SIGCHLD)?;
    let control = Descriptor::new(OwnedFd::from(control))?;
    let made =
        Rc::new(ServerState { control, asked: RefCell::default(), daemons: RefCell::default() });
    let group = Rc::new(Group::new());
    loop {
        // An error, or the end, is that of the program.
        let said = made.control.read_with(|control| fd_passing::receive(control.as_fd()));
        match said.ok().flatten() {
            Some(Received { byte: MAKE, descriptors, is_whole }) => {
                let Some(asked) = ChildSockets::new(descriptors) else { continue };
                if !is_whole {
                    refuse(&asked, "no descriptors");
                    continue;
                }
                remember(&made.asked, &asked);
                // An error is of this one alone: whoever has asked finds that the socket is closed.
                let making = coroutine::Builder::new().spawn({
                    let (asked, made) = (Rc::clone(&asked), Rc::clone(&made));
                    move || make(&asked, &made)
                });
                match making {
                    Ok(making) => group.add(&making),
                    Err(_) => refuse(&asked, "no memory"),
                }
            }
            Some(Received { byte: NO_MORE, .. }) => {
                let (made, group) = (Rc::clone(&made), Rc::clone(&group));
                spawn(move || {
                    group.join();
                    made.control.close();
                });
            }
            _ => break,
        }
    }
    // Whoever has not said yet what is to be made may never do so: at its end the program's coroutines stay
    // as they are.
    for asked in made.asked.take().iter().filter_map(Weak::upgrade) {
        asked.stream.close();
    }
    for daemon in made.daemons.take().iter().filter_map(Weak::upgrade) {
        daemon.kill()?;
    }
    group.join();
    Ok(())
}

/// Says that no process is made, for want of something. (If the descriptors for it got lost on their way,
/// the first, over which this goes, may have come.)
fn refuse(asked: &Rc<ChildSockets>, lack: &str) {
    let mut wire = Wire::new(Rc::clone(&asked.stream));
    // Few bytes, for which there is room. If not, the end of the connection says enough.
    let _ = wire.send(&Err::<u32, _>(format!("the fork server has {lack} left")));
}

/// Makes a process, and tells what becomes of it.
fn make(asked: &Rc<ChildSockets>, made: &ServerState) -> io::Result<()> {
    let mut wire = Wire::new(Rc::clone(&asked.stream));
    let Some(request) = wire.receive::<Request>()? else { return Ok(()) };
    let builder = Builder { name: request.name.map(Into::into), ..Builder::new() };
    let child = builder.daemon(request.is_daemon).spawn(|| {
        let more = asked.more.take();
        made.control.close();
        for other in made.asked.take().iter().filter_map(Weak::upgrade) {
            other.stream.close();
            drop(other.more.take());
        }
        let (function, argument) = match request.action {
            Action::Call(function, argument) => (function, argument),
            Action::Work => {
                let more = <[OwnedFd; 2]>::try_from(more);
                let [jobs, log] = more.map_err(|_| io::ErrorKind::InvalidInput)?;
                return work(Wire::new(UnixStream::try_from(jobs)?), log).map(|()| 0);
            }
            Action::Manage(key) => {
                let listener = more.into_iter().next().ok_or(io::ErrorKind::InvalidInput)?;
                return manager::serve(listener.into(), key).map(|()| 0);
            }
        };
        // SAFETY: the socket that it came by is one of a pair, whose other end has never left the process
        // that has started this server, or a child of that.
        let code = unsafe { function.call(&argument) };
        let code = code.and_then(|code| decode::<i32>(&code));
        code.map_err(|Undecodable(message)| io::Error::other(message))
    });
    drop(asked.more.take());
    let child = match child {
        Ok(child) => Rc::new(child),
        Err(error) => return wire.send(&Err::<u32, _>(error.to_string())),
    };
    if request.is_daemon {
        remember(&made.daemons, &child);
    }
    let is_asked_for = RemoteChild::send_id(&mut wire, child.id());
    let signals = coroutine::Builder::new().spawn({
        let child = Rc::clone(&child);
        move || {
            while let Some(signal) = RemoteChild::next_signal(&mut wire) {
                // Of no such signal, or one that may not be sent, nobody can be told any more.
                let _ = child.send_signal(signal);
            }
        }
    });
    let status = child.join().ok();
    // Without memory for it, nobody passes signals on, and whoever has no descriptor cannot send any.
    signals.iter().for_each(|signals| signals.kill());
    is_asked_for?;
    RemoteChild::send_status(&asked.stream, status)
}

fn remember<T>(all: &RefCell<Vec<Weak<T>>>, one: &Rc<T>) {
    let mut all = all.borrow_mut();
    all.retain(|known| known.strong_count() > 0);
    all.push(Rc::downgrade(one));
}
