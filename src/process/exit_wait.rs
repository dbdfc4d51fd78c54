#![forbid(unsafe_code)]
//! A process that was begun here, and its end.

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

/// What the kernel knows a child by. It keeps the status when it has found the end, and asks no more.
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

    /// Whether it is a child of this process.
    fn is_child(&self) -> bool {
        match self {
            Reaper::Std(_) | Reaper::Forked(_) => true,
            #[cfg(feature = "process")]
            Reaper::Remote(_) => false,
        }
    }

    /// What is readable when it has ended.
    fn end(&self) -> io::Result<OwnedFd> {
        match self {
            #[cfg(feature = "process")]
            Reaper::Remote(child) => child.end(),
            _ => descriptor_of(self.id()),
        }
    }
}

/// A child, whose end any number of coroutines may wait for.
#[derive(Debug)]
pub(super) struct ChildHandle {
    pub(super) id: u32,
    inner: RefCell<Reaper>,
    is_child: bool,
    end: Cell<Option<End>>,
    /// Of a child of this process: what signals are sent to, and readable when it has ended. Opened at once,
    /// since later the number may be another process's if something else reaps children. `None` where the
    /// kernel has no such descriptors, or none were left.
    descriptor: Option<Rc<OwnedFd>>,
    /// What is readable when it has ended, registered with the hub. Made by the first that has to wait.
    source: OnceCell<Descriptor<Rc<OwnedFd>>>,
    /// A copy of this in a forked child must ask nothing by the number, which may be that of a child of its
    /// own.
    made_in: Generation,
}

/// What is known of the end of a child.
#[derive(Clone, Copy, Debug)]
enum End {
    Status(ExitStatus),
    /// It has ended, but something else has its status.
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

    /// Another coroutine may be amid a question to a fork server, which lets others run: this waits for it.
    #[track_caller]
    fn reaper(&self) -> RefMut<'_, Reaper> {
        loop {
            match self.inner.try_borrow_mut() {
                Ok(reaper) => return reaper,
                Err(_) => yield_now(),
            }
        }
    }

    /// What is known of its end, if it has ended.
    fn look(&self) -> io::Result<Option<End>> {
        if self.end.get().is_none() {
            if self.made_in != Generation::current() {
                // As the kernel says of what is not a child of the process that asks.
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

    /// Whether it has ended, even if its status is lost.
    pub(super) fn has_ended(&self) -> io::Result<bool> {
        self.look().map(|end| end.is_some())
    }

    /// How it has ended, if it has.
    pub(super) fn try_wait(&self) -> io::Result<Option<ExitStatus>> {
        match self.look()? {
            None => Ok(None),
            Some(End::Status(status)) => Ok(Some(status)),
            Some(End::Unknown) => Err(io::Error::from_raw_os_error(libc::ECHILD)),
        }
    }

    /// Waits for its end, for at most `limit`.
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
            // Perhaps there are some by now.
            None => Rc::new(self.reaper().end()?),
        };
        let source = Descriptor::of_nonblocking(descriptor)?;
        Ok(self.source.get_or_init(|| source))
    }

    /// Without a descriptor: the kernel is old, or there are none left. Not on a thread of a pool, which a
    /// child that does not end would keep, and which others are in need of.
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

    /// Sends it a signal, unless it has ended.
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

    /// Waits for its end without letting anybody run, if it is a child of this process.
    pub(super) fn block(&self) {
        if !self.is_child {
            return;
        }
        // To ask the kernel lets no others run, so it is not borrowed. If it has been waited for already, the
        // status is there.
        match &mut *self.inner.borrow_mut() {
            Reaper::Std(child) => drop(child.wait()),
            Reaper::Forked(child) => drop(child.wait()),
            #[cfg(feature = "process")]
            Reaper::Remote(_) => {}
        }
    }

    /// Whether it is a zombie for as long as nobody has waited for it.
    pub(super) fn needs_reaping(&self) -> bool {
        self.is_child
    }
}

/// Has somebody wait for the end of a child that nobody has a handle of any more, so that it is no zombie.
pub(super) fn spawn_reaper(
    child: &Rc<ChildHandle>,
    name: &'static str,
    fallback: fn(&ChildHandle),
) {
    let left = Abandoned(Rc::clone(child), fallback);
    if !hub::has_ended() {
        let _ = Builder::new().name(name).spawn(move || left.0.wait(name, None));
    }
}

/// A child that is being waited for, and what is to be done if that is given up, as at a thread's end.
struct Abandoned(Rc<ChildHandle>, fn(&ChildHandle));

impl Drop for Abandoned {
    fn drop(&mut self) {
        self.1(&self.0);
    }
}
