#![forbid(unsafe_code)]
//! The protocol between a manager and its clients.
//!
//! ```text
//!   client ── Key ───────────► manager: closes the connection if it is not its own
//!          ── Request ───────►
//!          ◄── Answer<T> ─────    T depends on the request
//!          ── Request ───────►
//!          ...
//! ```
//!
//! A request is carried out as a whole once all of it has been received, so each is atomic.

use super::bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::io;

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// Creates a dictionary. Answers with its number, a `u64`.
    New,
    /// Carries out an operation on the dictionary with this number.
    Do(u64, Operation),
    /// Ends the manager. There is no answer.
    End,
}

/// An operation on a dictionary. Each states the type of its answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Operation {
    /// `Option<Bytes>`, as for the next two: the previous or current value.
    Insert(Bytes, Bytes),
    Get(Bytes),
    Remove(Bytes),
    /// `bool`.
    ContainsKey(Bytes),
    /// `u64`.
    Len,
    /// `()`.
    Clear,
    /// `()`.
    Extend(Vec<(Bytes, Bytes)>),
    /// `Vec<Bytes>`, as for the next one.
    Keys,
    Values,
    /// `Vec<(Bytes, Bytes)>`.
    Items,
    /// `Bytes`.
    GetOrInsert(Bytes, Bytes),
    /// `Exchanged`.
    CompareExchange {
        key: Bytes,
        current: Option<Bytes>,
        new: Option<Bytes>,
    },
}

/// The actual value as the error, if it is not the expected one.
pub(super) type Exchanged = Result<(), Option<Bytes>>;

pub(super) type Answer<T> = Result<T, Refusal>;

/// The reason why a request has no answer, although the manager lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Refusal {
    NoSuchDict,
    /// The answer cannot be sent, for this reason.
    TooLarge(String),
}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NoSuchDict => {
                io::Error::new(io::ErrorKind::NotFound, "the manager has no such dictionary")
            }
            Refusal::TooLarge(why) => io::Error::other(format!("the manager cannot answer: {why}")),
        }
    }
}
