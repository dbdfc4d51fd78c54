#![forbid(unsafe_code)]
//! Waiting for whatever has a descriptor.

use crate::hub::{Deadline, Direction, Source};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

/// Waits until a descriptor can be read from without blocking, for at most `limit` (`None`: for ever).
/// Whether it can. The end of what can be read, and an error, count as such.
///
/// It is for what this library has no type of: pipes, terminals, devices, descriptors of C libraries. What is
/// never waited for, a regular file for one, is always ready.
///
/// # Examples
///
/// ```
/// use std::io::{Read, Write};
/// use switchgrass::net::wait_readable;
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
/// If the descriptor cannot be waited for.
///
/// # Panics
///
/// With what is raised in the current coroutine meanwhile.
///
/// # Switching
///
/// Always switches, but for what is never waited for. All others may run meanwhile.
///
/// # Cancellation
///
/// Leaves nothing behind.
pub fn wait_readable(descriptor: impl AsFd, limit: Option<Duration>) -> io::Result<bool> {
    wait(descriptor, Direction::Read, "wait_readable", limit)
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
    wait(descriptor, Direction::Write, "wait_writable", limit)
}

fn wait(
    descriptor: impl AsFd,
    direction: Direction,
    purpose: &'static str,
    limit: Option<Duration>,
) -> io::Result<bool> {
    // A copy can be registered whether or not the hub has the original, and has events of its own: the first
    // one says how things are.
    let copy = descriptor.as_fd().try_clone_to_owned()?;
    let source = match Source::new(copy.as_raw_fd()) {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => return Ok(true),
        other => other?,
    };
    source.expect_event(direction);
    match source.wait(direction, purpose, limit.and_then(Deadline::after)) {
        Err(error) if error.kind() == io::ErrorKind::TimedOut => Ok(false),
        other => other.map(|()| true),
    }
}
