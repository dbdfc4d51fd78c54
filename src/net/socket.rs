#![forbid(unsafe_code)]
//! What all sockets have in common.

use crate::hub::{Deadline, Direction, Source};
use std::cell::Cell;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

/// A socket of std's that does not block, and its place in the hub.
pub(super) struct Socket<T> {
    /// Declared first: it leaves the hub before the descriptor is closed.
    source: Source,
    inner: T,
    read_limit: Cell<Option<Duration>>,
    write_limit: Cell<Option<Duration>>,
    is_closed: Cell<bool>,
}

impl<T: AsFd> Socket<T> {
    /// Takes over a socket that does not block.
    pub(super) fn new(inner: T) -> io::Result<Self> {
        let source = Source::new(inner.as_fd().as_raw_fd())?;
        Ok(Socket {
            source,
            inner,
            read_limit: Cell::new(None),
            write_limit: Cell::new(None),
            is_closed: Cell::new(false),
        })
    }

    #[inline]
    pub(super) fn inner(&self) -> &T {
        &self.inner
    }

    pub(super) fn into_inner(self) -> T {
        let Socket { source, inner, .. } = self;
        drop(source);
        inner
    }

    /// Makes a call that reads, and waits as long as it would block.
    #[inline]
    #[track_caller]
    pub(super) fn read<R>(
        &self,
        purpose: &'static str,
        mut call: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        self.attempt(Direction::Read, purpose, self.read_limit.get(), || call(&self.inner))
    }

    /// As [`Socket::read`], of a stream, where to get less than `room` is to have got all there was.
    #[inline]
    #[track_caller]
    pub(super) fn read_stream(
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
    pub(super) fn write<R>(
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
    pub(super) fn wait_until_connected(&self, deadline: Option<Deadline>) -> io::Result<()> {
        self.source.expect_event(Direction::Write);
        self.source.wait(Direction::Write, "TcpStream::connect", deadline)
    }

    pub(super) fn close(&self) {
        self.is_closed.set(true);
        self.source.close();
    }

    pub(super) fn read_limit(&self) -> Option<Duration> {
        self.read_limit.get()
    }

    pub(super) fn write_limit(&self) -> Option<Duration> {
        self.write_limit.get()
    }

    pub(super) fn set_read_limit(&self, limit: Option<Duration>) -> io::Result<()> {
        self.read_limit.set(check(limit)?);
        Ok(())
    }

    pub(super) fn set_write_limit(&self, limit: Option<Duration>) -> io::Result<()> {
        self.write_limit.set(check(limit)?);
        Ok(())
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

impl<T: fmt::Debug> fmt::Debug for Socket<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

/// What every socket type has: its descriptor, its time limits, an end.
macro_rules! common {
    ($type:ident, $std:ty) => {
        impl $type {
            /// Takes over a socket of std's, and has it not block any more. It belongs to this thread's hub
            /// from now on.
            ///
            /// # Errors
            ///
            /// If it cannot be set so, or there is no place for it in the hub.
            pub fn from_std(socket: $std) -> io::Result<Self> {
                socket.set_nonblocking(true)?;
                Ok($type { socket: Socket::new(socket)? })
            }

            /// The socket as std has it, blocking, for whichever thread.
            ///
            /// # Errors
            ///
            /// If it cannot be set so. Then it is closed.
            pub fn into_std(self) -> io::Result<$std> {
                let socket = self.socket.into_inner();
                socket.set_nonblocking(false)?;
                Ok(socket)
            }

            /// A further handle of the same socket. Its time limits are its own.
            ///
            /// # Errors
            ///
            /// As std's.
            pub fn try_clone(&self) -> io::Result<Self> {
                let clone = $type { socket: Socket::new(self.socket.inner().try_clone()?)? };
                clone.socket.set_read_limit(self.socket.read_limit())?;
                clone.socket.set_write_limit(self.socket.write_limit())?;
                Ok(clone)
            }

            /// Ends the use of this handle: whoever waits in one of its operations, and whoever calls one
            /// later, gets an error (`EBADF`). The descriptor is closed when the handle is dropped.
            ///
            /// # Switching
            ///
            /// Never switches.
            pub fn close(&self) {
                self.socket.close();
            }

            /// The error that has been noted for the socket, which is forgotten with this.
            ///
            /// # Errors
            ///
            /// As std's.
            pub fn take_error(&self) -> io::Result<Option<io::Error>> {
                self.socket.inner().take_error()
            }
        }

        impl std::os::fd::AsFd for $type {
            fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
                self.socket.inner().as_fd()
            }
        }

        impl std::os::fd::AsRawFd for $type {
            fn as_raw_fd(&self) -> std::os::fd::RawFd {
                self.socket.inner().as_raw_fd()
            }
        }

        impl std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.socket.fmt(f)
            }
        }
    };
}

/// What sockets have that are read from and written to.
macro_rules! limits {
    ($type:ident) => {
        impl $type {
            /// For how long a read waits at most. `None` is for ever, as in the beginning.
            pub fn read_timeout(&self) -> Option<std::time::Duration> {
                self.socket.read_limit()
            }

            /// Sets for how long a read waits at most: then it fails with
            /// [`TimedOut`](io::ErrorKind::TimedOut).
            ///
            /// # Errors
            ///
            /// If it is zero.
            pub fn set_read_timeout(&self, limit: Option<std::time::Duration>) -> io::Result<()> {
                self.socket.set_read_limit(limit)
            }

            /// For how long a write waits at most. `None` is for ever, as in the beginning.
            pub fn write_timeout(&self) -> Option<std::time::Duration> {
                self.socket.write_limit()
            }

            /// Sets for how long a write waits at most: then it fails with
            /// [`TimedOut`](io::ErrorKind::TimedOut).
            ///
            /// # Errors
            ///
            /// If it is zero.
            pub fn set_write_timeout(&self, limit: Option<std::time::Duration>) -> io::Result<()> {
                self.socket.set_write_limit(limit)
            }
        }
    };
}

/// `Read` and `Write`, for a stream and for a reference to one.
macro_rules! stream {
    ($type:ident, $std:ty, $read:literal, $write:literal) => {
        /// Waits until there is something to be read. Killed in there, it has read nothing, and the stream is
        /// as it was.
        impl Read for &$type {
            #[inline]
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let room = buffer.len();
                self.socket.read_stream($read, room, |mut socket: &$std| socket.read(buffer))
            }

            fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
                let room = buffers.iter().map(|buffer| buffer.len()).sum();
                self.socket
                    .read_stream($read, room, |mut socket: &$std| socket.read_vectored(buffers))
            }
        }

        impl Read for $type {
            #[inline]
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                (&*self).read(buffer)
            }

            fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
                (&*self).read_vectored(buffers)
            }
        }

        /// Waits until something can be written. Killed in there, it has written nothing; killed in a
        /// `write_all`, a part.
        impl Write for &$type {
            #[inline]
            fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
                self.socket.write($write, |mut socket: &$std| socket.write(buffer))
            }

            fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
                self.socket.write($write, |mut socket: &$std| socket.write_vectored(buffers))
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        impl Write for $type {
            #[inline]
            fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
                (&*self).write(buffer)
            }

            fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
                (&*self).write_vectored(buffers)
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
    };
}

pub(super) use {common, limits, stream};
