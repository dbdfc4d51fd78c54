//! Locks of files. Each is tried first; a thread of its own waits for one that is held, since a lock
//! belongs to a description or to the process, and not to the thread that takes it. The wait is not cut
//! short by a kill.

use crate::hub::yield_if_due_nounwind;
use crate::monkey::dedicated::aside_or_signalled;
use crate::monkey::{errno, originals};
use libc::{c_int, off_t, off64_t};
use std::mem::{self, MaybeUninit};
use std::ptr;

/// # Safety
///
/// As libc's.
pub(in crate::monkey) unsafe fn flock(fd: c_int, operation: c_int) -> c_int {
    let before = errno::get();
    yield_if_due_nounwind();
    // SAFETY: no memory is involved.
    let tried = unsafe { originals::flock::call(fd, operation | libc::LOCK_NB) };
    let must_wait = tried != 0 && errno::get() == libc::EWOULDBLOCK;
    if !must_wait || operation & libc::LOCK_NB != 0 {
        return tried;
    }
    errno::set(before);
    // SAFETY: no memory is involved.
    let locked =
        aside_or_signalled("flock", true, move || unsafe { originals::flock::call(fd, operation) });
    // SAFETY: no memory is involved.
    locked.unwrap_or_else(|| unsafe { originals::flock::call_blocking(fd, operation) })
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
                return unsafe { originals::$name::call(fd, command, length) };
            }
            let before = errno::get();
            yield_if_due_nounwind();
            // SAFETY: no memory is involved.
            let tried = unsafe { originals::$name::call(fd, libc::F_TLOCK, length) };
            if !is_held(tried) {
                return tried;
            }
            errno::set(before);
            // SAFETY: numbers, all of which may be zero.
            let mut lock: libc::flock = unsafe { mem::zeroed() };
            (lock.l_type, lock.l_whence) = (libc::F_WRLCK as _, libc::SEEK_CUR as _);
            lock.l_len = length;
            wait(stringify!($name), fd, libc::F_SETLKW, &lock).unwrap_or_else(|| {
                originals::$name::ROW.count_blocked();
                // SAFETY: no memory is involved.
                unsafe { originals::$name::call(fd, command, length) }
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
    let before = errno::get();
    yield_if_due_nounwind();
    // SAFETY: the caller's: both take the same.
    let tried = unsafe { originals::fcntl::call(fd, trying, lock) };
    if !is_held(tried) {
        return tried;
    }
    errno::set(before);
    // SAFETY: the caller's, from which the kernel has just read.
    let asked = unsafe { &*ptr::with_exposed_provenance(lock) };
    // SAFETY: the caller's.
    wait("fcntl", fd, waiting, asked)
        .unwrap_or_else(|| unsafe { originals::fcntl::call_blocking(fd, waiting, lock) })
}

/// Has another thread wait for a lock by `fcntl` with `command`. `None`: there can be no more threads.
fn wait(purpose: &'static str, fd: c_int, command: c_int, lock: &libc::flock) -> Option<c_int> {
    let lock = from_the_start(fd, *lock);
    aside_or_signalled(purpose, true, move || {
        // SAFETY: a lock, which the kernel reads.
        unsafe { originals::fcntl::call(fd, command, ptr::from_ref(&lock).expose_provenance()) }
    })
}

/// The same bytes, counted from the start of the file. The other thread's call comes when siblings may have
/// moved the descriptor or made the file longer.
fn from_the_start(fd: c_int, mut lock: libc::flock) -> libc::flock {
    let origin = match lock.l_whence.into() {
        // SAFETY: no memory is involved, and nothing is moved.
        libc::SEEK_CUR => unsafe { libc::lseek(fd, 0, libc::SEEK_CUR) },
        libc::SEEK_END => {
            let mut known = MaybeUninit::<libc::stat>::uninit();
            // SAFETY: room for the answer.
            match unsafe { libc::fstat(fd, known.as_mut_ptr()) } {
                // SAFETY: answered.
                0 => unsafe { known.assume_init() }.st_size,
                _ => -1,
            }
        }
        _ => return lock,
    };
    if origin >= 0
        && let Some(start) = lock.l_start.checked_add(origin)
    {
        (lock.l_start, lock.l_whence) = (start, libc::SEEK_SET as _);
    }
    lock
}
