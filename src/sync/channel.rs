#![forbid(unsafe_code)]
//! Handing over from one to another.

use super::queue::{GetError, PutError};
use super::sharing::{Local, Shared, Sharing, State, Waker};
use super::wait::{Object, wait};
use super::wait_list::{WaitList, Waiter};
use crate::hub::{self, Deadline};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Where one that puts and one that gets meet: each waits for the other, and nothing is kept.
///
/// # Examples
///
/// ```
/// use std::rc::Rc;
/// use switchgrass::{spawn, sync::Channel};
///
/// let channel = Rc::new(Channel::new());
/// let sender = Rc::clone(&channel);
/// spawn(move || {
///     sender.put("hello").unwrap();
///     sender.put("world").unwrap();
/// });
/// assert_eq!(channel.get().unwrap(), "hello");
/// assert_eq!(channel.get().unwrap(), "world");
/// ```
pub struct Channel<T, S: Sharing = Local> {
    state: S::State<Meeting<T, S>>,
}

/// At most one of the lists has somebody in it.
struct Meeting<T, S: Sharing> {
    /// Items that were handed to one that was killed before it went on, by their numbers.
    left: BTreeMap<u64, T>,
    /// The number of the last item that was handed to one that waited.
    last: u64,
    getters: WaitList<S::Waker, Handed<T>>,
    putters: WaitList<Putter<T, S>>,
}

/// An item that was handed to one that waited, and its number.
struct Handed<T> {
    number: u64,
    item: T,
}

struct Putter<T, S: Sharing> {
    waker: S::Waker,
    item: Option<T>,
}

impl<T, S: Sharing> Waiter for Putter<T, S> {
    #[inline]
    fn is_left_behind(&self) -> bool {
        self.waker.is_left_behind()
    }
}

impl<T> Channel<T, Local> {
    /// A channel of this thread.
    pub fn new() -> Self {
        Self::empty()
    }
}

impl<T> Default for Channel<T, Local> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Channel<T, Shared> {
    /// A channel that threads can share.
    pub fn shared() -> Self {
        Self::empty()
    }
}

impl<T, S: Sharing> Channel<T, S> {
    fn empty() -> Self {
        let meeting = Meeting {
            left: BTreeMap::new(),
            last: 0,
            getters: WaitList::new(),
            putters: WaitList::new(),
        };
        Channel { state: State::new(meeting) }
    }

    /// Hands an item over to one that gets.
    ///
    /// # Errors
    ///
    /// Never, so far; [`PutError::Full`] comes from the other forms.
    ///
    /// # Panics
    ///
    /// With what is raised in the current coroutine meanwhile. In main, when nobody is left who could wake
    /// it.
    ///
    /// # Switching
    ///
    /// Switches: one of this thread that waits to get takes the item before this returns. All others may run
    /// meanwhile.
    ///
    /// # Cancellation
    ///
    /// The item has been handed over, if that was before, or is dropped.
    #[track_caller]
    pub fn put(&self, item: T) -> Result<(), PutError<T>> {
        self.put_until(item, None)
    }

