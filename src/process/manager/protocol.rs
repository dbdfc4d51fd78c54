#![forbid(unsafe_code)]
//! What a manager is asked, and answers.
//!
//! ```text
//!   client ── Key ───────────► manager: closes the connection if it is not its own
//!          ── Request ───────►
//!          ◄── Answer<T> ─────    T by the request
//!          ── Request ───────►
//!          ...
//! ```
//!
//! A request is carried out when it has come whole, at once, and by itself: so each is atomic.

use super::bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::io;

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// A new dictionary: its number, a `u64`.
    New,
    /// To one of that number.
    Do(u64, Operation),
    /// The end. There is no answer.
    End,
}

/// What is done with a dictionary. Beside each, the type of what it answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Operation {
    /// `Option<Bytes>`, as the next two: what was there.
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
    /// `Vec<Bytes>`, as the next one.
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

/// What is there instead, if it is not what was expected.
pub(super) type Exchanged = Result<(), Option<Bytes>>;

pub(super) type Answer<T> = Result<T, Refusal>;

/// Why there is no answer, although the manager lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Refusal {
    NoSuchDict,
    /// What there is to be said cannot be sent, since...
    TooLarge(String),
}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NoSuchDict => {
                io::Error::new(io::ErrorKind::NotFound, "the manager has no such dict")
            }
            Refusal::TooLarge(why) => io::Error::other(format!("the manager cannot answer: {why}")),
        }
    }
}
