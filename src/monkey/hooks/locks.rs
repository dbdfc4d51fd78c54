//! Locks of files.
//!
//! Each is tried first. If it is held, a dedicated thread waits for it: a file lock belongs to the open file
//! or to the process, and not to the thread that takes it. A kill does not cut the wait short.

use crate::hub::yield_if_due_nounwind;
use crate::monkey::dedicated::aside_or_signalled;
use crate::monkey::{errno, originals};
use libc::{c_int, off_t, off64_t};
use std::mem::{self, MaybeUninit};
use std::ptr;

/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`).
pub(in crate::monkey) unsafe fn flock(fd: c_int, operation: c_int) -> c_int {
    let before = errno::get();
    yield_if_due_nounwind();
    // SAFETY: no pointer is passed.
    let tried = unsafe { originals::flock::call(fd, operation | libc::LOCK_NB) };
    let must_wait = tried != 0 && errno::get() == libc::EWOULDBLOCK;
    if !must_wait || operation & libc::LOCK_NB != 0 {
        return tried;
    }
    errno::set(before);
    // SAFETY: no pointer is passed.
    let locked =
        aside_or_signalled("flock", true, move || unsafe { originals::flock::call(fd, operation) });
    // SAFETY: no pointer is passed.
    locked.unwrap_or_else(|| unsafe { originals::flock::call_blocking(fd, operation) })
}

/// Calls that lock a range that begins at the descriptor's position.
macro_rules! lockf {
    ($($name:ident($length:ty);)*) => {$(
        /// # Safety
        ///
        /// Contract of a hook (`hooks/mod.rs`).
        pub(in crate::monkey) unsafe fn $name(fd: c_int, command: c_int, length: $length) -> c_int {
            if command != libc::F_LOCK {
                // SAFETY: no pointer is passed.
                return unsafe { originals::$name::call(fd, command, length) };
            }
            let before = errno::get();
            yield_if_due_nounwind();
            // SAFETY: no pointer is passed.
            let tried = unsafe { originals::$name::call(fd, libc::F_TLOCK, length) };
            if !is_held(tried) {
                return tried;
            }
            errno::set(before);
            // SAFETY: all-zero bytes are a valid `flock`.
            let mut lock: libc::flock = unsafe { mem::zeroed() };
            (lock.l_type, lock.l_whence) = (libc::F_WRLCK as _, libc::SEEK_CUR as _);
            lock.l_len = length;
            wait(stringify!($name), fd, libc::F_SETLKW, &lock).unwrap_or_else(|| {
                originals::$name::ROW.count_blocked();
                // SAFETY: no pointer is passed.
                unsafe { originals::$name::call(fd, command, length) }
            })
        }
    )*};
}

lockf! {
    lockf(off_t);
    lockf64(off64_t);
}

/// Whether an attempt failed because the lock is held.
fn is_held(tried: c_int) -> bool {
    tried != 0 && matches!(errno::get(), libc::EAGAIN | libc::EACCES)
}

/// The command that does the same without waiting.
pub(super) fn without_waiting(command: c_int) -> Option<c_int> {
    match command {
        libc::F_SETLKW => Some(libc::F_SETLK),
        libc::F_OFD_SETLKW => Some(libc::F_OFD_SETLK),
        _ => None,
    }
}

/// Makes a call of `fcntl` whose command, `waiting`, waits; `trying` is the one that does not.
///
/// # Safety
///
/// Contract of a hook (`hooks/mod.rs`), as for libc's `fcntl`.
pub(super) unsafe fn lock(fd: c_int, waiting: c_int, trying: c_int, lock: usize) -> c_int {
    let before = errno::get();
    yield_if_due_nounwind();
    // SAFETY: contract of a hook: both commands take the same argument.
    let tried = unsafe { originals::fcntl::call(fd, trying, lock) };
    if !is_held(tried) {
        return tried;
    }
    errno::set(before);
    // SAFETY: contract of a hook: the kernel has just read a `flock` there.
    let asked = unsafe { &*ptr::with_exposed_provenance(lock) };
    // SAFETY: contract of a hook: libc's `fcntl` gets the caller's pointers.
    wait("fcntl", fd, waiting, asked)
        .unwrap_or_else(|| unsafe { originals::fcntl::call_blocking(fd, waiting, lock) })
}

/// Waits for a lock on a dedicated thread, by `fcntl` with `command`.
///
/// `None`: no thread can be created.
fn wait(purpose: &'static str, fd: c_int, command: c_int, lock: &libc::flock) -> Option<c_int> {
    let lock = from_the_start(fd, *lock);
    aside_or_signalled(purpose, true, move || {
        // SAFETY: `lock` outlives the call, and the kernel only reads it.
        unsafe { originals::fcntl::call(fd, command, ptr::from_ref(&lock).expose_provenance()) }
    })
}

/// Converts a range to one that is relative to the start of the file.
///
/// Before the other thread makes its call, siblings may move the descriptor or extend the file.
fn from_the_start(fd: c_int, mut lock: libc::flock) -> libc::flock {
    let origin = match lock.l_whence.into() {
        // SAFETY: no pointer is passed, and nothing is moved.
        libc::SEEK_CUR => unsafe { libc::lseek(fd, 0, libc::SEEK_CUR) },
        libc::SEEK_END => {
            let mut known = MaybeUninit::<libc::stat>::uninit();
            // SAFETY: `known` is valid for a write.
            match unsafe { libc::fstat(fd, known.as_mut_ptr()) } {
                // SAFETY: the call has succeeded, so it has filled in `known`.
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
