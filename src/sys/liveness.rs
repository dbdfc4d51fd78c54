//! Which processes live, of those that share something.
//!
//! ```text
//!   a file without a name:   │ 0 │ 1 │ 2 │ 3 │ 4 │ ...      a byte a process; there is nothing in it
//!                                  ▲       ▲
//!                 record lock of a process that lives: nobody has one on 2, that process is dead
//! ```
//!
//! A record lock (`fcntl`) is a *process's*: a child does not inherit it, and the kernel takes it away when
//! the last thread of the process has closed its descriptors for good, which it does after it has run for the
//! last time. So who has no lock any more does not write to memory any more either, whatever it has died of,
//! and whether or not anybody has waited for it.
//!
//! Such a lock also goes when its process closes *any* descriptor of the file: so there is one in each
//! process, and no copy of it is ever made.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// The file. Children inherit it, programs that are executed do not.
#[derive(Debug)]
pub(crate) struct Living(OwnedFd);

impl Living {
    pub(crate) fn new() -> io::Result<Self> {
        let name = c"switchgrass: processes that live";
        // SAFETY: a string that ends with a zero.
        let fd = check(unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) })?;
        // SAFETY: a new descriptor of ours.
        Ok(Living(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Has this process be known by a number that no other process has had.
    pub(crate) fn enter(&self, number: u64) -> io::Result<()> {
        self.lock(libc::F_SETLK, number)?;
        Ok(())
    }

    /// Whether another process lives that has entered by this number.
    pub(crate) fn other_lives(&self, number: u64) -> bool {
        // It is taken for alive if the kernel does not answer.
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
        // SAFETY: an open descriptor, a lock that is there; neither command waits.
        check(unsafe { libc::fcntl(self.0.as_raw_fd(), command, &raw mut lock) })?;
        Ok(lock.l_type.into())
    }
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
