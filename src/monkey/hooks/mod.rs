//! What the symbols do in a coroutine.
//!
//! Each function stands in for libc's of the same name, and is called with the same right: its arguments are
//! what that one asks for. None of them unwinds, and none holds anything of ours across a switch.

pub(super) mod acquire;
pub(super) mod actions;
pub(super) mod barriers;
pub(super) mod c11;
pub(super) mod checked;
pub(super) mod children;
pub(super) mod closing;
pub(super) mod conditions;
pub(super) mod connecting;
pub(super) mod copying;
pub(super) mod dns;
pub(super) mod epoll;
pub(super) mod file_locks;
pub(super) mod files;
pub(super) mod futexes;
pub(super) mod joining;
mod lingering;
pub(super) mod locks;
mod mutex_layout;
pub(super) mod mutexes;
pub(super) mod opening;
mod output;
mod parts;
pub(super) mod polling;
pub(super) mod positioned;
pub(super) mod queues;
pub(super) mod reading;
pub(super) mod receiving;
pub(super) mod rwlocks;
pub(super) mod selecting;
pub(super) mod semaphore_sets;
pub(super) mod semaphores;
pub(super) mod sending;
pub(super) mod sending_files;
pub(super) mod signals;
pub(super) mod sleeping;
pub(super) mod spinlocks;
pub(super) mod stdio;
pub(super) mod terminals;
mod transfers;
mod waiting;
pub(super) mod writing;
