#![forbid(unsafe_code)]
//! Processes that are copies of this one, and run a closure.

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

/// A process that was made by `fork(2)` and runs a closure.
///
/// In the child only the coroutine goes on that has called [`Process::spawn`], or main if it was main, and
/// it runs the closure and nothing else. Its hub is a new one: no other coroutine ever runs there, no timer
/// fires, no signal is handled but by what it does itself, and a [`ThreadPool`](crate::pool::ThreadPool) has
/// no jobs and begins anew. Memory is a copy; what is to be shared goes through a `SharedArray`, a socket, a
/// pipe, a file (see the [module](super)).
///
/// Dropped, the process goes on. At its end this process waits for those that are not *daemons*.
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
/// What the body takes is given up here, so that a connection is open in the child alone:
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

/// Makes a process that is not like others.
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
    /// It is killed with the thread that makes it, if it has not ended by then.
    pub(super) ends_with_parent: bool,
}

/// Why no process was made.
#[derive(Debug)]
#[non_exhaustive]
pub enum ForkError {
    /// There are other threads, of these names. One of them may hold a lock, of an allocator, a log, a
    /// library, and in the child nobody would ever unlock it. Threads of a
    /// [`ThreadPool`](crate::pool::ThreadPool) count while they are busy with a job, or with a call of
    /// [`unblock`](crate::pool::unblock) or [`fs`](crate::fs): of these the name says so. Idle ones do not.
    Threads(Vec<String>),
    /// The kernel made none, or there were no descriptors left: a child needs some of its own. Or what was
    /// printed before could not be written to standard output, and the child would have written it, too.
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
            ForkError::Os(error) => write!(f, "no process was made: {error}"),
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
    /// One that makes processes as [`Process::spawn`] does.
    pub fn new() -> Self {
        Self::default()
    }

    /// A name, for messages; the kernel's lists of processes show its first 15 bytes.
    pub fn name(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Whether the child is killed (`SIGKILL`) when the thread ends that has made it, however it ends, and so
    /// at the latest with its process. By default it is not, and this process waits for it at its own end.
    ///
    /// It is the kernel that does so (`PR_SET_PDEATHSIG`), and it forgets it when the child changes its
    /// user, its group or its capabilities, or executes a program that does (set-user-ID). Such a child
    /// outlives its parent unless it watches for that end itself: by the end of a pipe whose other side only
    /// the parent has, say.
    pub fn daemon(mut self, is_daemon: bool) -> Self {
        self.is_daemon = is_daemon;
        self
    }

    /// Makes the process, as [`Process::spawn`].
    ///
    /// # Errors
    ///
    /// As [`Process::spawn`].
    ///
    /// # Panics
    ///
    /// As [`Process::spawn`].
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

    /// Makes the process, and returns its number in this one.
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
                    let _ends = Ends;
                    self.run(parent, body)
                }
                Ok(Side::Parent(id)) => return Ok(id),
                // A thread of a pool has begun a job since.
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {}
                Err(error) => return Err(ForkError::Os(error)),
            }
        }
    }

    /// What the child does.
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
        // As at a thread's end.
        let _ = catch_unwind(greenlet::unwind_all);
        exit_child(code)
    }
}

/// Says on standard error that a child's body was killed: by itself, or since main, to which it had switched
/// by hand, has returned. No panic hook reports that.
fn report_kill(payload: &(dyn Any + Send)) {
    if payload.is::<GreenletExit>() {
        stderr::write(&[
            "switchgrass: the body of a child process was killed: it ends with status 1\n",
        ]);
    }
}

/// The frames above belong to the parent: nothing returns there, and whatever unwinds, as what a panic's
/// payload panics with when it is dropped, ends here.
struct Ends;

impl Drop for Ends {
    fn drop(&mut self) {
        exit_child(1);
    }
}

impl Process {
    pub(super) fn new(handle: ChildHandle, name: Option<Cow<'static, str>>) -> Self {
        Process { handle: Rc::new(handle), name }
    }

    /// Waits until it has ended, even if its status is lost.
    #[cfg(feature = "process")]
    pub(super) fn wait_end(&self) -> io::Result<()> {
        match self.join() {
            Err(_) if self.handle.has_ended()? => Ok(()),
            other => other.map(drop),
        }
    }

