#![forbid(unsafe_code)]
//! What all servers do that block, or seem to.

use crate::protocol::Protocol;
use crate::received::Received;
use std::io::{self, Read, Write};

/// Answers until the other end closes.
///
/// # Errors
///
/// As the stream's. If what comes is no request.
pub fn converse<P: Protocol, const ROOM: usize>(mut stream: impl Read + Write) -> io::Result<()> {
    let mut received = Received::<ROOM>::new();
    loop {
        let count = stream.read(received.room())?;
        if count == 0 {
            return Ok(());
        }
        received.add(count);
        while let Some(reply) = received.answer::<P>()? {
            stream.write_all(reply)?;
        }
    }
}
