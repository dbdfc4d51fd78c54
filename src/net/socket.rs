#![forbid(unsafe_code)]
//! What the socket types share.

pub(super) use crate::io::Descriptor as Socket;

/// What every socket type has: conversions, clones, `close`, the non-blocking mode.
macro_rules! common {
    ($type:ident, $std:ty) => {
        impl $type {
            /// Wraps a std socket, makes it non-blocking, and registers it with this thread's hub.
            ///
            /// # Errors
            ///
            /// If the socket cannot be made non-blocking, or cannot be registered.
            pub fn from_std(socket: $std) -> io::Result<Self> {
                socket.set_nonblocking(true)?;
                Ok($type { socket: Socket::of_nonblocking(socket)? })
            }

            /// Converts to the std socket, in blocking mode, which may move to any thread.
            ///
            /// # Errors
            ///
            /// If the socket cannot be made blocking; it is closed then. `EBADF` if it was closed before.
            pub fn into_std(self) -> io::Result<$std> {
                self.socket.open()?;
                let socket = self.socket.into_inner();
                socket.set_nonblocking(false)?;
                Ok(socket)
            }

            /// Makes another handle to the same socket.
            ///
            /// It starts with the timeouts and the mode of this one, and keeps its own from then on.
            ///
            /// # Errors
            ///
            /// Those of the std method of the same name.
            pub fn try_clone(&self) -> io::Result<Self> {
                let clone =
                    $type { socket: Socket::of_nonblocking(self.socket.open()?.try_clone()?)? };
                clone.socket.copy_settings_of(&self.socket);
                Ok(clone)
            }

            /// Closes this handle: its current and later operations fail with `EBADF`.
            ///
            /// The socket is closed with its last handle. The descriptor's number stays allocated until the
            /// handle is dropped.
            ///
            /// # Switching
            ///
            /// Never switches.
            pub fn close(&self) {
                self.socket.close();
            }

            /// Sets whether operations fail with [`WouldBlock`](io::ErrorKind::WouldBlock) instead of
            /// waiting.
            ///
            /// In that mode no operation switches: a loop that retries keeps other coroutines from running.
            ///
            /// # Errors
            ///
            /// `EBADF` if the handle is closed.
            pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
                self.socket.set_nonblocking(nonblocking)
            }

            /// Returns and clears the pending error of the socket (`SO_ERROR`).
            ///
            /// # Errors
            ///
            /// Those of the std method of the same name.
            pub fn take_error(&self) -> io::Result<Option<io::Error>> {
                self.socket.open()?.take_error()
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

        /// Wraps a std socket, and makes it non-blocking.
        impl TryFrom<$std> for $type {
            type Error = io::Error;

            fn try_from(socket: $std) -> io::Result<Self> {
                Self::from_std(socket)
            }
        }

        /// Converts to the std socket, in blocking mode.
        impl TryFrom<$type> for $std {
            type Error = io::Error;

            fn try_from(socket: $type) -> io::Result<Self> {
                socket.into_std()
            }
        }

        impl TryFrom<std::os::fd::OwnedFd> for $type {
            type Error = io::Error;

            fn try_from(descriptor: std::os::fd::OwnedFd) -> io::Result<Self> {
                Self::from_std(descriptor.into())
            }
        }

        /// Returns the descriptor, which stays non-blocking.
        impl From<$type> for std::os::fd::OwnedFd {
            fn from(socket: $type) -> Self {
                socket.socket.into_inner().into()
            }
        }

        impl std::os::fd::IntoRawFd for $type {
            fn into_raw_fd(self) -> std::os::fd::RawFd {
                std::os::fd::OwnedFd::from(self).into_raw_fd()
            }
        }

        impl std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.socket.fmt(f)
            }
        }
    };
}

