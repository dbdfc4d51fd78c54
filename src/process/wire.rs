#![forbid(unsafe_code)]
//! Sends values between processes, encoded by postcard, each preceded by its length.
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
    /// The bytes received; those from `taken` on have not been decoded.
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

    /// Sends a value.
    ///
    /// After an error the connection cannot be used any more, except after `InvalidInput`: then the value
    /// cannot be encoded, and nothing was sent.
    pub(super) fn send(&mut self, value: &impl Serialize) -> io::Result<()> {
        let message = framed(value)?;
        (&*self.stream).write_all(&message)
    }

    /// Waits for a value.
    ///
    /// Returns `None` if the peer has closed the connection. After an error of the stream, such as
    /// `WouldBlock`, it can be called again.
    pub(super) fn receive<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        self.receive_at_most(u32::MAX as usize)
    }

    /// Like [`Wire::receive`], but a value of more than `bytes` bytes is an error.
    ///
    /// For peers that are not yet authenticated.
    pub(super) fn receive_at_most<T: DeserializeOwned>(
        &mut self,
        bytes: usize,
    ) -> io::Result<Option<T>> {
        let Some(prefix) = self.fill(PREFIX)? else { return Ok(None) };
        let prefix =
            prefix.try_into().map(u32::from_le_bytes).expect("`fill` returns the requested length");
        if prefix as usize > bytes {
            let why = format_args!("it has {prefix} bytes, but at most {bytes} are allowed");
            return Err(encoding(io::ErrorKind::InvalidData, why));
        }
        let length = PREFIX + prefix as usize;
        let Some(message) = self.fill(length)? else { return Ok(None) };
        let value = postcard::from_bytes(&message[PREFIX..])
            .map_err(|error| encoding(io::ErrorKind::InvalidData, error));
        self.taken += length;
        value.map(Some)
    }

    /// Returns the next `length` bytes, without consuming them.
    ///
    /// `None` if the connection ends before the first.
    fn fill(&mut self, length: usize) -> io::Result<Option<&[u8]>> {
        const ROOM: usize = 8192;
        if self.taken == self.buffer.len() {
            self.buffer.clear();
            // Gives back the memory of an unusually large value.
            self.buffer.shrink_to(64 * ROOM);
            self.taken = 0;
        }
        while self.buffer.len() - self.taken < length {
            let filled = self.buffer.len();
            let missing = length - (filled - self.taken);
            // Grows step by step, since the length may be wrong.
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

/// Encodes a value, preceded by its length.
pub(super) fn framed(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut message = postcard::to_extend(value, vec![0; PREFIX])
        .map_err(|error| encoding(io::ErrorKind::InvalidInput, error))?;
    let length = u32::try_from(message.len() - PREFIX)
        .map_err(|_| encoding(io::ErrorKind::InvalidInput, "it is larger than 4 GiB"))?;
    message[..PREFIX].copy_from_slice(&length.to_le_bytes());
    Ok(message)
}

/// Decodes the values in `bytes`, each preceded by its length.
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
    io::Error::new(kind, format!("a value cannot be sent to another process: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spawn;

    #[test]
    fn values_of_all_sizes_arrive() {
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
        // Several values received at once.
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
    fn a_value_that_is_too_long_is_refused_by_its_length() {
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
    fn a_connection_that_ends_inside_a_value_is_an_error() {
        let (mut here, there) = UnixStream::pair().unwrap();
        here.write_all(&[5, 0, 0, 0, 4, 1]).unwrap();
        drop(here);
        let error = Wire::new(there).receive::<Vec<u8>>().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
