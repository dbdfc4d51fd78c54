#![forbid(unsafe_code)]
//! Non-blocking descriptors, registered with the hub.

use crate::hub::{Deadline, Direction, Source};
use crate::sys::descriptor::{Kind, is_shut_down};
use crate::{coroutine, sys};
use std::cell::Cell;
use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::{Duration, Instant};

/// A descriptor owner from std or another crate, made cooperative.
///
/// Each operation is tried first. If it would block, the current coroutine is parked until the descriptor
/// is ready, and other coroutines run.
///
/// Several coroutines may read and several may write at the same time, through references. A `Descriptor`
/// stays on its thread. For sockets, [`net`](crate::net) has types with all socket operations.
///
/// # Examples
///
/// Any descriptor that supports readiness notification will do: a terminal, a device, a timer, a named
/// pipe.
///
/// ```
/// use std::fs::File;
/// use std::io::{Read, Write};
/// use switchgrass::io::Descriptor;
/// use switchgrass::spawn;
///
/// # let path = std::env::temp_dir().join(format!("switchgrass-descriptor-{}", std::process::id()));
/// # let _ = std::fs::remove_file(&path);
/// # assert!(std::process::Command::new("mkfifo").arg(&path).status()?.success());
/// // Both ends of a named pipe.
/// let fifo = File::options().read(true).write(true).open(&path)?;
/// let fifo = std::rc::Rc::new(Descriptor::new(fifo)?);
/// let writer = fifo.clone();
/// spawn(move || (&*writer).write_all(b"hello").unwrap());
/// let mut buffer = [0; 5];
/// (&*fifo).read_exact(&mut buffer)?;
/// assert_eq!(&buffer, b"hello");
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Descriptor<T> {
    /// Declared before `inner`: the descriptor is deregistered before it is closed.
    source: Source,
    inner: T,
    read_timeout: Cell<Option<Duration>>,
    write_timeout: Cell<Option<Duration>>,
    mode: Cell<Mode>,
}

/// What an operation that would block does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Waits,
    /// Returns `WouldBlock`, as [`Descriptor::set_nonblocking`] requested.
    Fails,
    /// Fails with `EBADF`, as all operations do after [`Descriptor::close`].
    Closed,
}

impl<T: AsFd> Descriptor<T> {
    /// Wraps `inner`, and sets `O_NONBLOCK` on its descriptor.
    ///
    /// The flag belongs to the open file description: it affects all that share it (duplicates, child
    /// processes, the owner of a descriptor that is only borrowed here), and stays set when this is
    /// dropped. [`Readiness`](super::Readiness) waits without changing it.
    ///
    /// # Errors
    ///
    /// If the flag cannot be set, or if the descriptor does not support readiness notification
    /// (`InvalidInput`): regular files do not. Use [`fs`](crate::fs) for them.
    pub fn new(inner: T) -> io::Result<Self> {
        sys::descriptor::set_nonblocking(inner.as_fd(), true)?;
        Self::of_nonblocking(inner).map_err(|error| match error.raw_os_error() {
            Some(libc::EPERM) => {
                let message =
                    "the descriptor has no readiness notification, as that of a regular file: use fs";
                io::Error::new(io::ErrorKind::InvalidInput, message)
            }
            _ => error,
        })
    }

    /// Wraps `inner`, which is non-blocking already.
    pub(crate) fn of_nonblocking(inner: T) -> io::Result<Self> {
        let source = Source::new(inner.as_fd().as_raw_fd())?;
        Ok(Descriptor {
            source,
            inner,
            read_timeout: Cell::new(None),
            write_timeout: Cell::new(None),
            mode: Cell::new(Mode::Waits),
        })
    }

    /// Returns the wrapped object. Its descriptor is non-blocking.
    #[inline]
    pub fn get_ref(&self) -> &T {
        &self.inner
    }

    /// Returns the wrapped object, which may move to any thread. Its descriptor stays non-blocking.
    pub fn into_inner(self) -> T {
        let Descriptor { source, inner, .. } = self;
        drop(source);
        inner
    }

