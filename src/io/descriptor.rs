#![forbid(unsafe_code)]
//! Something that does not block, and its place in the hub.

use crate::hub::{Deadline, Direction, Source};
use crate::sys::descriptor::{Kind, is_shut_down};
use crate::{coroutine, sys};
use std::cell::Cell;
use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::{Duration, Instant};

/// Something of std's or of another crate's that has a descriptor, made cooperative: it is tried first, and
/// whoever has to wait for it lets the other coroutines run.
///
/// Several coroutines may read from it, and several write to it, by references. It stays on its thread. For
/// sockets there are types with all that sockets can do, in [`net`](crate::net).
///
/// # Examples
///
/// A terminal, a device, a timer: whatever can be waited for.
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
    /// Declared first: it leaves the hub before the descriptor is closed.
    source: Source,
    inner: T,
    read_limit: Cell<Option<Duration>>,
    write_limit: Cell<Option<Duration>>,
    mode: Cell<Mode>,
}

/// What an operation does that would block.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Waits,
    /// Fails, since that was asked for.
    Fails,
    /// Fails in any case.
    Closed,
}

impl<T: AsFd> Descriptor<T> {
    /// Takes it over, and makes it non-blocking (`O_NONBLOCK`). The flag belongs to the open file: it
    /// applies to all that share it, copies, children, and the owner of a descriptor that is only borrowed
    /// here, and stays set when this is dropped. [`Readiness`](super::Readiness) waits without changing it.
    ///
    /// # Errors
    ///
    /// If it cannot be set so, or cannot be waited for: a regular file never is, and is for
    /// [`fs`](crate::fs).
    pub fn new(inner: T) -> io::Result<Self> {
        sys::descriptor::set_nonblocking(inner.as_fd(), true)?;
        Self::of_nonblocking(inner).map_err(|error| match error.raw_os_error() {
            Some(libc::EPERM) => {
                let message =
                    "a descriptor that is never waited for, as that of a regular file: use fs";
                io::Error::new(io::ErrorKind::InvalidInput, message)
            }
            _ => error,
        })
    }

    /// Takes over what does not block.
    pub(crate) fn of_nonblocking(inner: T) -> io::Result<Self> {
        let source = Source::new(inner.as_fd().as_raw_fd())?;
        Ok(Descriptor {
            source,
            inner,
            read_limit: Cell::new(None),
            write_limit: Cell::new(None),
            mode: Cell::new(Mode::Waits),
        })
    }

    /// What it was made of. It does not block.
    #[inline]
    pub fn get_ref(&self) -> &T {
        &self.inner
    }

    /// What it was made of, for whichever thread. It does not block, still.
    pub fn into_inner(self) -> T {
        let Descriptor { source, inner, .. } = self;
        drop(source);
        inner
    }

    /// Makes a call that reads; and waits, and makes it again, as long as it says that it
    /// [would block](io::ErrorKind::WouldBlock).
    ///
    /// # Errors
    ///
    /// What the call says otherwise; [`TimedOut`](io::ErrorKind::TimedOut); `EBADF` if it is
    /// [closed](Descriptor::close).
    ///
    /// # Panics
    ///
    /// With what is raised in the current coroutine meanwhile.
    ///
    /// # Switching
    ///
    /// Switches if it would block. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// Nothing has happened.
    #[inline]
    #[track_caller]
    pub fn read_with<R>(&self, call: impl FnMut(&T) -> io::Result<R>) -> io::Result<R> {
        self.read("Descriptor::read", call)
    }

    /// As [`Descriptor::read_with`], for a call that writes.
    ///
    /// # Errors
    ///
    /// As [`Descriptor::read_with`].
    ///
    /// # Panics
    ///
    /// As [`Descriptor::read_with`].
    ///
    /// # Switching
    ///
    /// As [`Descriptor::read_with`].
    ///
    /// # Cancellation
    ///
    /// Nothing has happened.
    #[inline]
    #[track_caller]
    pub fn write_with<R>(&self, call: impl FnMut(&T) -> io::Result<R>) -> io::Result<R> {
        self.write("Descriptor::write", call)
    }

