#![forbid(unsafe_code)]
//! Values from one process to another: each as postcard has it, after its length.
//!
//! ```text
//!   │ length, 4 bytes │ value │ length │ value │ ...
//! ```

use crate::net::UnixStream;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Display;
use std::io::{self, Read, Write};
use std::rc::Rc;

/// One end of a connection that carries values.
#[derive(Debug)]
pub(super) struct Wire {
    stream: Rc<UnixStream>,
    /// What has been received and not been taken, from `taken` on.
    buffer: Vec<u8>,
    taken: usize,
}

const PREFIX: usize = size_of::<u32>();

impl Wire {
    pub(super) fn new(stream: impl Into<Rc<UnixStream>>) -> Self {
        Wire { stream: stream.into(), buffer: Vec::new(), taken: 0 }
    }

    pub(super) fn stream(&self) -> &Rc<UnixStream> {
        &self.stream
    }

    /// Sends a value. If it cannot be sent whole the connection is of no use any more, except for
    /// `InvalidInput`: the value cannot be encoded, and nothing was sent.
    pub(super) fn send(&mut self, value: &impl Serialize) -> io::Result<()> {
        let message = framed(value)?;
        (&*self.stream).write_all(&message)
    }

    /// Waits for a value. `None` if the other end has closed the connection. After an error of the stream, as
    /// `WouldBlock`, it can be called again.
    pub(super) fn receive<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        self.receive_at_most(u32::MAX as usize)
    }

    /// As [`Wire::receive`], but a value of more bytes is an error: for what comes from somebody who is not
    /// known yet.
    pub(super) fn receive_at_most<T: DeserializeOwned>(
        &mut self,
        bytes: usize,
    ) -> io::Result<Option<T>> {
        let Some(prefix) = self.fill(PREFIX)? else { return Ok(None) };
        let prefix = prefix.try_into().map(u32::from_le_bytes).expect("as long as was asked for");
        if prefix as usize > bytes {
            let why = format_args!("it has {prefix} bytes, where at most {bytes} are allowed");
            return Err(encoding(io::ErrorKind::InvalidData, why));
        }
        let length = PREFIX + prefix as usize;
        let Some(message) = self.fill(length)? else { return Ok(None) };
        let value = postcard::from_bytes(&message[PREFIX..])
            .map_err(|error| encoding(io::ErrorKind::InvalidData, error));
        self.taken += length;
        value.map(Some)
    }

    /// The next bytes, so many. `None` if the connection is closed before the first.
    fn fill(&mut self, length: usize) -> io::Result<Option<&[u8]>> {
        const ROOM: usize = 8192;
        if self.taken == self.buffer.len() {
            self.buffer.clear();
            // What was large once need not be so again.
            self.buffer.shrink_to(64 * ROOM);
            self.taken = 0;
        }
        while self.buffer.len() - self.taken < length {
            let filled = self.buffer.len();
            let missing = length - (filled - self.taken);
            // Not all at once: the length may be a lie.
            self.buffer.resize(filled + missing.clamp(ROOM, 64 * ROOM), 0);
            let read = (&*self.stream).read(&mut self.buffer[filled..]);
            self.buffer.truncate(filled + *read.as_ref().unwrap_or(&0));
            if read? == 0 {
                return match self.taken == filled {
                    true => Ok(None),
                    false => Err(io::ErrorKind::UnexpectedEof.into()),
                };
            }
        }
        Ok(Some(&self.buffer[self.taken..self.taken + length]))
    }
}

/// A value after its length.
pub(super) fn framed(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut message = postcard::to_extend(value, vec![0; PREFIX])
        .map_err(|error| encoding(io::ErrorKind::InvalidInput, error))?;
    let length = u32::try_from(message.len() - PREFIX)
        .map_err(|_| encoding(io::ErrorKind::InvalidInput, "it is larger than 4 GiB"))?;
    message[..PREFIX].copy_from_slice(&length.to_le_bytes());
    Ok(message)
}

/// The values in `bytes`, each after its length.
pub(super) fn records<T: DeserializeOwned>(mut bytes: &[u8]) -> io::Result<Vec<T>> {
    let mut values = Vec::new();
    while let Some((prefix, rest)) = bytes.split_first_chunk() {
        let (value, rest) = rest
            .split_at_checked(u32::from_le_bytes(*prefix) as usize)
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        let value = postcard::from_bytes(value);
        values.push(value.map_err(|error| encoding(io::ErrorKind::InvalidData, error))?);
        bytes = rest;
    }
    Ok(values)
}

fn encoding(kind: io::ErrorKind, error: impl Display) -> io::Error {
    io::Error::new(kind, format!("a value cannot go to another process: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spawn;

    #[test]
    fn values_of_all_sizes() {
        let (here, there) = UnixStream::pair().unwrap();
        let echo = spawn(move || {
            let mut wire = Wire::new(there);
            while let Some(value) = wire.receive::<Vec<u8>>().unwrap() {
                wire.send(&value).unwrap();
            }
        });
        let mut wire = Wire::new(here);
        let sizes = [0, 1, 100, 8191, 8192, 8193, 1_000_000];
        for size in sizes {
            wire.send(&vec![7_u8; size]).unwrap();
            assert_eq!(wire.receive::<Vec<u8>>().unwrap().unwrap(), vec![7_u8; size]);
        }
        // Several that have come at once.
        for size in [3, 4, 5] {
            wire.send(&vec![7_u8; size]).unwrap();
        }
        for size in [3, 4, 5] {
            assert_eq!(wire.receive::<Vec<u8>>().unwrap().unwrap(), vec![7_u8; size]);
        }
        drop(wire);
        echo.join().unwrap();
    }

    #[test]
    fn a_value_that_is_too_long_is_refused_by_its_length_alone() {
        let (mut here, there) = UnixStream::pair().unwrap();
        here.write_all(&[0xff; 8]).unwrap();
        let mut wire = Wire::new(there);
        let error = wire.receive_at_most::<u128>(19).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let (here, there) = UnixStream::pair().unwrap();
        Wire::new(here).send(&u128::MAX).unwrap();
        assert_eq!(Wire::new(there).receive_at_most(19).unwrap(), Some(u128::MAX));
    }

    #[test]
    fn a_connection_that_is_cut_in_a_value() {
        let (mut here, there) = UnixStream::pair().unwrap();
        here.write_all(&[5, 0, 0, 0, 4, 1]).unwrap();
        drop(here);
        let error = Wire::new(there).receive::<Vec<u8>>().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
