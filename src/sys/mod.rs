//! Interfaces to the kernel and to the C and Rust runtimes, safe where possible.
//!
//! Nothing here knows of stacks or greenlets. *By number* means: through `libc::syscall`, since `monkey` may
//! define the libc function as a hook, which may switch.

pub(crate) mod affinity;
pub(crate) mod alternate_stack;
pub(crate) mod clock;
pub(crate) mod descriptor;
#[cfg(feature = "monkey")]
pub(crate) mod errno;
pub(crate) mod exit;
pub(crate) mod fault;
#[cfg(feature = "process")]
pub(crate) mod fd_passing;
pub(crate) mod file;
pub(crate) mod fork;
mod fork_hooks;
#[cfg(feature = "monkey")]
pub(crate) mod interrupt;
pub(crate) mod library;
pub(crate) mod lineage;
#[cfg(feature = "process")]
pub(crate) mod liveness;
pub(crate) mod lock;
pub(crate) mod memory;
pub(crate) mod panic_count;
pub(crate) mod poll;
pub(crate) mod process;
#[cfg(feature = "process")]
pub(crate) mod random;
#[cfg(feature = "sanitizer")]
pub(crate) mod sanitizer;
#[cfg(feature = "process")]
pub(crate) mod shared_cell;
#[cfg(feature = "process")]
pub(crate) mod shared_log;
#[cfg(feature = "process")]
pub(crate) mod shared_memory;
pub(crate) mod signal;
#[cfg(feature = "monkey")]
pub(crate) mod signal_counts;
pub(crate) mod socket;
pub(crate) mod stderr;
pub(crate) mod thread_probe;
#[cfg(feature = "monkey")]
pub(crate) mod user_memory;
pub(crate) mod valgrind;
