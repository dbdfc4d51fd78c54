//! What a pool and its workers say to each other.
//!
//! ```text
//!   pool ── Order: a function, arguments ──► worker     calls the function with each, in turn
//!        ◄── results, in the log ───────────            (`sys/shared_log.rs`)
//!        ◄── Said::Look ────────────────────            at the end of the order, and every now and then
//!        ◄── Said::Done: a large result ────            comes after those that are in the log
//!        ── the end of the connection ──────► ends
//! ```
//!
//! The pool's side also ends the connection when it hears of the worker's end (`process_pool.rs`).
//!
//! So a small result costs no system call, and yet is there whatever becomes of the worker: it is known which
//! call it has died of, and the others can be made by another one.
//!
//! One of the few places of the module with `unsafe`: it calls functions that it is told of.

use super::super::close_on_fork::close_on_fork;
use super::super::function::{Function, Undecodable};
use super::super::wire::{Wire, framed, records};
use crate::sys::shared_log::{Reader, Writer};
use serde::{Deserialize, Serialize};
use serde_bytes::{ByteBuf, Bytes};
use std::any::Any;
use std::collections::VecDeque;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// What a worker is to do.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order<A> {
    pub(super) function: Function,
    /// Encoded.
    pub(super) arguments: Vec<A>,
}

/// What has become of a call: its result, encoded.
pub(super) type Done = Result<ByteBuf, Failure>;

/// Why a call has no result, although the worker lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Failure {
    /// With the message of the panic.
    Panicked(String),
    Undecodable(Undecodable),
}

/// What a worker says.
#[derive(Debug, Serialize, Deserialize)]
enum Reply {
    /// There are results in the log.
    InLog,
    /// And after those, this one.
    Done(Done),
}

/// A result of more bytes goes over the connection.
const SMALL: usize = 1024;

/// Results in the log are told of when they are as old as that.
const SOON: Duration = Duration::from_micros(200);

/// What a worker does.
pub(in crate::process) fn work(mut wire: Wire, log: OwnedFd) -> io::Result<()> {
    close_on_fork(wire.stream());
    let mut log = Writer::new(log.as_fd())?;
    while let Some(Order { function, arguments }) = wire.receive::<Order<ByteBuf>>()? {
        // Whoever sends another order has seen all results of the last one.
        log.begin_anew();
        let (mut told, mut is_reported) = (Instant::now(), true);
        for argument in arguments {
            let done = call(function, &argument);
            let record = framed(&done)?;
            is_reported = record.len() > SMALL || !log.add(&record);
            if is_reported {
                wire.send(&Reply::Done(done))?;
            } else if told.elapsed() > SOON {
                wire.send(&Reply::InLog)?;
                (told, is_reported) = (Instant::now(), true);
            }
        }
        if !is_reported {
            wire.send(&Reply::InLog)?;
        }
    }
    Ok(())
}

fn call(function: Function, argument: &[u8]) -> Done {
    catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: the socket that it came by is one of a pair, which the pool has made, and whose other end
        // it keeps: a process that this one descends from, or that descends from the same.
        unsafe { function.call(argument) }
    }))
    .map_err(|payload| Failure::Panicked(message(&*payload)))
    .and_then(|result| result.map(ByteBuf::from).map_err(Failure::Undecodable))
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
    text.unwrap_or("(no message)").into()
}

/// What comes from a worker, in the pool's process.
#[derive(Debug)]
pub(super) struct Results {
    wire: Wire,
    log: Reader,
    /// What has come and was not asked for.
    waiting: VecDeque<Done>,
}

impl Results {
    pub(super) fn new(wire: Wire, log: Reader) -> Self {
        Results { wire, log, waiting: VecDeque::new() }
    }

    /// Has an order carried out. All results of the one before have been [taken](Self::next).
    pub(super) fn order(&mut self, order: &Order<&Bytes>) -> io::Result<()> {
        self.log.reset();
        self.wire.send(order)
    }

    /// Waits for the next result of the order.
    ///
    /// # Errors
    ///
    /// If the worker has ended: what it had done by then was returned before.
    pub(super) fn next(&mut self) -> io::Result<Done> {
        loop {
            if let Some(done) = self.waiting.pop_front() {
                return Ok(done);
            }
            let said = self.wire.receive();
            self.waiting.extend(records(&self.log.read())?);
            match said {
                Ok(Some(Reply::InLog)) => {}
                Ok(Some(Reply::Done(done))) => self.waiting.push_back(done),
                _ if !self.waiting.is_empty() => {}
                Ok(None) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Says that there are no more orders: also if a child of this process has a copy of the socket.
    pub(super) fn end(&self) {
        let _ = self.wire.stream().shutdown(Shutdown::Both);
    }
}
