#![forbid(unsafe_code)]
//! Where a manager listens, and who may talk to it.
//!
//! Its name is in Linux's namespace of sockets that are in no folder: nothing is left of it when it is
//! killed. Everybody can read these names, and take one that is free again. So each side asks the kernel
//! whether the other is the same user's, and whoever connects says a key that is told to nobody but those who
//! have a handle.

use crate::net::UnixStream;
use crate::sys::socket::{peer_user, user};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{self, SocketAddr};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// What is said first over a connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(in crate::process) struct Key(u128);

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
    pub(super) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let (process, number) = (process::id(), NUMBER.fetch_add(1, Relaxed));
        // Of keys that the kernel has made up.
        let hashes = RandomState::new();
        let random = |place: u32| hashes.hash_one((process, number, place));
        let key = Key(u128::from(random(1)) << 64 | u128::from(random(2)));
        Address { process, number, random: random(0), key }
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
        let (a, b) = (Address::new(), Address::new());
        assert!(a.to_string() != b.to_string() && a.random != b.random && a.key != b.key);
        let Key(key) = a.key;
        assert!(!a.to_string().contains(&format!("{:016x}", key as u64)));
    }

    #[test]
    fn only_one_can_listen_and_afterwards_nobody_does() {
        let address = Address::new();
        let listener = address.bind().unwrap();
        assert_eq!(address.bind().unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert!(is_of_same_user(&address.connect().unwrap()).unwrap());
        drop(listener);
        assert_eq!(address.connect().unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }
}
