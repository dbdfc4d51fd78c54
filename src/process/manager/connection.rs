#![forbid(unsafe_code)]
//! Connections to managers, and a pool of idle ones per thread.
//!
//! ```text
//!   request: an idle connection, or a new one ──► request and whole answer ──► idle, in this thread's pool
//!                                                   │
//!                                                   └ an error, a kill, a timeout ──► closed
//! ```
//!
//! So several coroutines can send requests at once, each over its own connection, and none receives an
//! answer that another has abandoned. No user code runs while a connection is in use: requests are encoded
//! before, and answers decoded afterwards.

use super::super::wire::Wire;
use super::address::Address;
use super::protocol::{Answer, Request};
use crate::sys::fork::Generation;
use serde::de::DeserializeOwned;
use std::cell::RefCell;
use std::io::{self, Read};
use std::net::Shutdown;

/// The maximum number of idle connections per manager.
const MAX_IDLE: usize = 4;

thread_local! {
    static IDLE: RefCell<Idle> = const { RefCell::new(Idle(Vec::new())) };
}

/// Connections without an outstanding answer, the most recently used last.
struct Idle(Vec<Connection>);

struct Connection {
    address: Address,
    wire: Wire,
    made_in: Generation,
}

/// Sends a request to a manager, and waits for its answer.
///
/// # Errors
///
/// `NotConnected` if the manager has ended. `InvalidInput` if the request cannot be sent. An error of the
/// kernel if a new connection cannot be made.
///
/// # Cancellation
///
/// The request may have been carried out or not.
pub(super) fn request<T: DeserializeOwned>(address: &Address, request: &Request) -> io::Result<T> {
    let mut connection = Connection::get(address)?;
    match connection.exchange::<T>(request) {
        Ok(answer) => {
            connection.put_back();
            answer.map_err(io::Error::from)
        }
        // Nothing was sent, so the connection is still usable.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            connection.put_back();
            Err(error)
        }
        Err(error) => Err(map_ended(address, error)),
    }
}

/// Asks a manager to end. There is no answer.
pub(super) fn request_end(address: &Address) -> io::Result<()> {
    Connection::get(address)?.wire.send(&Request::End).map_err(|error| map_ended(address, error))
}

/// Closes the idle connections to a manager that has ended.
pub(super) fn close_all(address: &Address) {
    with_idle(|idle| idle.take_all(|connection| connection.address == *address));
}

/// In a forked process: closes the idle connections that the parent uses.
pub(super) fn close_inherited() {
    with_idle(Idle::take_inherited);
}

/// Takes connections out of the pool, and drops them after the borrow has ended.
fn with_idle(take: impl FnOnce(&mut Idle) -> Vec<Connection>) {
    // While the thread is ending, there is no pool.
    let taken = IDLE.try_with(|idle| take(&mut idle.borrow_mut()));
    drop(taken);
}

/// Turns an error that means that the manager has ended into `NotConnected`.
fn map_ended(address: &Address, error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::ConnectionRefused
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => {
            close_all(address);
            io::Error::new(io::ErrorKind::NotConnected, format!("the manager has ended: {error}"))
        }
        _ => error,
    }
}

impl Idle {
    fn take_all(&mut self, which: impl FnMut(&mut Connection) -> bool) -> Vec<Connection> {
        self.0.extract_if(.., which).collect()
    }

    fn take_inherited(&mut self) -> Vec<Connection> {
        let here = Generation::current();
        self.take_all(|connection| connection.made_in != here)
    }

    fn take_one(&mut self, address: &Address) -> Option<Connection> {
        let last = self.0.iter().rposition(|connection| connection.address == *address)?;
        Some(self.0.remove(last))
    }
}

impl Connection {
    fn get(address: &Address) -> io::Result<Self> {
        close_inherited();
        let idle_connection = IDLE.try_with(|idle| idle.borrow_mut().take_one(address));
        match idle_connection.ok().flatten() {
            Some(idle_connection) => Ok(idle_connection),
            None => {
                // Drops connections to managers that have ended; otherwise they would accumulate.
                with_idle(|idle| idle.take_all(|connection| connection.is_closed_by_peer()));
                Self::new(address)
            }
        }
    }

    fn new(address: &Address) -> io::Result<Self> {
        let stream = address.connect().map_err(|error| map_ended(address, error))?;
        let mut wire = Wire::new(stream);
        wire.send(&address.key()).map_err(|error| map_ended(address, error))?;
        Ok(Connection { address: *address, wire, made_in: Generation::current() })
    }

    fn exchange<T: DeserializeOwned>(&mut self, request: &Request) -> io::Result<Answer<T>> {
        self.wire.send(request)?;
        self.wire.receive()?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// Returns the connection to the pool, unless that has enough.
    fn put_back(self) {
        let (address, mut connection) = (self.address, Some(self));
        let _ = IDLE.try_with(|idle| {
            let Idle(all) = &mut *idle.borrow_mut();
            if all.iter().filter(|other| other.address == address).count() < MAX_IDLE {
                all.extend(connection.take());
            }
        });
    }

    /// Whether the peer has closed an idle connection.
    fn is_closed_by_peer(&self) -> bool {
        let stream = self.wire.stream();
        let nothing = stream.set_nonblocking(true).and_then(|()| (&**stream).read(&mut [0]));
        let _ = stream.set_nonblocking(false);
        !matches!(nothing, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.made_in == Generation::current() {
            // `shutdown` works even if a child has a copy of the socket.
            let _ = self.wire.stream().shutdown(Shutdown::Both);
        }
    }
}
