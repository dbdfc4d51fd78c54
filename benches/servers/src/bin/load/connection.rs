#![forbid(unsafe_code)]
//! One connection, with one request outstanding.

use crate::workload::{Workload, wrong};
use servers::epoll::{receive, send};
use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::time::Instant;

pub(crate) struct Connection {
    stream: TcpStream,
    request: Vec<u8>,
    /// So many requests were made.
    number: u64,
    asked_at: Instant,
    /// So many bytes of the answer have come.
    got: usize,
}

#[derive(PartialEq, Eq)]
pub(crate) enum Progress {
    Waiting,
    Answered,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream, workload: &Workload) -> Self {
        let request = workload.request();
        Connection { stream, request, number: 0, asked_at: Instant::now(), got: 0 }
    }

    pub(crate) fn asked_at(&self) -> Instant {
        self.asked_at
    }

    /// Makes a request.
    #[inline]
    pub(crate) fn ask(&mut self, workload: &Workload, now: Instant) -> io::Result<()> {
        workload.mark(&mut self.request, self.number);
        (self.number, self.asked_at, self.got) = (self.number + 1, now, 0);
        match send(&self.stream, &self.request)? {
            count if count == self.request.len() => Ok(()),
            _ => Err(io::Error::other("there was no room for a request")),
        }
    }

    /// Reads what there is of the answer.
    #[inline]
    pub(crate) fn read(&mut self, workload: &Workload) -> io::Result<Progress> {
        let mut bytes = [0; 1024];
        let expected = workload.answer(&self.request);
        loop {
            let count = match receive(&self.stream, &mut bytes) {
                Ok(0) => return Err(io::Error::other("the server has closed a connection")),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Ok(Progress::Waiting);
                }
                Err(error) => return Err(error),
            };
            let got = &bytes[..count];
            if !expected[self.got..].starts_with(got) {
                return Err(wrong(got));
            }
            self.got += count;
            if self.got == expected.len() {
                return Ok(Progress::Answered);
            }
            if count < bytes.len() {
                return Ok(Progress::Waiting);
            }
        }
    }
}
