#![forbid(unsafe_code)]
//! What is asked for on the command line.

use std::io;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

pub(crate) struct Options {
    pub(crate) protocol: String,
    pub(crate) address: SocketAddr,
    pub(crate) connections: usize,
    pub(crate) idle: usize,
    pub(crate) seconds: Duration,
    pub(crate) warmup: Duration,
    /// Instead of a time: so many requests.
    pub(crate) requests: Option<u64>,
    /// The process whose use of processor and memory is measured.
    pub(crate) server: Option<u32>,
}

impl Options {
    pub(crate) fn read(mut arguments: impl Iterator<Item = String>) -> io::Result<Self> {
        let mut options = Options {
            protocol: value("the protocol", arguments.next())?,
            address: value("the address", arguments.next())?,
            connections: 1,
            idle: 0,
            seconds: Duration::from_secs(1),
            warmup: Duration::ZERO,
            requests: None,
            server: None,
        };
        while let Some(name) = arguments.next() {
            let text = arguments.next();
            match name.as_str() {
                "--connections" => options.connections = value(&name, text)?,
                "--idle" => options.idle = value(&name, text)?,
                "--seconds" => options.seconds = seconds(&name, text)?,
                "--warmup" => options.warmup = seconds(&name, text)?,
                "--requests" => options.requests = Some(value(&name, text)?),
                "--server" => options.server = Some(value(&name, text)?),
                _ => return Err(io::Error::other(format!("there is no option {name}"))),
            }
        }
        if options.connections == 0 {
            return Err(io::Error::other("--connections: at least 1"));
        }
        Ok(options)
    }
}

fn value<T: FromStr>(name: &str, text: Option<String>) -> io::Result<T> {
    let text = text.ok_or_else(|| io::Error::other(format!("{name} is missing")))?;
    text.parse().map_err(|_| io::Error::other(format!("{name}: not {text:?}")))
}

fn seconds(name: &str, text: Option<String>) -> io::Result<Duration> {
    Duration::try_from_secs_f64(value(name, text)?).map_err(io::Error::other)
}