    /// Makes a call that reads, and retries it whenever it [would block](io::ErrorKind::WouldBlock).
    ///
    /// Before each retry the coroutine waits until the descriptor is readable.
    ///
    /// # Errors
    ///
    /// Any other error of the call; [`TimedOut`](io::ErrorKind::TimedOut) after the [read
    /// timeout](Descriptor::set_read_timeout); `EBADF` if this is [closed](Descriptor::close).
    ///
    /// # Panics
    ///
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits.
    ///
    /// # Switching
    ///
    /// May switch: if the call would block, other coroutines run until the descriptor is ready.
    ///
    /// # Cancellation
    ///
    /// The call that would have blocked has had no effect.
    #[inline]
    #[track_caller]
    pub fn read_with<R>(&self, call: impl FnMut(&T) -> io::Result<R>) -> io::Result<R> {
        self.read("Descriptor::read", call)
    }

    /// Makes a call that writes, and retries it whenever it [would block](io::ErrorKind::WouldBlock).
    ///
    /// Before each retry the coroutine waits until the descriptor is writable.
    ///
    /// # Errors
    ///
    /// Any other error of the call; [`TimedOut`](io::ErrorKind::TimedOut) after the [write
    /// timeout](Descriptor::set_write_timeout); `EBADF` if this is [closed](Descriptor::close).
    ///
    /// # Panics
    ///
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits.
    ///
    /// # Switching
    ///
    /// May switch: if the call would block, other coroutines run until the descriptor is ready.
    ///
    /// # Cancellation
    ///
    /// The call that would have blocked has had no effect.
    #[inline]
    #[track_caller]
    pub fn write_with<R>(&self, call: impl FnMut(&T) -> io::Result<R>) -> io::Result<R> {
        self.write("Descriptor::write", call)
    }

