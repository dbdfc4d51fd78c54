//! What the servers and the load generator have in common: protocols, buffers, sockets, limits.

pub mod conversation;
pub mod descriptors;
pub mod epoll;
pub mod protocol;
pub mod received;
