//! The protocol between a pool and its workers.
//!
//! ```text
//!   pool ── WorkRequest: a function, arguments ──► worker     calls the function with each, in turn
//!        ◄── results, in the log ─────────────────            (`sys/shared_log.rs`)
//!        ◄── Reply::InLog ────────────────────────            at the end of the request, and now and then
//!        ◄── Reply::Result: a large result ───────            follows those in the log
//!        ── the end of the connection ────────────► ends
//! ```
//!
//! The pool also ends the connection when it notices the end of the worker (`process_pool.rs`).
//!
//! A small result costs no system call, and yet survives the end of the worker. So the pool knows which
//! call the worker died in, and can give the others to another worker.
//!
//! # Safety
//!
//! Contains `unsafe`, since it calls functions that a request names. Requests come only from the pool, over
//! a socket pair, and so from a process that meets the *same image* contract of [`Function::call`].

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

/// A request to call a function with each of several arguments.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WorkRequest<A> {
    pub(super) function: Function,
    /// Encoded.
    pub(super) arguments: Vec<A>,
}

/// The result of a call, encoded.
pub(super) type CallResult = Result<ByteBuf, Failure>;

/// The reason why a call has no result, although the worker lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Failure {
    /// With the message of the panic.
    Panicked(String),
    Undecodable(Undecodable),
}

/// A message from a worker.
#[derive(Debug, Serialize, Deserialize)]
enum Reply {
    /// There are results in the log.
    InLog,
    /// A further result, after those in the log.
    Result(CallResult),
}

/// A result of more bytes is sent over the connection.
const MAX_LOGGED: usize = 1024;

/// The age of results in the log at which the worker sends a notice.
const NOTICE_INTERVAL: Duration = Duration::from_micros(200);

/// The main function of a worker.
pub(in crate::process) fn work(mut wire: Wire, log: OwnedFd) -> io::Result<()> {
    close_on_fork(wire.stream());
    let mut log = Writer::new(log.as_fd())?;
    while let Some(WorkRequest { function, arguments }) = wire.receive::<WorkRequest<ByteBuf>>()? {
        // The pool sends a request only when it has read all results of the previous one.
        log.begin_anew();
        let (mut last_notice, mut is_reported) = (Instant::now(), true);
        for argument in arguments {
            let done = call(function, &argument);
            let record = framed(&done)?;
            is_reported = record.len() > MAX_LOGGED || !log.add(&record);
            if is_reported {
                wire.send(&Reply::Result(done))?;
            } else if last_notice.elapsed() > NOTICE_INTERVAL {
                wire.send(&Reply::InLog)?;
                (last_notice, is_reported) = (Instant::now(), true);
            }
        }
        if !is_reported {
            wire.send(&Reply::InLog)?;
        }
    }
    Ok(())
}

fn call(function: Function, argument: &[u8]) -> CallResult {
    catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: *same image*: the request came over one end of a socket pair that the pool made, and
        // whose other end the pool keeps. The pool is in an ancestor of this process by fork, or in
        // another descendant of one.
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

/// The results of a worker, on the side of the pool.
#[derive(Debug)]
pub(super) struct Results {
    wire: Wire,
    log: Reader,
    /// Results received but not taken.
    waiting: VecDeque<CallResult>,
}

impl Results {
    pub(super) fn new(wire: Wire, log: Reader) -> Self {
        Results { wire, log, waiting: VecDeque::new() }
    }

    /// Sends a request. All results of the previous one have been [taken](Self::next).
    pub(super) fn send(&mut self, request: &WorkRequest<&Bytes>) -> io::Result<()> {
        self.log.reset();
        self.wire.send(request)
    }

    /// Waits for the next result of the request.
    ///
    /// # Errors
    ///
    /// If the worker has ended. All results that it had stored before were returned first.
    pub(super) fn next(&mut self) -> io::Result<CallResult> {
        loop {
            if let Some(done) = self.waiting.pop_front() {
                return Ok(done);
            }
            let reply = self.wire.receive();
            self.waiting.extend(records(&self.log.read())?);
            match reply {
                Ok(Some(Reply::InLog)) => {}
                Ok(Some(Reply::Result(done))) => self.waiting.push_back(done),
                _ if !self.waiting.is_empty() => {}
                Ok(None) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Ends the connection, even if a child of this process has a copy of the socket.
    pub(super) fn end(&self) {
        let _ = self.wire.stream().shutdown(Shutdown::Both);
    }
}
