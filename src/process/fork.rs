#![forbid(unsafe_code)]
//! Processes that are forks of this one and run a closure.

#[cfg(feature = "process")]
use super::close_on_fork::close_registered;
use super::exit_code::IntoExitCode;
use super::exit_wait::{ChildHandle, Reaper, spawn_reaper};
use crate::greenlet::{self, GreenletExit};
use crate::hub;
use crate::sys::fork::{self, Side, end_with_parent, exit_child, other_threads};
use crate::sys::process::Forked;
use crate::sys::stderr;
use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{self, ExitStatus};
use std::rc::Rc;
use std::time::Duration;

/// A process made by `fork(2)` that runs a closure.
///
/// In the child, only the coroutine continues that called [`Process::spawn`] (or main), and it runs nothing
/// but the closure. The child has a new hub: no other coroutine runs there, no timer fires, signals are
/// handled only by functions that the child registers, and a [`ThreadPool`](crate::pool::ThreadPool) starts
/// again, without jobs. Memory is a copy; to share data, use a `SharedArray`, a socket, a pipe, or a file
/// (see the [module](super)).
///
/// When the handle is dropped, the process continues. At its end, this process waits for all children that
/// are not *daemons*.
///
/// # Examples
///
/// ```
/// use switchgrass::process::Process;
///
/// let child = Process::spawn(|| {
///     println!("a copy of my own");
///     3
/// })?;
/// assert_eq!(child.join()?.code(), Some(3));
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// The parent drops what the closure captures, so that a connection is open only in the child:
///
/// ```
/// use std::io::{Read, Write};
/// use switchgrass::net::{TcpListener, TcpStream};
/// use switchgrass::process::Process;
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let mut client = TcpStream::connect(listener.local_addr()?)?;
/// let (mut stream, _) = listener.accept()?;
/// let child = Process::spawn(move || {
///     listener.close();
///     stream.write_all(b"hello").unwrap();
/// })?;
/// let mut text = String::new();
/// client.read_to_string(&mut text)?; // to the end, which comes when the child's copy is closed
/// assert_eq!(text, "hello");
/// assert!(child.join()?.success());
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Process {
    handle: Rc<ChildHandle>,
    name: Option<Cow<'static, str>>,
}

/// Configures a process before it is spawned.
///
/// # Examples
///
/// ```
/// use switchgrass::process::Builder;
///
/// let child = Builder::new().name("worker").daemon(true).spawn(|| ())?;
/// assert_eq!(child.name(), Some("worker"));
/// assert!(child.join()?.success());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Default)]
#[must_use = "a builder does nothing until it spawns"]
pub struct Builder {
    pub(super) name: Option<Cow<'static, str>>,
    pub(super) is_daemon: bool,
    /// Whether the process is killed when the thread that made it ends.
    pub(super) ends_with_parent: bool,
}

/// The error of making a process.
#[derive(Debug)]
#[non_exhaustive]
pub enum ForkError {
    /// There are other threads, with these names. A thread may hold a lock, of an allocator, a logger or a
    /// library, that would never be unlocked in the child.
    ///
    /// A thread of a [`ThreadPool`](crate::pool::ThreadPool) counts only while it runs a job, or a call of
    /// [`unblock`](crate::pool::unblock) or [`fs`](crate::fs); its name then says so.
    Threads(Vec<String>),
    /// The kernel made no process, or no descriptors were left: a child needs some of its own. Or buffered
    /// output could not be flushed to standard output first, and the child would have written it, too.
    Os(io::Error),
}

impl fmt::Display for ForkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ForkError::Threads(names) => {
                write!(
                    f,
                    "there are other threads ({}), and a lock that one of them holds would stay locked in \
                     the child: fork before they begin, or start a ForkServer before they do",
                    names.join(", "),
                )
            }
            ForkError::Os(error) => write!(f, "cannot make a process: {error}"),
        }
    }
}

impl std::error::Error for ForkError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ForkError::Threads(_) => None,
            ForkError::Os(error) => Some(error),
        }
    }
}

impl From<ForkError> for io::Error {
    fn from(error: ForkError) -> Self {
        match error {
            ForkError::Threads(_) => io::Error::other(error),
            ForkError::Os(error) => error,
        }
    }
}

