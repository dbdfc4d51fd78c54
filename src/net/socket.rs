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
            /// If it cannot be set so. Then it is closed. `EBADF` if it was closed before.
            pub fn into_std(self) -> io::Result<$std> {
                self.socket.open()?;
                let socket = self.socket.into_inner();
                socket.set_nonblocking(false)?;
                Ok(socket)
            }

            /// A further handle of the same socket. Its time limits are its own, and so is whether it waits.
            ///
            /// # Errors
            ///
            /// As std's.
            pub fn try_clone(&self) -> io::Result<Self> {
                let clone =
                    $type { socket: Socket::of_nonblocking(self.socket.open()?.try_clone()?)? };
                clone.socket.be_as(&self.socket);
                Ok(clone)
            }

            /// Closes this handle: whoever waits in one of its operations, and whoever calls one later, gets
            /// an error (`EBADF`). The socket is closed with its last handle. The number of the descriptor
            /// stays taken until the handle is dropped.
            ///
            /// # Switching
            ///
            /// Never switches.
            pub fn close(&self) {
                self.socket.close();
            }

            /// Sets whether what would have to wait fails at once instead, with
            /// [`WouldBlock`](io::ErrorKind::WouldBlock). Then nothing ever switches, and the others do not
            /// run while it is tried again and again.
            ///
            /// # Errors
            ///
            /// If it is closed.
            pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
                self.socket.set_nonblocking(nonblocking)
            }

            /// The error that has been noted for the socket, which is forgotten with this.
            ///
            /// # Errors
            ///
            /// As std's.
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

        /// A socket of std's, which does not block any more.
        impl TryFrom<$std> for $type {
            type Error = io::Error;

            fn try_from(socket: $std) -> io::Result<Self> {
                Self::from_std(socket)
            }
        }

        /// The socket as std has it, which blocks again.
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

        /// The descriptor, which does not block.
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

/// What sockets have that are read from and written to.
macro_rules! limits {
    ($type:ident) => {
        impl $type {
            /// For how long a read waits at most. `None` is for ever, as in the beginning.
            ///
            /// # Errors
            ///
            /// None; std has one here.
            pub fn read_timeout(&self) -> io::Result<Option<std::time::Duration>> {
                Ok(self.socket.read_timeout())
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
            ///
            /// # Errors
            ///
            /// None; std has one here.
            pub fn write_timeout(&self) -> io::Result<Option<std::time::Duration>> {
                Ok(self.socket.write_timeout())
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

/// `Read` and `Write`, for a stream and for a reference to one, of that [`Kind`].
macro_rules! stream {
    ($type:ident, $std:ty, $kind:expr, $read:literal, $write:literal) => {
        /// Waits until there is something to be read. Killed in there, it has read nothing, and the stream is
        /// as it was.
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

/// The two directions of a stream, for two coroutines.
macro_rules! halves {
    ($type:ident, $read:ident, $write:ident) => {
        impl $type {
            /// Two handles of the connection, one for each direction, for two coroutines. The connection is
            /// closed when both are gone; the half that writes, dropped, ends its direction.
            pub fn into_split(self) -> ($read, $write) {
                let stream = Rc::new(self);
                ($read(Rc::clone(&stream)), $write(stream))
            }
        }

        #[doc = concat!("The half of a [`", stringify!($type), "`] that is read from.")]
        #[derive(Debug)]
        pub struct $read(Rc<$type>);

        #[doc = concat!("The half of a [`", stringify!($type), "`] that is written to. Dropped, it ends its")]
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
                // The other end may have closed already.
                let _ = self.0.shutdown(Shutdown::Write);
            }
        }
    };
}

/// What is asked of std's socket as it is.
macro_rules! as_std {
    (
        $type:ident:
        $($(#[$doc:meta])* fn $name:ident(&self $(, $argument:ident: $of:ty)*) -> $result:ty;)*
    ) => {
        impl $type {$(
            $(#[$doc])*
            ///
            /// # Errors
            ///
            /// As std's.
            pub fn $name(&self $(, $argument: $of)*) -> io::Result<$result> {
                self.socket.open()?.$name($($argument),*)
            }
        )*}
    };
}

pub(super) use {as_std, common, halves, limits, stream};
