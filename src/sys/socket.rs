//! Sockets: nonblocking connects, listeners that share an address, peers' users, and disconnecting.

use std::io;
use std::mem;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::SocketAddr as UnixAddr;

/// Creates a nonblocking stream socket and starts to connect it.
///
/// When it becomes writable, it is connected or has failed.
pub(crate) fn begin_to_connect(address: &SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let socket = stream_socket(family)?;
    let (storage, length) = to_c(address);
    // SAFETY: `storage` is an address of `length` bytes.
    let result = unsafe { libc::connect(socket.as_raw_fd(), (&raw const storage).cast(), length) };
    if result < 0 {
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::EINPROGRESS) {
            return Err(error);
        }
    }
    Ok(socket)
}

/// Creates a nonblocking socket that listens at `address`, which other such sockets may share.
pub(crate) fn listen_among_others(address: &SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let socket = stream_socket(family)?;
    set(&socket, libc::SO_REUSEADDR)?;
    set(&socket, libc::SO_REUSEPORT)?;
    let (storage, length) = to_c(address);
    // SAFETY: `storage` is an address of `length` bytes.
    if unsafe { libc::bind(socket.as_raw_fd(), (&raw const storage).cast(), length) } < 0 {
        return Err(io::Error::last_os_error());
    }
    listen(socket.as_fd())?;
    Ok(socket)
}

/// Makes a socket listen, with the longest backlog that the system allows.
///
/// If it listens already, this changes its backlog.
pub(crate) fn listen(socket: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: `listen` has no preconditions. The kernel takes the smaller of this and `net.core.somaxconn`.
    match unsafe { libc::listen(socket.as_raw_fd(), libc::c_int::MAX) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Switches on a boolean option of a socket.
fn set(socket: &OwnedFd, option: libc::c_int) -> io::Result<()> {
    let on: libc::c_int = 1;
    let (value, length) = ((&raw const on).cast(), size_of_val(&on) as libc::socklen_t);
    let level = libc::SOL_SOCKET;
    // SAFETY: `value` points to `length` bytes.
    match unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, value, length) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Creates a nonblocking stream socket, and connects it to the Unix socket at `address`.
pub(crate) fn connect_unix(address: &UnixAddr) -> io::Result<OwnedFd> {
    let path = address.as_pathname().map(|path| path.as_os_str().as_bytes());
    // An abstract name begins with a zero byte; a path ends with one.
    let (start, name) = match (path, address.as_abstract_name()) {
        (Some(path), _) => (0, path),
        (None, Some(name)) => (1, name),
        (None, None) => return Err(io::Error::from_raw_os_error(libc::EINVAL)),
    };
    let mut c_address: libc::sockaddr_un =
        // SAFETY: an all-zero `sockaddr_un` is valid.
        unsafe { mem::zeroed() };
    c_address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    for (place, byte) in c_address.sun_path[start..].iter_mut().zip(name) {
        *place = *byte as libc::c_char;
    }
    let length = mem::offset_of!(libc::sockaddr_un, sun_path) + name.len() + 1;
    let length = length.min(size_of::<libc::sockaddr_un>()) as libc::socklen_t;
    let socket = stream_socket(libc::AF_UNIX)?;
    // SAFETY: `c_address` is an address of `length` bytes.
    match unsafe { libc::connect(socket.as_raw_fd(), (&raw const c_address).cast(), length) } {
        0 => Ok(socket),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Closes what a descriptor refers to, and makes it an unconnected socket. Its number stays in use.
pub(crate) fn empty(descriptor: BorrowedFd<'_>) -> io::Result<()> {
    let unconnected = stream_socket(libc::AF_UNIX)?;
    // SAFETY: `dup3` accesses no memory. Both descriptors are open and stay open.
    match unsafe { libc::dup3(unconnected.as_raw_fd(), descriptor.as_raw_fd(), libc::O_CLOEXEC) } {
        0.. => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Returns the user of the other end of a Unix socket, at the time when that end connected or began to
/// listen.
#[cfg(feature = "process")]
pub(crate) fn peer_user(socket: BorrowedFd<'_>) -> io::Result<libc::uid_t> {
    let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: `peer` has room for `length` bytes.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &mut length,
        )
    };
    match result {
        0 => Ok(peer.uid),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Returns the effective user of this process.
#[cfg(feature = "process")]
pub(crate) fn user() -> libc::uid_t {
    // SAFETY: `geteuid` has no preconditions.
    unsafe { libc::geteuid() }
}

/// Creates a nonblocking stream socket.
fn stream_socket(family: libc::c_int) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: `socket` has no preconditions.
    let fd = unsafe { libc::socket(family, kind, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `fd` is a new descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Converts an address to C's form, and returns it with its length.
fn to_c(address: &SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: an all-zero `sockaddr_storage` is valid.
    let mut storage: libc::sockaddr_storage = unsafe { mem::zeroed() };
    let place = &raw mut storage;
    let length = match address {
        SocketAddr::V4(address) => {
            let value = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: address.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
                sin_zero: [0; 8],
            };
            // SAFETY: a `sockaddr_storage` has room and alignment for every address.
            unsafe { place.cast::<libc::sockaddr_in>().write(value) };
            size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(address) => {
            let value = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: address.port().to_be(),
                sin6_flowinfo: address.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
                sin6_scope_id: address.scope_id(),
            };
            // SAFETY: a `sockaddr_storage` has room and alignment for every address.
            unsafe { place.cast::<libc::sockaddr_in6>().write(value) };
            size_of::<libc::sockaddr_in6>()
        }
    };
    (storage, length as libc::socklen_t)
}
