#![forbid(unsafe_code)]
//! Pipes.

use super::Descriptor;
use std::io;

/// The end of a pipe that is read from: of [`pipe()`], or of a child's output. See [`Descriptor`].
pub type PipeReader = Descriptor<io::PipeReader>;

/// The end of a pipe that is written to: of [`pipe()`], or of a child's input. See [`Descriptor`].
pub type PipeWriter = Descriptor<io::PipeWriter>;

/// Makes a pipe: what is written to one end can be read from the other, by a coroutine or another process.
/// As [`std::io::pipe`].
///
/// # Examples
///
/// ```
/// use std::io::{Read, Write};
/// use switchgrass::{io::pipe, spawn};
///
/// let (mut reader, mut writer) = pipe()?;
/// // More than fits into a pipe.
/// spawn(move || writer.write_all(&[b'x'; 1 << 20]).unwrap());
/// let mut all = Vec::new();
/// assert_eq!(reader.read_to_end(&mut all)?, 1 << 20);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
///
/// As [`std::io::pipe`]: if there are no descriptors left.
pub fn pipe() -> io::Result<(PipeReader, PipeWriter)> {
    let (reader, writer) = io::pipe()?;
    Ok((Descriptor::new(reader)?, Descriptor::new(writer)?))
}
