#![forbid(unsafe_code)]
//! A rendezvous channel, which passes items without buffering.

use super::queue::{GetError, PutError};
use super::sharing::{Local, Shared, Sharing, State, Waker};
use super::wait::{Object, wait};
use super::wait_list::{WaitList, Waiter};
use crate::hub::{self, Deadline};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// A rendezvous channel, which passes items without buffering.
///
/// A putter and a getter wait for each other.
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

/// At most one of the two lists is non-empty.
struct Meeting<T, S: Sharing> {
    /// Items that were handed to a getter that was killed before it resumed, by number.
    left: BTreeMap<u64, T>,
    /// The number of the last item that was handed to a waiting getter.
    last: u64,
    getters: WaitList<S::Waker, Handed<T>>,
    putters: WaitList<Putter<T, S>>,
}

/// An item that was handed to a waiting getter, with its number.
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
    /// Creates a channel of this thread.
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
    /// Creates a channel that threads can share.
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

    /// Hands an item to a getter, and waits for one if necessary.
    ///
    /// # Errors
    ///
    /// Never returns an error at present. [`PutError::Full`] is returned by the other variants.
    ///
    /// # Panics
    ///
    /// Unwinds with any kill or timeout delivered to the current coroutine during the wait. In main, panics
    /// on deadlock: when nothing is left that can wake it.
    ///
    /// # Switching
    ///
    /// May switch: waits for a getter, and lets a getter that waits on this thread take the item before
    /// this returns. Any other coroutine may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// The item is dropped, unless it was handed over before.
    #[track_caller]
    pub fn put(&self, item: T) -> Result<(), PutError<T>> {
        self.put_until(item, None)
    }

    /// Hands an item to a getter that is already waiting.
    ///
    /// # Errors
    ///
    /// Returns [`PutError::Full`] if no getter is waiting.
    ///
    /// # Switching
    ///
    /// Never switches.
    pub fn try_put(&self, item: T) -> Result<(), PutError<T>> {
        let waker = self.state.with(|meeting| meeting.hand_over(item));
        waker.map(Waker::wake).map_err(PutError::Full)
    }

    /// Hands an item to a getter, and waits for one for at most `timeout`.
    ///
    /// # Errors
    ///
    /// Returns [`PutError::Full`] if no getter has taken the item by then.
    ///
    /// # Panics
    ///
    /// Panics like [`Channel::put`].
    ///
    /// # Switching
    ///
    /// May switch: like [`Channel::put`], even for a timeout of zero.
    ///
    /// # Cancellation
    ///
    /// The item is dropped, unless it was handed over before.
    #[track_caller]
    pub fn put_timeout(&self, item: T, timeout: Duration) -> Result<(), PutError<T>> {
        self.put_until(item, Deadline::after(timeout))
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
            .hand_over(item.take().expect("no attempt has taken the item"))
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
            // The getter takes the item before its putter continues.
            hub::yield_now();
        }
        result.map_err(|putter| PutError::Full(putter.item.expect("no getter has taken the item")))
    }

    /// Takes an item from a putter, and waits for one if necessary.
    ///
    /// # Errors
    ///
    /// Never returns an error at present. [`GetError::Empty`] is returned by the other variants.
    ///
    /// # Panics
    ///
    /// Unwinds with any kill or timeout delivered to the current coroutine during the wait. In main, panics
    /// on deadlock: when nothing is left that can wake it.
    ///
    /// # Switching
    ///
    /// May switch: if no putter is waiting. Any other coroutine may run meanwhile.
    ///
    /// # Cancellation
    ///
    /// No item is taken. An item that had already been handed over goes to the next getter. It may stay in
    /// the channel until then, since its putter has returned.
    #[track_caller]
    pub fn get(&self) -> Result<T, GetError> {
        self.get_until(None)
    }

    /// Takes an item from a putter that is already waiting.
    ///
    /// # Errors
    ///
    /// Returns [`GetError::Empty`] if no putter is waiting.
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

    /// Takes an item from a putter, and waits for one for at most `timeout`.
    ///
    /// # Errors
    ///
    /// Returns [`GetError::Empty`] if no item was put by then.
    ///
    /// # Panics
    ///
    /// Panics like [`Channel::get`].
    ///
    /// # Switching
    ///
    /// May switch: if no putter is waiting, even for a timeout of zero. Any other coroutine may run
    /// meanwhile.
    ///
    /// # Cancellation
    ///
    /// As for [`Channel::get`]: no item is taken.
    #[track_caller]
    pub fn get_timeout(&self, timeout: Duration) -> Result<T, GetError> {
        self.get_until(Deadline::after(timeout))
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
            // The number is unused: only items that were handed over are given back.
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

    /// Returns the number of waiting putters.
    pub fn putters(&self) -> usize {
        self.state.with(|meeting| meeting.putters.len())
    }

    /// Returns the number of waiting getters.
    pub fn getters(&self) -> usize {
        self.state.with(|meeting| meeting.getters.len())
    }
}

impl<T, S: Sharing> Meeting<T, S> {
    /// Hands an item to the first waiting getter, or returns it.
    fn hand_over(&mut self, item: T) -> Result<S::Waker, T> {
        self.last += 1;
        self.getters.grant(Handed { number: self.last, item }).map_err(|handed| handed.item)
    }

    /// Takes an item left by a killed getter, or that of the first waiting putter.
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