    /// As [`Channel::put`], if somebody waits to get.
    ///
    /// # Errors
    ///
    /// [`PutError::Full`] if nobody does.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn try_put(&self, item: T) -> Result<(), PutError<T>> {
        let waker = self.state.with(|meeting| meeting.hand_over(item));
        waker.map(Waker::wake).map_err(PutError::Full)
    }

    /// As [`Channel::put`], for at most `limit`.
    ///
    /// # Errors
    ///
    /// [`PutError::Full`] if nobody has got it by then.
    ///
    /// # Panics
    ///
    /// As [`Channel::put`].
    ///
    /// # Switching
    ///
    /// As [`Channel::put`], also for a limit of zero.
    ///
    /// # Cancellation
    ///
    /// As [`Channel::put`].
    #[track_caller]
    pub fn put_timeout(&self, item: T, limit: Duration) -> Result<(), PutError<T>> {
        self.put_until(item, Deadline::after(limit))
    }

    fn put_until(&self, item: T, deadline: Option<Deadline>) -> Result<(), PutError<T>> {
        let object = Object::<S, _, _, _> {
            state: &self.state,
            list: |meeting: &mut Meeting<T, S>| &mut meeting.putters,
            purpose: "Channel::put",
        };
        let item = Cell::new(Some(item));
        let mut getter = None;
        let attempt = |meeting: &mut Meeting<T, S>| match meeting
            .hand_over(item.take().expect("it is still here"))
        {
            Ok(waker) => {
                getter = Some(waker);
                Some(())
            }
            Err(back) => {
                item.set(Some(back));
                None
            }
        };
        let enter = |waker| Putter { waker, item: item.take() };
        let result = wait(object, deadline, attempt, enter, drop);
        if let Some(getter) = getter {
            getter.wake();
            // It takes the item before its putter goes on.
            hub::yield_now();
        }
        result.map_err(|putter| PutError::Full(putter.item.expect("nobody has taken it")))
    }

    /// Takes an item over from one that puts.
    ///
    /// # Errors
    ///
    /// Never, so far; [`GetError::Empty`] comes from the other forms.
    ///
    /// # Panics
    ///
    /// With what is raised in the current coroutine meanwhile. In main, when nobody is left who could wake
    /// it.
    ///
    /// # Switching
    ///
    /// Switches if nobody waits to put. All others may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// No item is taken. One that had been handed over already goes to the next that gets: it may have to
    /// wait here for that, since who has put it has gone on.
    #[track_caller]
    pub fn get(&self) -> Result<T, GetError> {
        self.get_until(None)
    }

    /// As [`Channel::get`], if somebody waits to put.
    ///
    /// # Errors
    ///
    /// [`GetError::Empty`] if nobody does.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn try_get(&self) -> Result<T, GetError> {
        let (item, putter) = self.state.with(Meeting::take).ok_or(GetError::Empty)?;
        if let Some(putter) = putter {
            putter.wake();
        }
        Ok(item)
    }

    /// As [`Channel::get`], for at most `limit`.
    ///
    /// # Errors
    ///
    /// [`GetError::Empty`] if nobody has put one by then.
    ///
    /// # Panics
    ///
    /// As [`Channel::get`].
    ///
    /// # Switching
    ///
    /// Switches if nobody waits to put, also for a limit of zero.
    ///
    /// # Cancellation
    ///
    /// As [`Channel::get`].
    #[track_caller]
    pub fn get_timeout(&self, limit: Duration) -> Result<T, GetError> {
        self.get_until(Deadline::after(limit))
    }

    fn get_until(&self, deadline: Option<Deadline>) -> Result<T, GetError> {
        let object = Object::<S, _, _, _> {
            state: &self.state,
            list: |meeting: &mut Meeting<T, S>| &mut meeting.getters,
            purpose: "Channel::get",
        };
        let mut putter = None;
        let attempt = |meeting: &mut Meeting<T, S>| {
            let (item, waker) = meeting.take()?;
            putter = waker;
            // It is not given back: it was not handed over.
            Some(Handed { number: 0, item })
        };
        let give_back = |handed| {
            let waker = self.state.with(|meeting| {
                let refused = meeting.getters.grant(handed);
                refused.map_err(|Handed { number, item }| meeting.left.insert(number, item))
            });
            if let Ok(waker) = waker {
                waker.wake();
            }
        };
        let result = wait(object, deadline, attempt, |waker| waker, give_back);
        if let Some(putter) = putter {
            putter.wake();
        }
        result.map(|handed| handed.item).map_err(|_| GetError::Empty)
    }

    /// How many wait to put.
    pub fn putters(&self) -> usize {
        self.state.with(|meeting| meeting.putters.len())
    }

    /// How many wait to get.
    pub fn getters(&self) -> usize {
        self.state.with(|meeting| meeting.getters.len())
    }
}

impl<T, S: Sharing> Meeting<T, S> {
    /// Gives an item to the first that waits to get, or back.
    fn hand_over(&mut self, item: T) -> Result<S::Waker, T> {
        self.last += 1;
        self.getters.grant(Handed { number: self.last, item }).map_err(|handed| handed.item)
    }

    /// Takes the item of the first that waits to put, unless one was left.
    fn take(&mut self) -> Option<(T, Option<S::Waker>)> {
        if let Some((_, item)) = self.left.pop_first() {
            return Some((item, None));
        }
        let mut putter = self.putters.grant(()).ok()?;
        Some((putter.item.take()?, Some(putter.waker)))
    }
}

impl<T, S: Sharing> fmt::Debug for Channel<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").finish_non_exhaustive()
    }
}
