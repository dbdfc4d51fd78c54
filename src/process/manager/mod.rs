//! A process that holds dictionaries, and its clients.
//!
//! - [`Manager`] (`handle.rs`) starts and ends the process; `service.rs` is the process, `store.rs` its
//!   dictionaries of encoded values (`bytes.rs`), whose types it does not know;
//! - [`Dict`] (`dict.rs`) is the handle of a dictionary in any process; `protocol.rs` has the messages,
//!   `address.rs` the manager's address, `connection.rs` the connections.

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
