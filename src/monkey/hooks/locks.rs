//! Locks of files. Each is tried first; a thread of its own waits for one that is held, since a lock
//! belongs to a description or to the process, and not to the thread that takes it. The wait is not cut
//! short by a kill.

use crate::monkey::aside::aside_or_signalled;
use crate::monkey::elsewhere::Lent;
use crate::monkey::{errno, table};
use libc::{c_int, off_t, off64_t};

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
    let locked =
        aside_or_signalled("flock", true, move || unsafe { table::flock::original(fd, operation) });
    // SAFETY: no memory is involved.
    locked.unwrap_or_else(|| unsafe { table::flock::blocking(fd, operation) })
}

/// The calls that lock from where the descriptor stands.
macro_rules! lockf {
    ($($name:ident($length:ty);)*) => {$(
        /// # Safety
        ///
        /// As libc's.
        pub(in crate::monkey) unsafe fn $name(fd: c_int, command: c_int, length: $length) -> c_int {
            if command != libc::F_LOCK {
                // SAFETY: no memory is involved.
                return unsafe { table::$name::original(fd, command, length) };
            }
            // SAFETY: no memory is involved.
            let tried = unsafe { table::$name::original(fd, libc::F_TLOCK, length) };
            if !is_held(tried) {
                return tried;
            }
            // SAFETY: no memory is involved.
            let lock = move || unsafe { table::$name::original(fd, command, length) };
            aside_or_signalled(stringify!($name), true, lock).unwrap_or_else(|| {
                table::$name::ROW.count_blocked();
                lock()
            })
        }
    )*};
}

lockf! {
    lockf(off_t);
    lockf64(off64_t);
}

/// Whether an attempt has found that another has the lock.
fn is_held(tried: c_int) -> bool {
    tried != 0 && matches!(errno::get(), libc::EAGAIN | libc::EACCES)
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
    if !is_held(tried) {
        return tried;
    }
    // SAFETY: the caller's, who is suspended until the call is over.
    let lent = unsafe { Lent::new(lock) };
    // SAFETY: the caller's.
    let locked = aside_or_signalled("fcntl", true, move || unsafe {
        table::fcntl::original(fd, waiting, lent.get())
    });
    // SAFETY: the caller's.
    locked.unwrap_or_else(|| unsafe { table::fcntl::blocking(fd, waiting, lock) })
}
