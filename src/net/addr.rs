#![forbid(unsafe_code)]
//! Address resolution.

use crate::pool::try_unblock;
use std::io;
use std::net::{self, IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// A value that resolves to socket addresses.
///
/// Like [`std::net::ToSocketAddrs`], but a name is looked up on a thread of
/// [`ThreadPool::global`](crate::pool::ThreadPool::global), so that other coroutines run meanwhile.
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
    /// Returns the addresses. A name may have several.
    ///
    /// # Errors
    ///
    /// If the name is unknown or malformed; if no thread is available for the lookup.
    ///
    /// # Switching
    ///
    /// May switch: other coroutines run while a name is looked up.
    ///
    /// # Cancellation
    ///
    /// The lookup continues on its thread; its result is lost.
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

/// Tries the addresses in order, and returns the first success or the last error.
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
    let none = || io::Error::new(io::ErrorKind::InvalidInput, "the name resolves to no address");
    Err(last.unwrap_or_else(none))
}
