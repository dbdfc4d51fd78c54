#![forbid(unsafe_code)]
//! The manager's process, which answers in one coroutine per connection.

use super::super::wire::Wire;
use super::address::{Key, is_of_same_user};
use super::connection;
use super::protocol::{Answer, Operation, Refusal, Request};
use super::store::{Store, Table};
use crate::net::{StreamServer, UnixListener, UnixStream};
use crate::signal::{self, Signal};
use crate::sync::Event;
use serde::Serialize;
use std::cell::RefCell;
use std::io;
use std::os::unix::net;
use std::rc::Rc;

/// The state that the coroutines share.
struct Service {
    key: Key,
    store: RefCell<Store>,
    shutdown: Event,
}

/// Answers clients that know `key`, until one requests the end.
pub(in crate::process) fn serve(listener: net::UnixListener, key: Key) -> io::Result<()> {
    // Ctrl-C is meant for the clients, which may continue to use the manager while they end.
    let _handler = signal::on(Signal::INT, || ())?;
    connection::close_inherited();
    let store = RefCell::default();
    let service = Rc::new(Service { key, store, shutdown: Event::new() });
    let answering = Rc::clone(&service);
    let server = StreamServer::new(UnixListener::from_std(listener)?, move |stream, _| {
        // An error concerns this connection only: its client finds it closed.
        let _ = answering.answer(stream);
    });
    server.start();
    service.shutdown.wait();
    Ok(())
}

impl Service {
    fn answer(&self, stream: UnixStream) -> io::Result<()> {
        if !is_of_same_user(&stream)? {
            return Ok(());
        }
        let mut wire = Wire::new(stream);
        // A peer that does not know the key cannot make the manager allocate much memory.
        if wire.receive_at_most(Key::MAX_BYTES)? != Some(self.key) {
            return Ok(());
        }
        while let Some(request) = wire.receive()? {
            match request {
                Request::New => {
                    let number = self.store.borrow_mut().add();
                    send(&mut wire, Ok(number))?;
                }
                Request::Do(number, operation) => self.carry_out(&mut wire, number, operation)?,
                Request::End => {
                    self.shutdown.set();
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn carry_out(&self, wire: &mut Wire, number: u64, operation: Operation) -> io::Result<()> {
        match operation {
            Operation::Insert(key, value) => {
                send(wire, self.with(number, |table| table.insert(key, value)))
            }
            Operation::Get(key) => send(wire, self.with(number, |table| table.get(&key))),
            Operation::Remove(key) => send(wire, self.with(number, |table| table.remove(&key))),
            Operation::ContainsKey(key) => {
                send(wire, self.with(number, |table| table.contains_key(&key)))
            }
            Operation::Len => send(wire, self.with(number, |table| table.len())),
            Operation::Clear => send(wire, self.with(number, Table::clear)),
            Operation::Extend(items) => send(wire, self.with(number, |table| table.extend(items))),
            Operation::Keys => send(wire, self.with(number, |table| table.keys())),
            Operation::Values => send(wire, self.with(number, |table| table.values())),
            Operation::Items => send(wire, self.with(number, |table| table.items())),
            Operation::GetOrInsert(key, value) => {
                send(wire, self.with(number, |table| table.get_or_insert(key, value)))
            }
            Operation::CompareExchange { key, current, new } => {
                send(wire, self.with(number, |table| table.compare_exchange(key, current, new)))
            }
        }
    }

    /// Runs an operation on a table.
    ///
    /// The store is borrowed only during the operation, since sending the answer may switch.
    fn with<R>(&self, number: u64, operation: impl FnOnce(&mut Table) -> R) -> Answer<R> {
        self.store.borrow_mut().table(number).map(operation)
    }
}

fn send<T: Serialize>(wire: &mut Wire, answer: Answer<T>) -> io::Result<()> {
    match wire.send(&answer) {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            wire.send(&Answer::<T>::Err(Refusal::TooLarge(error.to_string())))
        }
        other => other,
    }
}
