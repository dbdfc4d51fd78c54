#![forbid(unsafe_code)]
//! Waits for the end of child processes, and sends them signals.

#[cfg(feature = "process")]
use super::remote_child::RemoteChild;
use crate::coroutine::{Builder, sleep, yield_now};
use crate::hub;
use crate::io::Descriptor;
use crate::sys::fork::Generation;
use crate::sys::process::{Forked, descriptor_of, is_reaped, send_signal, send_signal_to};
use std::cell::{Cell, OnceCell, RefCell, RefMut};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{self, ExitStatus};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// The source of a child's exit status.
///
/// It stores the status once the child has ended, and asks no more.
#[derive(Debug)]
pub(super) enum Reaper {
    Std(process::Child),
    Forked(Forked),
    #[cfg(feature = "process")]
    Remote(RemoteChild),
}

impl Reaper {
    fn id(&self) -> u32 {
        match self {
            Reaper::Std(child) => child.id(),
            Reaper::Forked(child) => child.id(),
            #[cfg(feature = "process")]
            Reaper::Remote(child) => child.id(),
        }
    }

    fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        match self {
            Reaper::Std(child) => child.try_wait(),
            Reaper::Forked(child) => child.try_wait(),
            #[cfg(feature = "process")]
            Reaper::Remote(child) => child.try_wait(),
        }
    }

    /// Whether the process is a child of this process.
    fn is_child(&self) -> bool {
        match self {
            Reaper::Std(_) | Reaper::Forked(_) => true,
            #[cfg(feature = "process")]
            Reaper::Remote(_) => false,
        }
    }

    /// Returns a descriptor that becomes readable when the process has ended.
    fn exit_descriptor(&self) -> io::Result<OwnedFd> {
        match self {
            #[cfg(feature = "process")]
            Reaper::Remote(child) => child.exit_descriptor(),
            _ => descriptor_of(self.id()),
        }
    }
}

/// A child, for whose end any number of coroutines may wait.
#[derive(Debug)]
pub(super) struct ChildHandle {
    pub(super) id: u32,
    inner: RefCell<Reaper>,
    is_child: bool,
    end: Cell<Option<End>>,
    /// The pidfd of a child of this process: signals are sent through it, and it is readable when the child
    /// has ended.
    ///
    /// Opened at once: later, the id may belong to another process, if other code reaps children. `None`
    /// where the kernel has no pidfds, or no descriptors were left.
    descriptor: Option<Rc<OwnedFd>>,
    /// The descriptor that is readable when the process has ended, registered with the hub by the first
    /// waiter.
    source: OnceCell<Descriptor<Rc<OwnedFd>>>,
    /// In a forked child, the copy of this handle must not use the id, which may be that of a child of its
    /// own.
    made_in: Generation,
}

/// The end of a child, as far as it is known.
#[derive(Clone, Copy, Debug)]
enum End {
    Status(ExitStatus),
    /// The child has ended, but other code has taken its status.
    Unknown,
}

impl ChildHandle {
    pub(super) fn new(inner: Reaper) -> Self {
        let is_child = inner.is_child();
        let descriptor = if is_child { descriptor_of(inner.id()).ok() } else { None };
        ChildHandle {
            id: inner.id(),
            descriptor: descriptor.map(Rc::new),
            inner: RefCell::new(inner),
            is_child,
            end: Cell::new(None),
            source: OnceCell::new(),
            made_in: Generation::current(),
        }
    }

