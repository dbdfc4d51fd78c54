#![forbid(unsafe_code)]
//! Semaphores: counted permits.

use super::select::{Selectable, Watchers, sealed};
use super::sharing::{Local, Shared, Sharing, State, Waker};
use super::wait::{Object, wait};
use super::wait_list::WaitList;
use crate::hub::Deadline;
use std::fmt;
use std::time::Duration;

/// A number of permits, which any coroutine may acquire and release, in any order.
///
/// A release hands its permit to the first waiter, so waiters proceed in order and do not starve. A running
/// coroutine may still take an available permit while a waiter that was woken for another one has not
/// resumed.
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
    /// Creates a semaphore of this thread, with the given number of permits.
    pub fn new(permits: usize) -> Self {
        Self::with(permits)
    }
}

impl Semaphore<Shared> {
    /// Creates a semaphore that threads can share, with the given number of permits.
    pub fn shared(permits: usize) -> Self {
        Self::with(permits)
    }
}

impl<S: Sharing> Semaphore<S> {
    pub(super) fn with(permits: usize) -> Self {
        let state = Permits { count: permits, waiting: WaitList::new(), watchers: Watchers::new() };
        Semaphore { state: S::State::new(state) }
    }

    /// Acquires a permit, and waits for one if necessary.
    ///
    /// # Panics
    ///
    /// Unwinds with any kill or timeout delivered to the current coroutine during the wait. In main, panics
    /// on deadlock: when nothing is left that can wake it.
    ///
    /// # Switching
    ///
    /// May switch: if no permit is available. Any other coroutine may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// No permit is acquired, and none is lost.
    #[inline]
    #[track_caller]
    pub fn acquire(&self) {
        self.acquire_until(None);
    }

    /// Acquires a permit if one is available. Returns whether it did.
    ///
    /// # Switching
    ///
    /// Never switches.
    #[inline]
    pub fn try_acquire(&self) -> bool {
        self.state.with(Permits::take).is_some()
    }

    /// Acquires a permit, and waits for one for at most `timeout`.
    ///
    /// Returns whether a permit was acquired.
    ///
    /// # Panics
    ///
    /// Panics like [`Semaphore::acquire`].
    ///
    /// # Switching
    ///
    /// May switch: if no permit is available, even for a timeout of zero. Any other coroutine may run
    /// meanwhile.
    ///
    /// # Cancellation
    ///
    /// No permit is acquired, and none is lost.
    #[track_caller]
    pub fn acquire_timeout(&self, timeout: Duration) -> bool {
        self.acquire_until(Deadline::after(timeout))
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

    /// Releases a permit, which goes to the first waiter, if any.
    ///
    /// The permit need not have been acquired before: releasing more than were acquired adds permits.
    ///
    /// # Panics
    ///
    /// Panics if there are [`usize::MAX`] permits already; their number is unchanged.
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

    /// Returns the number of available permits.
    pub fn permits(&self) -> usize {
        self.state.with(|permits| permits.count)
    }

    /// Returns the number of waiters.
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

/// Ready when a permit is available.
impl<S: Sharing> Selectable for Semaphore<S> {}

impl<S: Sharing> fmt::Debug for Semaphore<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore").field("permits", &self.permits()).finish_non_exhaustive()
    }
}

#[cold]
#[inline(never)]
fn too_many_permits() -> ! {
    panic!("cannot release a permit: the semaphore has the maximum of {} already", usize::MAX)
}

/// A semaphore that never has more permits than it was created with.
///
/// # Examples
///
/// ```
/// use switchgrass::sync::BoundedSemaphore;
///
/// let semaphore = BoundedSemaphore::new(1);
/// semaphore.acquire();
/// semaphore.release().unwrap();
/// semaphore.release().expect_err("no permit is acquired");
/// ```
pub struct BoundedSemaphore<S: Sharing = Local> {
    semaphore: Semaphore<S>,
    /// The number of permits that were acquired and not released.
    taken: S::State<usize>,
}

/// A [`BoundedSemaphore`] was released more often than it was acquired.
///
/// The call had no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReleasedTooOften(());

impl fmt::Display for ReleasedTooOften {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the semaphore was released more often than it was acquired")
    }
}

impl std::error::Error for ReleasedTooOften {}

impl BoundedSemaphore<Local> {
    /// Creates a semaphore of this thread, with the given number of permits.
    pub fn new(permits: usize) -> Self {
        BoundedSemaphore { semaphore: Semaphore::with(permits), taken: State::new(0) }
    }
}

impl BoundedSemaphore<Shared> {
    /// Creates a semaphore that threads can share, with the given number of permits.
    pub fn shared(permits: usize) -> Self {
        BoundedSemaphore { semaphore: Semaphore::with(permits), taken: State::new(0) }
    }
}

impl<S: Sharing> BoundedSemaphore<S> {
    /// Acquires a permit, and waits for one if necessary.
    ///
    /// # Panics
    ///
    /// Panics like [`Semaphore::acquire`].
    ///
    /// # Switching
    ///
    /// May switch: if no permit is available. Any other coroutine may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// No permit is acquired, and none is lost.
    #[track_caller]
    pub fn acquire(&self) {
        self.semaphore.acquire();
        self.taken.with(|taken| *taken += 1);
    }

    /// Acquires a permit if one is available. Returns whether it did.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn try_acquire(&self) -> bool {
        let is_acquired = self.semaphore.try_acquire();
        self.taken.with(|taken| *taken += usize::from(is_acquired));
        is_acquired
    }

    /// Acquires a permit, and waits for one for at most `timeout`.
    ///
    /// Returns whether a permit was acquired.
    ///
    /// # Panics
    ///
    /// Panics like [`Semaphore::acquire`].
    ///
    /// # Switching
    ///
    /// May switch: if no permit is available, even for a timeout of zero. Any other coroutine may run
    /// meanwhile.
    ///
    /// # Cancellation
    ///
    /// No permit is acquired, and none is lost.
    #[track_caller]
    pub fn acquire_timeout(&self, timeout: Duration) -> bool {
        let is_acquired = self.semaphore.acquire_timeout(timeout);
        self.taken.with(|taken| *taken += usize::from(is_acquired));
        is_acquired
    }

    /// Releases an acquired permit, which goes to the first waiter, if any.
    ///
    /// # Errors
    ///
    /// Returns [`ReleasedTooOften`] if no permit is acquired.
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

    /// Returns the number of available permits.
    pub fn permits(&self) -> usize {
        self.semaphore.permits()
    }
}

impl<S: Sharing> fmt::Debug for BoundedSemaphore<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoundedSemaphore").field("permits", &self.permits()).finish_non_exhaustive()
    }
}
