#![forbid(unsafe_code)]
//! A process that runs.

use super::exit_wait::{ChildHandle, Reaper, spawn_reaper};
use crate::coroutine::scope;
use crate::io::{Descriptor, PipeReader, PipeWriter};
use crate::sys::descriptor::set_nonblocking;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{self, ExitStatus, Output, Stdio};
use std::rc::Rc;
use std::time::Duration;

/// A process that was begun by a [`Command`](super::Command). As [`std::process::Child`].
///
/// Dropped, it goes on, unless [`kill_on_drop`](super::Command::kill_on_drop) was said; and when it ends and
/// nobody has waited for it, it stays a zombie until this process ends.
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
    /// What it reads, if that was to be a pipe. To drop it is to say that there is no more.
    pub stdin: Option<PipeWriter>,
    /// What it writes, if that was to be a pipe.
    pub stdout: Option<PipeReader>,
    /// What it complains of, if that was to be a pipe.
    pub stderr: Option<PipeReader>,
    running: Running,
}

impl Child {
    /// Takes over a process that has begun.
    ///
    /// # Errors
    ///
    /// If its pipes cannot be waited for. Then it has been killed.
    pub(super) fn new(mut child: process::Child, kill_on_drop: bool) -> io::Result<Self> {
        let stdin = child.stdin.take();
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let mut running =
            Running { process: Rc::new(ChildHandle::new(Reaper::Std(child))), kill_on_drop: true };
        // The other end, which is the child's, goes on to block.
        let stdin = stdin.map(|end| Descriptor::new(OwnedFd::from(end).into())).transpose()?;
        let stdout = stdout.map(|end| Descriptor::new(OwnedFd::from(end).into())).transpose()?;
        let stderr = stderr.map(|end| Descriptor::new(OwnedFd::from(end).into())).transpose()?;
        running.kill_on_drop = kill_on_drop;
        Ok(Child { stdin, stdout, stderr, running })
    }

    /// Its process number. It may be another's once the end was waited for.
    pub fn id(&self) -> u32 {
        self.running.process.id
    }

    /// Ends it without asking (`SIGKILL`). It is to be waited for, still.
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

    /// Asks it to end (`SIGTERM`).
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

    /// Sends it a signal, by its number.
    ///
    /// # Errors
    ///
    /// If there is no such signal, or it may not be sent. Not if the child has ended already.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn send_signal(&self, signal: i32) -> io::Result<()> {
        self.running.process.send_signal(signal)
    }

    /// How it has ended, if it has.
    ///
    /// # Errors
    ///
    /// `ECHILD` if the status is lost: something else has waited for it, or this process ignores `SIGCHLD`.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn try_wait(&self) -> io::Result<Option<ExitStatus>> {
        self.running.process.try_wait()
    }

    /// Drops [`stdin`](Self::stdin), as std does, so that a child that reads to the end does not wait for
    /// more; and waits until the child has ended.
    ///
    /// A child that has been stopped has not ended. One that was ended by a signal has no code, but a
    /// [signal](std::os::unix::process::ExitStatusExt::signal).
    ///
    /// # Errors
    ///
    /// `ECHILD` if the status is lost: something else has waited for it, or this process ignores `SIGCHLD`.
    ///
    /// # Panics
    ///
    /// With what is raised in the current coroutine meanwhile.
    ///
    /// # Switching
    ///
    /// Switches unless it has ended. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The child goes on, and can be waited for again. `stdin` is gone.
    #[track_caller]
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        drop(self.stdin.take());
        self.wait_end()
    }

    /// As [`Child::wait`], by a reference: several coroutines may wait for one child, and each gets its
    /// status. What it reads stays open.
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
    /// As [`Child::wait`].
    ///
    /// # Panics
    ///
    /// As [`Child::wait`].
    ///
    /// # Switching
    ///
    /// As [`Child::wait`].
    ///
    /// # Cancellation
    ///
    /// The child goes on, and can be waited for again.
    #[track_caller]
    pub fn wait_end(&self) -> io::Result<ExitStatus> {
        let status = self.running.process.wait("Child::wait", None)?;
        Ok(status.expect("without a limit it waits until there is one"))
    }

    /// As [`Child::wait_end`], for at most `limit`. `None` if it has not ended by then.
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
    /// As [`Child::wait`].
    ///
    /// # Panics
    ///
    /// As [`Child::wait`].
    ///
    /// # Switching
    ///
    /// As [`Child::wait`].
    ///
    /// # Cancellation
    ///
    /// The child goes on, and can be waited for again.
    #[track_caller]
    pub fn wait_timeout(&self, limit: Duration) -> io::Result<Option<ExitStatus>> {
        self.running.process.wait("Child::wait", Some(limit))
    }

    /// Drops [`stdin`](Self::stdin), reads what the child writes to both of its pipes, and waits until it has
    /// ended. As in std, the pipes are read to their end: a process that the child leaves behind with copies
    /// of them is waited for, too.
    ///
    /// # Errors
    ///
    /// As those of [`Child::communicate`].
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
    /// What was read is lost, and the child is dropped: see [`Child`]. Use [`Child::communicate`] to keep it.
    #[track_caller]
    pub fn wait_with_output(mut self) -> io::Result<Output> {
        drop(self.stdin.take());
        self.communicate(&[])
    }

    /// Writes `input` to [`stdin`](Self::stdin) and closes it, reads what the child writes to both of its
    /// pipes, and waits until it has ended. All of that at once, so that nobody waits for somebody who waits:
    /// input and output may be of any size.
    ///
    /// A child that ends, or closes its side, without reading all of `input` is none the worse for it.
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
    /// If a pipe cannot be read from or written to. `ECHILD` if the status is lost, as for [`Child::wait`].
    ///
    /// # Panics
    ///
    /// With what is raised in the current coroutine meanwhile. If there is `input` and `stdin` is no pipe.
    ///
    /// # Switching
    ///
    /// Switches. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// What was read is lost, and the pipes are closed. The child goes on, and can be killed and waited for.
    #[track_caller]
    pub fn communicate(&mut self, input: &[u8]) -> io::Result<Output> {
        let (stdin, stdout) = (self.stdin.take(), self.stdout.take());
        let stderr = self.stderr.take();
        assert!(stdin.is_some() || input.is_empty(), "there is input, and no pipe to write it to");
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

/// What is to be seen to when a child's handle is dropped. Of its own, so that the pipes can be moved out.
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
        // It ends soon, but not at once, and nobody else can wait for it.
        spawn_reaper(&self.process, "the end of a killed child", ChildHandle::block);
    }
}

/// A pipe, for another child to read from. It blocks again: that child expects it.
impl From<PipeReader> for Stdio {
    fn from(pipe: PipeReader) -> Self {
        blocking(pipe.into_inner()).into()
    }
}

/// A pipe, for another child to write to. It blocks again: that child expects it.
impl From<PipeWriter> for Stdio {
    fn from(pipe: PipeWriter) -> Self {
        blocking(pipe.into_inner()).into()
    }
}

fn blocking<T: AsFd>(pipe: T) -> T {
    set_nonblocking(pipe.as_fd(), false).expect("an open descriptor can be set so");
    pipe
}
