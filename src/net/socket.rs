#![forbid(unsafe_code)]
//! What the types of sockets have in common.

pub(super) use crate::io::Descriptor as Socket;

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
                Ok($type { socket: Socket::of_nonblocking(socket)? })
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
                let clone =
                    $type { socket: Socket::of_nonblocking(self.socket.get_ref().try_clone()?)? };
                clone.socket.set_read_timeout(self.socket.read_timeout())?;
                clone.socket.set_write_timeout(self.socket.write_timeout())?;
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
                self.socket.get_ref().take_error()
            }
        }

        impl std::os::fd::AsFd for $type {
            fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
                self.socket.get_ref().as_fd()
            }
        }

        impl std::os::fd::AsRawFd for $type {
            fn as_raw_fd(&self) -> std::os::fd::RawFd {
                self.socket.get_ref().as_raw_fd()
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
                self.socket.read_timeout()
            }

            /// Sets for how long a read waits at most: then it fails with
            /// [`TimedOut`](io::ErrorKind::TimedOut).
            ///
            /// # Errors
            ///
            /// If it is zero.
            pub fn set_read_timeout(&self, limit: Option<std::time::Duration>) -> io::Result<()> {
                self.socket.set_read_timeout(limit)
            }

            /// For how long a write waits at most. `None` is for ever, as in the beginning.
            pub fn write_timeout(&self) -> Option<std::time::Duration> {
                self.socket.write_timeout()
            }

            /// Sets for how long a write waits at most: then it fails with
            /// [`TimedOut`](io::ErrorKind::TimedOut).
            ///
            /// # Errors
            ///
            /// If it is zero.
            pub fn set_write_timeout(&self, limit: Option<std::time::Duration>) -> io::Result<()> {
                self.socket.set_write_timeout(limit)
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