    /// Makes a process that runs `body` at once, and ends with what it returns: see [`IntoExitCode`]. If it
    /// panics, the process ends with 1.
    ///
    /// In the child `body` is called in the middle of what this coroutine was doing, and may use whatever it
    /// borrows. When it has returned, coroutines that it has left are unwound, children that it has made and
    /// that are no daemons are waited for, and the process ends: whatever else was inherited is not dropped,
    /// and nothing is done that others have registered with `atexit`. In the parent `body` is dropped, with
    /// what it has taken.
    ///
    /// Objects that were inherited keep their state. A lock that another coroutine held stays locked, and a
    /// queue that others wait for hands what comes to the first of them, who never runs here: make those that
    /// the child uses in the child.
    ///
    /// A greenlet or generator that was suspended by hand can be gone on with in the child, in its copy. That
    /// is so of those that wait for the one that forks, too: a body that switches to them, or yields to them
    /// out of a generator, has their code go on in the child.
    ///
    /// # Errors
    ///
    /// [`ForkError::Threads`] if this process has other threads than idle ones of this library's pools: what
    /// they hold would stay locked in the child. (This thread waits for up to 20 ms for those that are just
    /// ending, and for jobs of pools.) The harness of `cargo test` runs tests on threads, so that this cannot
    /// be tested there. [`ForkError::Os`] if the kernel makes no process, or what was printed cannot be
    /// written.
    ///
    /// # Panics
    ///
    /// In a callback that runs in the hub. When the thread is ending and has ended its coroutines.
    ///
    /// # Switching
    ///
    /// Never switches.
    #[track_caller]
    pub fn spawn<T: IntoExitCode>(body: impl FnOnce() -> T) -> Result<Process, ForkError> {
        Builder::new().spawn(body)
    }

    /// Its process number. It may be another's once its end was waited for.
    pub fn id(&self) -> u32 {
        self.handle.id
    }

    /// Its name, if it was given one.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Waits until it has ended. Several coroutines may wait for one process, and each gets its status.
    ///
    /// One that was ended by a signal has no code, but a
    /// [signal](std::os::unix::process::ExitStatusExt::signal): see also [`Process::exit_code`].
    ///
    /// # Errors
    ///
    /// `ECHILD` if it has ended and its status is lost: something else has waited for it, by `waitpid(2)`, or
    /// this process ignores `SIGCHLD`, so that the kernel keeps no status. `ECHILD` also in a child, for a
    /// process that its parent has made. If a `ForkServer` has made it, and that has ended.
    ///
    /// # Panics
    ///
    /// With what is raised in the current coroutine meanwhile.
    ///
    /// # Switching
    ///
    /// Switches, unless it has ended. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The process goes on, and can be waited for again.
    pub fn join(&self) -> io::Result<ExitStatus> {
        let status = self.handle.wait("Process::join", None)?;
        Ok(status.expect("without a limit it waits until there is one"))
    }

    /// As [`Process::join`], for at most `limit`. `None` if it has not ended by then.
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
    /// As [`Process::join`].
    ///
    /// # Panics
    ///
    /// As [`Process::join`].
    ///
    /// # Switching
    ///
    /// As [`Process::join`].
    ///
    /// # Cancellation
    ///
    /// As [`Process::join`].
    pub fn join_timeout(&self, limit: Duration) -> io::Result<Option<ExitStatus>> {
        self.handle.wait("Process::join", Some(limit))
    }

    /// How it has ended, if it has.
    ///
    /// # Errors
    ///
    /// As [`Process::join`].
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn try_join(&self) -> io::Result<Option<ExitStatus>> {
        self.handle.try_wait()
    }

    /// Whether it has not ended. This is known even if its status is lost.
    ///
    /// # Errors
    ///
    /// `ECHILD` in a child, for a process that its parent has made. If a `ForkServer` has made it, and that
    /// has ended.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn is_alive(&self) -> io::Result<bool> {
        Ok(!self.handle.has_ended()?)
    }

    /// What it has ended with: what its body has returned, from 0 to 255, 1 if it has panicked, or the number
    /// of the signal that has ended it, negative. `None` if it has not ended. As `exitcode` in Python's
    /// `multiprocessing`.
    ///
    /// # Errors
    ///
    /// As [`Process::join`].
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn exit_code(&self) -> io::Result<Option<i32>> {
        Ok(self.try_join()?.and_then(|status| status.code().or(status.signal().map(|n| -n))))
    }

    /// Asks it to end (`SIGTERM`). Unless it handles that, its destructors do not run.
    ///
    /// # Errors
    ///
    /// If it may not be. Not if it has ended already.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn terminate(&self) -> io::Result<()> {
        self.send_signal(libc::SIGTERM)
    }

    /// Ends it without asking (`SIGKILL`).
    ///
    /// # Errors
    ///
    /// If it may not be. Not if it has ended already.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn kill(&self) -> io::Result<()> {
        self.send_signal(libc::SIGKILL)
    }

    /// Sends it a signal, by its number.
    ///
    /// # Errors
    ///
    /// If there is no such signal, or it may not be sent. Not if the process has ended already.
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
