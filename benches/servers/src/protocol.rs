#![forbid(unsafe_code)]
//! What a server answers. All servers call this, and nothing else, to understand and to answer.

use std::io;

/// The bytes of an echo message.
pub const MESSAGE: usize = 64;

/// What is answered to a GET.
pub const HELLO: &str = "Hello, World!";

/// A request that was understood.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    /// So many bytes of what was received are the request.
    pub used: usize,
    /// What is to be sent.
    pub reply: &'a [u8],
}

/// How requests are understood and answered.
pub trait Protocol: Send + Sync + 'static {
    /// The answer to the first request in `received`. `None` if there is a part of one only.
    ///
    /// # Errors
    ///
    /// If that is no request, and will not become one.
    fn answer(received: &[u8]) -> io::Result<Option<Answer<'_>>>;
}

/// Sends back what it gets.
#[derive(Debug)]
pub struct Echo;

impl Protocol for Echo {
    #[inline]
    fn answer(received: &[u8]) -> io::Result<Option<Answer<'_>>> {
        Ok(Some(Answer { used: received.len(), reply: received }))
    }
}

/// HTTP/1.1: the same answer to each GET, and the connection is kept. Requests have no bodies.
#[derive(Debug)]
pub struct Http;

impl Protocol for Http {
    #[inline]
    fn answer(received: &[u8]) -> io::Result<Option<Answer<'_>>> {
        const REPLY: &str = concat!(
            "HTTP/1.1 200 OK\r\n",
            "Content-Type: text/plain\r\n",
            "Content-Length: 13\r\n",
            "\r\n",
            "Hello, World!",
        );
        let mut headers = [httparse::EMPTY_HEADER; 16];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(received) {
            Ok(httparse::Status::Partial) => Ok(None),
            Ok(httparse::Status::Complete(used)) if request.method == Some("GET") => {
                Ok(Some(Answer { used, reply: REPLY.as_bytes() }))
            }
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "not a GET of HTTP")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reply_to_a_get_is_as_long_as_it_says() {
        let request = b"GET / HTTP/1.1\r\nHost: here\r\n\r\nGET";
        let answer = Http::answer(request).unwrap().unwrap();
        assert_eq!(answer.used, request.len() - "GET".len());
        let mut headers = [httparse::EMPTY_HEADER; 16];
        let mut response = httparse::Response::new(&mut headers);
        let head = response.parse(answer.reply).unwrap().unwrap();
        assert_eq!(&answer.reply[head..], HELLO.as_bytes());
        let length = response.headers.iter().find(|header| header.name == "Content-Length");
        assert_eq!(length.unwrap().value, HELLO.len().to_string().as_bytes());
    }

    #[test]
    fn half_a_head_is_waited_for_and_a_post_is_refused() {
        assert_eq!(Http::answer(b"GET / HTTP/1.1\r\nHost:").unwrap(), None);
        assert!(Http::answer(b"POST / HTTP/1.1\r\n\r\n").is_err());
    }
}
