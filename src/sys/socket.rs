//! Connections that are begun and not waited for, listeners that share an address, whose a connection is, and
//! descriptors that are emptied.

use std::io;
use std::mem;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::SocketAddr as UnixAddr;

/// Makes a stream socket that does not block, and begins to connect it. It is connected, or has failed, when
/// it is writable.
pub(crate) fn begin_to_connect(address: &SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let socket = stream_socket(family)?;
    let (storage, length) = to_c(address);
    // SAFETY: an address of the length that is said.
    let result = unsafe { libc::connect(socket.as_raw_fd(), (&raw const storage).cast(), length) };
    if result < 0 {
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::EINPROGRESS) {
            return Err(error);
        }
    }
    Ok(socket)
}

/// Makes a socket that does not block and listens at `address`, as others may that are made so.
pub(crate) fn listen_among_others(address: &SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let socket = stream_socket(family)?;
    set(&socket, libc::SO_REUSEADDR)?;
    set(&socket, libc::SO_REUSEPORT)?;
    let (storage, length) = to_c(address);
    // SAFETY: an address of the length that is said.
    if unsafe { libc::bind(socket.as_raw_fd(), (&raw const storage).cast(), length) } < 0 {
        return Err(io::Error::last_os_error());
    }
    listen(socket.as_fd())?;
    Ok(socket)
}

/// Has a socket listen, with as many connections waiting as the system allows, also if it listens already.
pub(crate) fn listen(socket: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no preconditions. The kernel takes the smaller of this and `net.core.somaxconn`.
    match unsafe { libc::listen(socket.as_raw_fd(), libc::c_int::MAX) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sets an option of sockets that is on or off.
fn set(socket: &OwnedFd, option: libc::c_int) -> io::Result<()> {
    let on: libc::c_int = 1;
    let (value, length) = ((&raw const on).cast(), size_of_val(&on) as libc::socklen_t);
    let level = libc::SOL_SOCKET;
    // SAFETY: a value of the length that is said.
    match unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, value, length) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Makes a stream socket that does not block, and connects it to the one at `address`.
pub(crate) fn connect_unix(address: &UnixAddr) -> io::Result<OwnedFd> {
    let path = address.as_pathname().map(|path| path.as_os_str().as_bytes());
    // A name that is in no directory begins with a zero byte, and one that is ends with one.
    let (start, name) = match (path, address.as_abstract_name()) {
        (Some(path), _) => (0, path),
        (None, Some(name)) => (1, name),
        (None, None) => return Err(io::Error::from_raw_os_error(libc::EINVAL)),
    };
    let mut c_address: libc::sockaddr_un =
        // SAFETY: all-zero is a valid address.
        unsafe { mem::zeroed() };
    c_address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    for (place, byte) in c_address.sun_path[start..].iter_mut().zip(name) {
        *place = *byte as libc::c_char;
    }
    let length = mem::offset_of!(libc::sockaddr_un, sun_path) + name.len() + 1;
    let length = length.min(size_of::<libc::sockaddr_un>()) as libc::socklen_t;
    let socket = stream_socket(libc::AF_UNIX)?;
    // SAFETY: an address of the length that is said.
    match unsafe { libc::connect(socket.as_raw_fd(), (&raw const c_address).cast(), length) } {
        0 => Ok(socket),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Closes what a descriptor stands for, and keeps its number: from now on it is a socket that is connected to
/// nobody.
pub(crate) fn empty(descriptor: BorrowedFd<'_>) -> io::Result<()> {
    let nobody = stream_socket(libc::AF_UNIX)?;
    // SAFETY: both are descriptors that are open, and both stay so.
    match unsafe { libc::dup3(nobody.as_raw_fd(), descriptor.as_raw_fd(), libc::O_CLOEXEC) } {
        0.. => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The user that the other end of a Unix socket belongs to, as it was when that end was connected or began to
/// listen.
#[cfg(feature = "process")]
pub(crate) fn peer_user(socket: BorrowedFd<'_>) -> io::Result<libc::uid_t> {
    let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: room of the length that is said.
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

/// The user that this process acts for.
#[cfg(feature = "process")]
pub(crate) fn user() -> libc::uid_t {
    // SAFETY: no preconditions.
    unsafe { libc::geteuid() }
}

fn stream_socket(family: libc::c_int) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: no preconditions.
    let fd = unsafe { libc::socket(family, kind, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor of ours.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// An address as C has it, and its length.
fn to_c(address: &SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: all-zero is a valid address storage.
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
            // SAFETY: a storage has room and alignment for every address.
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
            // SAFETY: a storage has room and alignment for every address.
            unsafe { place.cast::<libc::sockaddr_in6>().write(value) };
            size_of::<libc::sockaddr_in6>()
        }
    };
    (storage, length as libc::socklen_t)
}