impl Builder {
    /// A builder for processes like those of [`Process::spawn`].
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a name, for messages. The kernel's process lists show its first 15 bytes.
    pub fn name(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets whether the child is killed when the thread that made it ends.
    ///
    /// The thread may end for any reason, and ends at the latest with the parent process. The signal is
    /// `SIGKILL`.
    ///
    /// By default the child is not killed, and this process waits for it at its own end.
    ///
    /// This is done by the kernel (`PR_SET_PDEATHSIG`). The kernel drops the setting when the child changes
    /// its user, group or capabilities, or executes a program that does (set-user-ID). Such a child
    /// outlives its parent, unless it detects the parent's end itself, for example by the end of a pipe of
    /// which only the parent has the other side.
    pub fn daemon(mut self, is_daemon: bool) -> Self {
        self.is_daemon = is_daemon;
        self
    }

    /// Makes a process that runs `body`: see [`Process::spawn`].
    ///
    /// # Errors
    ///
    /// Those of [`Process::spawn`].
    ///
    /// # Panics
    ///
    /// Those of [`Process::spawn`].
    ///
    /// # Switching
    ///
    /// Never switches.
    #[track_caller]
    pub fn spawn<T: IntoExitCode>(self, body: impl FnOnce() -> T) -> Result<Process, ForkError> {
        let (name, is_daemon) = (self.name.clone(), self.is_daemon);
        let id = self.fork(body)?;
        Ok(Process::new(ChildHandle::new(Reaper::Forked(Forked::new(id, !is_daemon))), name))
    }

    /// Makes the process. Returns its id, in the parent only.
    #[track_caller]
    pub(super) fn fork<T: IntoExitCode>(self, body: impl FnOnce() -> T) -> Result<u32, ForkError> {
        let parent = process::id();
        loop {
            let others = other_threads().map_err(ForkError::Os)?;
            if !others.is_empty() {
                return Err(ForkError::Threads(others));
            }
            match hub::fork() {
                Ok(Side::Child) => {
                    let _exit = ExitOnDrop;
                    self.run(parent, body)
                }
                Ok(Side::Parent(id)) => return Ok(id),
                // A pool thread has begun a job since the check.
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {}
                Err(error) => return Err(ForkError::Os(error)),
            }
        }
    }

    /// Runs the body in the child, and ends the process.
    fn run<T: IntoExitCode>(self, parent: u32, body: impl FnOnce() -> T) -> ! {
        if let Some(name) = &self.name {
            fork::set_name(name);
        }
        if (self.is_daemon || self.ends_with_parent) && !end_with_parent(parent) {
            exit_child(1);
        }
        #[cfg(feature = "process")]
        close_registered();
        let code = match catch_unwind(AssertUnwindSafe(|| body().into_exit_code())) {
            Ok(code) => code,
            Err(payload) => {
                report_kill(&*payload);
                1
            }
        };
        // Unwinds the remaining coroutines, as at the end of a thread.
        let _ = catch_unwind(greenlet::unwind_all);
        exit_child(code)
    }
}

/// Reports on standard error that a child's body was killed.
///
/// That happens if it kills itself, or if main, to which it had switched explicitly, returns.
///
/// No panic hook reports that.
fn report_kill(payload: &(dyn Any + Send)) {
    if payload.is::<GreenletExit>() {
        stderr::write(&[
            "switchgrass: the body of a child process was killed: it ends with status 1\n",
        ]);
    }
}

/// Ends the child instead of unwinding into frames that belong to the parent.
///
/// An example is a panic in the destructor of a panic's payload.
struct ExitOnDrop;

impl Drop for ExitOnDrop {
    fn drop(&mut self) {
        exit_child(1);
    }
}

impl Process {
    pub(super) fn new(handle: ChildHandle, name: Option<Cow<'static, str>>) -> Self {
        Process { handle: Rc::new(handle), name }
    }

    /// Waits until the process has ended, even if its status is lost.
    #[cfg(feature = "process")]
    pub(super) fn wait_end(&self) -> io::Result<()> {
        match self.join() {
            Err(_) if self.handle.has_ended()? => Ok(()),
            other => other.map(drop),
        }
    }

    /// Makes a process that runs `body`, and ends with its result: see [`IntoExitCode`].
    ///
    /// If `body` panics, the exit status is 1.
    ///
    /// In the child, `body` runs on the stack of the current coroutine, and may use everything it borrows.
    /// When it has returned, the coroutines that it left are unwound, its own children are waited for
    /// unless they are daemons, and the process ends. Nothing else that was inherited is dropped, and no
    /// inherited `atexit` handler runs. In the parent, `body` is dropped with its captures.
    ///
    /// Inherited objects keep their state. A lock that another coroutine held remains locked, and a queue
    /// gives its next item to its first waiter, which never runs in the child. So create the objects that
    /// the child uses in the child.
    ///
    /// A greenlet or generator that was suspended by an explicit switch can be resumed in the child, and so
    /// can one that waits for the forking coroutine: if the body switches to it, or yields to it from a
    /// generator, its code continues in the child.
    ///
    /// # Errors
    ///
    /// [`ForkError::Threads`] if this process has other threads than idle ones of this library's pools:
    /// locks that they hold would stay locked in the child. This thread first waits up to 20 ms for threads
    /// that are ending and for jobs of pools. (`cargo test` runs tests on threads of its own, so its tests
    /// cannot fork.) [`ForkError::Os`] if the kernel makes no process, or buffered output cannot be
    /// written.
    ///
    /// # Panics
    ///
    /// In a hub callback. When the thread is ending and has ended its coroutines.
    ///
    /// # Switching
    ///
    /// Never switches.
    #[track_caller]
    pub fn spawn<T: IntoExitCode>(body: impl FnOnce() -> T) -> Result<Process, ForkError> {
        Builder::new().spawn(body)
    }

