#![forbid(unsafe_code)]
//! Configures a coroutine before it is spawned.

use super::join::JoinHandle;
use super::packet::{Packet, Unstarted};
use crate::greenlet::BuildError;
use crate::greenlet::scheduled::DetachedSpec;
use crate::hub::{self, Deadline, Start, Task};
use std::borrow::Cow;
use std::panic::Location;
use std::rc::Rc;
use std::time::Duration;

/// Configures the name, stack size and start delay of a coroutine.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use switchgrass::coroutine::Builder;
///
/// let handle = Builder::new()
///     .name("late")
///     .stack_size(64 * 1024)
///     .start_after(Duration::from_millis(1))
///     .spawn(|| 5)?;
/// assert_eq!(handle.join().unwrap(), 5);
/// # Ok::<(), switchgrass::BuildError>(())
/// ```
#[derive(Debug, Default)]
#[must_use = "a builder does nothing until it spawns"]
pub struct Builder {
    name: Option<Cow<'static, str>>,
    stack_size: Option<usize>,
    delay: Option<Duration>,
}

impl Builder {
    /// Creates a builder with the settings of [`spawn`](crate::spawn).
    ///
    /// These are no name, the default stack size, and no delay.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the coroutine's name, which appears in messages.
    pub fn name(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets the stack size in bytes.
    ///
    /// Valid sizes are from [`stack::MIN_SIZE`](crate::stack::MIN_SIZE) to
    /// [`stack::MAX_SIZE`](crate::stack::MAX_SIZE).
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.stack_size = Some(bytes);
        self
    }

    /// Delays the coroutine's start by `delay`.
    ///
    /// A coroutine that is killed during the delay never starts.
    pub fn start_after(mut self, delay: Duration) -> Self {
        self.delay = Some(delay);
        self
    }

    /// Spawns the coroutine. See [`spawn`](crate::spawn).
    ///
    /// # Errors
    ///
    /// Returns a [`BuildError`] if there is no stack for the coroutine: it cannot be allocated, its size is
    /// out of range, or the body is too large for it.
    ///
    /// # Panics
    ///
    /// Panics if the thread is ending and its hub is gone.
    ///
    /// # Switching
    ///
    /// Never switches.
    #[track_caller]
    pub fn spawn<T: 'static>(
        self,
        body: impl FnOnce() -> T + 'static,
    ) -> Result<JoinHandle<T>, BuildError> {
        self.spawn_at(Location::caller(), body)
    }

    /// Like [`Builder::spawn`], but records `site` as the place of the spawn.
    pub(crate) fn spawn_at<T: 'static>(
        self,
        site: &'static Location<'static>,
        body: impl FnOnce() -> T + 'static,
    ) -> Result<JoinHandle<T>, BuildError> {
        let start = match self.delay {
            None => Start::Now,
            Some(delay) => Deadline::after(delay).map_or(Start::Held, Start::At),
        };
        let spec = DetachedSpec { name: self.name.clone(), stack_size: self.stack_size };
        spawn_as(site, self.name, spec, start, body)
    }
}

#[inline]
pub(super) fn spawn_as<T: 'static>(
    site: &'static Location<'static>,
    name: Option<Cow<'static, str>>,
    spec: DetachedSpec,
    start: Start,
    body: impl FnOnce() -> T + 'static,
) -> Result<JoinHandle<T>, BuildError> {
    let id = hub::next_id();
    let packet = Rc::new(Packet::new(Task::new(id, name, Some(site))));
    let unstarted = Unstarted::new(Rc::clone(&packet), body);
    let owner = Rc::<Packet<T>>::clone(&packet);
    let greenlet = hub::spawn(spec, start, owner, move |()| unstarted.run())?;
    let _ = packet.head.task.greenlet.set(greenlet);
    Ok(JoinHandle::new(packet))
}
