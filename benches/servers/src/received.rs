#![forbid(unsafe_code)]
//! A connection's buffer: the same in all servers.

use crate::protocol::{Answer, Protocol};
use std::io;

/// What was received and not yet answered.
#[derive(Debug)]
pub struct Received<const ROOM: usize> {
    bytes: [u8; ROOM],
    /// What lies between these is still to be answered.
    start: usize,
    end: usize,
}

impl<const ROOM: usize> Received<ROOM> {
    /// Nothing.
    #[inline]
    pub fn new() -> Self {
        Received { bytes: [0; ROOM], start: 0, end: 0 }
    }

    /// Where to read more to. It is empty if a request is larger than the buffer: then a read brings nothing,
    /// as at the end of a connection.
    #[inline]
    pub fn room(&mut self) -> &mut [u8] {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        &mut self.bytes[self.end..]
    }

    /// Notes that so much was read.
    #[inline]
    pub fn add(&mut self, count: usize) {
        self.end += count;
    }

    /// What is to be sent for the next request. `None` if that is not all here.
    ///
    /// # Errors
    ///
    /// As [`Protocol::answer`].
    #[inline]
    pub fn answer<P: Protocol>(&mut self) -> io::Result<Option<&[u8]>> {
        if self.start == self.end {
            return Ok(None);
        }
        let Some(Answer { used, reply }) = P::answer(&self.bytes[self.start..self.end])? else {
            return Ok(None);
        };
        self.start += used;
        Ok(Some(reply))
    }
}

impl<const ROOM: usize> Default for Received<ROOM> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Http;

    fn add(received: &mut Received<64>, text: &str) {
        received.room()[..text.len()].copy_from_slice(text.as_bytes());
        received.add(text.len());
    }

    #[test]
    fn requests_in_pieces_and_several_at_once_are_answered_one_by_one() {
        let mut received = Received::<64>::new();
        add(&mut received, "GET / HTTP/1.1\r\n");
        assert!(received.answer::<Http>().unwrap().is_none());
        add(&mut received, "\r\nGET / HTTP/1.1\r\n\r\nGET");
        assert!(received.answer::<Http>().unwrap().is_some());
        assert!(received.answer::<Http>().unwrap().is_some());
        assert!(received.answer::<Http>().unwrap().is_none());
        assert_eq!(received.room().len(), 64 - "GET".len());
    }
}
