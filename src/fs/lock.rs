#![forbid(unsafe_code)]
//! Locks of files.

use crate::coroutine::sleep;
use crate::sys::file::{Lock, lock_now};
use std::error::Error;
use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// Why a file was not locked at once. As std's of Rust 1.89.
#[derive(Debug)]
pub enum TryLockError {
    /// Something went wrong.
    Error(io::Error),
    /// Another handle has it locked.
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

/// Tries again and again. On the pool, those who wait for a lock could have all of its threads, and the one
/// that has the lock could not write what it has to before it unlocks; and a lock that comes after a kill
/// would be nobody's.
#[track_caller]
pub(super) fn lock(fd: BorrowedFd<'_>, lock: Lock) -> io::Result<()> {
    let mut pause = FIRST_PAUSE;
    while !lock_now(fd, lock)? {
        sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    Ok(())
}
