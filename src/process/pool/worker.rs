//! What a pool and its workers say to each other.
//!
//! ```text
//!   pool ── Order: a function, arguments ──► worker
//!        ◄── Done, for the first argument ──    calls the function with each, in turn
//!        ◄── Done, for the second ──
//!        ...
//!        ── the end of the connection ─────► ends
//! ```
//!
//! So it is known which argument a worker has died of, and the others can be given to another one.
//!
//! One of the few places of the module with `unsafe`: it calls functions that it is told of.

use super::super::function::{Function, Undecodable};
use super::super::wire::Wire;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

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

/// What a worker does.
pub(in crate::process) fn work(mut wire: Wire) -> io::Result<()> {
    while let Some(Order { function, arguments }) = wire.receive::<Order<ByteBuf>>()? {
        for argument in arguments {
            let done: Done = catch_unwind(AssertUnwindSafe(|| {
                // SAFETY: the socket that it came by is one of a pair, which the pool has made, and whose
                // other end it keeps: a process that this one descends from, or that descends from the same.
                unsafe { function.call(&argument) }
            }))
            .map_err(|payload| Failure::Panicked(message(&*payload)))
            .and_then(|result| result.map(ByteBuf::from).map_err(Failure::Undecodable));
            wire.send(&done)?;
        }
    }
    Ok(())
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
    text.unwrap_or("(no message)").into()
}
