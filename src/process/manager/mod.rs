//! A process that keeps dictionaries, and those who talk to it.
//!
//! - [`Manager`] (`handle.rs`) begins and ends the process; `service.rs` is what the process does, `store.rs`
//!   what it keeps: `bytes.rs`, whose types it does not know;
//! - [`Dict`] (`dict.rs`) is what is used of it, from any process; `protocol.rs` is what they say to each
//!   other, `address.rs` where, `connection.rs` by what.

mod address;
mod bytes;
mod connection;
mod dict;
mod handle;
mod protocol;
mod service;
mod store;

pub(super) use address::Key;
pub use dict::Dict;
pub use handle::Manager;
pub(super) use service::serve;