    /// The process id.
    ///
    /// It may be reused for another process once this one has been waited for.
    pub fn id(&self) -> u32 {
        self.handle.id
    }

    /// The name, if one was set.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Waits until the process has ended.
    ///
    /// Several coroutines may wait for one process; each receives its status.
    ///
    /// A process that was ended by a signal has no exit code, but a
    /// [signal](std::os::unix::process::ExitStatusExt::signal): see also [`Process::exit_code`].
    ///
    /// # Errors
    ///
    /// `ECHILD` if the process has ended and its status is lost: other code has waited for it, by
    /// `waitpid(2)`, or this process ignores `SIGCHLD`, so that the kernel keeps no status. `ECHILD` in a
    /// forked child, for a process of its parent. If the process was made by a `ForkServer` that has ended.
    ///
    /// # Panics
    ///
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits.
    ///
    /// # Switching
    ///
    /// May switch, unless the process has ended: other coroutines run while this one waits.
    ///
    /// # Cancellation
    ///
    /// The process continues, and can be waited for again.
    pub fn join(&self) -> io::Result<ExitStatus> {
        let status = self.handle.wait("Process::join", None)?;
        Ok(status.expect("a wait without a timeout returns a status"))
    }

    /// Like [`Process::join`], but waits for at most `limit`.
    ///
    /// Returns `None` if the process has not ended by then.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use switchgrass::process::Process;
    /// use switchgrass::sleep;
    ///
    /// let child = Process::spawn(|| sleep(Duration::from_secs(60)))?;
    /// assert!(child.join_timeout(Duration::from_millis(5))?.is_none());
    /// child.terminate()?;
    /// child.join()?;
    /// assert_eq!(child.exit_code()?, Some(-15));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`Process::join`].
    ///
    /// # Panics
    ///
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits.
    ///
    /// # Switching
    ///
    /// May switch, unless the process has ended: other coroutines run while this one waits.
    ///
    /// # Cancellation
    ///
    /// The process continues, and can be waited for again.
    pub fn join_timeout(&self, limit: Duration) -> io::Result<Option<ExitStatus>> {
        self.handle.wait("Process::join", Some(limit))
    }

    /// Returns the exit status, or `None` if the process has not ended.
    ///
    /// # Errors
    ///
    /// Those of [`Process::join`].
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn try_join(&self) -> io::Result<Option<ExitStatus>> {
        self.handle.try_wait()
    }

    /// Whether the process has not ended. Known even if its status is lost.
    ///
    /// # Errors
    ///
    /// `ECHILD` in a forked child, for a process of its parent. If the process was made by a `ForkServer`
    /// that has ended.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn is_alive(&self) -> io::Result<bool> {
        Ok(!self.handle.has_ended()?)
    }

    /// Returns the exit code as a number, or `None` if the process has not ended.
    ///
    /// Like `exitcode` in Python's `multiprocessing`.
    ///
    /// The number is the result of the body, from 0 to 255; 1 after a panic; or the negative number of the
    /// signal that ended the process.
    ///
    /// # Errors
    ///
    /// Those of [`Process::join`].
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn exit_code(&self) -> io::Result<Option<i32>> {
        Ok(self.try_join()?.and_then(|status| status.code().or(status.signal().map(|n| -n))))
    }

    /// Asks the process to end (`SIGTERM`).
    ///
    /// Its destructors do not run, unless it handles the signal.
    ///
    /// # Errors
    ///
    /// If the kernel refuses to send the signal. No error if the process has already ended.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn terminate(&self) -> io::Result<()> {
        self.send_signal(libc::SIGTERM)
    }

    /// Kills the process (`SIGKILL`).
    ///
    /// # Errors
    ///
    /// If the kernel refuses to send the signal. No error if the process has already ended.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn kill(&self) -> io::Result<()> {
        self.send_signal(libc::SIGKILL)
    }

    /// Sends a signal, given by its number, to the process.
    ///
    /// # Errors
    ///
    /// If there is no such signal, or the kernel refuses to send it. No error if the process has already
    /// ended.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn send_signal(&self, signal: i32) -> io::Result<()> {
        self.handle.send_signal(signal)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.handle.needs_reaping() && matches!(self.handle.has_ended(), Ok(false)) {
            spawn_reaper(&self.handle, "the end of a process", |_| ());
        }
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process")
            .field("id", &self.id())
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
