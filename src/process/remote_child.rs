#![forbid(unsafe_code)]
//! A process made by a fork server, as its client sees it.
//!
//! ```text
//!   client ── Request ──► server ── fork ──► process
//!          ◄── process id ──
//!   the client opens a pidfd: until then the server does not reap the process, so the id is not reused
//!          ── () ──►
//!          ── a signal ──►            only without a pidfd; any number of times
//!          ◄── exit status ──
//! ```
//!
//! The id by itself is never used here: the process is a child of the server, which reaps it as soon as it
//! ends. Then the id may be reused.

use super::wire::Wire;
use crate::net::UnixStream;
use crate::sys::fork::Generation;
use crate::sys::process::{descriptor_of, send_signal_to};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::rc::Rc;

/// The client's side of a process made by a fork server.
#[derive(Debug)]
pub(super) struct RemoteChild {
    id: u32,
    /// The pidfd. `None` where the kernel has none, or no descriptors were left: then the server forwards
    /// signals.
    descriptor: Option<OwnedFd>,
    wire: Wire,
    status: Option<ExitStatus>,
    /// A forked child has copies of the descriptors. What it read from the socket would be missing here.
    made_in: Generation,
}

impl RemoteChild {
    pub(super) fn new(id: u32, mut wire: Wire) -> io::Result<Self> {
        let descriptor = descriptor_of(id).ok();
        wire.send(&())?;
        wire.stream().set_nonblocking(true)?;
        Ok(RemoteChild { id, descriptor, wire, status: None, made_in: Generation::current() })
    }

    /// On the server: sends the process id, and waits until the client has opened a pidfd.
    pub(super) fn send_id(wire: &mut Wire, id: u32) -> io::Result<()> {
        wire.send(&Ok::<_, String>(id))?;
        wire.receive::<()>().map(|_| ())
    }

    /// On the server, once the process runs: waits for the next signal to forward.
    ///
    /// `None` if there are no more.
    pub(super) fn next_signal(wire: &mut Wire) -> Option<i32> {
        wire.receive().ok().flatten()
    }

    /// On the server: sends the exit status, or `None` if it is not known.
    pub(super) fn send_status(
        stream: &Rc<UnixStream>,
        status: Option<ExitStatus>,
    ) -> io::Result<()> {
        Wire::new(Rc::clone(stream)).send(&status.map(ExitStatus::into_raw))
    }

    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// Returns the exit status, or `None` if the process has not ended.
    pub(super) fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.status.is_none() {
            if self.made_in != Generation::current() {
                // The kernel's error for a process that is not a child of the caller.
                return Err(io::Error::from_raw_os_error(libc::ECHILD));
            }
            self.status = match self.wire.receive::<Option<i32>>() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
                Ok(Some(Some(status))) => Some(ExitStatus::from_raw(status)),
                Ok(Some(None)) => return Err(io::Error::from_raw_os_error(libc::ECHILD)),
                Ok(None) | Err(_) => {
                    return Err(io::Error::other(
                        "the fork server has ended: the exit status of its process is lost",
                    ));
                }
            };
        }
        Ok(self.status)
    }

    /// Returns a descriptor that is readable when the process has ended.
    pub(super) fn exit_descriptor(&self) -> io::Result<OwnedFd> {
        self.wire.stream().as_fd().try_clone_to_owned()
    }

    /// Sends a signal, unless the process has ended.
    ///
    /// # Errors
    ///
    /// If the kernel refuses to send it; if the server would have to forward it and has ended.
    pub(super) fn send_signal(&mut self, signal: i32) -> io::Result<()> {
        if let Some(descriptor) = &self.descriptor {
            return send_signal_to(descriptor.as_fd(), signal);
        }
        if self.try_wait()?.is_some() { Ok(()) } else { self.wire.send(&signal) }
    }
}
