//! Tells which of several processes are alive, by record locks on a shared file.
//!
//! ```text
//!   an unnamed, empty file:   │ 0 │ 1 │ 2 │ 3 │ 4 │ ...      one byte per process
//!                                   ▲       ▲
//!                  record lock of a living process: byte 2 is unlocked, so its process is dead
//! ```
//!
//! A record lock (`fcntl`) belongs to a *process*: a child does not inherit it. The kernel removes it when
//! the last thread of the process has closed its descriptors for good, which happens after that thread has
//! run for the last time. So a process whose lock is gone does not write to memory any more, whatever it
//! died of, and whether or not its parent has waited for it.
//!
//! Such a lock also goes when its process closes *any* descriptor of the file. So each process has one
//! descriptor, of which no copy is ever made.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// The file. Children inherit it; executed programs do not.
#[derive(Debug)]
pub(crate) struct Living(OwnedFd);

impl Living {
    pub(crate) fn new() -> io::Result<Self> {
        let name = c"switchgrass: living processes";
        // SAFETY: `name` is a string that ends with a zero.
        let fd = check(unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) })?;
        // SAFETY: `fd` is a new descriptor that nothing else owns.
        Ok(Living(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Registers this process under `number`, which no other process has used.
    pub(crate) fn enter(&self, number: u64) -> io::Result<()> {
        self.lock(libc::F_SETLK, number)?;
        Ok(())
    }

    /// Whether the other process that registered under `number` is alive.
    pub(crate) fn other_lives(&self, number: u64) -> bool {
        // If the kernel does not answer, the process counts as alive.
        !self.lock(libc::F_GETLK, number).is_ok_and(|kind| kind == libc::F_UNLCK as libc::c_int)
    }

    fn lock(&self, command: libc::c_int, number: u64) -> io::Result<libc::c_int> {
        let start = libc::off_t::try_from(number);
        let mut lock = libc::flock {
            l_type: libc::F_WRLCK as _,
            l_whence: libc::SEEK_SET as _,
            l_start: start.map_err(|_| io::Error::from_raw_os_error(libc::EOVERFLOW))?,
            l_len: 1,
            l_pid: 0,
        };
        // SAFETY: `lock` is initialised and outlives the call, and neither command waits.
        check(unsafe { libc::fcntl(self.0.as_raw_fd(), command, &raw mut lock) })?;
        Ok(lock.l_type.into())
    }
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
