#![forbid(unsafe_code)]
//! A process that was begun here, and its end.

#[cfg(feature = "process")]
use super::served::Served;
use crate::coroutine::{Builder, sleep};
use crate::hub;
use crate::io::Descriptor;
use crate::sys::process::{Forked, descriptor_of, send_signal};
use std::cell::{OnceCell, RefCell};
use std::io;
use std::os::fd::OwnedFd;
use std::process::{self, ExitStatus};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// What the kernel knows a child by. It keeps the status when it has found the end, and asks no more.
#[derive(Debug)]
pub(super) enum Reaper {
    Std(process::Child),
    Forked(Forked),
    #[cfg(feature = "process")]
    Served(Served),
}

impl Reaper {
    fn id(&self) -> u32 {
        match self {
            Reaper::Std(child) => child.id(),
            Reaper::Forked(child) => child.id(),
            #[cfg(feature = "process")]
            Reaper::Served(child) => child.id(),
        }
    }

    fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        match self {
            Reaper::Std(child) => child.try_wait(),
            Reaper::Forked(child) => child.try_wait(),
            #[cfg(feature = "process")]
            Reaper::Served(child) => child.try_wait(),
        }
    }

    /// What is readable when it has ended.
    fn end(&self) -> io::Result<OwnedFd> {
        match self {
            #[cfg(feature = "process")]
            Reaper::Served(child) => child.end(),
            _ => descriptor_of(self.id()),
        }
    }

    fn send_signal(&mut self, signal: i32) -> io::Result<()> {
        match self {
            #[cfg(feature = "process")]
            Reaper::Served(child) => child.send_signal(signal),
            // It was not waited for, so that the number is its own.
            _ => send_signal(self.id(), signal),
        }
    }
}

/// A child, whose end any number of coroutines may wait for.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) id: u32,
    inner: RefCell<Reaper>,
    /// Readable when it has ended. Made when somebody first has to wait.
    end: OnceCell<Descriptor<OwnedFd>>,
}

impl Begun {
    pub(super) fn new(inner: Reaper) -> Self {
        Begun { id: inner.id(), inner: RefCell::new(inner), end: OnceCell::new() }
    }

    /// How it has ended, if it has.
    pub(super) fn try_wait(&self) -> io::Result<Option<ExitStatus>> {
        self.inner.borrow_mut().try_wait()
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
        let Ok(end) = self.end() else { return self.ask_again_and_again(limit) };
        let status = end.read_within(limit, purpose, |_| {
            self.try_wait()?.ok_or_else(|| io::ErrorKind::WouldBlock.into())
        });
        match status {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => self.try_wait(),
            other => other.map(Some),
        }
    }

    fn end(&self) -> io::Result<&Descriptor<OwnedFd>> {
        if let Some(end) = self.end.get() {
            return Ok(end);
        }
        let end = Descriptor::of_nonblocking(self.inner.borrow().end()?)?;
        Ok(self.end.get_or_init(|| end))
    }

    /// Without a descriptor: the kernel is old, or there are none left. Not on a thread of a pool, which a
    /// child that does not end would keep, and which others are in need of.
    #[track_caller]
    fn ask_again_and_again(&self, limit: Option<Duration>) -> io::Result<Option<ExitStatus>> {
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
        if self.is_to_be_reaped() && self.try_wait()?.is_some() {
            return Ok(());
        }
        self.inner.borrow_mut().send_signal(signal)
    }

    /// Waits for its end without letting anybody run, if it is a child of this process.
    pub(super) fn block(&self) {
        // Whoever has waited for it already has its status.
        match &mut *self.inner.borrow_mut() {
            Reaper::Std(child) => drop(child.wait()),
            Reaper::Forked(child) => drop(child.wait()),
            #[cfg(feature = "process")]
            Reaper::Served(_) => {}
        }
    }

    /// Whether it is a zombie for as long as nobody has waited for it.
    pub(super) fn is_to_be_reaped(&self) -> bool {
        match &*self.inner.borrow() {
            Reaper::Std(_) | Reaper::Forked(_) => true,
            #[cfg(feature = "process")]
            Reaper::Served(_) => false,
        }
    }
}

/// Has somebody wait for the end of a child that nobody has a handle of any more, so that it is no zombie.
pub(super) fn wait_for(child: &Rc<Begun>, name: &'static str, if_nobody_can: fn(&Begun)) {
    let left = Left(Rc::clone(child), if_nobody_can);
    if !hub::has_ended() {
        let _ = Builder::new().name(name).spawn(move || left.0.wait(name, None));
    }
}

/// A child that is being waited for, and what is to be done if that is given up, as at a thread's end.
struct Left(Rc<Begun>, fn(&Begun));

impl Drop for Left {
    fn drop(&mut self) {
        self.1(&self.0);
    }
}
