#![forbid(unsafe_code)]
//! Semaphores.

use super::select::{Selectable, Watchers, sealed};
use super::sharing::{Local, Shared, Sharing, State, Waker};
use super::wait::{Object, wait};
use super::wait_list::WaitList;
use crate::hub::Deadline;
use std::fmt;
use std::time::Duration;

/// A number of permits, which are acquired and released: by anybody, in any order.
///
/// Who waits gets a permit in the order of waiting: a release hands it over, so that nobody is overtaken
/// for ever. But one that runs may take a permit that is there before one that was just woken for another.
///
/// # Examples
///
/// ```
/// use std::rc::Rc;
/// use switchgrass::{spawn, sync::Semaphore};
///
/// let semaphore = Rc::new(Semaphore::new(1));
/// semaphore.acquire();
/// let waiting = spawn({
///     let semaphore = Rc::clone(&semaphore);
///     move || semaphore.acquire()
/// });
/// semaphore.release();
/// waiting.join().unwrap();
/// assert!(!semaphore.try_acquire());
/// ```
///
/// Between threads:
///
/// ```
/// use std::sync::Arc;
/// use switchgrass::sync::Semaphore;
///
/// let semaphore = Arc::new(Semaphore::shared(0));
/// let other = Arc::clone(&semaphore);
/// let thread = std::thread::spawn(move || other.release());
/// semaphore.acquire();
/// thread.join().unwrap();
/// ```
pub struct Semaphore<S: Sharing = Local> {
    state: S::State<Permits<S>>,
}

struct Permits<S: Sharing> {
    count: usize,
    waiting: WaitList<S::Waker>,
    watchers: Watchers<S>,
}

impl<S: Sharing> Permits<S> {
    fn take(&mut self) -> Option<()> {
        self.count = self.count.checked_sub(1)?;
        Some(())
    }

    fn waiting(&mut self) -> &mut WaitList<S::Waker> {
        &mut self.waiting
    }
}

impl Semaphore<Local> {
    /// A semaphore of this thread, with so many permits.
    pub fn new(permits: usize) -> Self {
        Self::with(permits)
    }
}

impl Semaphore<Shared> {
    /// A semaphore that threads can share, with so many permits.
    pub fn shared(permits: usize) -> Self {
        Self::with(permits)
    }
}

impl<S: Sharing> Semaphore<S> {
    pub(super) fn with(permits: usize) -> Self {
        let state = Permits { count: permits, waiting: WaitList::new(), watchers: Watchers::new() };
        Semaphore { state: S::State::new(state) }
    }

    /// Takes a permit, when there is one.
    ///
    /// # Panics
    ///
    /// With what is raised in the current coroutine meanwhile. In main, when nobody is left who could wake
    /// it.
    ///
    /// # Switching
    ///
    /// Switches if there is no permit. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// No permit is taken, and none is lost.
    #[inline]
    #[track_caller]
    pub fn acquire(&self) {
        self.acquire_until(None);
    }

    /// Takes a permit if there is one. Whether there was.
    ///
    /// # Switching
    ///
    /// Never switches.
    #[inline]
    pub fn try_acquire(&self) -> bool {
        self.state.with(Permits::take).is_some()
    }

    /// As [`Semaphore::acquire`], for at most `limit`. Whether a permit was taken.
    ///
    /// # Panics
    ///
    /// As [`Semaphore::acquire`].
    ///
    /// # Switching
    ///
    /// Switches if there is no permit, also for a limit of zero.
    ///
    /// # Cancellation
    ///
    /// No permit is taken, and none is lost.
    #[track_caller]
    pub fn acquire_timeout(&self, limit: Duration) -> bool {
        self.acquire_until(Deadline::after(limit))
    }

    #[inline]
    #[track_caller]
    pub(super) fn acquire_until(&self, deadline: Option<Deadline>) -> bool {
        let object = Object::<S, _, _, _> {
            state: &self.state,
            list: Permits::waiting,
            purpose: "Semaphore::acquire",
        };
        wait(object, deadline, Permits::take, |waker| waker, |()| self.release()).is_ok()
    }

    /// Gives a permit back, or one that was not there before: to the first that waits, if somebody does.
    ///
    /// # Panics
    ///
    /// If there are [`usize::MAX`] permits already. Nothing has changed then.
    ///
    /// # Switching
    ///
    /// Never switches.
    #[inline]
    pub fn release(&self) {
        let waker = self.state.with(|permits| match permits.waiting.grant(()) {
            Ok(waker) => Ok(waker),
            Err(()) => match permits.count.checked_add(1) {
                Some(count) => {
                    permits.count = count;
                    Err(permits.watchers.if_any())
                }
                None => too_many_permits(),
            },
        });
        match waker {
            Ok(waker) => waker.wake(),
            Err(Some(watchers)) => watchers.wake(),
            Err(None) => {}
        }
    }

