#![forbid(unsafe_code)]
//! A running child process.

use super::exit_wait::{ChildHandle, Reaper, spawn_reaper};
use crate::coroutine::scope;
use crate::io::{Descriptor, PipeReader, PipeWriter};
use crate::sys::descriptor::set_nonblocking;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{self, ExitStatus, Output, Stdio};
use std::rc::Rc;
use std::time::Duration;

/// A process started by a [`Command`](super::Command), like [`std::process::Child`].
///
/// When the handle is dropped, the process continues, unless [`kill_on_drop`](super::Command::kill_on_drop)
/// was set. If it then ends without having been waited for, it remains a zombie until this process ends.
///
/// # Examples
///
/// ```
/// use std::io::{Read, Write};
/// use switchgrass::process::{Command, Stdio};
///
/// let mut cat = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
/// cat.stdin.take().unwrap().write_all(b"hello")?;
/// let mut text = String::new();
/// cat.stdout.take().unwrap().read_to_string(&mut text)?;
/// assert_eq!(text, "hello");
/// assert!(cat.wait()?.success());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Child {
    /// The pipe to the child's standard input, if there is one. Dropping it signals the end of the input.
    pub stdin: Option<PipeWriter>,
    /// The pipe from the child's standard output, if there is one.
    pub stdout: Option<PipeReader>,
    /// The pipe from the child's standard error, if there is one.
    pub stderr: Option<PipeReader>,
    running: Running,
}

impl Child {
    /// Takes over a started process.
    ///
    /// # Errors
    ///
    /// If a pipe cannot be registered with the hub. The process has then been killed.
    pub(super) fn new(mut child: process::Child, kill_on_drop: bool) -> io::Result<Self> {
        let stdin = child.stdin.take();
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let mut running =
            Running { process: Rc::new(ChildHandle::new(Reaper::Std(child))), kill_on_drop: true };
        // Only this end becomes nonblocking; the child's end still blocks.
        let stdin = stdin.map(|end| Descriptor::new(OwnedFd::from(end).into())).transpose()?;
        let stdout = stdout.map(|end| Descriptor::new(OwnedFd::from(end).into())).transpose()?;
        let stderr = stderr.map(|end| Descriptor::new(OwnedFd::from(end).into())).transpose()?;
        running.kill_on_drop = kill_on_drop;
        Ok(Child { stdin, stdout, stderr, running })
    }

    /// The process id.
    ///
    /// It may be reused for another process once this one has been waited for.
    pub fn id(&self) -> u32 {
        self.running.process.id
    }

    /// Kills the process (`SIGKILL`). It must still be waited for.
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