    /// Sets whether operations fail with [`WouldBlock`](io::ErrorKind::WouldBlock) instead of waiting.
    ///
    /// This applies to this handle only, not to other handles of the same open file.
    ///
    /// # Errors
    ///
    /// `EBADF` if this is [closed](Descriptor::close).
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.open()?;
        self.mode.set(if nonblocking { Mode::Fails } else { Mode::Waits });
        Ok(())
    }

    /// Returns the wrapped object, unless this is closed.
    pub(crate) fn open(&self) -> io::Result<&T> {
        if self.mode.get() == Mode::Closed { Err(closed()) } else { Ok(&self.inner) }
    }

    /// Copies the timeouts and the mode of `other`.
    pub(crate) fn copy_settings_of(&self, other: &Self) {
        self.read_timeout.set(other.read_timeout.get());
        self.write_timeout.set(other.write_timeout.get());
        self.mode.set(other.mode.get());
    }

    /// Returns the longest time that a read waits. `None`, the default, means indefinitely.
    pub fn read_timeout(&self) -> Option<Duration> {
        self.read_timeout.get()
    }

    /// Returns the longest time that a write waits. `None`, the default, means indefinitely.
    pub fn write_timeout(&self) -> Option<Duration> {
        self.write_timeout.get()
    }

    /// Sets how long a read may wait before it fails with [`TimedOut`](io::ErrorKind::TimedOut).
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) if `timeout` is zero.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.read_timeout.set(check_timeout(timeout)?);
        Ok(())
    }

    /// Sets how long a write may wait before it fails with [`TimedOut`](io::ErrorKind::TimedOut).
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) if `timeout` is zero.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.write_timeout.set(check_timeout(timeout)?);
        Ok(())
    }

    /// Makes a call that reads, and waits while it would block.
    #[inline]
    #[track_caller]
    pub(crate) fn read<R>(
        &self,
        purpose: &'static str,
        mut call: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        self.attempt(Direction::Read, purpose, self.read_timeout.get(), || call(&self.inner))
    }

    /// Like `read`, but with a timeout for this call only.
    #[track_caller]
    pub(crate) fn read_within<R>(
        &self,
        timeout: Option<Duration>,
        purpose: &'static str,
        mut call: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        self.attempt(Direction::Read, purpose, timeout, || call(&self.inner))
    }

    /// Like `read`, for up to `room` bytes of a stream of the given kind.
    ///
    /// A short read may mean that the stream is drained, which saves the next attempt.
    #[inline]
    #[track_caller]
    pub(crate) fn read_stream(
        &self,
        kind: Kind,
        purpose: &'static str,
        room: usize,
        call: impl FnMut(&T) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let got = self.read(purpose, call)?;
        if kind.short_read_drains() && got > 0 && got < room {
            self.source.is_drained();
        }
        Ok(got)
    }

    /// Like `read`, for a message from a socket of the given kind.
    ///
    /// `end` makes the result after the end of input, for kinds that report `EAGAIN` there (see
    /// [`Kind::hides_end`]).
    #[inline]
    #[track_caller]
    pub(crate) fn read_message<R>(
        &self,
        kind: Kind,
        purpose: &'static str,
        end: impl Fn() -> io::Result<R>,
        mut call: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        let would_block = |result: &io::Result<R>| match result {
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
            Ok(_) => false,
        };
        self.read(purpose, |inner| {
            let result = call(inner);
            if would_block(&result) && self.is_at_hidden_end(kind) {
                // A message may have been queued before the end: only a second `EAGAIN` means the end.
                let again = call(inner);
                return if would_block(&again) { end() } else { again };
            }
            result
        })
    }

    #[cold]
    fn is_at_hidden_end(&self, kind: Kind) -> bool {
        kind.hides_end()
            && self.mode.get() == Mode::Waits
            && self.source.is_exceptional()
            && is_shut_down(self.inner.as_fd().as_raw_fd())
    }

    /// Makes a call that writes, and waits while it would block.
    #[inline]
    #[track_caller]
    pub(crate) fn write<R>(
        &self,
        purpose: &'static str,
        mut call: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        self.attempt(Direction::Write, purpose, self.write_timeout.get(), || call(&self.inner))
    }

    #[inline]
    #[track_caller]
    fn attempt<R>(
        &self,
        direction: Direction,
        purpose: &'static str,
        timeout: Option<Duration>,
        mut call: impl FnMut() -> io::Result<R>,
    ) -> io::Result<R> {
        match self.mode.get() {
            Mode::Waits => {}
            Mode::Fails => return call(),
            Mode::Closed => return Err(closed()),
        }
        let deadline = timeout.and_then(Deadline::after);
        self.source.attempt(direction, purpose, deadline, call)
    }

    /// Makes a call that writes, and retries it at growing intervals while it would block.
    ///
    /// For cases where the kernel has no event to wait for, or reports room when there is none.
    pub(crate) fn write_with_pauses<R>(
        &self,
        purpose: &'static str,
        mut call: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        let mut pauses = Pauses::until(self.write_timeout.get());
        loop {
            match call(self.open()?) {
                Err(error)
                    if error.kind() == io::ErrorKind::WouldBlock
                        && self.mode.get() == Mode::Waits =>
                {
                    pauses.pause(purpose)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    /// Waits until a pending connection is established or has failed.
    pub(crate) fn wait_until_connected(&self, deadline: Option<Deadline>) -> io::Result<()> {
        self.source.expect_event(Direction::Write);
        self.source.wait(Direction::Write, "TcpStream::connect", deadline)
    }
}

impl<T: OwnsFd> Descriptor<T> {
    /// Closes the descriptor: current and later operations fail with `EBADF`.
    ///
    /// The descriptor's number stays allocated until this is dropped, so that no operation can reach
    /// another file that reuses it.
    ///
    /// Only an owned descriptor can be closed, see [`OwnsFd`]. A borrowed or shared one is closed by its
    /// owner:
    ///
    /// ```compile_fail,E0599
    /// # use std::os::fd::AsFd;
    /// # use switchgrass::io::Descriptor;
    /// # let (reader, _writer) = std::io::pipe()?;
    /// let borrowed = Descriptor::new(reader.as_fd())?;
    /// borrowed.close();
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn close(&self) {
        if self.mode.replace(Mode::Closed) != Mode::Closed {
            self.source.close();
            // If no descriptor is free for the replacement, the file is closed when this is dropped.
            let _ = sys::socket::empty(self.inner.as_fd());
        }
    }
}

/// Types that solely own their descriptor: std's files, pipes and sockets.
///
/// [`Descriptor::close`] may close these through a shared reference. A descriptor of any other type is
/// closed when it is dropped, or can be converted to an [`OwnedFd`](std::os::fd::OwnedFd) first. The trait
/// is sealed, since sole ownership cannot be checked through a type.
pub trait OwnsFd: AsFd + sealed::OwnsFd {}

mod sealed {
    pub trait OwnsFd {}
}

macro_rules! owns {
    ($($type:ty),* $(,)?) => {$(
        impl sealed::OwnsFd for $type {}
        impl OwnsFd for $type {}
    )*};
}

owns! {
    std::os::fd::OwnedFd, std::fs::File, io::PipeReader, io::PipeWriter,
    std::net::TcpStream, std::net::TcpListener, std::net::UdpSocket,
    std::os::unix::net::UnixStream, std::os::unix::net::UnixListener, std::os::unix::net::UnixDatagram,
    std::process::ChildStdin, std::process::ChildStdout, std::process::ChildStderr,
}

fn closed() -> io::Error {
    io::Error::from_raw_os_error(libc::EBADF)
}

/// Growing pauses between retries, up to a deadline.
pub(crate) struct Pauses {
    next: Duration,
    deadline: Option<Instant>,
}

impl Pauses {
    pub(crate) fn until(timeout: Option<Duration>) -> Self {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        Pauses { next: Duration::from_millis(1), deadline }
    }

    /// Sleeps for the next pause; fails with `TimedOut` once the deadline has passed.
    pub(crate) fn pause(&mut self, purpose: &'static str) -> io::Result<()> {
        let mut pause = self.next;
        if let Some(deadline) = self.deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let message = format!("{purpose} has timed out");
                return Err(io::Error::new(io::ErrorKind::TimedOut, message));
            }
            pause = pause.min(left);
        }
        coroutine::sleep(pause);
        self.next = (self.next * 2).min(Duration::from_millis(50));
        Ok(())
    }
}

/// Rejects a timeout of zero, as std does.
pub(crate) fn check_timeout(timeout: Option<Duration>) -> io::Result<Option<Duration>> {
    if timeout == Some(Duration::ZERO) {
        let message = "timeout must not be zero: use None to wait indefinitely";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    Ok(timeout)
}

/// Waits until data is available. If it is killed while it waits, it has read nothing.
impl<T: AsFd> Read for &Descriptor<T>
where
    for<'a> &'a T: Read,
{
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Descriptor::read(self, "Descriptor::read", |mut inner| inner.read(buffer))
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        Descriptor::read(self, "Descriptor::read", |mut inner| inner.read_vectored(buffers))
    }
}

impl<T: AsFd> Read for Descriptor<T>
where
    for<'a> &'a T: Read,
{
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Read::read(&mut &*self, buffer)
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        Read::read_vectored(&mut &*self, buffers)
    }
}

/// Waits until data can be written.
///
/// If it is killed while it waits, `write` has written nothing, and `write_all` may have written a part.
impl<T: AsFd> Write for &Descriptor<T>
where
    for<'a> &'a T: Write,
{
    #[inline]
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        Descriptor::write(self, "Descriptor::write", |mut inner| inner.write(buffer))
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        Descriptor::write(self, "Descriptor::write", |mut inner| inner.write_vectored(buffers))
    }

    fn flush(&mut self) -> io::Result<()> {
        Descriptor::write(self, "Descriptor::flush", |mut inner| inner.flush())
    }
}

impl<T: AsFd> Write for Descriptor<T>
where
    for<'a> &'a T: Write,
{
    #[inline]
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        Write::write(&mut &*self, buffer)
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        Write::write_vectored(&mut &*self, buffers)
    }

    fn flush(&mut self) -> io::Result<()> {
        Write::flush(&mut &*self)
    }
}

impl<T: AsFd> AsFd for Descriptor<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

impl<T: AsFd> AsRawFd for Descriptor<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.inner.as_fd().as_raw_fd()
    }
}

impl<T: fmt::Debug> fmt::Debug for Descriptor<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}