/// Read and write timeouts, for sockets that have both operations.
macro_rules! timeouts {
    ($type:ident) => {
        impl $type {
            /// Returns the longest time that a read waits. `None`, the default, means indefinitely.
            ///
            /// # Errors
            ///
            /// Never fails; the signature matches that of std.
            pub fn read_timeout(&self) -> io::Result<Option<std::time::Duration>> {
                Ok(self.socket.read_timeout())
            }

            /// Sets how long a read may wait before it fails with [`TimedOut`](io::ErrorKind::TimedOut).
            ///
            /// # Errors
            ///
            /// [`InvalidInput`](io::ErrorKind::InvalidInput) if `timeout` is zero.
            pub fn set_read_timeout(&self, timeout: Option<std::time::Duration>) -> io::Result<()> {
                self.socket.set_read_timeout(timeout)
            }

            /// Returns the longest time that a write waits. `None`, the default, means indefinitely.
            ///
            /// # Errors
            ///
            /// Never fails; the signature matches that of std.
            pub fn write_timeout(&self) -> io::Result<Option<std::time::Duration>> {
                Ok(self.socket.write_timeout())
            }

            /// Sets how long a write may wait before it fails with [`TimedOut`](io::ErrorKind::TimedOut).
            ///
            /// # Errors
            ///
            /// [`InvalidInput`](io::ErrorKind::InvalidInput) if `timeout` is zero.
            pub fn set_write_timeout(
                &self,
                timeout: Option<std::time::Duration>,
            ) -> io::Result<()> {
                self.socket.set_write_timeout(timeout)
            }
        }
    };
}

/// `Read` and `Write` for a stream of the given [`Kind`], and for references to it.
macro_rules! stream {
    ($type:ident, $std:ty, $kind:expr, $read:literal, $write:literal) => {
        /// Waits until data is available.
        ///
        /// If it is killed while it waits, it has read nothing, and the stream is unchanged.
        impl Read for &$type {
            #[inline]
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let room = buffer.len();
                self.socket.read_stream($kind, $read, room, |mut socket: &$std| socket.read(buffer))
            }

            fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
                let room = buffers.iter().map(|buffer| buffer.len()).sum();
                self.socket.read_stream($kind, $read, room, |mut socket: &$std| {
                    socket.read_vectored(buffers)
                })
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

        /// Waits until data can be written.
        ///
        /// If it is killed while it waits, `write` has written nothing, and `write_all` may have written a
        /// part.
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

/// Splits a stream into its two directions, for two coroutines.
macro_rules! halves {
    ($type:ident, $read:ident, $write:ident) => {
        impl $type {
            /// Splits the connection into a read half and a write half, for two coroutines.
            ///
            /// The connection is closed when both halves are dropped. Dropping the write half shuts down
            /// its direction.
            pub fn into_split(self) -> ($read, $write) {
                let stream = Rc::new(self);
                ($read(Rc::clone(&stream)), $write(stream))
            }
        }

        #[doc = concat!("The read half of a [`", stringify!($type), "`].")]
        #[derive(Debug)]
        pub struct $read(Rc<$type>);

        #[doc = concat!("The write half of a [`", stringify!($type), "`]. Dropping it shuts down that")]
        /// direction.
        #[derive(Debug)]
        pub struct $write(Rc<$type>);

        impl Read for $read {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                (&*self.0).read(buffer)
            }

            fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
                (&*self.0).read_vectored(buffers)
            }
        }

        impl Write for $write {
            fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
                (&*self.0).write(buffer)
            }

            fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
                (&*self.0).write_vectored(buffers)
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        impl Drop for $write {
            fn drop(&mut self) {
                // The peer may have closed the connection already.
                let _ = self.0.shutdown(Shutdown::Write);
            }
        }
    };
}

/// Methods that delegate to the std socket.
macro_rules! as_std {
    (
        $type:ident:
        $($(#[$doc:meta])* fn $name:ident(&self $(, $argument:ident: $of:ty)*) -> $result:ty;)*
    ) => {
        impl $type {$(
            $(#[$doc])*
            /// # Errors
            ///
            /// Those of the std method of the same name.
            pub fn $name(&self $(, $argument: $of)*) -> io::Result<$result> {
                self.socket.open()?.$name($($argument),*)
            }
        )*}
    };
}

pub(super) use {as_std, common, halves, stream, timeouts};
