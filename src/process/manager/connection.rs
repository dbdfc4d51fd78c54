#![forbid(unsafe_code)]
//! Connections to managers, and those that are kept for the next who has something to ask.
//!
//! ```text
//!   ask: one that is kept, or a new one ──► request, answer, whole ──► kept, by this thread
//!                                              │
//!                                              └ an error, a kill, a time limit ──► closed
//! ```
//!
//! So several coroutines ask at once, each over a connection of its own, and none finds an answer that
//! another has given up. Nothing of the user's runs while somebody has a connection: what is asked was
//! encoded before, and what is answered is decoded later.

use super::super::wire::Wire;
use super::address::Address;
use super::protocol::{Answer, Request};
use crate::sys::fork::Generation;
use serde::de::DeserializeOwned;
use std::cell::RefCell;
use std::io::{self, Read};
use std::net::Shutdown;

/// So many are kept for a manager.
const MAX_IDLE: usize = 4;

thread_local! {
    static IDLE: RefCell<Idle> = const { RefCell::new(Idle(Vec::new())) };
}

/// Connections over which nothing is to come, those that were used last at the end.
struct Idle(Vec<Connection>);

struct Connection {
    address: Address,
    wire: Wire,
    made_in: Generation,
}

/// Has a manager carry out a request.
///
/// # Errors
///
/// `NotConnected` if it has ended. `InvalidInput` if the request cannot be sent. Whatever the kernel says of
/// a new connection.
///
/// # Cancellation
///
/// It may have been carried out, or not.
pub(super) fn request<T: DeserializeOwned>(address: &Address, request: &Request) -> io::Result<T> {
    let mut connection = Connection::get(address)?;
    match connection.exchange::<T>(request) {
        Ok(answer) => {
            connection.keep();
            answer.map_err(io::Error::from)
        }
        // Nothing was sent.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            connection.keep();
            Err(error)
        }
        Err(error) => Err(ended(address, error)),
    }
}

/// Tells a manager to end. It may have ended already.
pub(super) fn request_end(address: &Address) -> io::Result<()> {
    Connection::get(address)?.wire.send(&Request::End).map_err(|error| ended(address, error))
}

/// Closes those that are kept for a manager, which has ended.
pub(super) fn close_all(address: &Address) {
    with_idle(|idle| idle.take_all(|connection| connection.address == *address));
}

/// In a process that was made by fork: closes those that another uses.
pub(super) fn close_inherited() {
    with_idle(Idle::take_inherited);
}

/// What is taken out is dropped when nothing is borrowed.
fn with_idle(take: impl FnOnce(&mut Idle) -> Vec<Connection>) {
    // When the thread ends there are none.
    let taken = IDLE.try_with(|idle| take(&mut idle.borrow_mut()));
    drop(taken);
}

/// If it is an error of a manager that is there no more, says so.
fn ended(address: &Address, error: io::Error) -> io::Error {
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
        let kept = IDLE.try_with(|idle| idle.borrow_mut().take_one(address));
        match kept.ok().flatten() {
            Some(kept) => Ok(kept),
            None => {
                // Or there would be more and more, of managers that ended long ago.
                with_idle(|idle| idle.take_all(|connection| connection.is_closed_there()));
                Self::new(address)
            }
        }
    }

    fn new(address: &Address) -> io::Result<Self> {
        let stream = address.connect().map_err(|error| ended(address, error))?;
        let mut wire = Wire::new(stream);
        wire.send(&address.key()).map_err(|error| ended(address, error))?;
        Ok(Connection { address: *address, wire, made_in: Generation::current() })
    }

    fn exchange<T: DeserializeOwned>(&mut self, request: &Request) -> io::Result<Answer<T>> {
        self.wire.send(request)?;
        self.wire.receive()?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// Keeps it for the next one, unless there are enough.
    fn keep(self) {
        let (address, mut connection) = (self.address, Some(self));
        let _ = IDLE.try_with(|idle| {
            let Idle(all) = &mut *idle.borrow_mut();
            if all.iter().filter(|other| other.address == address).count() < MAX_IDLE {
                all.extend(connection.take());
            }
        });
    }

    /// Of one over which nothing is to come: whether the manager has closed it.
    fn is_closed_there(&self) -> bool {
        let stream = self.wire.stream();
        let nothing = stream.set_nonblocking(true).and_then(|()| (&**stream).read(&mut [0]));
        let _ = stream.set_nonblocking(false);
        !matches!(nothing, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.made_in == Generation::current() {
            // Also if a child has a copy of the socket.
            let _ = self.wire.stream().shutdown(Shutdown::Both);
        }
    }
}
