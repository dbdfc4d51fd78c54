#![forbid(unsafe_code)]
//! Something that does not block, and its place in the hub.

use crate::hub::{Deadline, Direction, Source};
use crate::sys;
use std::cell::Cell;
use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

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
    is_closed: Cell<bool>,
}

impl<T: AsFd> Descriptor<T> {
    /// Takes it over, and has it not block any more: neither here nor for those that share what it is a
    /// descriptor of, copies and children.
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
            is_closed: Cell::new(false),
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
    /// [closed](Self::close).
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

    /// Ends the use of this handle: whoever waits in one of its operations, and whoever calls one later,
    /// gets an error (`EBADF`). The descriptor is closed when the handle is dropped.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn close(&self) {
        self.is_closed.set(true);
        self.source.close();
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
        self.read_limit.set(check(limit)?);
        Ok(())
    }

    /// Sets for how long a write waits at most: then it fails with [`TimedOut`](io::ErrorKind::TimedOut).
    ///
    /// # Errors
    ///
    /// If it is zero.
    pub fn set_write_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        self.write_limit.set(check(limit)?);
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

    /// As `read`, of a stream, where to get less than `room` is to have got all there was.
    #[inline]
    #[track_caller]
    pub(crate) fn read_stream(
        &self,
        purpose: &'static str,
        room: usize,
        call: impl FnMut(&T) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let got = self.read(purpose, call)?;
        if got > 0 && got < room {
            self.source.is_drained();
        }
        Ok(got)
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
        call: impl FnMut() -> io::Result<R>,
    ) -> io::Result<R> {
        if self.is_closed.get() {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        let deadline = limit.and_then(Deadline::after);
        self.source.attempt(direction, purpose, deadline, call)
    }

    /// Waits until a connection that was begun has been made, or has failed.
    pub(crate) fn wait_until_connected(&self, deadline: Option<Deadline>) -> io::Result<()> {
        self.source.expect_event(Direction::Write);
        self.source.wait(Direction::Write, "TcpStream::connect", deadline)
    }
}

/// As std has it: a limit of zero is an error.
fn check(limit: Option<Duration>) -> io::Result<Option<Duration>> {
    if limit == Some(Duration::ZERO) {
        let message = "a time limit of zero would never be kept: use None for no limit";
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
