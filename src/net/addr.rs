#![forbid(unsafe_code)]
//! Addresses by name.

use crate::pool::try_unblock;
use std::io;
use std::net::{self, IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// What can be turned into addresses: as [`std::net::ToSocketAddrs`], but a name is looked up on a thread of
/// [`ThreadPool::global`](crate::pool::ThreadPool::global), so that the other coroutines run meanwhile.
///
/// # Examples
///
/// ```
/// use switchgrass::net::ToSocketAddrs;
///
/// let all = ("localhost", 80).resolve().unwrap();
/// assert!(all.iter().all(|address| address.ip().is_loopback() && address.port() == 80));
/// ```
pub trait ToSocketAddrs {
    /// The addresses, of which there may be several for a name.
    ///
    /// # Errors
    ///
    /// If the name is not known, or is not one; if there is no thread for the look-up.
    ///
    /// # Switching
    ///
    /// Switches if a name has to be looked up. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The look-up goes on on its thread; its result is lost.
    fn resolve(&self) -> io::Result<Vec<SocketAddr>>;
}

macro_rules! known {
    ($($type:ty),* $(,)?) => {$(
        impl ToSocketAddrs for $type {
            fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
                Ok(vec![(*self).into()])
            }
        }
    )*};
}

known!(SocketAddr, SocketAddrV4, SocketAddrV6, (IpAddr, u16), (Ipv4Addr, u16), (Ipv6Addr, u16));

impl ToSocketAddrs for (&str, u16) {
    fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        let (host, port) = *self;
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(vec![(ip, port).into()]);
        }
        let host = host.to_owned();
        try_unblock(move || {
            net::ToSocketAddrs::to_socket_addrs(&(host.as_str(), port)).map(Vec::from_iter)
        })?
    }
}

impl ToSocketAddrs for (String, u16) {
    fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        (self.0.as_str(), self.1).resolve()
    }
}

impl ToSocketAddrs for str {
    fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = self.parse() {
            return Ok(vec![address]);
        }
        let name = self.to_owned();
        try_unblock(move || net::ToSocketAddrs::to_socket_addrs(name.as_str()).map(Vec::from_iter))?
    }
}

impl ToSocketAddrs for String {
    fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        self.as_str().resolve()
    }
}

impl ToSocketAddrs for &[SocketAddr] {
    fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        Ok(self.to_vec())
    }
}

impl<T: ToSocketAddrs + ?Sized> ToSocketAddrs for &T {
    fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        (**self).resolve()
    }
}

/// Tries one address after the other.
pub(super) fn each<T>(
    addresses: impl ToSocketAddrs,
    mut attempt: impl FnMut(&SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    let mut last = None;
    for address in addresses.resolve()? {
        match attempt(&address) {
            Ok(done) => return Ok(done),
            Err(error) => last = Some(error),
        }
    }
    let none = || io::Error::new(io::ErrorKind::InvalidInput, "there is no address for that name");
    Err(last.unwrap_or_else(none))
}
