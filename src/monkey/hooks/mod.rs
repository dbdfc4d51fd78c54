//! What the symbols do in a coroutine.
//!
//! Each function stands in for libc's of the same name, and is called with the same right: its arguments are
//! what that one asks for. None of them unwinds, and none holds anything of ours across a switch.

pub(super) mod actions;
pub(super) mod checked;
pub(super) mod children;
pub(super) mod connecting;
pub(super) mod copying;
pub(super) mod dns;
pub(super) mod epoll;
pub(super) mod files;
pub(super) mod futexes;
pub(super) mod joining;
pub(super) mod locks;
pub(super) mod mutexes;
pub(super) mod opening;
mod parts;
pub(super) mod polling;
pub(super) mod selecting;
pub(super) mod semaphores;
pub(super) mod signals;
pub(super) mod sleeping;
pub(super) mod sockets;
pub(super) mod streams;
