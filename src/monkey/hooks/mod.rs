//! Cooperative replacements for the libc functions that are patched.
//!
//! No hook unwinds, and none holds a lock or a borrow of this crate's shared state across a switch.
//!
//! # Contract of a hook
//!
//! A hook is called with the arguments of libc's function of the same name, under the contract of that
//! function:
//!
//! - Each pointer is null where the function accepts null. Otherwise it is valid for what the function reads
//!   or writes through it, until the call returns.
//! - A pointer that is used by the kernel may also be invalid, since the kernel then fails with `EFAULT`. A
//!   hook reads such memory itself only when the kernel has just read it, or by `sys/user_memory.rs`.
//! - During the call the memory is used by others only as the function allows: a lock is shared, a buffer is
//!   not.
//! - The function may be called on any thread, unless its hook says otherwise. So the pointers can be lent to
//!   another thread while the calling coroutine is suspended.
//!
//! So a hook may pass the pointers on to libc, also with other flags or for a part of a buffer, and to a
//! function with *the same contract*: another hook, or a helper whose `# Safety` section cites this one and
//! names libc's function. `// SAFETY:` comments cite it as "contract of a hook".

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
