#![forbid(unsafe_code)]
//! Waiting for foreign descriptors, which stay unchanged.

use crate::hub::{Deadline, Direction, Source};
use crate::sync::{Selectable, sealed};
use crate::sys::descriptor::is_ready;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

/// Whether a descriptor can be read or written without blocking.
///
/// It can be polled, or waited for: by itself, or with [`select`](crate::sync::select()) together with
/// other descriptors, queues, events and locks.
///
/// It is for descriptors that this library has no type for: terminals, devices, descriptors of C libraries.
/// Their flags do not change, `O_NONBLOCK` included. End of input and errors count as ready. A descriptor
/// without readiness notification, such as that of a regular file, is always ready.
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
    /// Declared before `copy`: the descriptor is deregistered before it is closed.
    ///
    /// `None` if it has no readiness notification.
    source: Option<Source>,
    /// A duplicate can be registered whether or not the hub has the original, and has events of its own.
    copy: OwnedFd,
    direction: Direction,
}

impl Readiness {
    /// Watches whether `descriptor` is readable.
    ///
    /// # Errors
    ///
    /// If the process is out of descriptors: this duplicates the given one.
    pub fn readable(descriptor: impl AsFd) -> io::Result<Self> {
        Self::new(descriptor, Direction::Read)
    }

    /// Watches whether `descriptor` is writable.
    ///
    /// # Errors
    ///
    /// If the process is out of descriptors: this duplicates the given one.
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

    /// Returns whether the descriptor is ready now.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn is_ready(&self) -> bool {
        let Some(source) = &self.source else { return true };
        // Other users of the descriptor may have read or written since the last event: only the kernel
        // knows.
        let is_ready = is_ready(self.copy.as_raw_fd(), self.direction == Direction::Read);
        if !is_ready {
            source.expect_event(self.direction);
        }
        is_ready
    }

    /// Waits until the descriptor is ready, and returns whether it is.
    ///
    /// It waits for at most `timeout`; `None` means indefinitely.
    ///
    /// # Panics
    ///
    /// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits.
    ///
    /// # Switching
    ///
    /// May switch: unless the descriptor is ready, other coroutines run meanwhile.
    ///
    /// # Cancellation
    ///
    /// Has no effect.
    pub fn wait(&self, timeout: Option<Duration>) -> bool {
        let deadline = timeout.and_then(Deadline::after);
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

/// Waits until a descriptor can be read without blocking, and returns whether it can.
///
/// It waits for at most `timeout`; `None` means indefinitely. See [`Readiness`].
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
/// If the process is out of descriptors: this duplicates the given one.
///
/// # Panics
///
/// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits.
///
/// # Switching
///
/// May switch: unless the descriptor is readable, other coroutines run meanwhile.
///
/// # Cancellation
///
/// Has no effect.
pub fn wait_readable(descriptor: impl AsFd, timeout: Option<Duration>) -> io::Result<bool> {
    Ok(Readiness::readable(descriptor)?.wait(timeout))
}

/// Waits until a descriptor can be written without blocking, and returns whether it can.
///
/// It waits for at most `timeout`; `None` means indefinitely. See [`Readiness`].
///
/// # Errors
///
/// If the process is out of descriptors: this duplicates the given one.
///
/// # Panics
///
/// Unwinds if a kill, a timeout or another panic is raised in the current coroutine while it waits.
///
/// # Switching
///
/// May switch: unless the descriptor is writable, other coroutines run meanwhile.
///
/// # Cancellation
///
/// Has no effect.
pub fn wait_writable(descriptor: impl AsFd, timeout: Option<Duration>) -> io::Result<bool> {
    Ok(Readiness::writable(descriptor)?.wait(timeout))
}
