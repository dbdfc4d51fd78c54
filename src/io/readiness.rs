#![forbid(unsafe_code)]
//! Waiting for descriptors of others, which stay as they are.

use crate::hub::{Deadline, Direction, Source};
use crate::sync::{Selectable, sealed};
use crate::sys::descriptor::is_ready;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

/// Whether a descriptor can be read from, or written to, without blocking: to be asked, or waited for, alone
/// or by [`select`](crate::sync::select()) together with other descriptors and with queues, events and locks.
///
/// It is for what this library has no type of: terminals, devices, descriptors of C libraries. They stay as
/// they are: whether they block is not changed. The end of what can be read, and an error, count as ready.
/// What is never waited for, a regular file for one, is always ready.
///
/// # Examples
///
/// ```
/// use std::io::{Read, Write, pipe};
/// use std::rc::Rc;
/// use switchgrass::io::Readiness;
/// use switchgrass::spawn;
/// use switchgrass::sync::{Event, select};
///
/// let (mut reader, mut writer) = pipe()?;
/// let stop = Rc::new(Event::new());
/// let to_stop = Rc::clone(&stop);
/// let writing = spawn(move || {
///     writer.write_all(b"hello").unwrap();
///     to_stop.wait();
/// });
/// let readable = Readiness::readable(&reader)?;
/// assert_eq!(select(&[&*stop, &readable]), 1);
/// assert_eq!(reader.read(&mut [0; 16])?, 5);
/// assert!(!readable.is_ready());
/// stop.set();
/// assert_eq!(select(&[&*stop, &readable]), 0);
/// # writing.join().unwrap();
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Readiness {
    /// Declared first: it leaves the hub before the descriptor is closed. `None` if it is never waited for.
    source: Option<Source>,
    /// It can be registered whether or not the hub has the original, and has events of its own.
    copy: OwnedFd,
    direction: Direction,
}

impl Readiness {
    /// Whether it can be read from.
    ///
    /// # Errors
    ///
    /// If there are no descriptors left: it makes a copy of this one.
    pub fn readable(descriptor: impl AsFd) -> io::Result<Self> {
        Self::new(descriptor, Direction::Read)
    }

    /// Whether it can be written to.
    ///
    /// # Errors
    ///
    /// If there are no descriptors left: it makes a copy of this one.
    pub fn writable(descriptor: impl AsFd) -> io::Result<Self> {
        Self::new(descriptor, Direction::Write)
    }

    fn new(descriptor: impl AsFd, direction: Direction) -> io::Result<Self> {
        let copy = descriptor.as_fd().try_clone_to_owned()?;
        let source = match Source::new(copy.as_raw_fd()) {
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => None,
            other => Some(other?),
        };
        Ok(Readiness { source, copy, direction })
    }

    /// Whether it is ready at this moment.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn is_ready(&self) -> bool {
        let Some(source) = &self.source else { return true };
        // What others have done with it since the last event is not known otherwise.
        let is_ready = is_ready(self.copy.as_raw_fd(), self.direction == Direction::Read);
        if !is_ready {
            source.expect_event(self.direction);
        }
        is_ready
    }

    /// Waits until it is ready, for at most `limit` (`None`: for ever). Whether it is.
    ///
    /// # Panics
    ///
    /// With what is raised in the current coroutine meanwhile.
    ///
    /// # Switching
    ///
    /// Switches unless it is ready. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// Leaves nothing behind.
    pub fn wait(&self, limit: Option<Duration>) -> bool {
        let deadline = limit.and_then(Deadline::after);
        while !self.is_ready() {
            let Some(source) = &self.source else { return true };
            let purpose = match self.direction {
                Direction::Read => "wait_readable",
                Direction::Write => "wait_writable",
            };
            if source.wait(self.direction, purpose, deadline).is_err() {
                return self.is_ready();
            }
        }
        true
    }
}

impl Selectable for Readiness {}

impl sealed::Selectable for Readiness {
    fn is_ready(&self) -> bool {
        Readiness::is_ready(self)
    }

    fn watch(&self) -> Box<dyn FnOnce() + '_> {
        let watch = self.source.as_ref().map(|source| source.watch(self.direction));
        Box::new(move || drop(watch))
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Readiness { copy, direction, .. } = self;
        f.debug_struct("Readiness").field("copy", copy).field("direction", direction).finish()
    }
}

/// Waits until a descriptor can be read from without blocking, for at most `limit` (`None`: for ever).
/// Whether it can. See [`Readiness`].
///
/// # Examples
///
/// ```
/// use std::io::{Read, Write};
/// use switchgrass::io::wait_readable;
/// use switchgrass::spawn;
///
/// let (mut reader, mut writer) = std::io::pipe()?;
/// spawn(move || writer.write_all(b"hello").unwrap());
/// assert!(wait_readable(&reader, None)?);
/// let mut text = String::new();
/// reader.read_to_string(&mut text)?;
/// assert_eq!(text, "hello");
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
///
/// As [`Readiness::readable`].
///
/// # Panics
///
/// With what is raised in the current coroutine meanwhile.
///
/// # Switching
///
/// Switches unless it is readable. All others may run meanwhile.
///
/// # Cancellation
///
/// Leaves nothing behind.
pub fn wait_readable(descriptor: impl AsFd, limit: Option<Duration>) -> io::Result<bool> {
    Ok(Readiness::readable(descriptor)?.wait(limit))
}

/// As [`wait_readable`], until it can be written to.
///
/// # Errors
///
/// As [`wait_readable`].
///
/// # Panics
///
/// As [`wait_readable`].
///
/// # Switching
///
/// As [`wait_readable`].
///
/// # Cancellation
///
/// Leaves nothing behind.
pub fn wait_writable(descriptor: impl AsFd, limit: Option<Duration>) -> io::Result<bool> {
    Ok(Readiness::writable(descriptor)?.wait(limit))
}