    /// Borrows the reaper.
    ///
    /// Another coroutine may be in the middle of a request to a fork server, which may switch: yields until
    /// it has finished.
    #[track_caller]
    fn reaper(&self) -> RefMut<'_, Reaper> {
        loop {
            match self.inner.try_borrow_mut() {
                Ok(reaper) => return reaper,
                Err(_) => yield_now(),
            }
        }
    }

    /// Checks whether the child has ended.
    fn poll_end(&self) -> io::Result<Option<End>> {
        if self.end.get().is_none() {
            if self.made_in != Generation::current() {
                // The kernel's error for a process that is not a child of the caller.
                return Err(io::Error::from_raw_os_error(libc::ECHILD));
            }
            let mut reaper = self.reaper();
            let end = match reaper.try_wait() {
                Err(error) if is_reaped(&error) => Some(End::Unknown),
                status => status?.map(End::Status),
            };
            self.end.set(self.end.get().or(end));
        }
        Ok(self.end.get())
    }

    /// Whether the process has ended, even if its status is lost.
    pub(super) fn has_ended(&self) -> io::Result<bool> {
        self.poll_end().map(|end| end.is_some())
    }

    /// Returns the exit status, or `None` if the process has not ended.
    pub(super) fn try_wait(&self) -> io::Result<Option<ExitStatus>> {
        match self.poll_end()? {
            None => Ok(None),
            Some(End::Status(status)) => Ok(Some(status)),
            Some(End::Unknown) => Err(io::Error::from_raw_os_error(libc::ECHILD)),
        }
    }

    /// Waits for the end, for at most `limit`. Returns `None` on timeout.
    #[track_caller]
    pub(super) fn wait(
        &self,
        purpose: &'static str,
        limit: Option<Duration>,
    ) -> io::Result<Option<ExitStatus>> {
        if let Some(status) = self.try_wait()? {
            return Ok(Some(status));
        }
        let Ok(source) = self.source() else { return self.poll_with_pauses(limit) };
        let status = source.read_within(limit, purpose, |_| {
            self.try_wait()?.ok_or_else(|| io::ErrorKind::WouldBlock.into())
        });
        match status {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => self.try_wait(),
            other => other.map(Some),
        }
    }

    fn source(&self) -> io::Result<&Descriptor<Rc<OwnedFd>>> {
        if let Some(source) = self.source.get() {
            return Ok(source);
        }
        let descriptor = match &self.descriptor {
            Some(descriptor) => Rc::clone(descriptor),
            // There may be descriptors by now.
            None => Rc::new(self.reaper().exit_descriptor()?),
        };
        let source = Descriptor::of_nonblocking(descriptor)?;
        Ok(self.source.get_or_init(|| source))
    }

    /// Waits without a descriptor, on an old kernel or when none are left.
    ///
    /// A thread of a pool is not used for this: a child that does not end would occupy it indefinitely.
    #[track_caller]
    fn poll_with_pauses(&self, limit: Option<Duration>) -> io::Result<Option<ExitStatus>> {
        const LONGEST: Duration = Duration::from_millis(50);
        let mut pause = Duration::from_millis(1);
        let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
        loop {
            let status = self.try_wait()?;
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if status.is_some() || left == Some(Duration::ZERO) {
                return Ok(status);
            }
            sleep(left.unwrap_or(pause).min(pause));
            pause = (pause * 2).min(LONGEST);
        }
    }

    /// Sends a signal, unless the process has ended.
    pub(super) fn send_signal(&self, signal: i32) -> io::Result<()> {
        #[cfg(feature = "process")]
        if let Reaper::Remote(child) = &mut *self.reaper() {
            return child.send_signal(signal);
        }
        match &self.descriptor {
            _ if self.has_ended()? => Ok(()),
            Some(descriptor) => send_signal_to(descriptor.as_fd(), signal),
            None => send_signal(self.id, signal),
        }
    }

    /// Waits for the end without switching, if the process is a child of this one.
    pub(super) fn wait_blocking(&self) {
        if !self.is_child {
            return;
        }
        // The reaper of a child is never borrowed across a switch. If it has already seen the end, it
        // returns the status.
        match &mut *self.inner.borrow_mut() {
            Reaper::Std(child) => drop(child.wait()),
            Reaper::Forked(child) => drop(child.wait()),
            #[cfg(feature = "process")]
            Reaper::Remote(_) => {}
        }
    }

    /// Whether the process remains a zombie until it is waited for.
    pub(super) fn needs_reaping(&self) -> bool {
        self.is_child
    }
}

/// Spawns a reaper for a child whose last handle was dropped.
///
/// `fallback` is called on the child when the wait has ended or was given up, or could not be started.
pub(super) fn spawn_reaper(
    child: &Rc<ChildHandle>,
    name: &'static str,
    fallback: fn(&ChildHandle),
) {
    let abandoned = Abandoned(Rc::clone(child), fallback);
    if !hub::has_ended() {
        let _ = Builder::new().name(name).spawn(move || abandoned.0.wait(name, None));
    }
}

/// A child without handles, and the function called when its wait is over.
///
/// The wait is over when the child has ended, and also when the thread ends.
struct Abandoned(Rc<ChildHandle>, fn(&ChildHandle));

impl Drop for Abandoned {
    fn drop(&mut self) {
        self.1(&self.0);
    }
}