    /// Asks the process to end (`SIGTERM`).
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
        self.running.process.send_signal(signal)
    }

    /// Returns the exit status, or `None` if the process has not ended.
    ///
    /// # Errors
    ///
    /// `ECHILD` if the status is lost: other code has waited for the process, or this process ignores
    /// `SIGCHLD`.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn try_wait(&self) -> io::Result<Option<ExitStatus>> {
        self.running.process.try_wait()
    }

    /// Closes [`stdin`](Self::stdin) and waits until the process has ended.
    ///
    /// As in std, `stdin` is closed so that a child that reads to the end of its input does not wait for
    /// more. A stopped child has not ended. A child that was ended by a signal has no exit code, but a
    /// [signal](std::os::unix::process::ExitStatusExt::signal).
    ///
    /// # Errors
    ///
    /// `ECHILD` if the status is lost: other code has waited for the process, or this process ignores
    /// `SIGCHLD`.
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
    /// The child continues, and can be waited for again. `stdin` is closed.
    #[track_caller]
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        drop(self.stdin.take());
        self.wait_end()
    }

    /// Like [`Child::wait`], but by shared reference and without closing `stdin`.
    ///
    /// Several coroutines may wait for one child; each receives its status.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchgrass::coroutine::scope;
    /// use switchgrass::process::Command;
    ///
    /// let child = Command::new("true").spawn()?;
    /// scope(|scope| {
    ///     for _ in 0..3 {
    ///         scope.spawn(|| assert!(child.wait_end().unwrap().success()));
    ///     }
    /// });
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`Child::wait`].
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
    /// The child continues, and can be waited for again.
    #[track_caller]
    pub fn wait_end(&self) -> io::Result<ExitStatus> {
        let status = self.running.process.wait("Child::wait", None)?;
        Ok(status.expect("a wait without a timeout returns a status"))
    }

    /// Like [`Child::wait_end`], but waits for at most `limit`.
    ///
    /// Returns `None` if the process has not ended by then.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use switchgrass::process::Command;
    ///
    /// let mut sleeper = Command::new("sleep").arg("60").spawn()?;
    /// if sleeper.wait_timeout(Duration::from_millis(10))?.is_none() {
    ///     sleeper.kill()?;
    /// }
    /// assert!(!sleeper.wait()?.success());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`Child::wait`].
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
    /// The child continues, and can be waited for again.
    #[track_caller]
    pub fn wait_timeout(&self, limit: Duration) -> io::Result<Option<ExitStatus>> {
        self.running.process.wait("Child::wait", Some(limit))
    }

    /// Reads all output, and waits until the process has ended.
    ///
    /// Closes [`stdin`](Self::stdin) first, and reads both output pipes to their end.
    ///
    /// As in std, that includes waiting for any process that the child leaves behind with copies of the
    /// pipes.
    ///
    /// # Errors
    ///
    /// Those of [`Child::communicate`].
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
    /// The output read so far is lost, and the child is dropped: see [`Child`]. Use [`Child::communicate`]
    /// to keep the child.
    #[track_caller]
    pub fn wait_with_output(mut self) -> io::Result<Output> {
        drop(self.stdin.take());
        self.communicate(&[])
    }

    /// Writes `input`, reads all output, and waits until the process has ended.
    ///
    /// Closes [`stdin`](Self::stdin) after `input`, and reads both output pipes to their end.
    ///
    /// All of this happens concurrently, so input and output of any size cause no deadlock.
    ///
    /// It is not an error if the child ends, or closes its side of the pipe, before it has read all of
    /// `input`.
    ///
    /// # Examples
    ///
    /// ```
    /// use switchgrass::process::{Command, Stdio};
    ///
    /// let mut sort = Command::new("sort").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    /// let output = sort.communicate(b"b\na\n")?;
    /// assert_eq!(output.stdout, b"a\nb\n");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If a pipe cannot be read or written. `ECHILD` if the status is lost, as for [`Child::wait`].
    ///
    /// # Panics
    ///
    /// If `input` is not empty and `stdin` is not a pipe. Unwinds if a kill, a timeout or another panic is
    /// raised in the current coroutine while it waits.
    ///
    /// # Switching
    ///
    /// May switch: other coroutines run while this one waits.
    ///
    /// # Cancellation
    ///
    /// The output read so far is lost, and the pipes are closed. The child continues, and can be killed and
    /// waited for.
    #[track_caller]
    pub fn communicate(&mut self, input: &[u8]) -> io::Result<Output> {
        let (stdin, stdout) = (self.stdin.take(), self.stdout.take());
        let stderr = self.stderr.take();
        assert!(
            stdin.is_some() || input.is_empty(),
            "input was given, but stdin is not a pipe: configure it as `Stdio::piped()`"
        );
        let (written, stdout, stderr) = scope(|scope| {
            let stdin = stdin.filter(|_| !input.is_empty());
            let writing = stdin.map(|pipe| scope.spawn(move || write_all(pipe, input)));
            let reading = stderr.map(|pipe| scope.spawn(move || read_all(Some(pipe))));
            let stdout = read_all(stdout);
            let stderr = reading.map(|reading| reading.join().unwrap_or_else(|e| e.resume()));
            let written = writing.map(|writing| writing.join().unwrap_or_else(|e| e.resume()));
            (written, stdout, stderr)
        });
        written.transpose()?;
        let (stdout, stderr) = (stdout?, stderr.transpose()?.unwrap_or_default());
        let status = self.wait()?;
        Ok(Output { status, stdout, stderr })
    }
}

fn write_all(mut pipe: PipeWriter, input: &[u8]) -> io::Result<()> {
    match pipe.write_all(input) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

fn read_all(pipe: Option<PipeReader>) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    if let Some(mut pipe) = pipe {
        pipe.read_to_end(&mut all)?;
    }
    Ok(all)
}

/// The part of a [`Child`] with a destructor.
///
/// Separate, so that the pipes can be moved out of the child.
#[derive(Debug)]
struct Running {
    process: Rc<ChildHandle>,
    kill_on_drop: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.kill_on_drop || !matches!(self.process.try_wait(), Ok(None)) {
            return;
        }
        let _ = self.process.send_signal(libc::SIGKILL);
        // The process ends soon, but not at once, and no other handle can wait for it.
        spawn_reaper(&self.process, "the end of a killed child", ChildHandle::wait_blocking);
    }
}

/// Makes the pipe the standard input of another child.
///
/// It becomes blocking again, as that child expects.
impl From<PipeReader> for Stdio {
    fn from(pipe: PipeReader) -> Self {
        blocking(pipe.into_inner()).into()
    }
}

/// Makes the pipe the standard output of another child.
///
/// It becomes blocking again, as that child expects.
impl From<PipeWriter> for Stdio {
    fn from(pipe: PipeWriter) -> Self {
        blocking(pipe.into_inner()).into()
    }
}

fn blocking<T: AsFd>(pipe: T) -> T {
    set_nonblocking(pipe.as_fd(), false).expect("the flags of an open descriptor can be changed");
    pipe
}
