#![forbid(unsafe_code)]
//! A process that a fork server has made: what is known of it here, by the socket that it was asked for over.
//!
//! ```text
//!   here ── Request ──► server ── fork ──► process
//!        ◄── its number ──
//!   a descriptor of it is opened: until then the server does not wait for it, and the number is its own
//!        ── () ──►
//!        ◄── how it has ended ──
//! ```

use super::wire::Wire;
use crate::sys::fork::Generation;
use crate::sys::process::{descriptor_of, send_signal, send_signal_to};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

/// As it is known to who has asked for it.
#[derive(Debug)]
pub(super) struct Served {
    id: u32,
    /// `None` where the kernel has no such descriptors, or there were none left.
    descriptor: Option<OwnedFd>,
    wire: Wire,
    status: Option<ExitStatus>,
    /// A child has copies of the descriptors. What it took out of the socket would be missing here.
    made_in: Generation,
}

impl Served {
    pub(super) fn new(id: u32, mut wire: Wire) -> io::Result<Self> {
        let descriptor = descriptor_of(id).ok();
        wire.send(&())?;
        wire.stream().set_nonblocking(true)?;
        Ok(Served { id, descriptor, wire, status: None, made_in: Generation::current() })
    }

    /// In the server: says its number. Waits until whoever has asked for it has taken note.
    pub(super) fn tell_begun(wire: &mut Wire, id: u32) -> io::Result<()> {
        wire.send(&Ok::<_, String>(id))?;
        wire.receive::<()>().map(|_| ())
    }

    /// In the server: says how it has ended.
    pub(super) fn tell_end(wire: &mut Wire, status: ExitStatus) -> io::Result<()> {
        wire.send(&status.into_raw())
    }

    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// How it has ended, if it has.
    pub(super) fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.status.is_none() {
            if self.made_in != Generation::current() {
                // As the kernel says of those that it has made.
                return Err(io::Error::from_raw_os_error(libc::ECHILD));
            }
            self.status = match self.wire.receive() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
                Ok(Some(status)) => Some(ExitStatus::from_raw(status)),
                Ok(None) | Err(_) => {
                    return Err(io::Error::other(
                        "the fork server has ended: nobody knows how its process has",
                    ));
                }
            };
        }
        Ok(self.status)
    }

    /// What is readable when it has ended.
    pub(super) fn end(&self) -> io::Result<OwnedFd> {
        self.wire.stream().as_fd().try_clone_to_owned()
    }

    /// Sends it a signal, unless it has ended.
    pub(super) fn send_signal(&mut self, signal: i32) -> io::Result<()> {
        // Then the number may be another's.
        let has_ended = self.descriptor.is_none() && matches!(self.try_wait(), Ok(Some(_)));
        let sent = match &self.descriptor {
            Some(descriptor) => send_signal_to(descriptor.as_fd(), signal),
            None if has_ended => Ok(()),
            None => send_signal(self.id, signal),
        };
        match sent {
            // It has ended, and that was not heard of yet.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            other => other,
        }
    }
}
