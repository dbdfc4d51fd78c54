#![forbid(unsafe_code)]
//! A process that a fork server has made: what is known of it here, by the socket that it was asked for over.
//!
//! ```text
//!   here ── Request ──► server ── fork ──► process
//!        ◄── its number ──
//!   a descriptor of it is opened: until then the server does not wait for it, and the number is its own
//!        ── () ──►
//!        ── a signal ──►            only without such a descriptor; any number of times
//!        ◄── how it has ended ──
//! ```
//!
//! Its number alone is never used here: it is a child of the server, which reaps it at once when it ends, and
//! then the number may be another process's.

use super::wire::Wire;
use crate::net::UnixStream;
use crate::sys::fork::Generation;
use crate::sys::process::{descriptor_of, send_signal_to};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::rc::Rc;

/// As it is known to who has asked for it.
#[derive(Debug)]
pub(super) struct RemoteChild {
    id: u32,
    /// `None` where the kernel has no such descriptors, or there were none left: then the server passes
    /// signals on.
    descriptor: Option<OwnedFd>,
    wire: Wire,
    status: Option<ExitStatus>,
    /// A child has copies of the descriptors. What it took out of the socket would be missing here.
    made_in: Generation,
}

impl RemoteChild {
    pub(super) fn new(id: u32, mut wire: Wire) -> io::Result<Self> {
        let descriptor = descriptor_of(id).ok();
        wire.send(&())?;
        wire.stream().set_nonblocking(true)?;
        Ok(RemoteChild { id, descriptor, wire, status: None, made_in: Generation::current() })
    }

    /// In the server: says its number. Waits until whoever has asked for it has taken note.
    pub(super) fn send_id(wire: &mut Wire, id: u32) -> io::Result<()> {
        wire.send(&Ok::<_, String>(id))?;
        wire.receive::<()>().map(|_| ())
    }

    /// In the server, once the process has begun: waits for the next signal that is to be passed on to it.
    /// `None` if there are no more.
    pub(super) fn next_signal(wire: &mut Wire) -> Option<i32> {
        wire.receive().ok().flatten()
    }

    /// In the server: says how it has ended. `None` if that is not known.
    pub(super) fn send_status(
        stream: &Rc<UnixStream>,
        status: Option<ExitStatus>,
    ) -> io::Result<()> {
        Wire::new(Rc::clone(stream)).send(&status.map(ExitStatus::into_raw))
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
            self.status = match self.wire.receive::<Option<i32>>() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
                Ok(Some(Some(status))) => Some(ExitStatus::from_raw(status)),
                Ok(Some(None)) => return Err(io::Error::from_raw_os_error(libc::ECHILD)),
                Ok(None) | Err(_) => {
                    return Err(io::Error::other(
                        "the fork server has ended: how its process has ended is not known",
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
    ///
    /// # Errors
    ///
    /// If it may not be sent; if it would be for the server to do, which has ended.
    pub(super) fn send_signal(&mut self, signal: i32) -> io::Result<()> {
        if let Some(descriptor) = &self.descriptor {
            return send_signal_to(descriptor.as_fd(), signal);
        }
        if self.try_wait()?.is_some() { Ok(()) } else { self.wire.send(&signal) }
    }
}
