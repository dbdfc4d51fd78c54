#![forbid(unsafe_code)]
//! Where a manager listens, and who may talk to it.
//!
//! Its name is in Linux's namespace of sockets that are in no folder: nothing is left of it when it is
//! killed. Everybody can read these names, and take one that is free again. So each side asks the kernel
//! whether the other is the same user's, and whoever connects says a key that is told to nobody but those who
//! have a handle.

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

/// What is said first over a connection. Random bytes of the kernel's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(in crate::process) struct Key(u128);

impl Key {
    /// Bytes that it takes at most when it is encoded: seven bits each.
    pub(super) const MOST_BYTES: usize = 128_usize.div_ceil(7);
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Address {
    /// The process that has made it.
    process: u32,
    /// How many it had made before.
    number: u32,
    /// Nobody guesses it.
    random: u64,
    key: Key,
}

impl Address {
    /// One that nobody else has.
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

    /// Listens there. From now on one can connect, and is kept waiting by the kernel.
    pub(super) fn bind(&self) -> io::Result<net::UnixListener> {
        net::UnixListener::bind_addr(&self.to_socket_addr()?)
    }

    /// # Switching
    ///
    /// Switches while too many wait to be accepted.
    pub(super) fn connect(&self) -> io::Result<UnixStream> {
        let stream = UnixStream::connect_addr(&self.to_socket_addr()?)?;
        if !is_of_same_user(&stream)? {
            let message = "the manager's socket is another user's: this process or the manager has \
                           changed its user, or the manager has ended";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
        }
        Ok(stream)
    }
}

/// Whether the other end is a process of this user.
pub(super) fn is_of_same_user(stream: &UnixStream) -> io::Result<bool> {
    Ok(peer_user(stream.as_fd())? == user())
}

/// The name, which is no secret.
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
    fn no_two_are_alike_and_the_name_says_nothing_of_the_key() {
        let (a, b) = (Address::new().unwrap(), Address::new().unwrap());
        assert!(a.to_string() != b.to_string() && a.random != b.random && a.key != b.key);
        let Key(key) = a.key;
        assert!(!a.to_string().contains(&format!("{:016x}", key as u64)));
    }

    #[test]
    fn a_key_is_as_long_as_is_said_at_most() {
        let encoded = postcard::to_stdvec(&Key(u128::MAX)).unwrap();
        assert_eq!(encoded.len(), Key::MOST_BYTES);
    }

    #[test]
    fn only_one_can_listen_and_afterwards_nobody_does() {
        let address = Address::new().unwrap();
        let listener = address.bind().unwrap();
        assert_eq!(address.bind().unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert!(is_of_same_user(&address.connect().unwrap()).unwrap());
        drop(listener);
        assert_eq!(address.connect().unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }
}