    /// Sets whether operations fail with [`WouldBlock`](io::ErrorKind::WouldBlock) instead of waiting. It is
    /// so for this handle, and not for others of the same.
    ///
    /// # Errors
    ///
    /// If it is [closed](Descriptor::close).
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.open()?;
        self.mode.set(if nonblocking { Mode::Fails } else { Mode::Waits });
        Ok(())
    }

    /// What it was made of, unless it is closed.
    pub(crate) fn open(&self) -> io::Result<&T> {
        if self.mode.get() == Mode::Closed { Err(closed()) } else { Ok(&self.inner) }
    }

    /// Has what was chosen for `other`.
    pub(crate) fn be_as(&self, other: &Self) {
        self.read_limit.set(other.read_limit.get());
        self.write_limit.set(other.write_limit.get());
        self.mode.set(other.mode.get());
    }

    /// For how long a read waits at most. `None` is for ever, as in the beginning.
    pub fn read_timeout(&self) -> Option<Duration> {
        self.read_limit.get()
    }

    /// For how long a write waits at most. `None` is for ever, as in the beginning.
    pub fn write_timeout(&self) -> Option<Duration> {
        self.write_limit.get()
    }

    /// Sets for how long a read waits at most: then it fails with [`TimedOut`](io::ErrorKind::TimedOut).
    ///
    /// # Errors
    ///
    /// If it is zero.
    pub fn set_read_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        self.read_limit.set(check_limit(limit)?);
        Ok(())
    }

    /// Sets for how long a write waits at most: then it fails with [`TimedOut`](io::ErrorKind::TimedOut).
    ///
    /// # Errors
    ///
    /// If it is zero.
    pub fn set_write_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        self.write_limit.set(check_limit(limit)?);
        Ok(())
    }

    /// Makes a call that reads, and waits as long as it would block.
    #[inline]
    #[track_caller]
    pub(crate) fn read<R>(
        &self,
        purpose: &'static str,
        mut call: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        self.attempt(Direction::Read, purpose, self.read_limit.get(), || call(&self.inner))
    }

    /// As `read`, with a limit of this call's own.
    #[track_caller]
    pub(crate) fn read_within<R>(
        &self,
        limit: Option<Duration>,
        purpose: &'static str,
        mut call: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        self.attempt(Direction::Read, purpose, limit, || call(&self.inner))
    }

    /// As `read`, of up to `room` bytes of a stream of that kind.
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

    /// As `read`, of a message from a socket of that kind. `end` is the result after the end.
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
                // A message may have come before the end.
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

    /// Makes a call that writes, and waits as long as it would block.
    #[inline]
    #[track_caller]
    pub(crate) fn write<R>(
        &self,
        purpose: &'static str,
        mut call: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        self.attempt(Direction::Write, purpose, self.write_limit.get(), || call(&self.inner))
    }

    #[inline]
    #[track_caller]
    fn attempt<R>(
        &self,
        direction: Direction,
        purpose: &'static str,
        limit: Option<Duration>,
        mut call: impl FnMut() -> io::Result<R>,
    ) -> io::Result<R> {
        match self.mode.get() {
            Mode::Waits => {}
            Mode::Fails => return call(),
            Mode::Closed => return Err(closed()),
        }
        let deadline = limit.and_then(Deadline::after);
        self.source.attempt(direction, purpose, deadline, call)
    }

    /// Makes a call that writes again and again, with pauses, as long as it would block: for where the kernel
    /// offers nothing to wait for, or says that there is room when there is none.
    pub(crate) fn write_with_pauses<R>(
        &self,
        purpose: &'static str,
        mut call: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        let mut pauses = Pauses::until(self.write_limit.get());
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

    /// Waits until a connection that was begun has been made, or has failed.
    pub(crate) fn wait_until_connected(&self, deadline: Option<Deadline>) -> io::Result<()> {
        self.source.expect_event(Direction::Write);
        self.source.wait(Direction::Write, "TcpStream::connect", deadline)
    }
}

impl<T: OwnsFd> Descriptor<T> {
    /// Closes the descriptor: operations that wait, and later ones, fail with `EBADF`. The descriptor's
    /// number stays taken until this is dropped, so that nobody reads from another file by mistake.
    ///
    /// Only a descriptor that is owned can be closed, see [`OwnsFd`]. One that is borrowed or shared is its
    /// owner's to close:
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
            // For want of descriptors it is closed when this is dropped.
            let _ = sys::socket::empty(self.inner.as_fd());
        }
    }
}

/// Types that are the only owner of their descriptor, so that [`Descriptor::close`] may close it by a shared
/// reference: std's files, pipes and sockets.
///
/// A descriptor of another type is closed by dropping it, or is turned into an
/// [`OwnedFd`](std::os::fd::OwnedFd) first. Outside of this crate there are no other implementations: that a
/// descriptor is not shared is not something that a type can be asked.
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

/// Longer and longer pauses, up to a limit.
pub(crate) struct Pauses {
    next: Duration,
    deadline: Option<Instant>,
}

impl Pauses {
    pub(crate) fn until(limit: Option<Duration>) -> Self {
        let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
        Pauses { next: Duration::from_millis(1), deadline }
    }

    /// Lets the others run for a while.
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

/// As std has it: a limit of zero is an error.
pub(crate) fn check_limit(limit: Option<Duration>) -> io::Result<Option<Duration>> {
    if limit == Some(Duration::ZERO) {
        let message = "a time limit must be more than zero: use None for no limit";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    Ok(limit)
}

/// Waits until there is something to be read. Killed in there, it has read nothing.
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

/// Waits until something can be written. Killed in there, it has written nothing; killed in a `write_all`,
/// a part.
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
