#![forbid(unsafe_code)]
//! File locks.

use crate::coroutine::sleep;
use crate::sys::file::{Lock, lock_now};
use std::error::Error;
use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// The error of a lock attempt that does not wait. Like std's type of Rust 1.89.
#[derive(Debug)]
pub enum TryLockError {
    /// The attempt failed.
    Error(io::Error),
    /// Another handle holds a conflicting lock.
    WouldBlock,
}

impl fmt::Display for TryLockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TryLockError::Error(error) => error.fmt(f),
            TryLockError::WouldBlock => f.write_str("the file is locked by another handle"),
        }
    }
}

impl Error for TryLockError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            TryLockError::Error(error) => Some(error),
            TryLockError::WouldBlock => None,
        }
    }
}

impl From<TryLockError> for io::Error {
    fn from(error: TryLockError) -> Self {
        match error {
            TryLockError::Error(error) => error,
            TryLockError::WouldBlock => io::ErrorKind::WouldBlock.into(),
        }
    }
}

pub(super) fn try_lock(fd: BorrowedFd<'_>, lock: Lock) -> Result<(), TryLockError> {
    match lock_now(fd, lock) {
        Ok(true) => Ok(()),
        Ok(false) => Err(TryLockError::WouldBlock),
        Err(error) => Err(TryLockError::Error(error)),
    }
}

const FIRST_PAUSE: Duration = Duration::from_micros(500);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// Retries until the lock is free.
///
/// It does not wait on the pool: the waiters could occupy all of its threads, and keep the lock's holder
/// from writing what it has to before it unlocks. Also, a lock granted after a kill would have no owner.
#[track_caller]
pub(super) fn lock(fd: BorrowedFd<'_>, lock: Lock) -> io::Result<()> {
    let mut pause = FIRST_PAUSE;
    while !lock_now(fd, lock)? {
        sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    Ok(())
}
