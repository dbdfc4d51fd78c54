//! Classifies descriptors, and queries and changes their state.
//!
//! The kernel's blocking calls and those with `MSG_DONTWAIT` differ in more than waiting, depending on the
//! kind of descriptor. Each such rule is a method of [`Kind`], which both `net` and the patched calls use.

use std::io;
#[cfg(feature = "monkey")]
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr;

/// What a descriptor refers to, as far as calls treat it differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "monkey"), allow(dead_code, reason = "patched calls meet all kinds"))]
pub(crate) enum Kind {
    /// A TCP connection or listener.
    Tcp,
    /// Any other stream socket, such as a Unix stream.
    Stream,
    /// A connection that keeps message boundaries: `SOCK_SEQPACKET`.
    SeqPacket,
    UnixDatagram,
    /// Any other socket.
    Datagram,
    Pipe,
    /// A regular file, a directory, or a block device: always ready.
    File,
    /// A terminal, a timer, an eventfd, an epoll instance, and so on.
    Other,
}

impl Kind {
    /// Returns the kind of a descriptor. `None` if the number is not open.
    #[cfg(feature = "monkey")]
    pub(crate) fn of(fd: RawFd) -> Option<Self> {
        let mut status = MaybeUninit::<libc::stat>::uninit();
        // SAFETY: `status` has room for the result.
        if unsafe { libc::fstat(fd, status.as_mut_ptr()) } != 0 {
            return None;
        }
        // SAFETY: `fstat` succeeded, so it has filled in `status`.
        let mode = unsafe { status.assume_init() }.st_mode;
        Some(match mode & libc::S_IFMT {
            libc::S_IFSOCK => Kind::of_socket(fd),
            libc::S_IFIFO => Kind::Pipe,
            libc::S_IFREG | libc::S_IFDIR | libc::S_IFBLK => Kind::File,
            _ => Kind::Other,
        })
    }

    #[cfg(feature = "monkey")]
    fn of_socket(fd: RawFd) -> Self {
        let domain = || option(fd, libc::SO_DOMAIN);
        match option(fd, libc::SO_TYPE) {
            Some(libc::SOCK_STREAM) => match domain() {
                Some(libc::AF_INET | libc::AF_INET6) => Kind::Tcp,
                _ => Kind::Stream,
            },
            Some(libc::SOCK_SEQPACKET) => Kind::SeqPacket,
            _ if domain() == Some(libc::AF_UNIX) => Kind::UnixDatagram,
            _ => Kind::Datagram,
        }
    }

    #[cfg(feature = "monkey")]
    #[inline]
    pub(crate) fn is_socket(self) -> bool {
        !matches!(self, Kind::Pipe | Kind::File | Kind::Other)
    }

    /// Whether it carries bytes without message boundaries.
    ///
    /// Then one blocking call may take several calls with `MSG_DONTWAIT`.
    #[cfg(feature = "monkey")]
    #[inline]
    pub(crate) fn is_stream(self) -> bool {
        matches!(self, Kind::Tcp | Kind::Stream)
    }

    /// Whether a short read means that the receive queue is empty.
    ///
    /// Not so on a Unix stream, where a read also stops at a message that carries descriptors, or at the
    /// bytes of another writer.
    #[inline]
    pub(crate) fn short_read_drains(self) -> bool {
        self == Kind::Tcp
    }

    /// Whether a receive with `MSG_DONTWAIT` fails with `EAGAIN` at the end, where a blocking one returns 0.
    ///
    /// The end here is `shutdown(SHUT_RD)`: see `__skb_wait_for_more_packets` in net/core/datagram.c.
    #[inline]
    pub(crate) fn hides_end(self) -> bool {
        matches!(self, Kind::UnixDatagram | Kind::Datagram)
    }
}

/// Whether its reading direction was shut down, by this end or by the other.
pub(crate) fn is_shut_down(fd: RawFd) -> bool {
    poll_now(fd, libc::POLLRDHUP) & libc::POLLRDHUP != 0
}

/// Whether an error is pending, or nothing can be sent any more.
#[cfg(feature = "monkey")]
pub(crate) fn has_failed(fd: RawFd) -> bool {
    poll_now(fd, 0) & (libc::POLLERR | libc::POLLHUP) != 0
}

/// Returns an integer option of a socket. `None` if it cannot be read.
#[cfg(feature = "monkey")]
pub(crate) fn option(fd: RawFd, name: libc::c_int) -> Option<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    let place = (&raw mut value).cast();
    // SAFETY: `value` has room for the result, and `length` is its size.
    let result = unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, name, place, &mut length) };
    (result == 0).then_some(value)
}

/// Returns the pending events of a descriptor, without waiting. By number: `libc::poll` may be a hook.
pub(crate) fn poll_now(fd: RawFd, events: libc::c_short) -> libc::c_short {
    let mut entry = libc::pollfd { fd, events, revents: 0 };
    let time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let no_mask = ptr::null::<libc::sigset_t>();
    // SAFETY: `entry` and `time` outlive the call, the count is 1, and there is no signal mask.
    let count = unsafe {
        libc::syscall(libc::SYS_ppoll, &raw mut entry, 1_usize, &raw const time, no_mask, 0_usize)
    };
    if count > 0 { entry.revents } else { 0 }
}

/// Sets whether calls that use the descriptor block.
///
/// This is a flag of the open file, so it also applies to copies of the descriptor, in this process and in
/// children.
pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>, nonblocking: bool) -> io::Result<()> {
    // SAFETY: `fcntl` with `F_GETFL` accesses no memory of this process.
    let flags = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })?;
    let wanted = if nonblocking { flags | libc::O_NONBLOCK } else { flags & !libc::O_NONBLOCK };
    if wanted != flags {
        // SAFETY: `fcntl` with `F_SETFL` accesses no memory of this process.
        check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, wanted) })?;
    }
    Ok(())
}

/// Whether a descriptor is readable, or writable, now. An error or an end counts as ready.
///
/// Urgent data of a socket is an event, too, but a read skips it and may find nothing behind it. If it is
/// the only event, a receive with `MSG_PEEK` decides. (No error is pending then, which that receive would
/// clear.)
pub(crate) fn is_ready(fd: RawFd, for_reading: bool) -> bool {
    if !for_reading {
        return poll_now(fd, libc::POLLOUT) != 0;
    }
    let events = poll_now(fd, libc::POLLIN | libc::POLLPRI);
    let is_urgent = events & libc::POLLPRI != 0 && events & !(libc::POLLIN | libc::POLLPRI) == 0;
    events != 0 && !(is_urgent && would_block(fd))
}

/// Whether a receive from a socket would block. `false` for other descriptors.
///
/// By number: `libc::recv` may be a hook.
fn would_block(fd: RawFd) -> bool {
    let (mut byte, no_address) = (0_u8, ptr::null_mut::<libc::c_void>());
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
    let place = &raw mut byte;
    // SAFETY: `byte` has room for one byte; a null address asks for no sender.
    let count = unsafe {
        libc::syscall(libc::SYS_recvfrom, fd, place, 1_usize, flags, no_address, no_address)
    };
    count < 0 && io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
