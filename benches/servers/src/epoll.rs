//! Epoll and sockets, as bare as can be: for the loop by hand and for the load generator.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// So many events are taken at once.
pub const BATCH: usize = 256;

/// An epoll instance, and room for events.
pub struct Epoll {
    fd: OwnedFd,
    events: [libc::epoll_event; BATCH],
}

/// What has happened.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// As given to [`Epoll::add`].
    pub token: u64,
    /// The other end has closed, one direction or both, or there was an error.
    pub hung_up: bool,
}

impl Epoll {
    /// A new one.
    ///
    /// # Errors
    ///
    /// If there is no descriptor left.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no preconditions.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) } as isize)?;
        // SAFETY: a new descriptor of ours.
        let fd = unsafe { OwnedFd::from_raw_fd(fd as RawFd) };
        Ok(Epoll { fd, events: [libc::epoll_event { events: 0, u64: 0 }; BATCH] })
    }

    /// Has every change of `fd` reported under `token`, in both directions.
    ///
    /// # Errors
    ///
    /// If it is registered already, or cannot be.
    pub fn add(&self, fd: &impl AsRawFd, token: u64) -> io::Result<()> {
        let events = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET;
        let mut event = libc::epoll_event { events: events as u32, u64: token };
        let (epoll, fd) = (self.fd.as_raw_fd(), fd.as_raw_fd());
        // SAFETY: a valid event; the descriptors are checked by the kernel.
        check(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &mut event) } as isize)?;
        Ok(())
    }

    /// Waits for events, for at most so many milliseconds (-1: for ever). How many there are.
    ///
    /// # Errors
    ///
    /// As `epoll_wait`.
    #[inline]
    pub fn wait(&mut self, limit: i32) -> io::Result<usize> {
        let (fd, events) = (self.fd.as_raw_fd(), self.events.as_mut_ptr());
        // SAFETY: room for as many events as is said.
        match check(unsafe { libc::epoll_wait(fd, events, BATCH as i32, limit) } as isize) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            other => other,
        }
    }

    /// One of the events that the last wait has brought.
    ///
    /// # Panics
    ///
    /// If `index` is not less than [`BATCH`].
    #[inline]
    pub fn event(&self, index: usize) -> Event {
        const HUNG_UP: i32 = libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR;
        let event = self.events[index];
        Event { token: event.u64, hung_up: event.events & HUNG_UP as u32 != 0 }
    }
}

/// Reads from a socket.
///
/// # Errors
///
/// As `recv`.
#[inline]
pub fn receive(socket: &impl AsRawFd, room: &mut [u8]) -> io::Result<usize> {
    // SAFETY: room for as many bytes as is said.
    check(unsafe { libc::recv(socket.as_raw_fd(), room.as_mut_ptr().cast(), room.len(), 0) })
}

/// Writes to a socket.
///
/// # Errors
///
/// As `send`.
#[inline]
pub fn send(socket: &impl AsRawFd, bytes: &[u8]) -> io::Result<usize> {
    let (start, length) = (bytes.as_ptr().cast(), bytes.len());
    // SAFETY: as many bytes as is said.
    check(unsafe { libc::send(socket.as_raw_fd(), start, length, libc::MSG_NOSIGNAL) })
}

#[inline]
fn check(result: isize) -> io::Result<usize> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as usize) }
}
