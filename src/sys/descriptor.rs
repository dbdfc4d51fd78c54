//! What a descriptor refers to, and what any of them can be asked.
//!
//! The kernel's blocking calls and those with `MSG_DONTWAIT` differ by more than the waiting, in a way that
//! depends on the kind. Each such rule is a method of [`Kind`]: `net` and the patched calls both ask it.

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
    /// Any other stream socket, such as a Unix one.
    Stream,
    /// A connection that keeps the bounds of messages: `SOCK_SEQPACKET`.
    SeqPacket,
    UnixDatagram,
    /// Any other socket.
    Datagram,
    Pipe,
    /// A regular file, a directory, a block device: never waited for.
    File,
    /// A terminal, a timer, an eventfd, an epoll instance.
    Other,
}

impl Kind {
    /// `None` if the number is not open.
    #[cfg(feature = "monkey")]
    pub(crate) fn of(fd: RawFd) -> Option<Self> {
        let mut status = MaybeUninit::<libc::stat>::uninit();
        // SAFETY: room for the answer.
        if unsafe { libc::fstat(fd, status.as_mut_ptr()) } != 0 {
            return None;
        }
        // SAFETY: it was answered.
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

    /// Whether it carries bytes without bounds: one call of the blocking kind may take several others.
    #[cfg(feature = "monkey")]
    #[inline]
    pub(crate) fn is_stream(self) -> bool {
        matches!(self, Kind::Tcp | Kind::Stream)
    }

    /// Whether a read that gets less than it has room for has emptied the queue. On a Unix stream it may
    /// have stopped at a message with descriptors, or at another writer's bytes.
    #[inline]
    pub(crate) fn short_read_drains(self) -> bool {
        self == Kind::Tcp
    }

    /// Whether a receive with `MSG_DONTWAIT` fails with `EAGAIN` after the end, where one that blocks
    /// returns 0: after `shutdown(SHUT_RD)` (`__skb_wait_for_more_packets` in net/core/datagram.c).
    #[inline]
    pub(crate) fn hides_end(self) -> bool {
        matches!(self, Kind::UnixDatagram | Kind::Datagram)
    }
}

/// Whether its reading direction was shut down, here or by the other end.
pub(crate) fn is_shut_down(fd: RawFd) -> bool {
    poll_now(fd, libc::POLLRDHUP) & libc::POLLRDHUP != 0
}

/// Whether an error is to be reported, or nothing can be sent any more.
#[cfg(feature = "monkey")]
pub(crate) fn has_failed(fd: RawFd) -> bool {
    poll_now(fd, 0) & (libc::POLLERR | libc::POLLHUP) != 0
}

/// An option of a socket that is a number.
#[cfg(feature = "monkey")]
pub(crate) fn option(fd: RawFd, name: libc::c_int) -> Option<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    let place = (&raw mut value).cast();
    // SAFETY: room for the answer, of the size that is given.
    let result = unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, name, place, &mut length) };
    (result == 0).then_some(value)
}

/// The events of a descriptor at this moment. By number, since `poll` may be a hook that switches.
pub(crate) fn poll_now(fd: RawFd, events: libc::c_short) -> libc::c_short {
    let mut question = libc::pollfd { fd, events, revents: 0 };
    let time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let no_mask = ptr::null::<libc::sigset_t>();
    // SAFETY: one question and a time, which live on; it does not wait.
    let count = unsafe {
        libc::syscall(
            libc::SYS_ppoll,
            &raw mut question,
            1_usize,
            &raw const time,
            no_mask,
            0_usize,
        )
    };
    if count > 0 { question.revents } else { 0 }
}

/// Sets whether calls that use it block. That is so for all that share what it is a descriptor of: copies,
/// and children.
pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>, nonblocking: bool) -> io::Result<()> {
    // SAFETY: an open descriptor; no memory is involved.
    let flags = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })?;
    let wanted = if nonblocking { flags | libc::O_NONBLOCK } else { flags & !libc::O_NONBLOCK };
    if wanted != flags {
        // SAFETY: an open descriptor; no memory is involved.
        check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, wanted) })?;
    }
    Ok(())
}

/// Whether it can be read from, or else written to, at this moment. An error or an end counts as such.
///
/// Urgent data of a socket is an event as well, but a read passes over it and may find nothing behind it. So
/// the kernel is asked for a byte then, which it leaves there. (No error is pending that this would take.)
pub(crate) fn is_ready(fd: RawFd, to_be_read: bool) -> bool {
    if !to_be_read {
        return poll_now(fd, libc::POLLOUT) != 0;
    }
    let events = poll_now(fd, libc::POLLIN | libc::POLLPRI);
    let is_urgent = events & libc::POLLPRI != 0 && events & !(libc::POLLIN | libc::POLLPRI) == 0;
    events != 0 && !(is_urgent && would_block(fd))
}

/// Whether a receive of a socket would wait. `false` of what is no socket. By number, as above.
fn would_block(fd: RawFd) -> bool {
    let (mut byte, no_address) = (0_u8, ptr::null_mut::<libc::c_void>());
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
    let place = &raw mut byte;
    // SAFETY: room for one byte; no address is asked for.
    let count = unsafe {
        libc::syscall(libc::SYS_recvfrom, fd, place, 1_usize, flags, no_address, no_address)
    };
    count < 0 && io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
