#![forbid(unsafe_code)]
//! What is asked, and what the answer has to be.

use servers::protocol::{HELLO, MESSAGE};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

pub(crate) enum Workload {
    /// A message of that many bytes, another one each time, comes back.
    Echo,
    /// The same request each time, and the same response.
    Http { response: Vec<u8> },
}

const REQUEST: &[u8] =
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: load\r\nAccept: */*\r\n\r\n";

impl Workload {
    /// Gets one answer to know by, and looks at it closely: later ones are to be the same byte for byte.
    pub(crate) fn learn(protocol: &str, address: SocketAddr) -> io::Result<Self> {
        match protocol {
            "echo" => Ok(Workload::Echo),
            "http" => {
                let mut stream = connect(address)?;
                stream.write_all(REQUEST)?;
                Ok(Workload::Http { response: read_response(&mut stream)? })
            }
            _ => Err(io::Error::other(format!("there is no protocol {protocol:?}"))),
        }
    }

    /// A request. Those of echo are marked with a number by [`mark`].
    pub(crate) fn request(&self) -> Vec<u8> {
        match self {
            Workload::Echo => (0..MESSAGE).map(|at| b'a' + at as u8 % 26).collect(),
            Workload::Http { .. } => REQUEST.to_vec(),
        }
    }

    /// Marks a message, so that it is not mistaken for another.
    pub(crate) fn mark(&self, request: &mut [u8], number: u64) {
        if let Workload::Echo = self {
            request[..8].copy_from_slice(&number.to_le_bytes());
        }
    }

    /// The answer to a request.
    pub(crate) fn answer<'a>(&'a self, request: &'a [u8]) -> &'a [u8] {
        match self {
            Workload::Echo => request,
            Workload::Http { response } => response,
        }
    }

    /// Connects, asks once, and checks the answer.
    pub(crate) fn exchange(&self, address: SocketAddr, number: u64) -> io::Result<TcpStream> {
        let mut stream = connect(address)?;
        let mut request = self.request();
        self.mark(&mut request, !number);
        stream.write_all(&request)?;
        let expected = self.answer(&request);
        let mut answer = vec![0; expected.len()];
        stream.read_exact(&mut answer)?;
        if answer != expected {
            return Err(wrong(&answer));
        }
        Ok(stream)
    }
}

/// The error of an answer that is not right.
#[cold]
pub(crate) fn wrong(answer: &[u8]) -> io::Error {
    let text = format!("a wrong answer: \"{}\"", answer.escape_ascii());
    io::Error::new(ErrorKind::InvalidData, text)
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    Ok(stream)
}

/// Reads one whole response, which is to be a greeting.
fn read_response(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        let mut more = [0; 4096];
        let count = stream.read(&mut more)?;
        bytes.extend_from_slice(&more[..count]);
        match greeting(&bytes) {
            Some(true) => return Ok(bytes),
            None if count > 0 => {}
            _ => return Err(wrong(&bytes)),
        }
    }
}

/// Whether that is a response with the greeting. `None` if it may become one.
fn greeting(bytes: &[u8]) -> Option<bool> {
    let mut headers = [httparse::EMPTY_HEADER; 16];
    let mut response = httparse::Response::new(&mut headers);
    let head = match response.parse(bytes) {
        Ok(httparse::Status::Partial) => return None,
        Ok(httparse::Status::Complete(head)) if response.code == Some(200) => head,
        _ => return Some(false),
    };
    let length =
        |header: &&httparse::Header<'_>| header.name.eq_ignore_ascii_case("content-length");
    let length = response.headers.iter().find(length).map(|header| header.value);
    let body = &bytes[head..];
    if length != Some(HELLO.len().to_string().as_bytes()) || !HELLO.as_bytes().starts_with(body) {
        return Some(false);
    }
    (body.len() == HELLO.len()).then_some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_in_pieces_is_waited_for_and_another_one_is_wrong() {
        let whole = b"HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\nHello, World!";
        assert_eq!(greeting(whole), Some(true));
        assert_eq!(greeting(&whole[..20]), None);
        assert_eq!(greeting(&whole[..whole.len() - 1]), None);
        for other in [
            "HTTP/1.1 404 Not Found\r\nContent-Length: 13\r\n\r\nHello, World!",
            "HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nHello, World",
            "HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\nHello, Wordl!",
            "HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\nHello, World!!",
        ] {
            assert_eq!(greeting(other.as_bytes()), Some(false), "{other}");
        }
    }
}
