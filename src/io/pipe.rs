#![forbid(unsafe_code)]
//! Pipes.

use super::Descriptor;
use std::io;

/// The read end of a pipe: from [`pipe()`], or a child's output. See [`Descriptor`].
pub type PipeReader = Descriptor<io::PipeReader>;

/// The write end of a pipe: from [`pipe()`], or a child's input. See [`Descriptor`].
pub type PipeWriter = Descriptor<io::PipeWriter>;

/// Makes a pipe, like [`std::io::pipe`], with both ends cooperative.
///
/// What is written to one end can be read from the other, by a coroutine or by another process.
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
/// Those of [`std::io::pipe`]: the process is out of descriptors.
pub fn pipe() -> io::Result<(PipeReader, PipeWriter)> {
    let (reader, writer) = io::pipe()?;
    Ok((Descriptor::new(reader)?, Descriptor::new(writer)?))
}
