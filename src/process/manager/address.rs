#![forbid(unsafe_code)]
//! The address of a manager, and the authentication of its clients.
//!
//! The name is in Linux's abstract socket namespace, so nothing is left when the manager is killed. Any
//! user can list these names, and bind one that is free again. Therefore each side checks that the other
//! runs as the same user, and a client sends a key that only holders of a handle know.

use crate::net::UnixStream;
use crate::sys::random;
use crate::sys::socket::{peer_user, user};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{self, SocketAddr};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// The first message on a connection: random bytes from the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(in crate::process) struct Key(u128);

impl Key {
    /// The maximum length of an encoded key in bytes: postcard stores seven bits per byte.
    pub(super) const MAX_BYTES: usize = 128_usize.div_ceil(7);
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Address {
    /// The id of the process that made the address.
    process: u32,
    /// The number of addresses that the process had made before.
    number: u32,
    /// Makes the name unpredictable.
    random: u64,
    key: Key,
}

impl Address {
    /// Makes a unique address.
    pub(super) fn new() -> io::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let (process, number) = (process::id(), NUMBER.fetch_add(1, Relaxed));
        let random = u64::from_ne_bytes(random::bytes()?);
        let key = Key(u128::from_ne_bytes(random::bytes()?));
        Ok(Address { process, number, random, key })
    }

    pub(super) fn key(&self) -> Key {
        self.key
    }

    fn to_socket_addr(self) -> io::Result<SocketAddr> {
        SocketAddr::from_abstract_name(self.to_string())
    }

    /// Binds a listener to the address.
    ///
    /// From now on, clients can connect; they wait in the kernel's backlog.
    pub(super) fn bind(&self) -> io::Result<net::UnixListener> {
        net::UnixListener::bind_addr(&self.to_socket_addr()?)
    }

    /// # Switching
    ///
    /// May switch, while the backlog is full.
    pub(super) fn connect(&self) -> io::Result<UnixStream> {
        let stream = UnixStream::connect_addr(&self.to_socket_addr()?)?;
        if !is_of_same_user(&stream)? {
            let message = "the manager's socket belongs to another user: this process or the manager \
                           has changed its user, or the manager has ended";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
        }
        Ok(stream)
    }
}

/// Whether the peer is a process of this user.
pub(super) fn is_of_same_user(stream: &UnixStream) -> io::Result<bool> {
    Ok(peer_user(stream.as_fd())? == user())
}

/// The name of the socket. It is not secret.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Address { process, number, random, .. } = self;
        write!(f, "switchgrass-manager-{process}-{number}-{random:016x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_unique_and_the_name_does_not_reveal_the_key() {
        let (a, b) = (Address::new().unwrap(), Address::new().unwrap());
        assert!(a.to_string() != b.to_string() && a.random != b.random && a.key != b.key);
        let Key(key) = a.key;
        assert!(!a.to_string().contains(&format!("{:016x}", key as u64)));
    }

    #[test]
    fn the_longest_key_has_the_maximum_length() {
        let encoded = postcard::to_stdvec(&Key(u128::MAX)).unwrap();
        assert_eq!(encoded.len(), Key::MAX_BYTES);
    }

    #[test]
    fn an_address_has_one_listener_and_none_after_it_is_dropped() {
        let address = Address::new().unwrap();
        let listener = address.bind().unwrap();
        assert_eq!(address.bind().unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert!(is_of_same_user(&address.connect().unwrap()).unwrap());
        drop(listener);
        assert_eq!(address.connect().unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }
}