    /// How many permits there are.
    pub fn permits(&self) -> usize {
        self.state.with(|permits| permits.count)
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.state.with(|permits| permits.waiting.len())
    }
}

impl<S: Sharing> sealed::Selectable for Semaphore<S> {
    fn is_ready(&self) -> bool {
        self.permits() > 0
    }

    fn watch(&self) -> Box<dyn FnOnce() + '_> {
        super::select::watch::<S, _>(&self.state, |permits| &mut permits.watchers)
    }
}

/// Ready when there is a permit.
impl<S: Sharing> Selectable for Semaphore<S> {}

impl<S: Sharing> fmt::Debug for Semaphore<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore").field("permits", &self.permits()).finish_non_exhaustive()
    }
}

#[cold]
#[inline(never)]
fn too_many_permits() -> ! {
    panic!("a semaphore has {} permits already: it cannot be given another one", usize::MAX)
}

/// A semaphore that is never given more permits than it began with.
///
/// # Examples
///
/// ```
/// use switchgrass::sync::BoundedSemaphore;
///
/// let semaphore = BoundedSemaphore::new(1);
/// semaphore.acquire();
/// semaphore.release().unwrap();
/// semaphore.release().expect_err("nobody has acquired that one");
/// ```
pub struct BoundedSemaphore<S: Sharing = Local> {
    semaphore: Semaphore<S>,
    /// What was acquired and not released.
    taken: S::State<usize>,
}

/// A [`BoundedSemaphore`] was released more often than it was acquired. The release had no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReleasedTooOften(());

impl fmt::Display for ReleasedTooOften {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the semaphore was released more often than it was acquired")
    }
}

impl std::error::Error for ReleasedTooOften {}

impl BoundedSemaphore<Local> {
    /// A semaphore of this thread, with so many permits.
    pub fn new(permits: usize) -> Self {
        BoundedSemaphore { semaphore: Semaphore::with(permits), taken: State::new(0) }
    }
}

impl BoundedSemaphore<Shared> {
    /// A semaphore that threads can share, with so many permits.
    pub fn shared(permits: usize) -> Self {
        BoundedSemaphore { semaphore: Semaphore::with(permits), taken: State::new(0) }
    }
}

impl<S: Sharing> BoundedSemaphore<S> {
    /// As [`Semaphore::acquire`].
    ///
    /// # Panics
    ///
    /// As [`Semaphore::acquire`].
    ///
    /// # Switching
    ///
    /// As [`Semaphore::acquire`].
    ///
    /// # Cancellation
    ///
    /// No permit is taken, and none is lost.
    #[track_caller]
    pub fn acquire(&self) {
        self.semaphore.acquire();
        self.taken.with(|taken| *taken += 1);
    }

    /// As [`Semaphore::try_acquire`].
    pub fn try_acquire(&self) -> bool {
        let has = self.semaphore.try_acquire();
        self.taken.with(|taken| *taken += usize::from(has));
        has
    }

    /// As [`Semaphore::acquire_timeout`].
    ///
    /// # Panics
    ///
    /// As [`Semaphore::acquire`].
    ///
    /// # Switching
    ///
    /// As [`Semaphore::acquire_timeout`].
    ///
    /// # Cancellation
    ///
    /// No permit is taken, and none is lost.
    #[track_caller]
    pub fn acquire_timeout(&self, limit: Duration) -> bool {
        let has = self.semaphore.acquire_timeout(limit);
        self.taken.with(|taken| *taken += usize::from(has));
        has
    }

    /// As [`Semaphore::release`].
    ///
    /// # Errors
    ///
    /// If it was not acquired as often.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn release(&self) -> Result<(), ReleasedTooOften> {
        let taken = self.taken.with(|taken| {
            *taken = taken.checked_sub(1)?;
            Some(())
        });
        taken.ok_or(ReleasedTooOften(()))?;
        self.semaphore.release();
        Ok(())
    }

    /// How many permits there are.
    pub fn permits(&self) -> usize {
        self.semaphore.permits()
    }
}

impl<S: Sharing> fmt::Debug for BoundedSemaphore<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoundedSemaphore").field("permits", &self.permits()).finish_non_exhaustive()
    }
}
