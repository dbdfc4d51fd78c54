//! Whether this is still the process in which something was made, or a copy of it.

use std::io;
use std::sync::atomic::{
    AtomicBool, AtomicU32,
    Ordering::{Acquire, Relaxed, Release},
};

/// How many forks lie between the first process that has asked for them to be counted and this one.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// A process, told apart from all that it descends from and all that descend from it. Not by its number,
/// which another has later, and which takes a system call to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Generation(u32);

impl Generation {
    pub(crate) fn bits(self) -> u32 {
        self.0
    }
}

/// Has forks counted from now on: those by libc's `fork`, which calls what was registered with it.
pub(crate) fn count_forks() -> io::Result<()> {
    static ARE_COUNTED: AtomicBool = AtomicBool::new(false);
    extern "C" fn in_child() {
        FORKS.fetch_add(1, Relaxed);
    }
    // Two threads may both register it, and a fork then counts twice, which is as good. A lock could be held
    // by a thread that there is no more in the child.
    if !ARE_COUNTED.load(Acquire) {
        // SAFETY: a function that is always there, and may be called in a child of a process with threads.
        match unsafe { libc::pthread_atfork(None, None, Some(in_child)) } {
            0 => ARE_COUNTED.store(true, Release),
            error => return Err(io::Error::from_raw_os_error(error)),
        }
    }
    Ok(())
}

/// This process.
#[inline]
pub(crate) fn generation() -> Generation {
    Generation(FORKS.load(Relaxed))
}
