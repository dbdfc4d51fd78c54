//! Locks of files. Tried first; who has to wait for one waits by a thread: a lock belongs to a description
//! or to the process, and so to whoever asks for it in either's name. The wait is not cut short: a lock
//! that came afterwards would be nobody's.

use crate::monkey::elsewhere::{Lent, elsewhere};
use crate::monkey::{errno, table};
use libc::c_int;

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn flock(fd: c_int, operation: c_int) -> c_int {
    // SAFETY: no memory is involved.
    let tried = unsafe { table::flock::original(fd, operation | libc::LOCK_NB) };
    let must_wait = tried != 0 && errno::get() == libc::EWOULDBLOCK;
    if !must_wait || operation & libc::LOCK_NB != 0 {
        return tried;
    }
    // SAFETY: no memory is involved.
    elsewhere("flock", move || unsafe { table::flock::original(fd, operation) })
}

/// The command that does the same and does not wait.
pub(super) fn without_waiting(command: c_int) -> Option<c_int> {
    match command {
        libc::F_SETLKW => Some(libc::F_SETLK),
        libc::F_OFD_SETLKW => Some(libc::F_OFD_SETLK),
        _ => None,
    }
}

/// `fcntl` with a command that waits, and the one that does not.
///
/// # Safety
///
/// As libc's `fcntl`.
pub(super) unsafe fn lock(fd: c_int, waiting: c_int, trying: c_int, lock: usize) -> c_int {
    // SAFETY: the caller's: both take the same.
    let tried = unsafe { table::fcntl::original(fd, trying, lock) };
    if tried == 0 || !matches!(errno::get(), libc::EAGAIN | libc::EACCES) {
        return tried;
    }
    // SAFETY: the caller's, who is suspended until the call is over.
    let lock = unsafe { Lent::new(lock) };
    // SAFETY: the caller's.
    elsewhere("fcntl", move || unsafe { table::fcntl::original(fd, waiting, lock.get()) })
}
